//! What a lane counts. The lcore adds to plain words of its own and publishes them now and then; other threads read the
//! published copy without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::host::HostCounters;
use crate::profile::ProfileStats;
use crate::wire::{DropCounters, DropReason};

/// Counters of one lane (one queue pair with its transport) since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Frames received, dropped ones among them.
    pub rx_frames: u64,
    /// UDP payloads handed on in the packet buffer they arrived in.
    pub rx_zero_copy: u64,
    /// UDP payloads handed on as a copy.
    pub rx_copied: u64,
    /// Bytes of UDP payload handed on.
    pub rx_bytes: u64,
    /// ICMPv6 frames that the host took. Together with `rx_zero_copy`, `rx_copied` and the drops of received frames that
    /// makes `rx_frames`; drops of frames from other queues of the port come on top.
    pub rx_icmpv6: u64,
    /// Frames handed to the device, each datagram of those that it segments counted.
    pub tx_frames: u64,
    /// Packet buffers with several datagrams that the device was given to segment.
    pub tx_segmented: u64,
    /// Datagrams written where the device reads them.
    pub tx_in_place: u64,
    /// Datagrams written to a scratch buffer and copied, or copied while their neighbour was being resolved.
    pub tx_copied: u64,
    /// Bytes of UDP payload sent.
    pub tx_bytes: u64,
    /// Turns in which the device did not take all frames, or no mbuf was free: sending waited, nothing was dropped.
    pub tx_stalled: u64,
    /// Turns that took the copying path because the pool ran low.
    pub pool_pressure: u64,
    /// ICMPv6 frames that were handed to the hosts on other queues of the port.
    pub relayed: u64,
    /// ICMPv6 frames that came from other queues of the port.
    pub relay_received: u64,
    /// Copies of ICMPv6 frames that another lane had no room for, or that were too many for one turn.
    pub relay_full: u64,
    /// Turns of the worker loop.
    pub turns: u64,
    /// Time in turns that moved at least one frame, nanoseconds.
    pub busy_ns: u64,
    /// Time since the lane started, nanoseconds.
    pub elapsed_ns: u64,
    /// Free mbufs of the pool that frames to send are built in, when the counters were published. Those that lcores keep
    /// to themselves are not among them.
    pub pool_free: u64,
    /// The same of the pool that received frames come from: on a link, that of the other end.
    pub rx_pool_free: u64,
    /// Entries of the host's neighbour cache, when the counters were published.
    pub neighbours: u64,
    /// What the host did.
    pub host: HostCounters,
    /// Drops by reason.
    pub drops: DropCounters,
    /// Where the time goes; empty without a [`Profiler`](crate::profile::Profiler).
    pub profile: ProfileStats,
}

const PLAIN: usize = 21;
const WORDS: usize = PLAIN + HostCounters::COUNT + DropReason::COUNT + ProfileStats::WORDS;

/// The published copy of [`LaneStats`], apart from other lanes' by two cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub struct LaneCounters {
    words: [AtomicU64; WORDS],
}

impl Default for LaneCounters {
    fn default() -> Self {
        Self {
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

impl LaneCounters {
    /// The last published counters. Words of one reading may be a few turns apart from each other.
    pub fn read(&self) -> LaneStats {
        let mut stats = LaneStats::default();
        for (word, shared) in stats.words().zip(&self.words) {
            *word = shared.load(Ordering::Relaxed);
        }
        stats
    }

    pub(crate) fn publish(&self, stats: &LaneStats) {
        let mut stats = *stats;
        for (shared, word) in self.words.iter().zip(stats.words()) {
            shared.store(*word, Ordering::Relaxed);
        }
    }
}

impl LaneStats {
    /// Share of the time that went into turns that moved frames, percent.
    pub fn busy_percent(&self) -> f64 {
        if self.elapsed_ns == 0 {
            return 0.0;
        }
        self.busy_ns as f64 * 100.0 / self.elapsed_ns as f64
    }

    /// Busy time divided by frames received and sent, nanoseconds.
    pub fn ns_per_frame(&self) -> f64 {
        let frames = self.rx_frames + self.tx_frames;
        if frames == 0 {
            0.0
        } else {
            self.busy_ns as f64 / frames as f64
        }
    }

    /// Time since the lane started.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns)
    }

    /// Every word, in the order of publication. A new field does not compile until it has its place here.
    fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            rx_frames,
            rx_zero_copy,
            rx_copied,
            rx_bytes,
            rx_icmpv6,
            tx_frames,
            tx_segmented,
            tx_in_place,
            tx_copied,
            tx_bytes,
            tx_stalled,
            pool_pressure,
            relayed,
            relay_received,
            relay_full,
            turns,
            busy_ns,
            elapsed_ns,
            pool_free,
            rx_pool_free,
            neighbours,
            host,
            drops,
            profile,
        } = self;
        let plain: [&mut u64; PLAIN] = [
            rx_frames,
            rx_zero_copy,
            rx_copied,
            rx_bytes,
            rx_icmpv6,
            tx_frames,
            tx_segmented,
            tx_in_place,
            tx_copied,
            tx_bytes,
            tx_stalled,
            pool_pressure,
            relayed,
            relay_received,
            relay_full,
            turns,
            busy_ns,
            elapsed_ns,
            pool_free,
            rx_pool_free,
            neighbours,
        ];
        let plain = plain.into_iter();
        plain
            .chain(host.words())
            .chain(drops.words())
            .chain(profile.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let mut stats = LaneStats::default();
        let mut count = 0;
        for word in stats.words() {
            count += 1;
            *word = count;
        }
        assert_eq!(count as usize, WORDS, "no word is left out");
        let shared = LaneCounters::default();
        shared.publish(&stats);
        assert_eq!(shared.read(), stats);
    }
}
