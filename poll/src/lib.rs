//! From the poll-mode driver up to UDP datagrams over IPv6, and back down. Knows no QUIC.
//!
//! ```text
//!             Transport   receive(now, Datagram)   transmit(now, buf)   timeout()
//!   worker  ───────────────────────▲────────────────────│──────────────────────────
//!   bridge               mbuf -> BytesMut        Vec over an mbuf
//!   host                 addresses, neighbours, routes, drop reasons
//!   queue                    rx_burst               tx_burst
//!             ─────────────── poll-mode driver ─────▼───────────────
//! ```
//!
//! [`Eal`] is started once; [`Port`]s (or a [`link`] between two, or two [`emulated`] NICs) are opened on it and hand out
//! their [`QueuePair`]s, once each. A [`Lane`] joins a queue pair, a [`host::Host`] (the IPv6 side of a port) and a [`Transport`]; a
//! [`Worker`] is the loop that drives lanes on one lcore. The hosts on the queues of one port tell each other by a
//! [`relay`](relay()) what they hear.

#![deny(unsafe_code)]

mod bridge;
mod control;
mod counters;
mod deadline;
#[allow(unsafe_code, reason = "calls EAL")]
mod eal;
mod echo;
pub mod host;
mod idle;
mod lane;
#[allow(unsafe_code, reason = "launches work on EAL's threads")]
mod lcore;
mod link;
mod nic;
pub mod offload;
#[allow(unsafe_code, reason = "calls ethdev")]
mod port;
pub mod profile;
#[allow(unsafe_code, reason = "polls a device's queues")]
mod queue;
mod random;
mod relay;
#[allow(
    unsafe_code,
    reason = "makes rings and ports over them, and moves mbufs through them"
)]
mod ring;
pub mod selftest;
#[allow(unsafe_code, reason = "answers through DPDK's telemetry")]
pub mod telemetry;
mod toeplitz;
mod transport;
#[allow(unsafe_code, reason = "reads the time stamp counter")]
mod tsc;
pub mod wire;
mod worker;

pub use bridge::TxPath;
pub use control::{Control, Stop};
pub use counters::{LaneCounters, LaneStats};
pub use eal::{CleanupError, Eal, EalError, dpdk_version};
pub use echo::Echo;
pub use idle::{IdlePolicy, SLEEP_MAX};
pub use lane::{Lane, LaneConfig};
pub use lcore::{LcoreError, LcoreId, LcoreTask};
pub use link::{LinkEnd, link, link_info};
pub use nic::{
    Emulation, Misbehaviour, NicClock, NicConfig, NicOffload, NicStats, WireConfig, emulated,
};
pub use port::{
    DEFAULT_RSS_KEY, DeviceStats, LinkState, Port, PortConfig, PortError, PortId, PortInfo, Rss,
    ports, rss_type_names, rx_offload_name, tx_offload_name,
};
pub use queue::{BURST, BURST_DEFAULT, QueuePair, RxQueue, TxQueue};
pub use relay::{Relay, relay};
pub use toeplitz::toeplitz;
pub use transport::{Datagram, Ecn, Path, Transmit, Transport};
pub use tsc::tsc_hz;
pub use worker::{Worker, drain_queues};
