//! Opens the ports of a plan: pools, devices, links.

use std::time::Duration;

use hugepages::{Mempool, MempoolConfig, PoolError};
use poll::{Control, Eal, Port, PortConfig, PortError, QueuePair, Stop};
use thiserror::Error;
use tracing::{info, warn};

use crate::plan::{Plan, PortKind, PortPlan};

/// A port that is up.
pub(super) struct OpenPort {
    pub(super) port: Port,
    pub(super) pool: Mempool,
    /// By queue number; a shard takes its own.
    queues: Vec<Option<QueuePair>>,
}

impl OpenPort {
    /// Hands out a queue pair, once. The plan gives each to one shard.
    pub(super) fn take_queue(&mut self, queue: u16) -> Option<QueuePair> {
        self.queues.get_mut(usize::from(queue))?.take()
    }
}

/// Why a port could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its pool.
    #[error("port {port}: {source}")]
    Pool {
        /// The port's name in the file.
        port: String,
        /// The reason.
        source: Box<PoolError>,
    },
    /// Its device.
    #[error("port {port}: {source}")]
    Port {
        /// The port's name in the file.
        port: String,
        /// The reason.
        source: PortError,
    },
}

/// Opens every port, in the order of the plan.
pub(super) fn open(eal: &Eal, plan: &Plan, control: &Control) -> Result<Vec<OpenPort>, OpenError> {
    let mut open: Vec<Option<OpenPort>> = plan.ports.iter().map(|_| None).collect();
    for index in 0..plan.ports.len() {
        if open[index].is_some() {
            continue;
        }
        let port = &plan.ports[index];
        match &port.kind {
            PortKind::Device(device) => open[index] = Some(device_port(eal, port, device)?),
            PortKind::Link { peer } => {
                let [first, second] = link_ports(eal, [port, &plan.ports[*peer]])?;
                open[index] = Some(first);
                open[*peer] = Some(second);
            }
        }
    }
    let open: Vec<OpenPort> = open.into_iter().flatten().collect();
    for (port, plan) in open.iter().zip(&plan.ports) {
        await_link(&port.port, plan, control);
    }
    Ok(open)
}

fn device_port(eal: &Eal, plan: &PortPlan, device: &str) -> Result<OpenPort, OpenError> {
    let numa_node = poll::ports(eal)
        .into_iter()
        .find(|info| info.name == device)
        .and_then(|info| info.numa_node);
    let pool = pool(eal, plan, numa_node)?;
    let (port, queues) =
        Port::open(eal, device, &config(plan, pool)).map_err(|source| OpenError::Port {
            port: plan.name.clone(),
            source,
        })?;
    Ok(OpenPort {
        port,
        pool,
        queues: queues.into_iter().map(Some).collect(),
    })
}

fn link_ports(eal: &Eal, plans: [&PortPlan; 2]) -> Result<[OpenPort; 2], OpenError> {
    let pools = [pool(eal, plans[0], None)?, pool(eal, plans[1], None)?];
    let configs = [config(plans[0], pools[0]), config(plans[1], pools[1])];
    let names = [plans[0].name.as_str(), plans[1].name.as_str()];
    let [first, second] =
        poll::link(eal, names, [&configs[0], &configs[1]]).map_err(|source| OpenError::Port {
            port: plans[0].name.clone(),
            source,
        })?;
    let open = |(port, queues): poll::LinkEnd, pool| OpenPort {
        port,
        pool,
        queues: queues.into_iter().map(Some).collect(),
    };
    Ok([open(first, pools[0]), open(second, pools[1])])
}

fn pool(eal: &Eal, plan: &PortPlan, numa_node: Option<u32>) -> Result<Mempool, OpenError> {
    let config = MempoolConfig {
        name: format!("stoq_{}", plan.name),
        mbufs: plan.pool.mbufs,
        cache: plan.pool.cache,
        data_room: plan.pool.data_room,
        numa_node,
    };
    Mempool::create(eal.up(), &config).map_err(|source| OpenError::Pool {
        port: plan.name.clone(),
        source: Box::new(source),
    })
}

fn config(plan: &PortPlan, pool: Mempool) -> PortConfig {
    PortConfig {
        mtu: plan.mtu,
        queues: plan.queues,
        rx_descriptors: plan.rx_descriptors,
        tx_descriptors: plan.tx_descriptors,
        pool,
        rss_key: None,
    }
}

/// A link that is down at start may come up later (the other process of a memif pair may not run yet), so it is no
/// error.
fn await_link(port: &Port, plan: &PortPlan, control: &Control) {
    let limit: Duration = plan.link_up_timeout;
    let link = port.wait_for_link(limit, || control.requested() != Stop::No);
    let info = port.info();
    if link.up {
        info!(
            port = %plan.name, driver = %info.driver, mac = %port.mac(), mtu = plan.mtu,
            queues = plan.queues, "link is up"
        );
    } else {
        warn!(
            port = %plan.name, driver = %info.driver, waited = ?limit,
            "link is down; going on, frames will flow when it comes up"
        );
    }
}
