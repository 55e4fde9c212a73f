//! The STOQ engine: a QUIC transport in user space, from a poll-mode driver to an application.
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod shard;
pub mod tls;
pub mod transport;
