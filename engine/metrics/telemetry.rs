//! The counters over DPDK's telemetry socket: `dpdk-telemetry.py`, DPDK's exporters and `engine top` read them there.
//!
//! | command | answer |
//! |---|---|
//! | `/stoq/shards` | the names of the shards |
//! | `/stoq/shards,NAME` | what a shard and its lane count |
//! | `/stoq/connections`, `/stoq/connections,NAME` | connections by state and handshakes by outcome, of all shards or one |
//! | `/stoq/ports` | by port: link, and frames that the device dropped |
//! | `/stoq/pools` | by port: packet buffers of its pool |
//! | `/stoq/profile,NAME` | of a profiled shard: frames of timed turns, and ticks of the time stamp counter by stage |
//!
//! DPDK limits an answer to 16 KiB, which is why shards are asked for one by one.

use std::sync::Arc;

use poll::Eal;
use poll::telemetry::{Registration, TelemetryError, Value};

use super::{Observed, PortReading, ShardReading};
use crate::report::STAGES;

/// Answers the commands until what is returned is dropped.
///
/// # Errors
/// A command is taken, or DPDK has no room for it.
pub fn register(eal: &Eal, observed: &Observed) -> Result<Vec<Registration>, TelemetryError> {
    type Answer = fn(&Observed, &str) -> Value;
    let commands: [(&'static str, &str, Answer); 4] = [
        (
            "/stoq/shards",
            "Names of the shards; counters. Parameter: shard",
            shards,
        ),
        (
            "/stoq/connections",
            "Connections and handshakes. Parameter: shard (all)",
            connections,
        ),
        ("/stoq/ports", "Links and drops of the devices", ports),
        ("/stoq/pools", "Packet buffers by port", pools),
    ];
    let observed = Arc::new(observed.clone());
    let register = |(path, help, answer): (&'static str, &str, Answer)| {
        let observed = Arc::clone(&observed);
        let handler = Box::new(move |parameter: &str| answer(&observed, parameter));
        poll::telemetry::register(eal, path, help, handler)
    };
    let mut registered: Vec<_> = commands
        .into_iter()
        .map(register)
        .collect::<Result<_, _>>()?;
    let tsc_hz = poll::tsc_hz(eal);
    let handler = Box::new(move |name: &str| one(&observed, name, |shard| profile(shard, tsc_hz)));
    let help = "Ticks by stage of a profiled shard. Parameter: shard";
    registered.push(poll::telemetry::register(
        eal,
        "/stoq/profile",
        help,
        handler,
    )?);
    Ok(registered)
}

fn shards(observed: &Observed, name: &str) -> Value {
    if name.is_empty() {
        let names = observed.shards().map(|shard| Value::Str(shard.name.into()));
        return Value::List(names.collect());
    }
    one(observed, name, shard)
}

fn shard(shard: &ShardReading<'_>) -> Value {
    let (lane, counters) = (&shard.lane, shard.counters);
    let drops = shard.drops().filter(|(_, count)| *count > 0);
    dict([
        ("name", Value::Str(shard.name.into())),
        ("port", Value::Str(shard.port.into())),
        ("queue", Value::U64(shard.queue.into())),
        ("lcore", Value::Str(shard.lcore.into())),
        ("elapsed_ns", Value::U64(lane.elapsed_ns)),
        ("busy_ns", Value::U64(lane.busy_ns)),
        ("turns", Value::U64(lane.turns)),
        ("rx_frames", Value::U64(lane.rx_frames)),
        ("rx_payload_bytes", Value::U64(lane.rx_bytes)),
        ("rx_zero_copy", Value::U64(lane.rx_zero_copy)),
        ("rx_copied", Value::U64(lane.rx_copied)),
        ("tx_frames", Value::U64(lane.tx_frames)),
        ("tx_payload_bytes", Value::U64(lane.tx_bytes)),
        ("tx_in_place", Value::U64(lane.tx_in_place)),
        ("tx_copied", Value::U64(lane.tx_copied)),
        ("tx_segmented", Value::U64(lane.tx_segmented)),
        ("tx_stalled_turns", Value::U64(lane.tx_stalled)),
        ("pool_pressure_turns", Value::U64(lane.pool_pressure)),
        ("bytes_received", Value::U64(counters.bytes_received.get())),
        ("bytes_sent", Value::U64(counters.bytes_sent.get())),
        (
            "quic_datagrams_received",
            Value::U64(counters.udp_received.get()),
        ),
        ("quic_datagrams_sent", Value::U64(counters.udp_sent.get())),
        ("handed_over", Value::U64(counters.handed_over.get())),
        ("taken_over", Value::U64(counters.taken_over.get())),
        ("lost_packets", Value::U64(counters.lost_packets.get())),
        (
            "congestion_events",
            Value::U64(counters.congestion_events.get()),
        ),
        ("mtu", Value::U64(counters.mtu.get())),
        ("connections", numbers(shard.connections())),
        ("dropped", numbers(drops)),
    ])
}

fn connections(observed: &Observed, name: &str) -> Value {
    if !name.is_empty() {
        return one(observed, name, |shard| numbers(connections_of(shard)));
    }
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for shard in observed.shards() {
        let counts = connections_of(&shard);
        match sums.is_empty() {
            true => sums = counts,
            // Each shard has the same names in the same order.
            false => {
                let both = sums.iter_mut().zip(counts);
                both.for_each(|((_, sum), (_, count))| *sum += count);
            }
        }
    }
    numbers(sums)
}

fn connections_of(shard: &ShardReading<'_>) -> Vec<(&'static str, u64)> {
    let counters = shard.counters;
    let mut counts = shard.connections().to_vec();
    counts.extend(
        [
            ("accepted", &counters.connections_accepted),
            ("opened", &counters.connections_opened),
            ("lost", &counters.connections_lost),
            ("handshakes_completed", &counters.handshakes),
            ("handshakes_failed_server", &counters.handshakes_failed),
            ("handshakes_failed_client", &counters.connects_failed),
            ("handshakes_refused", &counters.connections_refused),
            ("early_data_accepted", &counters.early_data_accepted),
            ("retries", &counters.retries),
        ]
        .map(|(name, counter)| (name, counter.get())),
    );
    counts
}

/// Where the time goes, less what reading the clock takes; nothing of a shard that is not profiled.
fn profile(shard: &ShardReading<'_>, tsc_hz: u64) -> Value {
    let profile = &shard.lane.profile;
    if profile.turns == 0 {
        return Value::Dict(Vec::new());
    }
    let ticks = STAGES.map(|(stage, name, ..)| (name, profile.ticks(stage) as u64));
    dict([
        ("tsc_hz", Value::U64(tsc_hz)),
        ("turns", Value::U64(profile.turns)),
        ("rx_frames", Value::U64(profile.rx_frames)),
        ("tx_frames", Value::U64(profile.tx_frames)),
        ("ticks", numbers(ticks)),
    ])
}

fn ports(observed: &Observed, _: &str) -> Value {
    by_port(observed, |port| {
        let mut values = vec![
            ("link_up", Value::U64(port.link.up.into())),
            ("link_mbps", Value::U64(port.link.mbps.into())),
        ];
        values.extend(port.drops().map(|(name, count)| (name, Value::U64(count))));
        values
    })
}

fn pools(observed: &Observed, _: &str) -> Value {
    by_port(observed, |port| {
        let pool = &port.pool;
        vec![
            ("pool", Value::Str(pool.name.into())),
            ("capacity", Value::U64(pool.capacity.into())),
            ("free", Value::U64(pool.available.into())),
        ]
    })
}

/// A dictionary for each port. Its name is in there, too: what is no letter or digit is lost in a key.
fn by_port(
    observed: &Observed,
    values: impl Fn(&PortReading<'_>) -> Vec<(&'static str, Value)>,
) -> Value {
    let ports = observed.ports();
    let entry = |port: &PortReading<'_>| {
        let name = ("name", Value::Str(port.name.into()));
        let values = dict(std::iter::once(name).chain(values(port)));
        (port.name.to_owned(), values)
    };
    Value::Dict(ports.iter().map(entry).collect())
}

/// What `answer` says of the shard called `name`; an unknown one is an empty dictionary, as DPDK's own commands have it.
fn one(observed: &Observed, name: &str, answer: impl Fn(&ShardReading<'_>) -> Value) -> Value {
    let found = observed.shards().find(|shard| shard.name == name);
    found.map_or(Value::Dict(Vec::new()), |shard| answer(&shard))
}

fn numbers(values: impl IntoIterator<Item = (&'static str, u64)>) -> Value {
    let values = values.into_iter();
    dict(values.map(|(name, value)| (name, Value::U64(value))))
}

fn dict(values: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let values = values.into_iter();
    Value::Dict(
        values
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}
