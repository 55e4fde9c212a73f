//! From what was counted to what is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use poll::{DeviceStats, LaneStats};

use super::{Outcome, Watched};
use crate::clients::ClientResults;
use crate::live::{Downloads, Sample};
use crate::plan::{Load, Plan};
use crate::report::{
    ConnectionTotals, Latency, LcoreTotals, MbufTotals, QuicTotals, RunTotals, RxTotals, TxTotals,
};
use crate::shard::{Counter, ShardCounters};

impl Outcome {
    /// The sums that the report is made of.
    pub fn totals(&self, plan: &Plan) -> RunTotals {
        let sum = |counter: fn(&ShardCounters) -> &Counter| -> u64 {
            self.shards
                .iter()
                .map(|shard| counter(&shard.counters).get())
                .sum()
        };
        let lanes = || self.shards.iter().map(|shard| &shard.lane);
        RunTotals {
            elapsed: self.measured.elapsed,
            warmup: self.measured.elapsed.saturating_sub(self.measured.counted),
            bytes_received_measured: self.measured.counted_bytes,
            bytes_received: sum(|counters| &counters.bytes_received),
            bytes_sent: sum(|counters| &counters.bytes_sent),
            connections: ConnectionTotals {
                accepted: sum(|counters| &counters.connections_accepted),
                opened: sum(|counters| &counters.connections_opened),
                peak: sum(|counters| &counters.connections_peak),
                refused: sum(|counters| &counters.connections_refused),
                lost: sum(|counters| &counters.connections_lost),
                handshakes: sum(|counters| &counters.handshakes),
            },
            latency: self.latency(),
            rx: RxTotals {
                frames: lanes().map(|lane| lane.rx_frames).sum(),
                zero_copy: lanes().map(|lane| lane.rx_zero_copy).sum(),
                copied: lanes().map(|lane| lane.rx_copied).sum(),
            },
            tx: TxTotals {
                frames: lanes().map(|lane| lane.tx_frames).sum(),
                in_place: lanes().map(|lane| lane.tx_in_place).sum(),
                copied: lanes().map(|lane| lane.tx_copied).sum(),
                segmented: lanes().map(|lane| lane.tx_segmented).sum(),
                stalled: lanes().map(|lane| lane.tx_stalled).sum(),
            },
            dropped: self.dropped(),
            mbufs: MbufTotals {
                capacity: self.mbuf_capacity,
                in_use_at_exit: self.mbufs_in_use_at_exit,
            },
            quic: QuicTotals {
                lost_packets: sum(|counters| &counters.lost_packets),
                congestion_events: sum(|counters| &counters.congestion_events),
                mtu: self
                    .shards
                    .iter()
                    .map(|shard| shard.counters.mtu.get())
                    .max()
                    .map_or(0, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)),
            },
            lcores: self
                .shards
                .iter()
                .zip(&plan.shards)
                .map(|(shard, plan)| LcoreTotals {
                    id: shard.lcore,
                    shard: plan.name.clone(),
                    busy: Duration::from_nanos(shard.lane.busy_ns),
                    elapsed: shard.lane.elapsed(),
                    rx_frames: shard.lane.rx_frames,
                    tx_frames: shard.lane.tx_frames,
                    handed_over: shard.counters.handed_over.get(),
                    taken_over: shard.counters.taken_over.get(),
                    handover_full: shard.counters.dropped_handover_full.get(),
                    profile: shard.lane.profile,
                })
                .collect(),
            nics: self
                .nics
                .iter()
                .map(|(port, stats)| (port.clone(), stats.iter().collect()))
                .collect(),
            steering: plan
                .ports
                .iter()
                .zip(&self.steering)
                .map(|(port, steering)| (port.name.clone(), steering.name()))
                .collect(),
            profile: plan.run.profile.then_some(self.tsc_hz),
        }
    }

    /// Whether any client failed at anything.
    pub fn failures(&self) -> u64 {
        self.clients
            .iter()
            .map(|(_, results)| results.failures_total)
            .sum()
    }

    fn latency(&self) -> Option<Latency> {
        let measured = |results: &&ClientResults| !results.latency.is_empty();
        let mut all: Option<Histogram<u64>> = None;
        for results in self
            .clients
            .iter()
            .map(|(_, results)| results)
            .filter(measured)
        {
            match &mut all {
                // Every client's histogram has the same bounds, so adding cannot fail.
                Some(all) => all.add(&results.latency).unwrap_or_default(),
                None => all = Some(results.latency.clone()),
            }
        }
        Latency::of(&all?)
    }

    /// Drops of the lanes and of the shards, by name.
    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let mut dropped = BTreeMap::<&'static str, u64>::new();
        for shard in &self.shards {
            for (name, count) in drops_of_lane(&shard.lane).chain(drops_of_shard(&shard.counters)) {
                *dropped.entry(name).or_default() += count;
            }
        }
        for device in &self.devices {
            for (name, count) in drops_of_device(device) {
                *dropped.entry(name).or_default() += count;
            }
        }
        dropped.into_iter().collect()
    }
}

/// What a device dropped before a lane saw it, by name.
pub(crate) fn drops_of_device(device: &DeviceStats) -> [(&'static str, u64); 3] {
    [
        ("device_missed", device.rx_missed),
        ("device_errors", device.rx_errors),
        ("no_mbuf", device.rx_no_mbuf),
    ]
}

/// What a lane dropped, by name.
pub(crate) fn drops_of_lane(lane: &LaneStats) -> impl Iterator<Item = (&'static str, u64)> {
    let relay_full = [("relay_full", lane.relay_full)];
    lane.drops.iter().chain(relay_full)
}

/// What a shard dropped, by name.
pub(crate) fn drops_of_shard(counters: &ShardCounters) -> [(&'static str, u64); 10] {
    [
        ("unknown_udp_port", counters.dropped_unknown_udp_port.get()),
        ("quic_ignored", counters.dropped_quic_ignored.get()),
        ("handover_full", counters.dropped_handover_full.get()),
        ("strangers", counters.dropped_strangers.get()),
        ("incoming_full", counters.dropped_incoming_full.get()),
        ("prefix_rate", counters.dropped_prefix_rate.get()),
        ("handshake_moved", counters.dropped_handshake_moved.get()),
        ("tx_stateless_rate", counters.dropped_stateless_rate.get()),
        (
            "tx_response_queue_full",
            counters.dropped_response_queue_full.get(),
        ),
        ("tx_page_fault", counters.discarded_page_fault.get()),
    ]
}

impl Watched {
    /// The counters now, for the live line. What devices drop is known to the report only, when they are closed.
    pub fn sample(&self, plan: &Plan, at: Duration) -> Sample {
        let lanes: Vec<_> = self.lanes.iter().map(|lane| lane.read()).collect();
        let shards = || self.shards.iter();
        let dropped = lanes
            .iter()
            .flat_map(drops_of_lane)
            .chain(shards().flat_map(|shard| drops_of_shard(shard)));
        Sample {
            at,
            bytes_received: shards().map(|shard| shard.bytes_received.get()).sum(),
            rx_frames: lanes.iter().map(|lane| lane.rx_frames).sum(),
            tx_frames: lanes.iter().map(|lane| lane.tx_frames).sum(),
            connections: shards().map(|shard| shard.connections_current.get()).sum(),
            dropped: dropped.map(|(_, count)| count).sum(),
            downloads: self.downloads(plan),
        }
    }

    fn downloads(&self, plan: &Plan) -> Option<Downloads> {
        let loads = plan.shards.iter().flat_map(|shard| &shard.clients);
        let hq = self
            .clients
            .iter()
            .zip(loads)
            .filter(|(_, plan)| matches!(plan.load, Load::Hq(_)))
            .map(|(client, _)| client.handle.counters());
        let mut sum: Option<Downloads> = None;
        for counters in hq {
            let sum = sum.get_or_insert(Downloads {
                bytes: 0,
                bytes_total: None,
                files: 0,
                files_total: 0,
            });
            sum.bytes += counters.bytes_received.get();
            sum.files += counters.completed.get();
            sum.files_total += counters.total.get();
        }
        sum
    }
}
