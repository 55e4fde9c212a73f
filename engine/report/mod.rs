//! What a run did: as one JSON object with stable keys, and as a table for people.

mod profile;
mod summary;
mod totals;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

pub(crate) use profile::STAGES;
pub use profile::{Direction, Part, PartTimes, Profile, ShardProfile, StageTimes, Times};
pub use totals::{
    ConnectionTotals, LcoreTotals, MbufTotals, QuicTotals, RunTotals, RxTotals, TxTotals,
};

/// The report of a run. Its fields are the keys of the JSON object, in SI units; keys are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Seconds from the start of the shards to the end of the run, without the drain.
    pub elapsed_s: f64,
    /// Application bytes received by this process a second, warm-up left out, in 1e9 bit/s.
    pub goodput_gbps: f64,
    /// Application bytes received, warm-up included.
    pub bytes_received: u64,
    /// Application bytes sent, warm-up included.
    pub bytes_sent: u64,
    /// QUIC connections.
    pub connections: Connections,
    /// Handshakes completed a second, both sides counted.
    pub handshakes_per_s: f64,
    /// Latency of requests or round trips; only in runs that measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
    /// Frames received.
    pub rx: Rx,
    /// Frames sent.
    pub tx: Tx,
    /// Packet memory.
    pub mbufs: Mbufs,
    /// What QUIC noticed of the path.
    pub quic: Quic,
    /// Lcores: one entry for each shard.
    pub lcores: Vec<Lcore>,
    /// What emulated NICs, and the wires from them, counted: by port and name; zeros are absent. Only in runs with any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nics: BTreeMap<String, BTreeMap<String, u64>>,
    /// How datagrams found their shards, by port: `one_queue`, `by_queue`, `rss` or `hand_over`.
    pub steering: BTreeMap<String, String>,
    /// Where the time goes; only in runs that were profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// QUIC connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connections {
    /// Accepted by listeners.
    pub accepted: u64,
    /// Opened by clients.
    pub opened: u64,
    /// Most at a time, summed over shards.
    pub peak: u64,
    /// Refused for want of room, or while shutting down.
    pub refused: u64,
    /// Ended by a time-out, a reset or an error.
    pub lost: u64,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 of 100 were faster.
    pub p90: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// Frames received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rx {
    /// All frames.
    pub frames: u64,
    /// Datagrams handed on in the mbuf they arrived in.
    pub zero_copy: u64,
    /// Datagrams handed on as copies.
    pub copied: u64,
    /// Datagrams that arrived on another shard than that of their connection, and were handed over to it.
    pub handed_over: u64,
    /// Datagrams that shards took over; less than `handed_over` by what still waited when a shard ended.
    pub taken_over: u64,
    /// Datagrams that could not be handed over, because too many waited already; also a reason in `dropped`.
    pub handover_full: u64,
    /// Frames dropped, by reason; reasons that did not occur are absent.
    pub dropped: BTreeMap<String, u64>,
}

/// Frames sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tx {
    /// All frames.
    pub frames: u64,
    /// Datagrams built in their mbuf.
    pub in_place: u64,
    /// Datagrams copied into their mbuf.
    pub copied: u64,
    /// mbufs of several datagrams that devices segmented; each datagram is one of `frames`.
    pub segmented: u64,
    /// Turns in which sending waited for the device or for an mbuf.
    pub stalled: u64,
    /// Datagrams dropped, by reason; reasons that did not occur are absent.
    pub dropped: BTreeMap<String, u64>,
}

/// Packet memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mbufs {
    /// mbufs of all pools.
    pub capacity: u64,
    /// mbufs not given back after the drain: anything but 0 is a leak.
    pub in_use_at_exit: u64,
}

/// What QUIC noticed of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Quic {
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Times a congestion window was reduced.
    pub congestion_events: u64,
    /// Largest UDP payload reached, bytes.
    pub mtu: u16,
}

/// An lcore with one of its shards.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lcore {
    /// DPDK's number of the lcore.
    pub id: u32,
    /// The shard's name.
    pub shard: String,
    /// Share of the time that went into turns with work.
    pub busy_percent: f64,
    /// Busy time divided by frames, received and sent.
    pub ns_per_frame: f64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Datagrams handed over to the shards that they belong to.
    pub handed_over: u64,
    /// Datagrams taken over from other shards.
    pub taken_over: u64,
    /// Datagrams of other shards dropped because too many waited there already.
    pub handover_full: u64,
}

impl Latency {
    /// Percentiles of a histogram of nanoseconds; nothing when it is empty.
    pub fn of(nanoseconds: &Histogram<u64>) -> Option<Self> {
        let us = |quantile| rounded(nanoseconds.value_at_quantile(quantile) as f64 / 1e3);
        (!nanoseconds.is_empty()).then(|| Self {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: rounded(nanoseconds.max() as f64 / 1e3),
        })
    }
}

impl Report {
    /// Works out the report of a run.
    pub fn new(totals: &RunTotals) -> Self {
        let measured = totals.elapsed.saturating_sub(totals.warmup);
        let bits = totals.bytes_received_measured as f64 * 8.0;
        let (tx_dropped, rx_dropped) = split_drops(&totals.dropped);
        let connections = &totals.connections;
        let sum = |count: fn(&LcoreTotals) -> u64| totals.lcores.iter().map(count).sum();
        Self {
            elapsed_s: rounded(totals.elapsed.as_secs_f64()),
            goodput_gbps: rounded(per_second(bits, measured) / 1e9),
            bytes_received: totals.bytes_received,
            bytes_sent: totals.bytes_sent,
            connections: Connections {
                accepted: connections.accepted,
                opened: connections.opened,
                peak: connections.peak,
                refused: connections.refused,
                lost: connections.lost,
            },
            handshakes_per_s: rounded(per_second(connections.handshakes as f64, totals.elapsed)),
            latency_us: totals.latency,
            rx: Rx {
                frames: totals.rx.frames,
                zero_copy: totals.rx.zero_copy,
                copied: totals.rx.copied,
                handed_over: sum(|lcore| lcore.handed_over),
                taken_over: sum(|lcore| lcore.taken_over),
                handover_full: sum(|lcore| lcore.handover_full),
                dropped: rx_dropped,
            },
            tx: Tx {
                frames: totals.tx.frames,
                in_place: totals.tx.in_place,
                copied: totals.tx.copied,
                segmented: totals.tx.segmented,
                stalled: totals.tx.stalled,
                dropped: tx_dropped,
            },
            mbufs: Mbufs {
                capacity: totals.mbufs.capacity,
                in_use_at_exit: totals.mbufs.in_use_at_exit,
            },
            quic: Quic {
                lost_packets: totals.quic.lost_packets,
                congestion_events: totals.quic.congestion_events,
                mtu: totals.quic.mtu,
            },
            lcores: totals.lcores.iter().map(Lcore::new).collect(),
            nics: totals
                .nics
                .iter()
                .map(|(port, counts)| (port.clone(), named(counts)))
                .collect(),
            steering: totals
                .steering
                .iter()
                .map(|(port, steering)| (port.clone(), (*steering).to_owned()))
                .collect(),
            profile: totals
                .profile
                .map(|tsc_hz| Profile::new(&totals.lcores, tsc_hz)),
        }
    }

    /// The JSON object, on several lines.
    pub fn to_json(&self) -> String {
        // Strings and numbers in structs and maps with string keys: there is nothing that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Lcore {
    fn new(totals: &LcoreTotals) -> Self {
        let frames = totals.rx_frames + totals.tx_frames;
        let busy_ns = totals.busy.as_nanos() as f64;
        let elapsed_ns = totals.elapsed.as_nanos() as f64;
        let share = |part: f64, whole: f64| {
            if whole > 0.0 {
                rounded(part / whole)
            } else {
                0.0
            }
        };
        Self {
            id: totals.id,
            shard: totals.shard.clone(),
            busy_percent: share(busy_ns * 100.0, elapsed_ns),
            ns_per_frame: share(busy_ns, frames as f64),
            rx_frames: totals.rx_frames,
            tx_frames: totals.tx_frames,
            handed_over: totals.handed_over,
            taken_over: totals.taken_over,
            handover_full: totals.handover_full,
        }
    }
}

/// Counts by name, without zeros.
fn named(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    counts
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

/// Drops of datagrams to send, whose reasons start with `tx_`, and of received frames. Zeros are left out.
fn split_drops(drops: &[(&str, u64)]) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    drops
        .iter()
        .filter(|&&(_, count)| count > 0)
        .map(|&(reason, count)| (reason.to_owned(), count))
        .partition(|(reason, _)| reason.starts_with("tx_"))
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn per_second(count: f64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
