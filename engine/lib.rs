//! The STOQ engine: a QUIC transport in user space, from a poll-mode driver to an application.
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod clients;
pub mod commands;
pub mod config;
pub mod embed;
pub mod format;
pub mod handle;
pub mod live;
pub mod metrics;
pub mod outlet;
pub mod plan;
pub mod pool;
pub mod ports;
mod random;
pub mod report;
pub mod run;
pub mod services;
pub mod shard;
pub mod steering;
pub mod table;
pub mod tls;
pub mod top;
pub mod transport;

pub use embed::{Builder, Engine, ShardInfo, StartError};
pub use handle::{
    ClientConfig, Connecting, Connection, ConnectionError, Handle, Listener, RecvStream,
    SendStream, ServerConfig,
};
pub use quinn_proto::{Dir, Side, StreamId, VarInt};
pub use tls::{Identity, Trust};
