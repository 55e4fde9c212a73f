//! Runs a plan: everything is put together here, and taken apart again.
//!
//! ```text
//! plan ─► identities, TLS, shard configurations ─► control thread ─► EAL ─► pools, ports ─► shards on lanes ─► lcores
//!                                                                                                               │
//! outcome ◄── EAL cleaned up ◄── ports closed ◄── queues emptied ◄──────────── all workers drained ◄────────────┘
//! ```
//!
//! What can fail without a device fails before EAL starts. Threads that are no lcores start before EAL pins the main
//! thread, since threads inherit their parent's CPUs.

mod devices;
mod memif;
mod ports;
mod quic;
mod supervisor;
mod tap;
mod totals;
mod vdevs;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hugepages::Mempool;
use poll::host::{Host, HostConfig, HostRole};
use poll::{
    Control, DeviceStats, Eal, EalError, IdlePolicy, Lane, LaneConfig, LaneCounters, LaneStats,
    LcoreError, LcoreId, LcoreTask, QueuePair, TxPath, Worker, drain_queues, wire,
};
use thiserror::Error;
use tracing::{info, warn};

use crate::clients::ClientResults;
use crate::plan::{ChecksumPlan, Idle, Plan, PortKind, PortPlan, TxPathPlan};
use crate::shard::{Shard, ShardConfig, ShardCounters, ShardError};
use ports::OpenPort;
use quic::Quic;
use supervisor::Supervisor;

pub use devices::Devices;
pub use memif::MemifError;
pub use ports::OpenError;
pub use quic::{NamedClient, QuicError, TlsChecks};
pub use supervisor::{Measured, Watched};
pub use tap::TapError;
pub(crate) use totals::{drops_of_device, drops_of_shard};

/// How long mbufs that other threads still hold may take to come home at the end.
const MBUFS_HOME_MAX: Duration = Duration::from_secs(1);

/// Why a run could not start, or broke off.
#[derive(Debug, Error)]
pub enum RunError {
    /// Certificates, transport settings, folders to serve.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// A TAP interface that is taken.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A memif socket that is taken.
    #[error(transparent)]
    Memif(#[from] MemifError),
    /// EAL.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// Pools, devices, links.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Lcores.
    #[error(transparent)]
    Lcore(#[from] LcoreError),
    /// A shard.
    #[error("shard {shard}: {source}")]
    Shard {
        /// Its name in the file.
        shard: String,
        /// The reason.
        source: ShardError,
    },
    /// Signals or threads.
    #[error("the system gave no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// What happened in a run.
#[derive(Debug)]
pub struct Outcome {
    /// Time and goodput.
    pub measured: Measured,
    /// One a shard, in the order of the plan.
    pub shards: Vec<ShardOutcome>,
    /// One a port, in the order of the plan.
    pub devices: Vec<DeviceStats>,
    /// mbufs of all pools.
    pub mbuf_capacity: u64,
    /// mbufs that had not come home when everything was closed: a leak if it is not 0.
    pub mbufs_in_use_at_exit: u64,
    /// Results of the clients, in the order of their shards.
    pub clients: Vec<(String, ClientResults)>,
}

/// What happened on a shard.
#[derive(Debug)]
pub struct ShardOutcome {
    /// Its lcore.
    pub lcore: u32,
    /// Frames.
    pub lane: LaneStats,
    /// Connections, streams, bytes.
    pub counters: Arc<ShardCounters>,
}

/// Runs `plan` to its end: its duration, its clients' end, or a signal. `live` is called once a second, on the control
/// thread.
///
/// # Errors
/// See [`RunError`]. Whatever was started has been stopped when this returns.
pub fn run(
    plan: &Plan,
    live: &mut (dyn FnMut(&Watched, Duration) + Send),
) -> Result<Outcome, RunError> {
    tap::check(&plan.eal.arguments)?;
    memif::check(&plan.eal.arguments)?;
    let quic = Quic::new(plan)?;
    let mut configs = Vec::new();
    let mut watched = Watched {
        shards: Vec::new(),
        lanes: Vec::new(),
        clients: Vec::new(),
        devices: Devices::new(),
    };
    for (index, shard) in plan.shards.iter().enumerate() {
        let counters = Arc::<ShardCounters>::default();
        let (config, clients) = quic.shard(index, shard, Arc::clone(&counters))?;
        configs.push(config);
        watched.shards.push(counters);
        watched.lanes.push(Arc::<LaneCounters>::default());
        watched.clients.extend(clients);
    }

    let system = |what| move |source| RunError::System { what, source };
    let control = Arc::new(Control::new(workers(plan).len()));
    let ended = Arc::new(AtomicBool::new(false));
    let supervisor = Supervisor {
        run: &plan.run,
        control: Arc::clone(&control),
        watched: watched.clone(),
        ended: Arc::clone(&ended),
        signals: supervisor::signals().map_err(system("signals"))?,
    };
    std::thread::scope(|scope| {
        let (go, started) = mpsc::channel::<()>();
        let spawned = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn_scoped(scope, move || {
                leave_lcores(plan);
                supervisor.watch(&started, live)
            });
        let thread = spawned.map_err(system("control thread"))?;
        // Dropped when this closure ends, however it ends, so that the control thread does.
        let end = SetOnDrop(ended);
        let result = drive(plan, configs, &watched, &control, go);
        drop(end);
        let measured = thread.join().ok().flatten().unwrap_or_default();
        let mut outcome = result?;
        outcome.measured = measured;
        Ok(outcome)
    })
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Keeps the control thread off the CPUs of lcores, where there is another one.
fn leave_lcores(plan: &Plan) {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let free = cpus
        .into_iter()
        .find(|cpu| !plan.eal.lcores.contains(&(cpu.id as u32)));
    if let Some(cpu) = free {
        core_affinity::set_for_current(cpu);
    }
}

/// The lcores that shards run on, each once, in ascending order.
fn workers(plan: &Plan) -> Vec<u32> {
    let mut lcores: Vec<u32> = plan.shards.iter().map(|shard| shard.lcore).collect();
    lcores.sort_unstable();
    lcores.dedup();
    lcores
}

/// From EAL's start to its end.
fn drive(
    plan: &Plan,
    configs: Vec<ShardConfig>,
    watched: &Watched,
    control: &Control,
    go: mpsc::Sender<()>,
) -> Result<Outcome, RunError> {
    let eal = Eal::start(&plan.eal.arguments)?;
    let outcome = drive_on(&eal, plan, configs, watched, control, go);
    if let Err(error) = eal.cleanup() {
        warn!("{error}; EAL is left as it is");
    }
    outcome
}

/// From opening the ports to closing them.
fn drive_on(
    eal: &Eal,
    plan: &Plan,
    configs: Vec<ShardConfig>,
    watched: &Watched,
    control: &Control,
    go: mpsc::Sender<()>,
) -> Result<Outcome, RunError> {
    let mut ports = ports::open(eal, plan, control)?;
    let shown = watched
        .devices
        .show(ports.iter().map(|port| port.port.clone()).collect());
    let mut lanes = Vec::new();
    for (index, config) in configs.into_iter().enumerate() {
        lanes.push(lane(
            plan,
            index,
            config,
            &mut ports,
            Arc::clone(&watched.lanes[index]),
        )?);
    }
    let tasks = tasks(plan, lanes, control);
    // The control thread may have ended only because it panicked; the run goes on without it then.
    let _ = go.send(());
    let ran = eal.run(tasks);
    let mut queues: Vec<QueuePair> = ran?.into_iter().flatten().collect();
    drain_queues(&mut queues);
    drop(queues);

    let devices = ports.iter().map(|port| port.port.stats()).collect();
    let pools: Vec<Mempool> = ports.iter().map(|port| port.pool).collect();
    drop(shown);
    drop(ports);
    await_mbufs(&pools);
    let shards = plan
        .shards
        .iter()
        .enumerate()
        .map(|(index, shard)| ShardOutcome {
            lcore: shard.lcore,
            lane: watched.lanes[index].read(),
            counters: Arc::clone(&watched.shards[index]),
        })
        .collect();
    let clients = watched
        .clients
        .iter()
        .filter_map(|client| Some((client.name.clone(), client.handle.take_results()?)))
        .collect();
    Ok(Outcome {
        measured: Measured::default(),
        shards,
        devices,
        mbuf_capacity: pools.iter().map(|pool| u64::from(pool.capacity())).sum(),
        mbufs_in_use_at_exit: pools.iter().map(|pool| u64::from(pool.in_use())).sum(),
        clients,
    })
}

/// Puts a shard on its queue pair.
fn lane(
    plan: &Plan,
    index: usize,
    config: ShardConfig,
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
    let now = Instant::now();
    let shard = Shard::new(config, now).map_err(|source| RunError::Shard {
        shard: shard_plan.name.clone(),
        source,
    })?;
    let host = Host::new(host_config(plan, port_plan, port, &shard), now);
    if let Err(error) = port.port.set_multicast(&host.multicast_macs()) {
        warn!(%error, "neighbour solicitations may not be received");
    }
    for (address, prefix) in host.addresses() {
        info!(shard = %shard_plan.name, "address {address}/{prefix}");
    }
    let config = LaneConfig {
        pool: port.pool,
        rx_pool,
        tx_path: match port_plan.tx_path {
            TxPathPlan::InPlace => TxPath::InPlace,
            TxPathPlan::Scratch => TxPath::Scratch,
        },
        rx_copybreak: usize::from(port_plan.rx_copybreak),
        pool_low_mark: low_mark(port_plan),
        udp_payload_max: port_plan.udp_payload_max,
        relay: None,
    };
    // The plan gives each queue to one shard, and the port has as many as the plan says.
    let queue = port
        .take_queue(shard_plan.queue)
        .expect("the plan hands out each queue once");
    Ok(Lane::new(queue, host, shard, config, counters))
}

/// With fewer free mbufs than a receive ring and some bursts take, what is received is copied and given back at once.
fn low_mark(port: &PortPlan) -> usize {
    usize::from(port.rx_descriptors) + 4 * poll::BURST
}

fn host_config(plan: &Plan, port: &PortPlan, open: &OpenPort, shard: &Shard) -> HostConfig {
    let (verify_checksums, tx_checksum) = match port.checksum {
        ChecksumPlan::Software => (true, wire::Checksum::Software),
        ChecksumPlan::Skip => (false, wire::Checksum::Skip),
    };
    HostConfig {
        role: HostRole::Primary,
        mac: open.port.mac(),
        addresses: port.addresses.clone(),
        gateway: port.gateway,
        accept_router_advertisements: port.router_advertisements,
        mtu: port.mtu,
        udp_ports: shard.udp_ports().collect(),
        verify_checksums,
        tx_checksum,
        neighbours_max: plan.limits.neighbours as usize,
        waiting_datagrams_max: plan.limits.waiting_datagrams as usize,
        // Hash keys of the standard library are random in every process.
        seed: RandomState::new().build_hasher().finish(),
    }
}

/// One worker an lcore, with the lanes of all its shards.
fn tasks<'a>(
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

/// Threads that write downloads to disk may hold slices for a moment longer than the shards live.
fn await_mbufs(pools: &[Mempool]) {
    let start = Instant::now();
    while pools.iter().any(|pool| pool.in_use() > 0) && start.elapsed() < MBUFS_HOME_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
}
