//! The clients of the engine: applications that connect, do their work, and finish.
//!
//! * [`perf`]: requests and responses of any size, in a closed loop or at a rate
//! * [`hq`]: downloads to files
//! * [`echo`]: round trips of stream data or unreliable datagrams
//!
//! A client runs on its shard's lcore. What other threads see of it is its [`ClientHandle`]: counters while it runs,
//! [`ClientResults`] when it has finished. A connection that fails is an error of the run, listed in the results, and
//! the others go on.

pub mod echo;
pub mod hq;
pub mod perf;

mod connections;
mod course;
mod pacer;
mod results;
mod schedule;

pub use results::{
    ClientCounters, ClientError, ClientHandle, ClientResults, FileResult, LatencyFrom,
};
pub use schedule::Rate;

/// The code with which clients close connections they are done with.
const DONE: crate::app::VarInt = crate::app::VarInt::from_u32(0);
