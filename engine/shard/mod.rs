//! The shard: quinn-proto endpoints and connections, timers, fair turns, and the applications on top.

mod core;
mod counters;
mod entry;

pub(crate) use self::core::Core;
pub use counters::{Counter, ShardCounters};
pub(crate) use entry::Entry;
