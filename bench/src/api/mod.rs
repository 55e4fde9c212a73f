//! The ways into the engine, an application on the shard and the async handle, beside quinn over kernel sockets.
//!
//! Each measurement is a process of its own (EAL starts once in a process), started by the `api` program as itself with
//! another command: one [case](case::Case) through one [way](case::Way). Whatever the way, the client has a fixed
//! number of requests under way on one connection, each on a new bidirectional stream, and begins the next when one is
//! answered; a [recorder](recorder::Recorder) takes the time from issue to the last byte of the answer.
//!
//! ```text
//!   api ──► api measure shard CASE            server on lcore 0, client on lcore 1: applications of their shards
//!       ├─► api measure shard-one-lcore CASE  the same, both on lcore 0
//!       ├─► api measure handle CASE           both shards on lcore 0; client and server on CPU 1, by the handle,
//!       │                                     which a courier thread on CPU 1 serves
//!       ├─► api measure handle-task CASE      the same with the courier as a task beside them
//!       ├─► api measure handle-spinning CASE  the same with a courier task that never sleeps
//!       ├─► api measure handle-client CASE    the same, but for the server, which is an application of its shard
//!       └─► api measure quinn CASE            server on CPU 0, client on CPU 1: threads, a runtime on each
//! ```

pub mod case;
pub mod crossing;
pub mod goals;
pub mod handle_way;
pub mod quinn_way;
pub mod recorder;
pub mod requester;
pub mod shard_way;
pub mod table;
pub mod tasks;
