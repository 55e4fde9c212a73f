//! The services of the engine's listeners: small applications on a shard, chosen by ALPN.
//!
//! | ALPN | service | what it does |
//! |---|---|---|
//! | `perf` | [`perf`] | answers with as many bytes as asked for (draft-banks-quic-performance) |
//! | `hq-interop` | [`hq`] | HTTP/0.9: sends files of a directory |
//! | `echo` | [`echo`] | sends back streams and unreliable datagrams |
//!
//! Each is one instance per listener and shard, so nothing here is shared or locked. State is held per stream, and
//! streams are bounded by what the transport settings grant a peer; what is bounded beyond that says so.

pub mod echo;
pub mod hq;
pub mod perf;

pub(crate) mod pattern;
pub(crate) mod table;

use crate::shard::Counter;

/// What one service on one shard counted. Written by the shard, readable from any thread.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Requests understood and begun: a perf or hq request, a stream to echo.
    pub requests: Counter,
    /// Requests answered in full, as far as the send buffer.
    pub answered: Counter,
    /// Requests refused: malformed, not permitted, not found, or beyond a limit.
    pub refused: Counter,
    /// Answers given up on the way, by us or by the peer.
    pub aborted: Counter,
    /// Answers given up because their file became shorter while it was sent. Also in `aborted`.
    pub truncated: Counter,
    /// Requests refused because their file is there and could not be read. Also in `refused`.
    pub read_failed: Counter,
    /// Files that could not be mapped, and were read instead.
    pub unmapped: Counter,
    /// Unreliable datagrams sent back.
    pub datagrams_echoed: Counter,
    /// Unreliable datagrams not sent back: the send buffer was full, or the peer takes none of that size.
    pub datagrams_dropped: Counter,
}
