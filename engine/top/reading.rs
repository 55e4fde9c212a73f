//! What an engine says of itself at one moment.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, TopError};

/// All answers, and when they came. Counters count from the start of the engine.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) shards: Vec<Shard>,
    pub(super) connections: BTreeMap<String, u64>,
    pub(super) ports: BTreeMap<String, Port>,
    pub(super) pools: BTreeMap<String, Pool>,
}

/// `/stoq/shards,NAME`
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) port: String,
    pub(super) lcore: String,
    pub(super) elapsed_ns: u64,
    pub(super) busy_ns: u64,
    pub(super) rx_frames: u64,
    pub(super) tx_frames: u64,
    pub(super) rx_payload_bytes: u64,
    pub(super) tx_payload_bytes: u64,
    pub(super) tx_stalled_turns: u64,
    pub(super) handed_over: u64,
    pub(super) connections: BTreeMap<String, u64>,
    pub(super) dropped: BTreeMap<String, u64>,
}

/// A port in `/stoq/ports`
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) link_up: u64,
    pub(super) link_mbps: u64,
    pub(super) device_missed: u64,
    pub(super) device_errors: u64,
    pub(super) no_mbuf: u64,
}

/// A port in `/stoq/pools`
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Pool {
    pub(super) capacity: u64,
    pub(super) free: u64,
}

impl Reading {
    /// Asks for everything.
    pub(super) fn take(client: &Client) -> Result<Self, TopError> {
        let names = client.ask("/stoq/shards")?;
        // An engine that ends answers nothing more.
        if names.as_array().is_none_or(Vec::is_empty) {
            return Err(TopError::Ended);
        }
        let names: Vec<String> = parsed("/stoq/shards", names)?;
        let shards = names.iter().map(|name| {
            let command = format!("/stoq/shards,{name}");
            let answer = client.ask(&command)?;
            parsed(&command, answer)
        });
        let shards = shards.collect::<Result<_, _>>()?;
        Ok(Self {
            shards,
            connections: ask(client, "/stoq/connections")?,
            ports: ask(client, "/stoq/ports")?,
            pools: ask(client, "/stoq/pools")?,
            at: Instant::now(),
        })
    }
}

fn ask<T: DeserializeOwned>(client: &Client, command: &str) -> Result<T, TopError> {
    parsed(command, client.ask(command)?)
}

fn parsed<T: DeserializeOwned>(command: &str, answer: Value) -> Result<T, TopError> {
    // What a command answers when its run is over.
    let is_empty = answer.as_object().is_some_and(serde_json::Map::is_empty);
    serde_json::from_value(answer).map_err(|source| match is_empty {
        true => TopError::Ended,
        false => TopError::Answer {
            command: command.to_owned(),
            source,
        },
    })
}
