//! `clients:`.

use std::path::PathBuf;

use serde::Deserialize;

use super::address::{Fingerprint, Remote};
use super::present;
use super::units::{Interval, Rate, Size};

/// A load on a server: exactly one of `perf`, `hq`, `echo`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// How messages call it.
    pub name: String,
    /// The shard it runs on.
    pub shard: String,
    /// Address and UDP port of the server.
    pub remote: Remote,
    /// The name the server's certificate must have; default: the address of `remote`.
    pub server_name: Option<String>,
    /// Why the server is believed.
    pub trust: Trust,
    /// Name of the identity shown to servers that ask for one.
    pub identity: Option<String>,
    /// Connections, 1 or more; default 1.
    pub connections: Option<u32>,
    /// Whether requests go out as 0-RTT data where a ticket allows it; default false. The first connection is then made
    /// alone, and the others when it has had time to receive tickets, if there is anything left to do.
    #[serde(default)]
    pub early_data: bool,
    /// The QUIC performance protocol.
    #[serde(default, deserialize_with = "present")]
    pub perf: Option<PerfClient>,
    /// Downloads over HTTP/0.9.
    #[serde(default, deserialize_with = "present")]
    pub hq: Option<HqClient>,
    /// Round trips.
    #[serde(default, deserialize_with = "present")]
    pub echo: Option<EchoClient>,
}

/// Why a server is believed: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Its certificate leads up to one of these PEM files.
    pub anchors: Option<Vec<PathBuf>>,
    /// It shows this identity of the same file.
    pub identity: Option<String>,
    /// Its certificate has this fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// `true`: it is believed blindly. For tests only.
    pub insecure: Option<bool>,
}

/// `perf`: each request sends `upload` bytes and asks for `download` bytes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerfClient {
    /// Requests in flight on a connection, 1 or more; default 1.
    pub streams: Option<u32>,
    /// Bytes sent with each request; default 0.
    pub upload: Option<Size>,
    /// Bytes asked for with each request; default 0.
    pub download: Option<Size>,
    /// Whether a finished request is followed by the next; default: true when `rate`, `requests` or `duration` is given.
    pub repeat: Option<bool>,
    /// Requests started a second by this client, whether earlier ones are finished or not; default: as fast as possible.
    pub rate: Option<Rate>,
    /// Requests of this client in all; default unlimited.
    pub requests: Option<u64>,
    /// How long requests are started; default unlimited.
    pub duration: Option<Interval>,
}

/// `hq`: downloads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HqClient {
    /// Paths to ask for, each with a leading slash.
    pub paths: Vec<String>,
    /// Folder that the files are written to; made when it is missing. Absent: the bytes are counted and dropped.
    pub output: Option<PathBuf>,
    /// Downloads in flight on a connection, 1 or more; default 8.
    pub streams: Option<u32>,
}

/// `echo`: what is sent comes back, and the round trip is timed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EchoClient {
    /// Streams of a connection, with one message under way on each; with `datagrams`, datagrams under way on a
    /// connection. 1 or more; default 1. At a `rate`, messages follow it instead of each other.
    pub streams: Option<u32>,
    /// Bytes of a message, 8 or more; default 64 B.
    pub size: Option<Size>,
    /// Whether messages are unreliable datagrams (RFC 9221); default false: streams.
    pub datagrams: bool,
    /// Messages a second of this client; default: the next when the last came back.
    pub rate: Option<Rate>,
    /// Messages of this client in all; default unlimited.
    pub requests: Option<u64>,
    /// How long messages are sent; default unlimited.
    pub duration: Option<Interval>,
}
