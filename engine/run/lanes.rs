//! Shards on their queue pairs, with the hosts between them, and workers that drive them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use poll::host::{Host, HostConfig, HostRole, UdpPorts};
use poll::offload::{PacingClock, RxChecksum};
use poll::profile::Profiler;
use poll::{
    Control, Eal, Emulation, IdlePolicy, Lane, LaneConfig, LaneCounters, LcoreId, LcoreTask,
    QueuePair, TxPath, Worker,
};
use tracing::{info, warn};

use super::ports::{OpenError, OpenPort};
use super::shared::Shared;
use super::{RunError, Shards};
use crate::plan::{Idle, Plan, PortKind, PortPlan, ShardPlan, TxPathPlan};
use crate::shard::{Shard, ShardConfig};
use crate::steering::RssQueue;

/// A shard on its way to its lcore, where it is made.
pub(super) struct Seat {
    /// The shard's name in the file.
    name: String,
    shard: ShardConfig,
    host: HostConfig,
    lane: LaneConfig,
    queue: QueuePair,
    counters: Arc<LaneCounters>,
    /// Emulated NICs that the shard's lcore drives: those of the link whose first port it is the first shard of.
    emulation: Option<Emulation>,
    /// Whether its turns are timed.
    profile: bool,
}

impl Seat {
    /// Puts the shard on its lane, on the thread that drives it.
    fn lane(self) -> Result<Lane<Shard>, RunError> {
        let now = Instant::now();
        let shard = Shard::new(self.shard, now).map_err(|source| RunError::Shard {
            shard: self.name,
            source,
        })?;
        let host = Host::new(self.host, now);
        let lane = Lane::new(self.queue, host, shard, self.lane, self.counters);
        Ok(match self.profile {
            true => lane.profiled_by(Profiler::new()),
            false => lane,
        })
    }
}

/// What the lanes of a plan's shards are made of, in its order.
pub(super) fn seats(
    eal: &Eal,
    plan: &Plan,
    shards: Shards,
    ports: &mut [OpenPort],
    counters: &[Arc<LaneCounters>],
) -> Result<Vec<Seat>, OpenError> {
    let mut shared = shards.shared;
    let shards = shards.configs.into_iter().enumerate().zip(counters);
    shards
        .map(|((index, config), counters)| {
            seat(
                eal,
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

fn seat(
    eal: &Eal,
    plan: &Plan,
    index: usize,
    mut shard: ShardConfig,
    shared: &mut Shared,
    ports: &mut [OpenPort],
    counters: Arc<LaneCounters>,
) -> Result<Seat, OpenError> {
    let shard_plan = &plan.shards[index];
    let port_plan = &plan.ports[shard_plan.port];
    // What crosses a link stays in the mbuf that the other end built it in.
    let rx_pool = match port_plan.kind {
        PortKind::Device(_) | PortKind::Emulated { .. } => ports[shard_plan.port].pool,
        PortKind::Link { peer } => ports[peer].tx_pool,
    };
    let port = &mut ports[shard_plan.port];
    shard.client_ports.rss = rss(port, port_plan, shard_plan);
    let udp_ports = shared.udp_ports(shard_plan.port).clone();
    let host = host_config(plan, shard_plan, port, udp_ports);
    // All hosts of a port have the same addresses.
    if host.role == HostRole::Primary {
        announce(&host, port, port_plan);
    }
    let clock = clock(eal, port, port_plan)?;
    shard.paced_by_device = clock.is_some();
    let lane = LaneConfig {
        pool: port.tx_pool,
        rx_pool,
        tx_path: match port_plan.tx_path {
            TxPathPlan::InPlace => TxPath::InPlace,
            TxPathPlan::Scratch => TxPath::Scratch,
        },
        rx_copybreak: usize::from(port_plan.rx_copybreak),
        pool_low_mark: port_plan.pool.low_mark as usize,
        udp_payload_max: port_plan.udp_payload_max,
        segments_max: port.segments_max,
        clock,
        burst: usize::from(port_plan.burst),
        relay: shared.take_relay(index),
    };
    // The plan gives each queue to one shard, and the port has as many as the plan says.
    let queue = port
        .take_queue(shard_plan.queue)
        .expect("the plan hands out each queue once");
    Ok(Seat {
        name: shard_plan.name.clone(),
        shard,
        host,
        lane,
        queue,
        counters,
        emulation: port.emulation.take(),
        profile: plan.run.profile,
    })
}

/// The clock by which the device sends, if it is to send on time.
fn clock(eal: &Eal, port: &OpenPort, plan: &PortPlan) -> Result<Option<PacingClock>, OpenError> {
    if !port.port.offloads().pacing {
        return Ok(None);
    }
    match PacingClock::new(eal.up(), &port.port) {
        Some(clock) => Ok(Some(clock)),
        // It is in force only where it was asked for.
        None => Err(OpenError::Clock {
            port: plan.name.clone(),
        }),
    }
}

/// Tells the device and the log of a port's addresses: those of a host like the one that will be on its first queue.
fn announce(host: &HostConfig, port: &OpenPort, plan: &PortPlan) {
    let host = Host::new(host.clone(), Instant::now());
    if let Err(error) = port.port.set_multicast(&host.multicast_macs()) {
        warn!(%error, "neighbour solicitations may not be received");
    }
    for (address, prefix) in host.addresses() {
        info!(port = %plan.name, "address {address}/{prefix}");
    }
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

fn host_config(plan: &Plan, shard: &ShardPlan, open: &OpenPort, udp_ports: UdpPorts) -> HostConfig {
    let port = &plan.ports[shard.port];
    let offloads = open.port.offloads();
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
        verify_checksums: offloads.rx_checksum != RxChecksum::Skip,
        tx_checksum: offloads.tx_checksum,
        neighbours_max: plan.limits.neighbours as usize,
        waiting_datagrams_max: plan.limits.waiting_datagrams as usize,
        // Hash keys of the standard library are random in every process.
        seed: RandomState::new().build_hasher().finish(),
    }
}

/// What a worker leaves: the queues it drove, or why it could not be made.
pub(super) type Worked = Result<Vec<QueuePair>, RunError>;

/// One worker an lcore, with the lanes of all its shards. Everything of a shard is made on its lcore; where that fails,
/// the others end, too.
pub(super) fn tasks<'a>(
    plan: &Plan,
    seats: Vec<Seat>,
    control: &'a Control,
) -> Vec<LcoreTask<'a, Worked>> {
    let mut by_lcore: Vec<(u32, IdlePolicy, Vec<Seat>)> = Vec::new();
    for (seat, shard) in seats.into_iter().zip(&plan.shards) {
        match by_lcore
            .iter_mut()
            .find(|(lcore, ..)| *lcore == shard.lcore)
        {
            Some((_, _, seats)) => seats.push(seat),
            None => {
                let idle = match shard.idle {
                    Idle::Busy => IdlePolicy::Busy,
                    Idle::Adaptive => IdlePolicy::Adaptive,
                };
                by_lcore.push((shard.lcore, idle, vec![seat]));
            }
        }
    }
    by_lcore
        .into_iter()
        .map(|(lcore, idle, seats)| LcoreTask {
            lcore: LcoreId(lcore),
            work: Box::new(move || Worker::run_made(|| worker(seats, idle), control)),
        })
        .collect()
}

fn worker(mut seats: Vec<Seat>, idle: IdlePolicy) -> Result<Worker<Shard>, RunError> {
    let emulations = seats.iter_mut().filter_map(|seat| seat.emulation.take());
    let emulations = emulations.collect();
    let lanes = seats.into_iter().map(Seat::lane);
    let lanes = lanes.collect::<Result<_, _>>()?;
    Ok(Worker::new(lanes, idle).with_emulations(emulations))
}
