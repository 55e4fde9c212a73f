//! The STOQ engine: a QUIC transport in user space, from a poll-mode driver to an application.
//!
//! A DPDK poll-mode driver feeds packet buffers, without copying them, into [quinn-proto] state machines: one *shard* for
//! each queue of a port, pinned to one *lcore*. It is a pure transport over IPv6: authenticated connections, streams,
//! unreliable datagrams, flow and congestion control.
//!
//! ```text
//!        your program                                                  the engine
//!   ┌───────────────────────┐   commands, events, Bytes    ┌──────────────────────────────────┐
//!   │ Handle  Connection    │ ◄──────────────────────────► │ agent ┐                          │
//!   │ SendStream RecvStream │      (from any thread)       │       ├─ shard ─ bridge ─ port ──┼──► NIC, TAP,
//!   └───────────────────────┘                              │ yours ┘   │                      │    memif, link
//!     app::Application  ───── called on the lcore ────────────►        lcore                  │
//!                                                          └──────────────────────────────────┘
//! ```
//!
//! There are two ways in, and one engine can be used in both at once:
//!
//! * [`handle`]: futures for any runtime, with names and semantics as in quinn;
//! * [`app`]: a trait of callbacks on the shard itself, run to completion: no lock, no thread hop, no allocation for an
//!   event.
//!
//! ```
//! use stoq::{ClientConfig, Engine, Identity, ServerConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().link().start()?; // two ports, joined within this process
//! let identity = Identity::self_signed(["localhost"])?;
//! let listener = engine.handle().listen(4433, ServerConfig::new(&identity, ["hello"])?).await?;
//! let config = ClientConfig::new(&identity.trust(), ["hello"])?;
//! let connecting = engine.handle().connect_with(config, "[fd00:5701::2]:4433".parse()?, "localhost")?;
//! let (client, server) = (connecting.await?, listener.accept().await.ok_or("stopped")?);
//! client.open_uni().await?.write_all(b"hello from a shard").await?; // dropped, and so finished
//! assert_eq!(server.accept_uni().await?.read_to_end(1024).await?, b"hello from a shard");
//! # Ok(())
//! # }
//! ```
//!
//! [`pool`] keeps connections to peers and shares them.
//!
//! The [`guide`] leads from a first program to shutting down, and has a table for those who come from quinn.
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `tokio` | `tokio::io::AsyncRead` and `AsyncWrite` for streams |
//! | `futures-io` | `futures_io::AsyncRead` and `AsyncWrite` for streams |
//! | `h3` | the module `h3`: the transport traits of the `h3` crate, for HTTP/3 |
//!
//! # Versions
//!
//! What these pages show is the public interface, and follows semantic versioning: from 1.0 on, what compiles with one
//! version compiles with every later one of the same major version; before, a new minor version may break, and its notes
//! say how to mend it. Enums that may grow are `#[non_exhaustive]`; structs of settings with a `Default`
//! ([`HandleLimits`](handle::HandleLimits), [`TransportSettings`](transport::TransportSettings)) may get fields in a minor version, so
//! end their literals with `..Default::default()`. [`quinn_proto`]'s, [`rustls`]'s and `h3`'s types in it follow
//! their own versions: a new major one of theirs is a breaking change here. Items that are hidden from these pages
//! serve the `engine` binary, tests and benchmarks, and change without notice. The keys of the YAML configuration, of the
//! report and the names of metrics are only added to in a minor version.
//!
//! [quinn-proto]: quinn_proto
#![forbid(unsafe_code)]

pub mod app;
pub mod embed;
#[cfg(feature = "h3")]
pub mod h3;
pub mod handle;
pub mod pool;
pub mod report;
pub mod tls;
pub mod transport;

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

/// The program in the README runs, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// What the binary, tests and benchmarks are made of.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clients;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod live;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod outlet;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod ports;
mod random;
#[doc(hidden)]
pub mod run;
pub mod selftest;
#[doc(hidden)]
pub mod services;
#[doc(hidden)]
pub mod shard;
#[doc(hidden)]
pub mod steering;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod top;

pub use embed::{Builder, Engine, RunError, ShardInfo, StartError};
pub use handle::{
    ClientConfig, Connecting, Connection, ConnectionError, Handle, Listener, RecvStream,
    SendStream, ServerConfig,
};
pub use quinn_proto::{Dir, Side, StreamId, VarInt};
pub use tls::{Identity, Trust};
