//! Fair turns: whose datagram is built next, and when it leaves.

use std::time::{Duration, Instant};

use poll::profile::{Stage, within};
use poll::{Ecn, Transmit};

use super::core::{Core, mark};
use super::entry::{Entry, source, v6};

/// How far ahead of its time a datagram is built for a device that sends on time. quinn-proto's pacer gives out bursts of
/// 2 ms' worth at most, each 4/5 of that after the one before it: with less nothing would be built ahead at the usual
/// rates. What comes to be sent meanwhile waits behind it, for a device's queue keeps its order.
const AHEAD_MAX: Duration = Duration::from_millis(2);

impl Core {
    /// Builds the next datagram of the connection whose turn it is, or up to `segments_max` of them.
    ///
    /// A connection has the turn until it has nothing to send (or must wait for acknowledgements, credit or its
    /// pacer), or has used up its budget and stands at the end again. So each of n ready connections waits for at most
    /// (n - 1) × `turn_budget` datagrams.
    #[inline]
    pub(crate) fn transmit(&mut self, buf: &mut Vec<u8>, segments_max: usize) -> Option<Transmit> {
        while let Some(&index) = self.ready.front() {
            let Some(entry) = self.entries.get_mut(index as usize) else {
                self.ready.pop_front();
                continue;
            };
            // A connection whose budget is used up has no turn, so there is room for one at least.
            let budget = usize::from(self.limits.turn_budget.saturating_sub(entry.turn));
            let segments = segments_max.min(budget).max(1);
            // Who builds ahead keeps nobody else waiting.
            let ahead = self.paced_by_device && self.ready.len() == 1;
            match build(entry, self.now, ahead, segments, buf) {
                Some(transmit) => {
                    let mut transmit = outgoing(&transmit, entry.udp_port);
                    transmit.source = transmit.source.or(entry.source);
                    transmit.departure = entry.departure;
                    entry.turn += transmit.datagrams() as u16;
                    if entry.turn >= self.limits.turn_budget {
                        self.end_turn();
                    }
                    return Some(transmit);
                }
                None => self.end_turn(),
            }
        }
        None
    }

    /// Ends the turn of the first connection in line.
    fn end_turn(&mut self) {
        let Some(index) = self.ready.pop_front() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        let sent = std::mem::take(&mut entry.turn);
        if let Some(at) = entry.quinn.poll_timeout() {
            self.timers.no_later_than(index, at);
        }
        if sent > 0 {
            // Building packets can make events, too: datagrams unblocked, keys worn out.
            mark(&mut entry.dirty, &mut self.dirty, index);
        }
        if sent >= self.limits.turn_budget {
            self.ready.push_back(index);
            return;
        }
        entry.ready = false;
        if entry.drained {
            self.remove(index);
        }
    }
}

/// Lets quinn-proto build what the connection may send: now, or where the device keeps the time and only the pacer forbids
/// it, as if it were the moment at which the pacer allows it.
///
/// That moment is the packet's sending time for quinn-proto, so its round trip is measured from there, and what is
/// declared lost is counted from there. Timers get the true time only. The time of packets never goes back on a
/// connection: until it has come, what else there is to send has the same departure.
#[inline]
fn build(
    entry: &mut Entry,
    now: Instant,
    ahead: bool,
    segments: usize,
    buf: &mut Vec<u8>,
) -> Option<quinn_proto::Transmit> {
    entry.departure = entry.departure.filter(|&at| at > now);
    let at = entry.departure.unwrap_or(now);
    let before = match ahead {
        true => entry.quinn.poll_timeout(),
        false => None,
    };
    let built = within(Stage::ProtocolTransmit, || {
        entry.quinn.poll_transmit(at, segments, buf)
    });
    if built.is_some() || !ahead {
        return built;
    }
    // An attempt in vain sets no timer but the pacer's: a deadline that it did not move is another's.
    let next = entry.quinn.poll_timeout()?;
    if Some(next) == before || next <= at || next > now + AHEAD_MAX {
        return None;
    }
    let built = within(Stage::ProtocolTransmit, || {
        entry.quinn.poll_transmit(next, segments, buf)
    });
    // What was built keeps the time for what follows. Where nothing was, it was another timer after all, and what comes to
    // be sent does not wait for it.
    if built.is_some() {
        entry.departure = Some(next);
    }
    built
}

/// What the worker has to know of a datagram that quinn-proto built.
#[inline]
pub(super) fn outgoing(transmit: &quinn_proto::Transmit, source_udp_port: u16) -> Transmit {
    Transmit {
        destination: v6(transmit.destination),
        source: source(transmit.src_ip),
        source_udp_port,
        ecn: transmit
            .ecn
            .map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8)),
        size: transmit.size,
        segment_size: transmit
            .segment_size
            .and_then(|size| u16::try_from(size).ok()),
        departure: None,
    }
}
