//! Statistics that connections keep, brought into the shard's counters a few connections at a time: what a turn costs
//! does not grow with the number of connections.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::core::Core;
use super::entry::{Entry, Phase};

/// How often some connections are looked at.
const INTERVAL: Duration = Duration::from_millis(10);
/// Connections looked at each time.
const CONNECTIONS: usize = 4;
/// Places looked at to find them: connections that are gone leave some empty.
const PLACES: usize = 64;

/// Where the round over all connections stands.
#[derive(Debug)]
pub(super) struct Round {
    due: Instant,
    next: usize,
}

/// What the shard's counters know already of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    lost_packets: u64,
    congestion_events: u64,
}

impl Round {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now, next: 0 }
    }
}

impl Core {
    /// Looks at the next few connections when that is due.
    #[inline]
    pub(super) fn sample(&mut self) {
        if self.now >= self.round.due {
            self.sample_some();
        }
    }

    fn sample_some(&mut self) {
        self.round.due = self.now + INTERVAL;
        // Places are taken from the front: none beyond the most that were ever taken at a time is in use.
        let places = self.counters.connections_peak.get() as usize;
        let mut found = 0;
        for _ in 0..places.min(PLACES) {
            let index = self.round.next;
            self.round.next = if index + 1 < places { index + 1 } else { 0 };
            let Some(entry) = self.entries.get(index) else {
                continue;
            };
            self.note(entry);
            if entry.phase == Phase::Open {
                self.counters.rtt.record(entry.quinn.rtt());
            }
            found += 1;
            if found == CONNECTIONS {
                break;
            }
        }
    }

    /// Brings the counters up to date with all connections.
    pub(crate) fn publish(&self) {
        self.entries.iter().for_each(|(_, entry)| self.note(entry));
    }

    /// Adds what happened on a connection since it was last looked at.
    pub(super) fn note(&self, entry: &Entry) {
        let path = entry.quinn.stats().path;
        let known = entry.known.replace(Known {
            lost_packets: path.lost_packets,
            congestion_events: path.congestion_events,
        });
        let counters = &self.counters;
        counters
            .lost_packets
            .add(path.lost_packets.saturating_sub(known.lost_packets));
        counters.congestion_events.add(
            path.congestion_events
                .saturating_sub(known.congestion_events),
        );
        counters.mtu.raise(u64::from(path.current_mtu));
    }
}

/// [`Known`] in a connection's entry, which is only read while it is noted.
pub(super) type KnownCell = Cell<Known>;
