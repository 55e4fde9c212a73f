//! What an emulated NIC counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! nic_stats {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Counters of an emulated NIC, and of the wire in the direction of what it sends.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct NicStats {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl NicStats {
            /// Names of all counters, in the order of [`values`](Self::values). They are stable: keys of the report.
            pub const NAMES: &[&str] = &[$(stringify!($name),)+];

            /// Values of all counters.
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$name,)+]
            }

            fn from_values(values: [u64; Self::NAMES.len()]) -> Self {
                let [$($name,)+] = values;
                Self { $($name,)+ }
            }
        }
    };
}

nic_stats! {
    /// mbufs taken from the transmit queues; a chain counts once.
    tx_mbufs,
    /// Frames that reached the wire; segments count each.
    tx_frames,
    /// Their bytes, without what Ethernet adds.
    tx_bytes,
    /// UDP checksums filled in.
    tx_checksums,
    /// mbufs cut into several datagrams.
    tx_segmented,
    /// mbufs cut into IPv6 fragments, by a NIC that misbehaves.
    tx_fragmented,
    /// VLAN tags inserted.
    tx_vlan_inserted,
    /// Frames held back until the time of their timestamp.
    tx_held,
    /// Frames that came after the time of their timestamp, and went at once.
    tx_late,
    /// Frames whose timestamp was too far away to wait for, and went at once.
    tx_far,
    /// Frames that asked for an offload which the port was not configured with; it was not done.
    tx_not_granted,
    /// Frames whose flags and lengths contradict each other: the checksum was not filled.
    tx_bad_request,
    /// Frames dropped because they could not be segmented as their flags and lengths ask for.
    tx_bad_segmentation,
    /// Frames dropped because they were longer than the NIC can send, or shorter than an Ethernet header.
    tx_bad_length,
    /// mbufs that must not be sent with `RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE` in force: chained, shared or external.
    tx_fast_free_broken,
    /// Frames dropped because the queue for the wire was full.
    wire_queue_full,
    /// Frames dropped because more bytes were on their way than an emulated wire holds.
    wire_full,
    /// Frames lost on the wire.
    wire_lost,
    /// Frames delayed so that later ones overtake them.
    wire_reordered,
    /// Frames that the wire doubled.
    wire_duplicated,
    /// Frames marked "congestion experienced".
    wire_marked,
    /// Frames given to the receive queues.
    rx_frames,
    /// Their bytes, without tags that were taken off.
    rx_bytes,
    /// Frames whose UDP checksum was verified and right.
    rx_checksum_good,
    /// Frames whose UDP checksum was verified and wrong. They are received, and flagged.
    rx_checksum_bad,
    /// VLAN tags taken off.
    rx_vlan_stripped,
    /// Frames received into several chained mbufs.
    rx_scattered,
    /// Frames dropped because they were longer than the MTU allows, or shorter than an Ethernet header.
    rx_bad_length,
    /// Frames dropped because they fit no mbuf, and scatter was not granted.
    rx_no_scatter,
    /// Frames dropped because the receive queue was full.
    rx_missed,
    /// Frames dropped because the pool had no mbuf.
    rx_no_mbuf,
    /// Frames that the capture left out, because it had reached its size or the file could not be written.
    not_captured,
}

impl NicStats {
    /// Every counter with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::NAMES.iter().copied().zip(self.values())
    }

    /// Frames that the NIC or its wire dropped.
    pub fn dropped(&self) -> u64 {
        [
            self.tx_bad_segmentation,
            self.tx_bad_length,
            self.wire_queue_full,
            self.wire_full,
            self.wire_lost,
            self.rx_bad_length,
            self.rx_no_scatter,
            self.rx_missed,
            self.rx_no_mbuf,
        ]
        .iter()
        .sum()
    }
}

/// The published copy of [`NicStats`]: the lcore that drives the model writes it, anybody reads.
#[derive(Debug)]
pub(crate) struct NicCounters([AtomicU64; NicStats::NAMES.len()]);

impl Default for NicCounters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NicStats::NAMES.len()])
    }
}

impl NicCounters {
    pub(crate) fn read(&self) -> NicStats {
        let mut values = [0; NicStats::NAMES.len()];
        for (value, shared) in values.iter_mut().zip(&self.0) {
            *value = shared.load(Ordering::Relaxed);
        }
        NicStats::from_values(values)
    }

    pub(super) fn publish(&self, stats: &NicStats) {
        for (shared, value) in self.0.iter().zip(stats.values()) {
            shared.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_under_its_name() {
        let stats = NicStats {
            tx_mbufs: 1,
            not_captured: 2,
            wire_lost: 3,
            ..NicStats::default()
        };
        let counters = NicCounters::default();
        counters.publish(&stats);
        assert_eq!(counters.read(), stats);
        let named: Vec<_> = stats.iter().filter(|(_, value)| *value > 0).collect();
        assert_eq!(
            named,
            [("tx_mbufs", 1), ("wire_lost", 3), ("not_captured", 2)]
        );
        assert_eq!(stats.dropped(), 3);
    }
}
