//! What will run: the second of two stages, [`config`](crate::config), then plan.
//!
//! [`Plan::new`] resolves names, defaults and paths, and checks that everything fits together. It is the only place that
//! does: what runs from a plan checks nothing again. Only what a device or the system must be asked about stays open
//! until the start: whether the device is there, how many queues it has, whether its memory can be had.
//!
//! A plan is plain data. `engine check` prints it, as a table through [`Display`](std::fmt::Display) or as JSON.

mod client;
mod connection_ids;
mod eal;
mod identity;
mod listener;
mod load;
mod metrics;
mod names;
mod nic;
mod offload;
mod pool;
mod port;
mod settings;
mod shard;
mod show;
mod steering;
mod transport;
mod worst_case;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, ConfigError, Source};

pub use crate::config::{Congestion, Idle, Misbehaviour, NicOffload};
pub use client::{ClientPlan, TrustPlan};
pub use connection_ids::{CidKeyPlan, ConnectionIdsPlan, Secret};
pub use eal::EalPlan;
pub use identity::{IdentityPlan, IdentitySource};
pub use listener::{ClientAuthPlan, ListenerPlan, ServicePlan};
pub use load::{EchoLoad, HqLoad, Load, PerfLoad};
pub use metrics::MetricsPlan;
pub use nic::{NicPlan, WirePlan};
pub use offload::OffloadPlan;
pub(crate) use pool::EAL_OVERHEAD;
pub use pool::{MemoryPlan, PoolPlan};
pub use port::{PortKind, PortPlan, TxPathPlan};
pub use settings::{LimitsPlan, RunPlan};
pub use shard::ShardPlan;
pub use steering::SteeringPlan;
pub use transport::{AckFrequencyPlan, TransportPlan};
pub use worst_case::WorstCase;

/// What will run. See the [module](self).
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// EAL's arguments and what they grant.
    pub eal: EalPlan,
    /// Ports, in the order of the file.
    pub ports: Vec<PortPlan>,
    /// Shards, in the order of the file, with the listeners and clients that run on them.
    pub shards: Vec<ShardPlan>,
    /// Certificates with their keys, in the order of the file.
    pub identities: Vec<IdentityPlan>,
    /// QUIC settings of all listeners and clients.
    pub transport: TransportPlan,
    /// What connection IDs are made of.
    pub connection_ids: ConnectionIdsPlan,
    /// Every bound.
    pub limits: LimitsPlan,
    /// Memory that all of this takes.
    pub memory: MemoryPlan,
    /// Counters for Prometheus, where they are served.
    pub metrics: Option<MetricsPlan>,
    /// The course of the run.
    pub run: RunPlan,
    /// What is allowed and yet worth a second look.
    pub notes: Vec<String>,
}

/// What is given besides the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// EAL arguments of the command line; when there are any, they replace those of the file.
    pub eal: Vec<String>,
    /// `--duration`, which wins over `run.duration`.
    pub duration: Option<Duration>,
    /// The CPUs that this process may run on: EAL's lcores when its arguments name none.
    pub cpus: Vec<u32>,
}

impl Given {
    /// Arguments of the command line, on this machine.
    pub fn new(eal: Vec<String>, duration: Option<Duration>) -> Self {
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        Self {
            eal,
            duration,
            cpus: cpus.iter().map(|cpu| cpu.id as u32).collect(),
        }
    }
}

/// Looks into certificate files, which the plan itself only finds.
pub trait Checks {
    /// Whether the key belongs to the certificate, and the certificate is valid now.
    ///
    /// # Errors
    /// What is wrong, naming the file.
    fn identity(&self, certificate: &Path, key: &Path) -> Result<(), String>;

    /// Whether the files hold certificates that others can lead up to.
    ///
    /// # Errors
    /// What is wrong, naming the file.
    fn anchors(&self, files: &[PathBuf]) -> Result<(), String>;
}

impl Plan {
    /// Makes a plan of a configuration.
    ///
    /// # Errors
    /// The first thing that does not fit, with its place in the file and a way to mend it.
    pub fn new(
        config: &Config,
        source: &Source,
        given: &Given,
        checks: &dyn Checks,
    ) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let eal = eal::Arguments::new(config, source, given)?;
        let mut ports = port::plan(config, source, &eal)?;
        let mut shards = shard::plan(config, source, &eal, &ports)?;
        steering::links(source, &ports)?;
        let connection_ids = connection_ids::plan(config, source, &mut notes)?;
        let limits = settings::limits(config, source)?;
        pool::plan(config, source, &limits, &mut ports, &shards)?;
        let transport = transport::plan(config, source, &ports)?;
        let identities = identity::plan(config, source, checks)?;
        listener::plan(config, source, checks, &identities, &ports, &mut shards)?;
        let around = client::Around {
            ports: &ports,
            identities: &identities,
            limits: &limits,
            transport: &transport,
        };
        client::plan(config, source, checks, &around, &mut shards, &mut notes)?;
        let memory = pool::memory(&eal, &ports, &shards, &limits, &transport)?;
        let metrics = metrics::plan(config, source, &ports, &mut notes)?;
        let run = settings::run(config, source, given)?;
        let eal = eal.into_plan();
        Ok(Self {
            eal,
            ports,
            shards,
            identities,
            transport,
            connection_ids,
            limits,
            memory,
            metrics,
            run,
            notes,
        })
    }
}

/// Durations in JSON: seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Serialize, Serializer};

    pub(super) fn one<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        duration.as_secs_f64().serialize(to)
    }

    pub(super) fn maybe<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration
            .map(|duration| duration.as_secs_f64())
            .serialize(to)
    }
}

#[cfg(test)]
mod tests;
