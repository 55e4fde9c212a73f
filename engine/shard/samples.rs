//! Statistics that connections keep, brought into the shard's counters a few connections at a time: what a turn costs
//! does not grow with the number of connections.
//!
//! The same round finds peers that talk and never acknowledge: a connection to one that falls silent ends by its idle
//! time-out, but these would hold what was sent to them, up to the send window, for as long as they like.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionStats, VarInt};

use super::core::{Core, close};
use super::counters::ShardCounters;
use super::entry::{Entry, Phase};

/// How often some connections are looked at.
const INTERVAL: Duration = Duration::from_millis(10);
/// Connections looked at each time.
const CONNECTIONS: usize = 4;
/// Places looked at to find them: connections that are gone leave some empty.
const PLACES: usize = 64;

/// How long a peer that is heard may acknowledge nothing of what was sent to it. Longer than that are only the time-outs
/// of peers that are not heard.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

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

/// What a connection's numbers were when it was looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Acknowledgements received.
    acks: u64,
    /// Frames sent that ask for one, of the usual kinds.
    asked: u64,
    /// Datagrams received.
    heard: u64,
}

/// Whether a peer acknowledges: see the [module](self).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Acknowledged {
    /// Numbers of the last acknowledgement that was noticed.
    acks: u64,
    asked: u64,
    /// Since when something waits for one, and the datagrams received until then.
    waiting: Option<(Instant, u64)>,
}

impl Acknowledged {
    /// Looks at a connection. True when something has waited for too long, though the peer was heard meanwhile.
    fn is_withheld(&mut self, now: Instant, look: Look) -> bool {
        if look.acks != self.acks {
            self.acks = look.acks;
            self.asked = look.asked;
            self.waiting = None;
        } else if look.asked != self.asked {
            let (since, heard) = *self.waiting.get_or_insert((now, look.heard));
            return now - since >= UNACKNOWLEDGED_MAX && look.heard != heard;
        }
        false
    }
}

impl Look {
    fn at(stats: &ConnectionStats) -> Self {
        let sent = stats.frame_tx;
        Self {
            acks: stats.frame_rx.acks,
            asked: sent.stream + sent.datagram + sent.ping + sent.crypto,
            heard: stats.udp_rx.datagrams,
        }
    }
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
            let Some(entry) = self.entries.get_mut(index) else {
                continue;
            };
            let stats = entry.quinn.stats();
            note(&self.counters, entry, &stats);
            if entry.phase == Phase::Open {
                self.counters.rtt.record(entry.quinn.rtt());
                let withheld =
                    !entry.closing && entry.acknowledged.is_withheld(self.now, Look::at(&stats));
                if withheld {
                    self.counters.connections_lost.add(1);
                    let code = VarInt::from_u32(0);
                    let reason = Bytes::from_static(b"nothing is acknowledged");
                    close(entry, self.now, code, reason, &mut self.dirty);
                }
            }
            found += 1;
            if found == CONNECTIONS {
                break;
            }
        }
    }

    /// Brings the counters up to date with all connections.
    pub(crate) fn publish(&self) {
        for (_, entry) in &self.entries {
            note(&self.counters, entry, &entry.quinn.stats());
        }
    }
}

/// Adds what happened on a connection since it was last looked at.
pub(super) fn note(counters: &ShardCounters, entry: &Entry, stats: &ConnectionStats) {
    let path = &stats.path;
    let known = entry.known.replace(Known {
        lost_packets: path.lost_packets,
        congestion_events: path.congestion_events,
    });
    counters
        .lost_packets
        .add(path.lost_packets.saturating_sub(known.lost_packets));
    counters.congestion_events.add(
        path.congestion_events
            .saturating_sub(known.congestion_events),
    );
    counters.mtu.raise(u64::from(path.current_mtu));
}

/// [`Known`] in a connection's entry, which is only read while it is noted.
pub(super) type KnownCell = Cell<Known>;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn look(acks: u64, asked: u64, heard: u64) -> Look {
        Look { acks, asked, heard }
    }

    #[test]
    fn a_peer_that_talks_and_never_acknowledges_is_found() {
        let start = Instant::now();
        let mut peer = Acknowledged::default();
        assert!(!peer.is_withheld(start, look(3, 10, 20)));
        // Sent between two looks, and asked for again and again.
        for second in 1..61 {
            assert!(
                !peer.is_withheld(start + second * SECOND, look(3, 11, 20 + u64::from(second)))
            );
        }
        assert!(peer.is_withheld(start + 61 * SECOND, look(3, 12, 90)));
    }

    #[test]
    fn one_that_acknowledges_or_is_asked_for_nothing_or_is_not_heard_is_left_alone() {
        let start = Instant::now();
        let mut acknowledges = Acknowledged::default();
        let mut idle = Acknowledged::default();
        let mut gone = Acknowledged::default();
        for minute in 0..100 {
            let now = start + minute * 60 * SECOND;
            let minute = u64::from(minute);
            assert!(!acknowledges.is_withheld(now, look(minute, 2 * minute, minute)));
            assert!(!idle.is_withheld(now, look(3, 10, minute)));
            assert!(!gone.is_withheld(now, look(3, 10 + minute, 20)));
        }
    }
}
