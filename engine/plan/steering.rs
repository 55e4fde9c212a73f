//! How a datagram finds the shard that has its connection.

use serde::Serialize;

use super::port::{PortKind, PortPlan};
use crate::config::{Config, ConfigError, Hex, Source};

/// How a datagram finds the shard that has its connection. Whatever lands elsewhere is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SteeringPlan {
    /// There is one shard.
    OneQueue,
    /// What the other end of a link sends on a queue arrives on the queue of the same number.
    ByQueue,
    /// The device spreads flows by receive-side scaling where it has it; else it does as it likes, and what lands on
    /// another shard is handed over.
    RssElseHandOver,
}

impl SteeringPlan {
    pub(super) fn of(kind: &PortKind, queues: u16) -> Self {
        match kind {
            _ if queues == 1 => Self::OneQueue,
            PortKind::Link { .. } => Self::ByQueue,
            PortKind::Device(_) | PortKind::Emulated { .. } => Self::RssElseHandOver,
        }
    }

    /// As people read it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::OneQueue => "one queue",
            Self::ByQueue => "by queue",
            Self::RssElseHandOver => "RSS, else hand-over",
        }
    }
}

/// Both ends of a link have as many queues.
pub(super) fn links(source: &Source, ports: &[PortPlan]) -> Result<(), ConfigError> {
    for (index, port) in ports.iter().enumerate() {
        let PortKind::Link { peer } = port.kind else {
            continue;
        };
        let peer = &ports[peer];
        if port.queues != peer.queues {
            let message = format!(
                "{}, but {} on `{}` at the other end; make them equal, with a shard for each",
                port.queues, peer.queues, peer.name
            );
            return Err(source.error(format!("ports[{index}].queues"), message));
        }
    }
    Ok(())
}

/// Lengths of RSS keys, bytes: what most devices have, and what those of Intel's 700 and 800 series have. Devices with
/// another get as much of the longer one as they take.
const RSS_KEYS: [usize; 2] = [40, 52];

/// The key of receive-side scaling.
pub(super) fn rss_key(
    config: &Config,
    source: &Source,
    index: usize,
    kind: &PortKind,
) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(Hex(key)) = &config.ports[index].rss_key else {
        return Ok(None);
    };
    let problem = if matches!(kind, PortKind::Link { .. }) {
        "a link has no receive-side scaling; remove the key".to_owned()
    } else if !RSS_KEYS.contains(&key.len()) {
        let [short, long] = RSS_KEYS;
        format!(
            "the key has {} bytes: give {short} or {long}, as the device takes ({} or {} hexadecimal digits)",
            key.len(),
            2 * short,
            2 * long
        )
    } else {
        return Ok(Some(key.clone()));
    };
    Err(source.error(format!("ports[{index}].rss_key"), problem))
}
