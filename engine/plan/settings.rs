//! Limits, and the course of the run.

use std::time::Duration;

use serde::Serialize;

use super::{Given, seconds};
use crate::config::{Config, ConfigError, Interval, OrOff, Rate, Size, Source};

/// Every bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsPlan {
    /// Connections of a shard.
    pub connections: u32,
    /// Handshakes in flight on a shard.
    pub incoming: u32,
    /// Handshakes in flight above which a client must first prove its address.
    pub retry_above: u32,
    /// Bytes that a shard buffers for connections it has not accepted yet.
    pub incoming_bytes: u64,
    /// Handshakes that a shard begins for one /64 prefix of source addresses in a second; nothing: no limit.
    pub handshakes_per_prefix: Option<u32>,
    /// Datagrams a second that a shard looks at although they belong to no connection and lead to none; nothing: no
    /// limit.
    pub strangers: Option<u32>,
    /// Version negotiations and stateless resets that a shard sends in a second; nothing: no limit.
    pub stateless: Option<u32>,
    /// Datagrams that wait at a shard for being handed over by the other shards of its port.
    pub handover: u32,
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
    /// Whether some turns are timed, stage by stage.
    pub profile: bool,
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
    let connections = bound("connections", limits.connections, 20_000, 1 << 24)?;
    let incoming = bound("incoming", limits.incoming, connections.min(1024), 1 << 20)?;
    if incoming > connections {
        let message = format!(
            "{incoming} is never reached: a handshake is a connection, and `connections` is {connections}; \
             choose {connections} or less"
        );
        return Err(source.error("limits.incoming", message));
    }
    let retry_above = limits.retry_above.unwrap_or(incoming.div_ceil(2).min(128));
    if retry_above > incoming {
        let message = format!(
            "{retry_above} is never reached: `incoming` is {incoming}; choose a lower number"
        );
        return Err(source.error("limits.retry_above", message));
    }
    let rate = |key: &str, given: Option<OrOff<Rate>>, default: u32, max: u32| {
        let rate = match given {
            None => return Ok(Some(default)),
            Some(OrOff::Off) => return Ok(None),
            Some(OrOff::On(rate)) => rate,
        };
        let fits = u32::try_from(rate.0).ok().filter(|&rate| rate <= max);
        let message = || format!("{rate} is out of range: 1/s to {max}/s, or `off`");
        fits.map(Some)
            .ok_or_else(|| source.error(format!("limits.{key}"), message()))
    };
    Ok(LimitsPlan {
        connections,
        incoming,
        retry_above,
        incoming_bytes: incoming_bytes(source, limits.incoming_bytes)?,
        handshakes_per_prefix: rate(
            "handshakes_per_prefix",
            limits.handshakes_per_prefix,
            4096,
            1_000_000,
        )?,
        strangers: rate("strangers", limits.strangers, 5_000, 10_000_000)?,
        stateless: rate("stateless", limits.stateless, 1000, 1_000_000)?,
        handover: bound("handover", limits.handover, 1024, 1 << 16)?,
        responses: bound("responses", limits.responses, 128, 1 << 16)?,
        turn_budget: bound("turn_budget", limits.turn_budget, 16, 1024)? as u16,
        neighbours: bound("neighbours", limits.neighbours, 1024, 1 << 20)?,
        waiting_datagrams: bound("waiting_datagrams", limits.waiting_datagrams, 256, 1 << 16)?,
        open_files: bound("open_files", limits.open_files, 1024, 1 << 16)?,
    })
}

fn incoming_bytes(source: &Source, given: Option<Size>) -> Result<u64, ConfigError> {
    const MAX: u64 = 1 << 30;
    let bytes = given.map_or(1 << 20, |size| size.0);
    if bytes <= MAX {
        return Ok(bytes);
    }
    let message = format!("{} is out of range: at most {}", Size(bytes), Size(MAX));
    Err(source.error("limits.incoming_bytes", message))
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
        profile: run.profile.unwrap_or(false),
    })
}
