//! The engine beside the field: other QUIC stacks over kernel sockets, case by case, in one run.
//!
//! A [cell](crate::report::Cell) is a [case](case::Case) through a [way](way::Way), a stack over a medium. Every
//! measurement is a process for each end, or one for both where they share memory, on CPU 0 and CPU 1.
//!
//! ```text
//!   field ──► peer server STACK ◄─ loopback or veth ─► peer client STACK      other stacks (bench/peers)
//!         ├─► engine run (both ends of a link)
//!         ├─► engine run (server)  ◄─ memif, veth or TAP ─►  engine run (client)
//!         └─► scale engine CASE                                               handshakes, connections at rest
//! ```

use std::time::Duration;

pub mod case;
pub mod engine_config;
pub mod engine_way;
pub mod peer;
pub mod peer_way;
pub mod plot;
pub mod schedule;
pub mod table;
pub mod way;
pub mod wire;

/// Time that a process may take beyond its load: start, connections, last answers, drain.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);
