//! Many connections, floods, fairness and handshakes: the engine beside quinn over kernel sockets.
//!
//! Each measurement is a process of its own (EAL starts once in a process), started by the `scale` program as itself
//! with another command. In it, a control thread drives [loads](load::Load) through a [case](control::run), and what it
//! finds are [figures](figures::Figures). The loads are the same for both stacks: on the engine an
//! [application of a shard](engine_load), on quinn [tasks of tokio](quinn_load).
//!
//! ```text
//!   scale ──► scale engine CASE ────────► two lcores, a link between them, control thread
//!         └─► scale quinn CASE ──────────► client on CPU 1, control thread
//!                    └─► scale quinn-server    on CPU 0
//! ```

pub mod case;
pub mod control;
pub mod engine_load;
pub mod engine_run;
pub mod figures;
pub mod flood;
pub mod initials;
pub mod load;
pub mod process;
pub mod quinn_flood;
pub mod quinn_load;
pub mod quinn_run;
pub mod quinn_server;
pub mod secrets;
pub mod table;

/// The CPU and lcore of servers.
pub const SERVER_CPU: usize = 0;
/// The CPU and lcore of clients and floods.
pub const CLIENT_CPU: usize = 1;
