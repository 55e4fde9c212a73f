//! Runs a plan: everything is put together here, and taken apart again.
//!
//! ```text
//! plan ─► identities, TLS, shard configurations ─► control thread ─► EAL ─► pools, ports ─► lcores ─► shards on lanes
//!                                                                                                               │
//! EAL cleaned up ◄── outcome told ◄── ports closed ◄── queues emptied ◄──────────── all workers drained ◄────────────┘
//! ```
//!
//! What can fail without a device fails before EAL starts. Threads that are no lcores start before EAL pins the main
//! thread, since threads inherit their parent's CPUs.

mod devices;
mod lanes;
mod memif;
mod nics;
mod ports;
mod prepared;
mod quic;
mod shared;
mod supervisor;
mod tap;
mod totals;
mod vdevs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hugepages::Mempool;
use poll::{
    Control, DeviceStats, Eal, EalError, LaneStats, LcoreError, NicStats, QueuePair, drain_queues,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use thiserror::Error;
use tracing::warn;

use crate::clients::ClientResults;
use crate::metrics::{self, Observed, ServerError};
use crate::plan::Plan;
use crate::shard::{ShardConfig, ShardCounters, ShardError};
use shared::Shared;

pub use devices::Devices;
pub use memif::MemifError;
pub(crate) use nics::{nic_config, patience};
pub use ports::{OpenError, SteeringInForce};
pub(crate) use prepared::{Prepared, RunOptions};
pub use quic::{NamedClient, QuicError, TlsChecks};
pub use shared::SharedError;
pub use supervisor::{Measured, Watched};
pub use tap::TapError;
pub(crate) use totals::{drops_of_device, drops_of_lane, drops_of_shard};

/// How long mbufs that other threads still hold may take to come home at the end.
const MBUFS_HOME_MAX: Duration = Duration::from_secs(1);

/// Why a run could not start, or broke off.
#[derive(Debug, Error)]
#[non_exhaustive]
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
    /// Keys, connection IDs, UDP ports.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// EAL.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// Pools, devices, links.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Lcores.
    #[error(transparent)]
    Lcore(#[from] LcoreError),
    /// The address of the metrics.
    #[error(transparent)]
    Metrics(#[from] ServerError),
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
    /// What emulated NICs, and the wires from them, counted: by the name of the port.
    pub nics: Vec<(String, NicStats)>,
    /// How datagrams found their shards: one a port, in the order of the plan.
    pub steering: Vec<SteeringInForce>,
    /// mbufs of all pools.
    pub mbuf_capacity: u64,
    /// mbufs that had not come home when everything was closed: a leak if it is not 0.
    pub mbufs_in_use_at_exit: u64,
    /// Ticks of the time stamp counter a second.
    pub tsc_hz: u64,
    /// Results of the clients, in the order of their shards.
    pub clients: Vec<(String, ClientResults)>,
    /// Cleaned up when the outcome is dropped, so that it can be told before.
    _eal: Option<LastingEal>,
}

/// EAL, cleaned up on drop: as the last thing a process does. DPDK's telemetry threads run on, and whoever asks them about
/// DPDK's memory after that ends the process (see [`Eal::cleanup`]).
#[derive(Debug)]
struct LastingEal(Option<Eal>);

impl Drop for LastingEal {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(Eal::cleanup) {
            warn!("{error}; EAL is left as it is");
        }
    }
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

/// What shards are made of, in the order of the plan, and what joins them.
struct Shards {
    configs: Vec<ShardConfig>,
    shared: Shared,
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
    Prepared::new(plan, &|_| Vec::new())?.run(RunOptions::default(), live)
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// CPUs that the calling thread may run on and no lcore is on.
pub(crate) fn free_cpus(plan: &Plan) -> impl Iterator<Item = usize> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let numbers = cpus.into_iter().map(|cpu| cpu.id);
    numbers.filter(|&cpu| !plan.eal.lcores.contains(&(cpu as u32)))
}

/// Keeps a thread of the control plane off the CPUs of lcores, where there are others.
fn leave_lcores(plan: &Plan) {
    let mut free = CpuSet::new();
    free_cpus(plan).for_each(|cpu| free.set(cpu));
    if free.count() > 0 {
        // Where it is not permitted, the thread stays where it is.
        let _ = sched_setaffinity(None, &free);
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
    shards: Shards,
    watched: &Watched,
    observed: &Observed,
    control: &Control,
    go: mpsc::Sender<()>,
) -> Result<Outcome, RunError> {
    let eal = Eal::start(&plan.eal.arguments)?;
    // What asks for counters from outside can do without, and so can the run.
    let telemetry = metrics::register(&eal, observed);
    if let Err(error) = &telemetry {
        warn!("{error}; `engine top` and DPDK's tools will not see this run");
    }
    let outcome = drive_on(&eal, plan, shards, watched, control, go);
    drop(telemetry);
    let eal = LastingEal(Some(eal));
    let mut outcome = outcome?;
    outcome._eal = Some(eal);
    Ok(outcome)
}

/// From opening the ports to closing them.
fn drive_on(
    eal: &Eal,
    plan: &Plan,
    shards: Shards,
    watched: &Watched,
    control: &Control,
    go: mpsc::Sender<()>,
) -> Result<Outcome, RunError> {
    let mut ports = ports::open(eal, plan, control)?;
    let shown = watched
        .devices
        .show(ports.iter().map(|port| port.port.clone()).collect());
    let steering = ports::steering(plan, &ports);
    let seats = lanes::seats(eal, plan, shards, &mut ports, &watched.lanes)?;
    let tasks = lanes::tasks(plan, seats, control);
    // The control thread may have ended only because it panicked; the run goes on without it then.
    let _ = go.send(());
    let (worked, failed): (Vec<_>, Vec<_>) = eal.run(tasks)?.into_iter().partition(Result::is_ok);
    let mut queues: Vec<QueuePair> = worked.into_iter().flatten().flatten().collect();
    drain_queues(&mut queues);
    drop(queues);
    if let Some(Err(error)) = failed.into_iter().next() {
        return Err(error);
    }

    let devices = ports.iter().map(|port| port.port.stats()).collect();
    let nics = nics::stats(plan, &ports);
    let mut pools: Vec<Mempool> = ports
        .iter()
        .flat_map(|port| [port.pool, port.tx_pool])
        .collect();
    pools.dedup_by_key(|pool| pool.as_ptr());
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
        nics,
        steering,
        mbuf_capacity: pools.iter().map(|pool| u64::from(pool.capacity())).sum(),
        mbufs_in_use_at_exit: pools.iter().map(|pool| u64::from(pool.in_use())).sum(),
        tsc_hz: poll::tsc_hz(eal),
        clients,
        _eal: None,
    })
}

/// Threads that write downloads to disk may hold slices for a moment longer than the shards live.
fn await_mbufs(pools: &[Mempool]) {
    let start = Instant::now();
    while pools.iter().any(|pool| pool.in_use() > 0) && start.elapsed() < MBUFS_HOME_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
}
