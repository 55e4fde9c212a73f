//! `limits:`, `metrics:` and `run:`.

use serde::Deserialize;

use super::address::Listen;
use super::scalar::OrOff;
use super::units::{Interval, Rate, Size};

/// Every bound. Numbers are 1 or more, with the exception of `retry_above`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of a shard; default 20000.
    pub connections: Option<u32>,
    /// Handshakes in flight on a shard; above, incoming connections are dropped without an answer; default 1024.
    pub incoming: Option<u32>,
    /// Handshakes in flight above which a client must first prove its address (Retry, RFC 9000 §8.1.2); default 128,
    /// or half of `incoming` if that is less. 0 asks every client to.
    pub retry_above: Option<u32>,
    /// Bytes that a shard buffers for connections it has not accepted yet; default 1 MiB.
    pub incoming_bytes: Option<Size>,
    /// Handshakes that a shard begins for one /64 prefix of source addresses in a second; default 4096/s.
    pub handshakes_per_prefix: Option<OrOff<Rate>>,
    /// Datagrams a second that a shard looks at although they belong to no connection and lead to none; default 5000/s.
    pub strangers: Option<OrOff<Rate>>,
    /// Version negotiations and stateless resets that a shard sends in a second; default 1000/s.
    pub stateless: Option<OrOff<Rate>>,
    /// Datagrams that wait at a shard for being handed over by the other shards of its port; default 1024.
    pub handover: Option<u32>,
    /// Stateless replies (version negotiation, retry, reset) waiting on a shard; default 128.
    pub responses: Option<u32>,
    /// Datagrams a connection may send before the next one has its turn; default 16.
    pub turn_budget: Option<u32>,
    /// Neighbours a shard's host remembers; default 1024.
    pub neighbours: Option<u32>,
    /// Datagrams a shard keeps while their neighbours are resolved; default 256.
    pub waiting_datagrams: Option<u32>,
    /// Files that `hq-interop` holds open on a shard; default 1024.
    pub open_files: Option<u32>,
}

/// Counters in the text format of Prometheus.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address of this machine's kernel and TCP port that they are served at, over HTTP; port 0 leaves the choice of a
    /// port to the kernel.
    pub listen: Listen,
}

/// The course of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Time at the start that is left out of goodput; default 500 ms.
    pub warmup: Option<Interval>,
    /// How long connections may take to close at the end; default 3 s.
    pub drain_timeout: Option<Interval>,
    /// How long to run; default until SIGINT or SIGTERM. The command line's `--duration` wins.
    pub duration: Option<Interval>,
    /// Whether the run ends when every client is finished; default true when there are clients.
    pub exit_when_clients_finish: Option<bool>,
    /// Whether some turns are timed, stage by stage; default false. The command line's `--profile` switches it on.
    pub profile: Option<bool>,
}
