//! What a lane counts. The lcore adds to plain words of its own and publishes them now and then; other threads read the
//! published copy without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// Frames handed to the device.
    pub tx_frames: u64,
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
    /// Turns of the worker loop.
    pub turns: u64,
    /// Time in turns that moved at least one frame, nanoseconds.
    pub busy_ns: u64,
    /// Time since the lane started, nanoseconds.
    pub elapsed_ns: u64,
    /// Drops by reason.
    pub drops: DropCounters,
}

const PLAIN: usize = 13;
const WORDS: usize = PLAIN + DropReason::COUNT;

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
        let mut words = [0; WORDS];
        for (word, shared) in words.iter_mut().zip(&self.words) {
            *word = shared.load(Ordering::Relaxed);
        }
        LaneStats::from_words(&words)
    }

    pub(crate) fn publish(&self, stats: &LaneStats) {
        for (shared, word) in self.words.iter().zip(stats.words()) {
            shared.store(word, Ordering::Relaxed);
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

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[..PLAIN].copy_from_slice(&[
            self.rx_frames,
            self.rx_zero_copy,
            self.rx_copied,
            self.rx_bytes,
            self.tx_frames,
            self.tx_in_place,
            self.tx_copied,
            self.tx_bytes,
            self.tx_stalled,
            self.pool_pressure,
            self.turns,
            self.busy_ns,
            self.elapsed_ns,
        ]);
        for (word, (_, count)) in words[PLAIN..].iter_mut().zip(self.drops.iter()) {
            *word = count;
        }
        words
    }

    fn from_words(words: &[u64; WORDS]) -> Self {
        let mut drops = DropCounters::default();
        for (reason, count) in DropReason::ALL.iter().zip(&words[PLAIN..]) {
            drops.count_many(*reason, *count);
        }
        Self {
            rx_frames: words[0],
            rx_zero_copy: words[1],
            rx_copied: words[2],
            rx_bytes: words[3],
            tx_frames: words[4],
            tx_in_place: words[5],
            tx_copied: words[6],
            tx_bytes: words[7],
            tx_stalled: words[8],
            pool_pressure: words[9],
            turns: words[10],
            busy_ns: words[11],
            elapsed_ns: words[12],
            drops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_there_and_back() {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = index as u64 + 1;
        }
        let stats = LaneStats::from_words(&words);
        assert_eq!(stats.words(), words);
        let shared = LaneCounters::default();
        shared.publish(&stats);
        assert_eq!(shared.read(), stats);
    }
}
