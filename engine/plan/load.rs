//! What clients do: loads.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::port::PortPlan;
use super::seconds;
use super::transport::TransportPlan;
use crate::config::{Client, ConfigError, EchoClient, HqClient, PerfClient, Source};
use crate::services::hq::request::relative_path;

/// What QUIC puts around an unreliable datagram in its packet at most, bytes: first byte, connection ID of 20, packet
/// number of 4, frame type and length, AEAD tag of 16.
const DATAGRAM_OVERHEAD: u64 = 1 + 20 + 4 + 1 + 2 + 16;
/// Longest request line that servers of ours read, bytes, with `GET ` and the line's end.
const HQ_PATH_MAX: usize = 4096 - 6;
const STREAMS_MAX: u32 = 1 << 20;

/// What a client does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// The QUIC performance protocol.
    Perf(PerfLoad),
    /// Downloads over HTTP/0.9.
    Hq(HqLoad),
    /// Round trips.
    Echo(EchoLoad),
}

impl Load {
    /// The protocol's ALPN identifier.
    pub fn alpn(&self) -> &'static str {
        match self {
            Self::Perf(_) => "perf",
            Self::Hq(_) => "hq-interop",
            Self::Echo(_) => "echo",
        }
    }
}

/// Requests of the QUIC performance protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PerfLoad {
    /// Requests in flight on a connection.
    pub streams: u32,
    /// Bytes sent with each request.
    pub upload: u64,
    /// Bytes asked for with each request.
    pub download: u64,
    /// Whether a finished request is followed by the next.
    pub repeat: bool,
    /// Requests started a second by this client.
    pub rate: Option<u64>,
    /// Requests of this client in all.
    pub requests: Option<u64>,
    /// How long requests are started.
    #[serde(rename = "duration_s", serialize_with = "seconds::maybe")]
    pub duration: Option<Duration>,
}

/// Downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HqLoad {
    /// Paths to ask for, each with a leading slash.
    pub paths: Vec<String>,
    /// Folder that the files are written to; made when it is missing. Nothing: bytes are counted and dropped.
    pub output: Option<PathBuf>,
    /// Downloads in flight on a connection.
    pub streams: u32,
}

/// Round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EchoLoad {
    /// Streams of a connection, each with one message under way; with `datagrams`, datagrams under way on a connection.
    /// A `rate` bounds neither.
    pub streams: u32,
    /// Bytes of a message, 8 or more.
    pub size: u64,
    /// Whether messages are unreliable datagrams.
    pub datagrams: bool,
    /// Messages a second of this client; nothing: the next when the last came back.
    pub rate: Option<u64>,
    /// Messages of this client in all.
    pub requests: Option<u64>,
    /// How long messages are sent.
    #[serde(rename = "duration_s", serialize_with = "seconds::maybe")]
    pub duration: Option<Duration>,
}

/// The one load of a client, with its bounds checked.
pub(super) fn plan(
    source: &Source,
    transport: &TransportPlan,
    port: &PortPlan,
    index: usize,
    client: &Client,
) -> Result<Load, ConfigError> {
    let key = format!("clients[{index}]");
    match (&client.perf, &client.hq, &client.echo) {
        (Some(perf), None, None) => perf_load(source, &format!("{key}.perf"), perf).map(Load::Perf),
        (None, Some(hq), None) => hq_load(source, &format!("{key}.hq"), hq).map(Load::Hq),
        (None, None, Some(echo)) => {
            let size_max = match transport.mtu_discovery {
                true => u64::from(port.udp_payload_max),
                false => u64::from(transport.initial_mtu),
            } - DATAGRAM_OVERHEAD;
            echo_load(source, &format!("{key}.echo"), echo, size_max).map(Load::Echo)
        }
        (None, None, None) => {
            let message = format!(
                "the client `{}` does nothing; give `perf`, `hq` or `echo`",
                client.name
            );
            Err(source.error(key, message))
        }
        _ => {
            let message = format!(
                "the client `{}` does several things; make a client for each of `perf`, `hq`, \
                 `echo`",
                client.name
            );
            Err(source.error(key, message))
        }
    }
}

fn perf_load(source: &Source, key: &str, perf: &PerfClient) -> Result<PerfLoad, ConfigError> {
    let goes_on = perf.rate.is_some() || perf.requests.is_some() || perf.duration.is_some();
    at_least_one(source, key, "requests", perf.requests)?;
    Ok(PerfLoad {
        streams: streams(source, key, perf.streams, 1)?,
        upload: perf.upload.map_or(0, |size| size.0),
        download: perf.download.map_or(0, |size| size.0),
        repeat: perf.repeat.unwrap_or(goes_on),
        rate: perf.rate.map(|rate| rate.0),
        requests: perf.requests,
        duration: perf.duration.map(|duration| duration.0),
    })
}

fn hq_load(source: &Source, key: &str, hq: &HqClient) -> Result<HqLoad, ConfigError> {
    if hq.paths.is_empty() {
        return Err(source.error(format!("{key}.paths"), "the list is empty; name a file"));
    }
    for (number, path) in hq.paths.iter().enumerate() {
        let unfit = |c: char| c.is_whitespace() || c.is_control();
        let problem = if !path.starts_with('/') {
            format!("`{path}` needs a leading slash: write `/{path}`")
        } else if path.ends_with('/') {
            format!("`{path}` names a folder; name a file")
        } else if path.len() > HQ_PATH_MAX {
            format!("the path is longer than {HQ_PATH_MAX} bytes")
        } else if path.contains(unfit) {
            format!("`{path}` holds a blank or a control character, which HTTP/0.9 cannot carry")
        } else if let Err(error) = relative_path(path.as_bytes()) {
            format!("`{path}`: {error}; name a file plainly, as in `/folder/file`")
        } else {
            continue;
        };
        return Err(source.error(format!("{key}.paths[{number}]"), problem));
    }
    Ok(HqLoad {
        paths: hq.paths.clone(),
        output: hq.output.as_deref().map(|path| source.resolve(path)),
        streams: streams(source, key, hq.streams, 8)?,
    })
}

fn echo_load(
    source: &Source,
    key: &str,
    echo: &EchoClient,
    datagram_max: u64,
) -> Result<EchoLoad, ConfigError> {
    const SIZE_DEFAULT: u64 = 64;
    const SIZE_MIN: u64 = 8;
    const SIZE_MAX: u64 = 1 << 30;
    at_least_one(source, key, "requests", echo.requests)?;
    let size = echo.size.map_or(SIZE_DEFAULT, |size| size.0);
    let max = if echo.datagrams {
        datagram_max
    } else {
        SIZE_MAX
    };
    if !(SIZE_MIN..=max).contains(&size) {
        let what = if echo.datagrams {
            "an unreliable datagram here"
        } else {
            "a message"
        };
        let message = format!("{size} is out of range: {what} has {SIZE_MIN}..={max} bytes");
        return Err(source.error(format!("{key}.size"), message));
    }
    Ok(EchoLoad {
        streams: streams(source, key, echo.streams, 1)?,
        size,
        datagrams: echo.datagrams,
        rate: echo.rate.map(|rate| rate.0),
        requests: echo.requests,
        duration: echo.duration.map(|duration| duration.0),
    })
}

fn streams(
    source: &Source,
    key: &str,
    value: Option<u32>,
    default: u32,
) -> Result<u32, ConfigError> {
    let value = value.unwrap_or(default);
    if (1..=STREAMS_MAX).contains(&value) {
        return Ok(value);
    }
    let message = format!("{value} is out of range: 1..={STREAMS_MAX}");
    Err(source.error(format!("{key}.streams"), message))
}

fn at_least_one(
    source: &Source,
    key: &str,
    name: &str,
    value: Option<u64>,
) -> Result<(), ConfigError> {
    match value {
        Some(0) => Err(source.error(format!("{key}.{name}"), "0 does nothing; give 1 or more")),
        _ => Ok(()),
    }
}
