//! What happened between two readings, for the terminal and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::reading::{Port, Reading, Shard};
use crate::format::decimal;
use crate::table::Table;

/// Rates over the time between two readings, and levels at the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct View {
    /// Process ID of the engine.
    pub(super) pid: u64,
    /// Its file prefix.
    pub(super) file_prefix: String,
    /// Time between the readings.
    pub(super) interval_s: f64,
    pub(super) shards: Vec<ShardView>,
    pub(super) connections: Connections,
    pub(super) ports: Vec<PortView>,
    /// Drops of all shards, by reason; those that occur not are left out.
    pub(super) dropped_per_s: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ShardView {
    name: String,
    port: String,
    lcore: String,
    busy_percent: f64,
    rx_frames_per_s: f64,
    tx_frames_per_s: f64,
    rx_gbps: f64,
    tx_gbps: f64,
    connections: u64,
    handed_over_per_s: f64,
    stalled_turns_per_s: f64,
    dropped_per_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Connections {
    handshaking: u64,
    open: u64,
    closing: u64,
    handshakes_per_s: f64,
    failed_per_s: f64,
    refused_per_s: f64,
    lost_per_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PortView {
    name: String,
    link_up: bool,
    link_mbps: u64,
    mbufs: u64,
    mbufs_free: u64,
    dropped_per_s: f64,
}

impl View {
    /// What happened from `before` to `now`.
    pub(super) fn new(pid: u64, file_prefix: &str, before: &Reading, now: &Reading) -> Self {
        let interval = now.at.saturating_duration_since(before.at);
        let mut dropped = BTreeMap::<String, f64>::new();
        let mut shards = Vec::with_capacity(now.shards.len());
        let nothing = Shard::default();
        for (index, shard) in now.shards.iter().enumerate() {
            let earlier = before.shards.get(index).unwrap_or(&nothing);
            for (reason, rate) in rates(&earlier.dropped, &shard.dropped, interval) {
                *dropped.entry(reason).or_default() += rate;
            }
            shards.push(ShardView::new(earlier, shard, interval));
        }
        dropped.retain(|_, rate| *rate > 0.0);
        Self {
            pid,
            file_prefix: file_prefix.to_owned(),
            interval_s: rounded(interval.as_secs_f64()),
            shards,
            connections: Connections::new(&before.connections, &now.connections, interval),
            ports: ports(before, now, interval),
            dropped_per_s: dropped,
        }
    }
}

impl ShardView {
    fn new(before: &Shard, now: &Shard, interval: Duration) -> Self {
        // Lanes publish their counters with the time; it is theirs that makes exact rates.
        let lane = Duration::from_nanos(now.elapsed_ns.saturating_sub(before.elapsed_ns));
        let gbps = |before, now| per_second(before, now, lane) * 8.0 / 1e9;
        let busy = per_second(before.busy_ns, now.busy_ns, lane) / 1e9;
        let dropped = rates(&before.dropped, &now.dropped, interval);
        Self {
            name: now.name.clone(),
            port: now.port.clone(),
            lcore: now.lcore.clone(),
            busy_percent: rounded(busy * 100.0),
            rx_frames_per_s: rounded(per_second(before.rx_frames, now.rx_frames, lane)),
            tx_frames_per_s: rounded(per_second(before.tx_frames, now.tx_frames, lane)),
            rx_gbps: rounded(gbps(before.rx_payload_bytes, now.rx_payload_bytes)),
            tx_gbps: rounded(gbps(before.tx_payload_bytes, now.tx_payload_bytes)),
            connections: now.connections.values().sum(),
            handed_over_per_s: rounded(per_second(before.handed_over, now.handed_over, interval)),
            stalled_turns_per_s: rounded(per_second(
                before.tx_stalled_turns,
                now.tx_stalled_turns,
                lane,
            )),
            dropped_per_s: rounded(dropped.map(|(_, rate)| rate).sum()),
        }
    }
}

impl Connections {
    fn new(
        before: &BTreeMap<String, u64>,
        now: &BTreeMap<String, u64>,
        interval: Duration,
    ) -> Self {
        let of = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied();
        let level = |name| of(now, name).unwrap_or(0);
        let rate = |name| {
            let before = of(before, name).unwrap_or(0);
            rounded(per_second(before, level(name), interval))
        };
        Self {
            handshaking: level("handshaking"),
            open: level("open"),
            closing: level("closing"),
            handshakes_per_s: rate("handshakes_completed"),
            failed_per_s: rate("handshakes_failed_server") + rate("handshakes_failed_client"),
            refused_per_s: rate("handshakes_refused"),
            lost_per_s: rate("lost"),
        }
    }
}

fn ports(before: &Reading, now: &Reading, interval: Duration) -> Vec<PortView> {
    let nothing = Port::default();
    let view = |(key, port): (&String, &Port)| {
        let earlier = before.ports.get(key).unwrap_or(&nothing);
        let drops = |port: &Port| port.device_missed + port.device_errors + port.no_mbuf;
        let pool = now.pools.get(key).cloned().unwrap_or_default();
        PortView {
            name: port.name.clone(),
            link_up: port.link_up == 1,
            link_mbps: port.link_mbps,
            mbufs: pool.capacity,
            mbufs_free: pool.free,
            dropped_per_s: rounded(per_second(drops(earlier), drops(port), interval)),
        }
    };
    now.ports.iter().map(view).collect()
}

/// Rates of all counters there are now.
fn rates<'a>(
    before: &'a BTreeMap<String, u64>,
    now: &'a BTreeMap<String, u64>,
    interval: Duration,
) -> impl Iterator<Item = (String, f64)> + 'a {
    now.iter().map(move |(name, count)| {
        let before = before.get(name).copied().unwrap_or(0);
        let rate = rounded(per_second(before, *count, interval));
        (name.clone(), rate)
    })
}

fn per_second(before: u64, now: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    now.saturating_sub(before) as f64 / time.as_secs_f64()
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            file_prefix,
            interval_s,
            ..
        } = self;
        writeln!(
            f,
            "engine {pid} (file prefix {file_prefix}), over {interval_s:.1} s\n"
        )?;
        writeln!(f, "{}", self.shard_table())?;
        let c = &self.connections;
        writeln!(
            f,
            "connections  {} open, {} handshaking, {} closing\nhandshakes   {}/s, failed {}/s, refused {}/s; connections lost {}/s\n",
            c.open,
            c.handshaking,
            c.closing,
            trimmed(c.handshakes_per_s),
            trimmed(c.failed_per_s),
            trimmed(c.refused_per_s),
            trimmed(c.lost_per_s),
        )?;
        writeln!(f, "{}", self.port_table())?;
        if self.dropped_per_s.is_empty() {
            return writeln!(f, "drops        none");
        }
        let mut table = Table::new("<>");
        let mut drops: Vec<_> = self.dropped_per_s.iter().collect();
        drops.sort_by(|a, b| b.1.total_cmp(a.1));
        table.row(["drops", "/s"]);
        for (reason, per_second) in drops {
            table.row([reason.clone(), trimmed(*per_second)]);
        }
        write!(f, "{table}")
    }
}

impl View {
    /// Within 80 columns, if names are short.
    fn shard_table(&self) -> Table {
        let mut table = Table::new("<>>>>>>>>>");
        table.row([
            "shard", "lcore", "busy%", "rx/s", "tx/s", "rx Gbps", "tx Gbps", "conns", "handed/s",
            "drops/s",
        ]);
        for shard in &self.shards {
            table.row([
                shard.name.clone(),
                shard.lcore.clone(),
                format!("{:.1}", shard.busy_percent),
                trimmed(shard.rx_frames_per_s),
                trimmed(shard.tx_frames_per_s),
                format!("{:.3}", shard.rx_gbps),
                format!("{:.3}", shard.tx_gbps),
                shard.connections.to_string(),
                trimmed(shard.handed_over_per_s),
                trimmed(shard.dropped_per_s),
            ]);
        }
        table
    }

    fn port_table(&self) -> Table {
        let mut table = Table::new("<<>>>");
        table.row(["port", "link", "mbufs", "free", "drops/s"]);
        for port in &self.ports {
            let link = match (port.link_up, port.link_mbps) {
                (false, _) => "down".to_owned(),
                (true, 0) => "up".to_owned(),
                (true, mbps) => format!("up, {} Gbps", mbps as f64 / 1e3),
            };
            table.row([
                port.name.clone(),
                link,
                port.mbufs.to_string(),
                port.mbufs_free.to_string(),
                trimmed(port.dropped_per_s),
            ]);
        }
        table
    }
}

fn trimmed(per_second: f64) -> String {
    decimal(whole(per_second)).trim_end().to_owned()
}

/// From ten a second on, parts of one are noise.
fn whole(per_second: f64) -> f64 {
    match per_second >= 10.0 {
        true => per_second.round(),
        false => per_second,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::reading::Pool;
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let own = |&(name, count): &(&str, u64)| (name.to_owned(), count);
        counts.iter().map(own).collect()
    }

    /// An engine after so many seconds of the same.
    fn reading(start: Instant, seconds: u64) -> Reading {
        let shard = |name: &str, lcore: &str| Shard {
            name: name.to_owned(),
            port: "left".to_owned(),
            lcore: lcore.to_owned(),
            elapsed_ns: seconds * 1_000_000_000,
            busy_ns: seconds * 250_000_000,
            rx_frames: seconds * 812_345,
            tx_frames: seconds * 7,
            rx_payload_bytes: seconds * 1_250_000_000,
            tx_payload_bytes: 0,
            tx_stalled_turns: 0,
            handed_over: seconds * 12,
            connections: counts(&[("open", 90), ("handshaking", 7), ("closing", 3)]),
            dropped: counts(&[
                ("arp", seconds),
                ("strangers", seconds * 2_000),
                ("vlan", 4),
            ]),
        };
        Reading {
            at: start + Duration::from_secs(seconds),
            shards: vec![shard("one", "0"), shard("two", "1")],
            connections: counts(&[
                ("open", 180),
                ("handshaking", 14),
                ("closing", 6),
                ("handshakes_completed", seconds * 3),
                ("lost", 5),
            ]),
            ports: BTreeMap::from([(
                "port_0".to_owned(),
                Port {
                    name: "port-0".to_owned(),
                    link_up: 1,
                    link_mbps: 25_000,
                    no_mbuf: seconds,
                    ..Port::default()
                },
            )]),
            pools: BTreeMap::from([(
                "port_0".to_owned(),
                Pool {
                    capacity: 7040,
                    free: 7013,
                },
            )]),
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_readings() {
        let start = Instant::now();
        let view = View::new(42, "rte", &reading(start, 10), &reading(start, 12));
        assert_eq!(
            view.to_string(),
            "engine 42 (file prefix rte), over 2.0 s\n\n\
             shard  lcore  busy%   rx/s  tx/s  rx Gbps  tx Gbps  conns  handed/s  drops/s\n\
             one        0   25.0  812 k     7   10.000    0.000    100        12   2.00 k\n\
             two        1   25.0  812 k     7   10.000    0.000    100        12   2.00 k\n\n\
             connections  180 open, 14 handshaking, 6 closing\n\
             handshakes   3/s, failed 0/s, refused 0/s; connections lost 0/s\n\n\
             port    link         mbufs  free  drops/s\n\
             port-0  up, 25 Gbps   7040  7013        1\n\n\
             drops          /s\n\
             strangers  4.00 k\n\
             arp             2\n"
        );
        assert_eq!(view.dropped_per_s.len(), 2);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["shards"][1]["rx_gbps"], 10.0);
        assert_eq!(json["ports"][0]["link_up"], true);
        assert_eq!(json["dropped_per_s"]["strangers"], 4_000.0);
    }

    #[test]
    fn nothing_happened_in_no_time() {
        let start = Instant::now();
        let view = View::new(42, "rte", &reading(start, 10), &reading(start, 10));
        assert!(view.to_string().contains("drops        none"), "{view}");
        assert_eq!(view.shards[0].rx_frames_per_s, 0.0);
    }
}
