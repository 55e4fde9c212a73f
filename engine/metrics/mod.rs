//! What a run counts, shown while it runs: to Prometheus over HTTP, and over DPDK's own telemetry socket.
//!
//! ```text
//!   lcores ──► plain words, a few cache lines each ◄── Observed ◄──┬── server: GET /metrics       (Prometheus)
//!   devices, pools ◄── while open (run::Devices) ───────┘          └── telemetry: /stoq/...       (DPDK, engine top)
//! ```
//!
//! Everything is read at the moment it is asked for, on the thread that asks; lcores do nothing for it but write the
//! words that they write anyway.

mod families;
mod list;
mod server;
mod telemetry;

use std::collections::BTreeMap;

use hugepages::Mempool;
use poll::{DeviceStats, LaneStats, LinkState, Port};

use crate::plan::Plan;
use crate::run::{Watched, drops_of_device, drops_of_lane, drops_of_shard};
use crate::shard::{Buckets, ShardCounters};

pub use list::text;
pub use server::{Server, ServerError};
pub use telemetry::register;

/// A run as observers see it: its counters, under the names of the plan.
#[derive(Debug, Clone)]
pub struct Observed {
    shards: Vec<ShardName>,
    ports: Vec<String>,
    watched: Watched,
}

#[derive(Debug, Clone)]
struct ShardName {
    name: String,
    port: usize,
    queue: u16,
    lcore: String,
}

/// What one shard and its lane have counted.
pub(crate) struct ShardReading<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: &'a str,
    pub(crate) queue: u16,
    pub(crate) lcore: &'a str,
    pub(crate) lane: LaneStats,
    pub(crate) counters: &'a ShardCounters,
}

/// What one client has counted.
pub(crate) struct ClientReading<'a> {
    pub(crate) name: &'a str,
    /// Index of its shard.
    pub(crate) shard: usize,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) latency: &'a Buckets,
}

/// The state of an open port.
pub(crate) struct PortReading<'a> {
    pub(crate) name: &'a str,
    pub(crate) link: LinkState,
    pub(crate) stats: DeviceStats,
    pub(crate) pool: PoolReading,
}

/// The level of a pool.
pub(crate) struct PoolReading {
    pub(crate) name: &'static str,
    pub(crate) capacity: u32,
    pub(crate) available: u32,
}

impl Observed {
    /// A run of `plan`.
    pub fn new(plan: &Plan, watched: Watched) -> Self {
        let shard = |shard: &crate::plan::ShardPlan| ShardName {
            name: shard.name.clone(),
            port: shard.port,
            queue: shard.queue,
            lcore: shard.lcore.to_string(),
        };
        Self {
            shards: plan.shards.iter().map(shard).collect(),
            ports: plan.ports.iter().map(|port| port.name.clone()).collect(),
            watched,
        }
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardReading<'_>> {
        let counted = self.watched.lanes.iter().zip(&self.watched.shards);
        let readings = self.shards.iter().zip(counted);
        readings.map(|(shard, (lane, counters))| ShardReading {
            name: &shard.name,
            port: self.port_name(shard.port),
            queue: shard.queue,
            lcore: &shard.lcore,
            lane: lane.read(),
            counters,
        })
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientReading<'_>> {
        self.watched.clients.iter().map(|client| {
            let counters = client.handle.counters();
            ClientReading {
                name: &client.name,
                shard: client.shard,
                completed: counters.completed.get(),
                failed: counters.failures.get(),
                latency: &counters.latency,
            }
        })
    }

    /// The open ports: none before they are opened and after they are closed.
    pub(crate) fn ports(&self) -> Vec<PortReading<'_>> {
        self.observe(|name, port| PortReading {
            name,
            link: port.link(),
            stats: port.stats(),
            pool: PoolReading::of(port.pool()),
        })
    }

    /// What the devices of open ports count, by the names of their drivers. Should a driver have a name twice, only one is
    /// told: Prometheus takes no scrape with the same series twice.
    pub(crate) fn device_statistics(&self) -> Vec<(&str, BTreeMap<String, u64>)> {
        self.observe(|name, port| (name, port.xstats().into_iter().collect()))
    }

    fn observe<'a, T>(&'a self, read: impl Fn(&'a str, &Port) -> T) -> Vec<T> {
        self.watched.devices.observe(|ports| {
            let ports = self.ports.iter().zip(ports);
            ports.map(|(name, port)| read(name, port)).collect()
        })
    }

    fn port_name(&self, index: usize) -> &str {
        self.ports.get(index).map_or("", String::as_str)
    }
}

impl ShardReading<'_> {
    /// Connections whose handshake runs, that are open, and that are closing.
    pub(crate) fn connections(&self) -> [(&'static str, u64); 3] {
        let handshaking = self.counters.connections_handshaking.get();
        let closing = self.counters.connections_closing.get();
        let all = self.counters.connections_current.get();
        // The three words may be some moments apart.
        let open = all.saturating_sub(handshaking + closing);
        [
            ("handshaking", handshaking),
            ("open", open),
            ("closing", closing),
        ]
    }

    /// Drops of the lane and of the shard, by reason; zeros are there.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        drops_of_lane(&self.lane).chain(drops_of_shard(self.counters))
    }
}

impl PortReading<'_> {
    /// Drops of the device, by reason.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        drops_of_device(&self.stats).into_iter()
    }
}

impl PoolReading {
    fn of(pool: Mempool) -> Self {
        Self {
            name: pool.name(),
            capacity: pool.capacity(),
            available: pool.available(),
        }
    }
}
