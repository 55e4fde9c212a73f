//! What the YAML file says: the first of two stages, `config`, then plan.
//!
//! These structs mirror the file key by key; unknown keys are refused. They hold what was typed, units applied, and say
//! nothing about whether it fits together: that is the plan's task. Every key is explained where it stands in
//! `configs/*.yaml`, and here with its unit, range and default.
//!
//! Errors name file, line, column and the key's path. The structs carry no positions: [`Source`] finds them by path.

mod address;
mod client;
mod connection_ids;
mod error;
mod listener;
mod nic;
mod offload;
mod port;
mod scalar;
mod settings;
mod source;
pub mod suggest;
mod transport;
mod units;
mod yaml;

use std::path::Path;

use serde::Deserialize;

pub use address::{Address, Fingerprint, Listen, Prefix, Remote};
pub use client::{Client, EchoClient, HqClient, PerfClient, Trust};
pub use connection_ids::{CidKey, ConnectionIds, Hex};
pub use error::ConfigError;
pub use listener::{
    Anchors, ClientAuth, EchoService, HqService, Identity, Listener, OneOrMore, PerfService,
    Services,
};
pub use nic::{Misbehaviour, Nic, NicOffload, NicOffloads, Wire};
pub use offload::{Offload, OffloadMode, Vlan};
pub use port::{DataRoom, Idle, Mbufs, Memory, Port, Shard, TxPath};
pub use scalar::OrOff;
pub use settings::{Limits, Metrics, Run};
pub use source::Source;
pub use transport::{AckFrequency, Congestion, Transport};
pub use units::{BitRate, Interval, Percent, Rate, Size};

/// A configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// EAL arguments, used when the command line gives none.
    pub eal: Vec<String>,
    /// Ports: devices, or in-process links.
    pub ports: Vec<Port>,
    /// Packet memory of each port.
    pub memory: Memory,
    /// Shards: a queue pair of a port, driven by an lcore.
    pub shards: Vec<Shard>,
    /// Certificates with their keys.
    pub identities: Vec<Identity>,
    /// QUIC settings of all listeners and clients.
    pub transport: Transport,
    /// What connection IDs are made of. Absent: shards that are alone on their port use plain random ones.
    #[serde(deserialize_with = "present")]
    pub connection_ids: Option<ConnectionIds>,
    /// Every bound.
    pub limits: Limits,
    /// What is served.
    pub listeners: Vec<Listener>,
    /// What is driven against servers.
    pub clients: Vec<Client>,
    /// Counters for Prometheus; absent: they are not served.
    #[serde(deserialize_with = "present")]
    pub metrics: Option<Metrics>,
    /// The course of a run.
    pub run: Run,
}

impl Config {
    /// Reads and parses `file`.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML, or has an unknown key or a value of the wrong type or unit.
    pub fn load(file: &Path) -> Result<(Self, Source), ConfigError> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(file, text),
            Err(source) => Err(ConfigError::Read {
                file: file.to_path_buf(),
                source,
            }),
        }
    }

    /// Parses `text`, which was read from `file`. The name serves error messages, and its folder is what paths in the
    /// text are relative to.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(file: &Path, text: String) -> Result<(Self, Source), ConfigError> {
        let source = Source::new(file, text);
        match serde_saphyr::from_str(source.text()) {
            Ok(config) => Ok((config, source)),
            Err(error) => Err(yaml::explain(&source, &error)),
        }
    }
}

/// Reads a key that must have a value when it is there: `perf:` alone is an error, not an absent key.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
