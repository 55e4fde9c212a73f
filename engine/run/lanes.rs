//! Shards on their queue pairs, with the hosts between them, and workers that drive them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use poll::host::{Host, HostConfig, HostRole};
use poll::{
    Control, IdlePolicy, Lane, LaneConfig, LaneCounters, LcoreId, LcoreTask, QueuePair, TxPath,
    Worker, wire,
};
use tracing::{info, warn};

use super::ports::OpenPort;
use super::shared::Shared;
use super::{RunError, Shards};
use crate::plan::{ChecksumPlan, Idle, Plan, PortKind, PortPlan, ShardPlan, TxPathPlan};
use crate::shard::{Shard, ShardConfig};
use crate::steering::RssQueue;

/// Puts the shards of a plan on their lanes, in its order.
pub(super) fn lanes(
    plan: &Plan,
    shards: Shards,
    ports: &mut [OpenPort],
    counters: &[Arc<LaneCounters>],
) -> Result<Vec<Lane<Shard>>, RunError> {
    let mut shared = shards.shared;
    let shards = shards.configs.into_iter().enumerate().zip(counters);
    shards
        .map(|((index, config), counters)| {
            lane(
                plan,
                index,
                config,
                &mut shared,
                ports,
                Arc::clone(counters),
            )
        })
        .collect()
}

fn lane(
    plan: &Plan,
    index: usize,
    mut config: ShardConfig,
    shared: &mut Shared,
    ports: &mut [OpenPort],
    counters: Arc<LaneCounters>,
) -> Result<Lane<Shard>, RunError> {
    let shard_plan = &plan.shards[index];
    let port_plan = &plan.ports[shard_plan.port];
    // What crosses a link stays in the mbuf that the other end built it in.
    let rx_pool = match port_plan.kind {
        PortKind::Device(_) => ports[shard_plan.port].pool,
        PortKind::Link { peer } => ports[peer].pool,
    };
    let port = &mut ports[shard_plan.port];
    config.client_ports.rss = rss(port, port_plan, shard_plan);
    let now = Instant::now();
    let shard = Shard::new(config, now).map_err(|source| RunError::Shard {
        shard: shard_plan.name.clone(),
        source,
    })?;
    let udp_ports = shared.udp_ports(plan, shard_plan.port);
    let host = Host::new(host_config(plan, shard_plan, port, udp_ports), now);
    // All hosts of a port have the same addresses.
    if shard_plan.queue == 0 {
        if let Err(error) = port.port.set_multicast(&host.multicast_macs()) {
            warn!(%error, "neighbour solicitations may not be received");
        }
        for (address, prefix) in host.addresses() {
            info!(port = %port_plan.name, "address {address}/{prefix}");
        }
    }
    let config = LaneConfig {
        pool: port.pool,
        rx_pool,
        tx_path: match port_plan.tx_path {
            TxPathPlan::InPlace => TxPath::InPlace,
            TxPathPlan::Scratch => TxPath::Scratch,
        },
        rx_copybreak: usize::from(port_plan.rx_copybreak),
        pool_low_mark: port_plan.pool.low_mark as usize,
        udp_payload_max: port_plan.udp_payload_max,
        relay: shared.take_relay(index),
    };
    // The plan gives each queue to one shard, and the port has as many as the plan says.
    let queue = port
        .take_queue(shard_plan.queue)
        .expect("the plan hands out each queue once");
    Ok(Lane::new(queue, host, shard, config, counters))
}

/// How answers to the shard's clients find its queue. The hash covers our address, so it has to be known beforehand: it
/// is one of the port's static ones. Without one, answers arrive anywhere and are handed over.
fn rss(port: &OpenPort, plan: &PortPlan, shard: &ShardPlan) -> Option<RssQueue> {
    let rss = port.port.rss()?;
    Some(RssQueue {
        key: rss.key.clone(),
        table: rss.table.clone(),
        queue: shard.queue,
        addresses: plan.addresses.iter().map(|&(address, _)| address).collect(),
    })
}

fn host_config(plan: &Plan, shard: &ShardPlan, open: &OpenPort, udp_ports: Vec<u16>) -> HostConfig {
    let port = &plan.ports[shard.port];
    let (verify_checksums, tx_checksum) = match port.checksum {
        ChecksumPlan::Software => (true, wire::Checksum::Software),
        ChecksumPlan::Skip => (false, wire::Checksum::Skip),
    };
    HostConfig {
        // One host speaks for the port: that of the queue which devices give neighbour discovery to.
        role: match shard.queue {
            0 => HostRole::Primary,
            _ => HostRole::Secondary,
        },
        mac: open.port.mac(),
        addresses: port.addresses.clone(),
        gateway: port.gateway,
        accept_router_advertisements: port.router_advertisements,
        mtu: port.mtu,
        udp_ports,
        verify_checksums,
        tx_checksum,
        neighbours_max: plan.limits.neighbours as usize,
        waiting_datagrams_max: plan.limits.waiting_datagrams as usize,
        // Hash keys of the standard library are random in every process.
        seed: RandomState::new().build_hasher().finish(),
    }
}

/// One worker an lcore, with the lanes of all its shards.
pub(super) fn tasks<'a>(
    plan: &Plan,
    lanes: Vec<Lane<Shard>>,
    control: &'a Control,
) -> Vec<LcoreTask<'a, Vec<QueuePair>>> {
    let mut by_lcore: Vec<(u32, IdlePolicy, Vec<Lane<Shard>>)> = Vec::new();
    for (lane, shard) in lanes.into_iter().zip(&plan.shards) {
        match by_lcore
            .iter_mut()
            .find(|(lcore, ..)| *lcore == shard.lcore)
        {
            Some((_, _, lanes)) => lanes.push(lane),
            None => {
                let idle = match shard.idle {
                    Idle::Busy => IdlePolicy::Busy,
                    Idle::Adaptive => IdlePolicy::Adaptive,
                };
                by_lcore.push((shard.lcore, idle, vec![lane]));
            }
        }
    }
    by_lcore
        .into_iter()
        .map(|(lcore, idle, lanes)| LcoreTask {
            lcore: LcoreId(lcore),
            work: Box::new(move || Worker::new(lanes, idle).run(control)),
        })
        .collect()
}
