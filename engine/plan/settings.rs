//! Limits, and the course of the run.

use std::time::Duration;

use serde::Serialize;

use super::{Given, seconds};
use crate::config::{Config, ConfigError, Interval, Source};

/// Every bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsPlan {
    /// Connections of a shard.
    pub connections: u32,
    /// Handshakes in flight on a shard.
    pub incoming: u32,
    /// Handshakes in flight above which a client must first prove its address.
    pub retry_above: u32,
    /// Stateless replies waiting on a shard.
    pub responses: u32,
    /// Datagrams a connection may send before the next one has its turn.
    pub turn_budget: u16,
    /// Neighbours a shard's host remembers.
    pub neighbours: u32,
    /// Datagrams a shard keeps while their neighbours are resolved.
    pub waiting_datagrams: u32,
    /// Files that `hq-interop` holds open on a shard.
    pub open_files: u32,
}

/// The course of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RunPlan {
    /// Time at the start that is left out of goodput.
    #[serde(rename = "warmup_s", serialize_with = "seconds::one")]
    pub warmup: Duration,
    /// How long connections may take to close at the end.
    #[serde(rename = "drain_timeout_s", serialize_with = "seconds::one")]
    pub drain_timeout: Duration,
    /// How long to run; nothing: until SIGINT or SIGTERM.
    #[serde(rename = "duration_s", serialize_with = "seconds::maybe")]
    pub duration: Option<Duration>,
    /// Whether the run ends when every client is finished.
    pub exit_when_clients_finish: bool,
}

pub(super) fn limits(config: &Config, source: &Source) -> Result<LimitsPlan, ConfigError> {
    let limits = &config.limits;
    let bound = |key: &str, value: Option<u32>, default: u32, max: u32| {
        let value = value.unwrap_or(default);
        if (1..=max).contains(&value) {
            return Ok(value);
        }
        let message = format!("{value} is out of range: 1..={max}");
        Err(source.error(format!("limits.{key}"), message))
    };
    let incoming = bound("incoming", limits.incoming, 1024, 1 << 20)?;
    let retry_above = limits.retry_above.unwrap_or(incoming.div_ceil(2));
    if retry_above > incoming {
        let message = format!(
            "{retry_above} is never reached: `incoming` is {incoming}; choose a lower number"
        );
        return Err(source.error("limits.retry_above", message));
    }
    Ok(LimitsPlan {
        connections: bound("connections", limits.connections, 20_000, 1 << 24)?,
        incoming,
        retry_above,
        responses: bound("responses", limits.responses, 64, 1 << 16)?,
        turn_budget: bound("turn_budget", limits.turn_budget, 16, 1024)? as u16,
        neighbours: bound("neighbours", limits.neighbours, 1024, 1 << 20)?,
        waiting_datagrams: bound("waiting_datagrams", limits.waiting_datagrams, 256, 1 << 16)?,
        open_files: bound("open_files", limits.open_files, 1024, 1 << 16)?,
    })
}

pub(super) fn run(config: &Config, source: &Source, given: &Given) -> Result<RunPlan, ConfigError> {
    let run = &config.run;
    let warmup = run
        .warmup
        .map_or(Duration::from_millis(500), |warmup| warmup.0);
    let duration = given.duration.or(run.duration.map(|duration| duration.0));
    if let Some(duration) = duration.filter(|&duration| duration <= warmup) {
        let key = if given.duration.is_some() {
            "run.warmup"
        } else {
            "run.duration"
        };
        let message = format!(
            "a run of {} ends within its warm-up of {}; make it longer, or lower `warmup`",
            Interval(duration),
            Interval(warmup)
        );
        return Err(source.error(key, message));
    }
    let has_clients = !config.clients.is_empty();
    let exit = run.exit_when_clients_finish.unwrap_or(has_clients);
    if exit && !has_clients {
        let message = "there are no clients; remove the key, or add a client";
        return Err(source.error("run.exit_when_clients_finish", message));
    }
    Ok(RunPlan {
        warmup,
        drain_timeout: run
            .drain_timeout
            .map_or(Duration::from_secs(3), |limit| limit.0),
        duration,
        exit_when_clients_finish: exit,
    })
}
