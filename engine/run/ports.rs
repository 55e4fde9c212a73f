//! Opens the ports of a plan: pools, devices, links.

use std::path::PathBuf;
use std::time::Duration;

use hugepages::{Mempool, MempoolConfig, PoolError};
use poll::offload::{Buffers, Mode, negotiate};
use poll::{Control, Eal, Emulation, Port, PortConfig, PortError, PortInfo, QueuePair, Stop};
use thiserror::Error;
use tracing::{info, warn};

use super::nics;
use crate::plan::{Plan, PoolPlan, PortKind, PortPlan, SteeringPlan};
use crate::random;

/// A port that is up.
pub(super) struct OpenPort {
    pub(super) port: Port,
    /// What is received.
    pub(super) pool: Mempool,
    /// Where frames to send are built; the same, unless they have a pool of their own.
    pub(super) tx_pool: Mempool,
    /// Datagrams that the device is given in one mbuf.
    pub(super) segments_max: u16,
    /// By queue number; a shard takes its own.
    queues: Vec<Option<QueuePair>>,
    /// The model behind this port and its peer, at the first of the two; its first shard takes it.
    pub(super) emulation: Option<Emulation>,
}

impl OpenPort {
    pub(super) fn new(port: Port, queues: Vec<QueuePair>) -> Self {
        Self {
            pool: port.pool(),
            tx_pool: port.tx_pool(),
            segments_max: port.offloads().segments_max,
            port,
            queues: queues.into_iter().map(Some).collect(),
            emulation: None,
        }
    }

    /// Hands out a queue pair, once. The plan gives each to one shard.
    pub(super) fn take_queue(&mut self, queue: u16) -> Option<QueuePair> {
        self.queues.get_mut(usize::from(queue))?.take()
    }
}

/// How a datagram finds its shard on a port, as the device has it. Whatever lands elsewhere is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteeringInForce {
    /// There is one shard.
    OneQueue,
    /// Over a link, by the number of the queue that it was sent on.
    ByQueue,
    /// By receive-side scaling, with the key and the table that were read back from the device.
    Rss,
    /// The device says nothing about it: all depends on the hand-over.
    HandOver,
}

impl SteeringInForce {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneQueue => "one_queue",
            Self::ByQueue => "by_queue",
            Self::Rss => "rss",
            Self::HandOver => "hand_over",
        }
    }
}

/// Looks at how each port steers, and tells it where there is something to steer.
pub(super) fn steering(plan: &Plan, ports: &[OpenPort]) -> Vec<SteeringInForce> {
    let pairs = plan.ports.iter().zip(ports);
    pairs
        .map(|(plan, open)| {
            let port = &plan.name;
            match (plan.steering, open.port.rss()) {
                (SteeringPlan::OneQueue, _) => SteeringInForce::OneQueue,
                (SteeringPlan::ByQueue, _) => {
                    info!(%port, "the other end chooses the shard, by its queue");
                    SteeringInForce::ByQueue
                }
                (SteeringPlan::RssElseHandOver, Some(rss)) => {
                    let (key_bytes, entries) = (rss.key.len(), rss.table.len());
                    let shares: Vec<usize> = (0..plan.queues)
                        .map(|queue| rss.table.iter().filter(|&&entry| entry == queue).count())
                        .collect();
                    info!(%port, key_bytes, entries, ?shares, "RSS, read back, chooses the shard");
                    SteeringInForce::Rss
                }
                (SteeringPlan::RssElseHandOver, None) => {
                    info!(%port, "no RSS: what lands on another shard is handed over");
                    SteeringInForce::HandOver
                }
            }
        })
        .collect()
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
    /// The capture of an emulated NIC.
    #[error("port {port}: emulated.capture: {path}: {source}", path = .path.display())]
    Capture {
        /// The port's name in the file.
        port: String,
        /// The file that cannot be made.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A device that does not segment as it says.
    #[error(
        "port {port}: offload.udp_segmentation: hardware, but four datagrams in one mbuf came out as: {seen}; use off"
    )]
    Segmentation {
        /// The port's name in the file.
        port: String,
        /// What was seen at the other end.
        seen: String,
    },
    /// A device that sends on time, and does not say what time it is.
    #[error(
        "port {port}: offload.hardware_pacing: hardware, but the device's clock cannot be read; use auto"
    )]
    Clock {
        /// The port's name in the file.
        port: String,
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
            PortKind::Emulated { peer, .. } => {
                let [first, second] = nics::open(eal, [port, &plan.ports[*peer]])?;
                open[index] = Some(first);
                open[*peer] = Some(second);
            }
        }
    }
    let open: Vec<OpenPort> = open.into_iter().flatten().collect();
    for (port, plan) in open.iter().zip(&plan.ports) {
        tell_offloads(&port.port, plan);
        await_link(&port.port, plan, control);
    }
    Ok(open)
}

fn device_port(eal: &Eal, plan: &PortPlan, device: &str) -> Result<OpenPort, OpenError> {
    let info = poll::ports(eal)
        .into_iter()
        .find(|info| info.name == device);
    let numa_node = info.as_ref().and_then(|info| info.numa_node);
    let tx_pool = tx_pool(plan, info.as_ref());
    let pools = pools(eal, plan, tx_pool, numa_node)?;
    let (port, queues) =
        Port::open(eal, device, &config(plan, pools)).map_err(|source| OpenError::Port {
            port: plan.name.clone(),
            source,
        })?;
    Ok(OpenPort::new(port, queues))
}

fn link_ports(eal: &Eal, plans: [&PortPlan; 2]) -> Result<[OpenPort; 2], OpenError> {
    let configs = [
        config(plans[0], pools(eal, plans[0], plans[0].tx_pool, None)?),
        config(plans[1], pools(eal, plans[1], plans[1].tx_pool, None)?),
    ];
    let names = [plans[0].name.as_str(), plans[1].name.as_str()];
    let [first, second] =
        poll::link(eal, names, [&configs[0], &configs[1]]).map_err(|source| OpenError::Port {
            port: plans[0].name.clone(),
            source,
        })?;
    let open = |(port, queues): poll::LinkEnd| OpenPort::new(port, queues);
    Ok([open(first), open(second)])
}

/// The pool of what is sent, unless it was planned for a device that segments, and this one does not.
fn tx_pool(plan: &PortPlan, info: Option<&PortInfo>) -> Option<PoolPlan> {
    let tx_pool = plan.tx_pool?;
    let buffers = Buffers {
        mtu: plan.mtu,
        queues: plan.queues,
        rx_data_room: plan.pool.data_room,
        tx_data_room: tx_pool.data_room,
    };
    // What cannot be negotiated is told when the port is opened.
    let segments = info
        .and_then(|info| negotiate(info, &plan.offload.0, buffers).ok())
        .map_or(1, |offloads| offloads.segments_max);
    (segments > 1 || !plan.pool.holds_frames(plan.mtu)).then_some(tx_pool)
}

/// The pool of what is received, and that of what is sent if it is to have its own.
pub(super) fn pools(
    eal: &Eal,
    plan: &PortPlan,
    tx_pool: Option<PoolPlan>,
    numa_node: Option<u32>,
) -> Result<[Mempool; 2], OpenError> {
    let rx = pool(
        eal,
        plan,
        format!("stoq_{}", plan.name),
        &plan.pool,
        numa_node,
    )?;
    let tx = match tx_pool {
        Some(tx) => pool(eal, plan, format!("tx_{}", plan.name), &tx, numa_node)?,
        None => rx,
    };
    Ok([rx, tx])
}

fn pool(
    eal: &Eal,
    plan: &PortPlan,
    name: String,
    pool: &PoolPlan,
    numa_node: Option<u32>,
) -> Result<Mempool, OpenError> {
    let config = MempoolConfig {
        name,
        mbufs: pool.mbufs,
        cache: pool.cache,
        data_room: pool.data_room,
        numa_node,
    };
    Mempool::create(eal.up(), &config).map_err(|source| OpenError::Pool {
        port: plan.name.clone(),
        source: Box::new(source),
    })
}

pub(super) fn config(plan: &PortPlan, [pool, tx_pool]: [Mempool; 2]) -> PortConfig {
    PortConfig {
        mtu: plan.mtu,
        queues: plan.queues,
        rx_descriptors: plan.rx_descriptors,
        tx_descriptors: plan.tx_descriptors,
        pool,
        tx_pool,
        offload: plan.offload.0,
        rss_key: rss_key(plan),
    }
}

/// The key of receive-side scaling: that of the plan, or a random one, so that nobody can aim all flows at one queue.
/// Without random numbers it is the driver crate's own.
fn rss_key(plan: &PortPlan) -> Option<Vec<u8>> {
    if let Some(key) = &plan.rss_key {
        return Some(key.0.clone());
    }
    let key = random::bytes::<{ poll::DEFAULT_RSS_KEY.len() }>();
    key.ok().map(Vec::from)
}

/// Says what the device does, and why it does not do what it might have.
fn tell_offloads(port: &Port, plan: &PortPlan) {
    let decisions = &port.offloads().decisions;
    let by_device: Vec<&str> = decisions
        .iter()
        .filter(|decision| decision.granted == Mode::Hardware)
        .map(|decision| decision.name)
        .collect();
    let fallen_back: Vec<String> = decisions
        .iter()
        .filter(|decision| decision.falls_back())
        .map(|decision| format!("{} ({})", decision.name, decision.reason))
        .collect();
    info!(
        port = %plan.name, by_device = %by_device.join(" "), not_by_device = %fallen_back.join(", "),
        "offloads"
    );
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
