//! What the hosts of one port tell each other.
//!
//! Each queue of a port has a host of its own, but a device gives what is no UDP to one of the queues: a network card to
//! the first as a rule, a TAP interface to any. So a lane hands copies of the ICMPv6 frames that concern the others to
//! them, through one bounded channel a lane.
//!
//! ```text
//! queue 0 ─► host (primary)   ── neighbour discovery, router advertisements, Packet Too Big ──► every other host
//!               ▲
//! queue i ─► host (secondary) ── the same, to every other host; echo requests, listener queries ──► the primary only
//! ```
//!
//! A frame that came through a relay is not relayed again. A frame that finds a channel full is dropped for that lane,
//! and counted: neighbour discovery repeats what matters. The hosts bound the rate of what can come from beyond the link
//! before it gets here, so that a flood from afar neither crowds out neighbours nor costs the other lanes.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::host::Audience;

/// Frames that wait for a lane at most.
const INBOX: usize = 64;
/// Frames that a lane relays in one turn, and that it takes in one turn, at most: neighbours that keep talking cannot
/// keep a lane from its datagrams.
pub(crate) const RELAYED_MAX: usize = 16;

/// One lane's part in the relay of its port. Made by [`relay`], given to a lane by its
/// [`LaneConfig`](crate::LaneConfig).
#[derive(Debug)]
pub struct Relay {
    inbox: Receiver<Bytes>,
    /// The first of them is the primary's, unless this is the primary's own relay.
    others: Vec<Sender<Bytes>>,
}

/// Joins the hosts of a port: the first relay is for the lane with the primary host, the others for the lanes with
/// secondary ones.
pub fn relay(lanes: usize) -> Vec<Relay> {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..lanes).map(|_| bounded(INBOX)).unzip();
    let all_but = |own: usize| {
        let others = senders.iter().enumerate();
        let others = others.filter(|(lane, _)| *lane != own);
        others.map(|(_, sender)| sender.clone()).collect()
    };
    inboxes
        .into_iter()
        .enumerate()
        .map(|(lane, inbox)| Relay {
            inbox,
            others: all_but(lane),
        })
        .collect()
}

impl Relay {
    /// The lanes of the port.
    pub(crate) fn lanes(&self) -> usize {
        self.others.len() + 1
    }

    /// Hands a copy of `frame` to its audience. Returns for how many lanes there was no room.
    pub(crate) fn send(&self, frame: &[u8], audience: Audience) -> usize {
        let lanes = match audience {
            Audience::All => self.others.as_slice(),
            Audience::Primary => self.others.get(..1).unwrap_or_default(),
        };
        let copy = Bytes::copy_from_slice(frame);
        lanes
            .iter()
            // A lane that has ended wants nothing any more.
            .filter(|lane| matches!(lane.try_send(copy.clone()), Err(TrySendError::Full(_))))
            .count()
    }

    /// The next frame that another lane handed over.
    #[inline]
    pub(crate) fn next(&self) -> Option<Bytes> {
        // Asked in every turn: a look at the length costs less than an attempt to receive.
        if self.inbox.is_empty() {
            return None;
        }
        self.inbox.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(relay: &Relay) -> Vec<Bytes> {
        std::iter::from_fn(|| relay.next()).collect()
    }

    #[test]
    fn all_others_or_the_primary_alone() {
        let relays = relay(3);
        assert_eq!(relays[1].send(b"to all", Audience::All), 0);
        assert_eq!(relays[2].send(b"to the first", Audience::Primary), 0);
        assert_eq!(taken(&relays[0]), ["to all", "to the first"]);
        assert!(taken(&relays[1]).is_empty());
        assert_eq!(taken(&relays[2]), ["to all"]);
    }

    #[test]
    fn a_full_inbox_refuses_and_a_lane_that_ended_does_not_count() {
        let mut relays = relay(3);
        for _ in 0..INBOX {
            assert_eq!(relays[0].send(b"frame", Audience::All), 0);
        }
        assert_eq!(taken(&relays[1]).len(), INBOX);
        assert_eq!(relays[0].send(b"one more", Audience::All), 1);
        assert_eq!(taken(&relays[1]), ["one more"]);
        relays.pop();
        assert_eq!(relays[0].send(b"and another", Audience::All), 0);
    }

    #[test]
    fn a_lane_alone_has_nobody_to_tell() {
        let relays = relay(1);
        assert_eq!(relays[0].send(b"frame", Audience::All), 0);
        assert_eq!(relays[0].send(b"frame", Audience::Primary), 0);
        assert!(taken(&relays[0]).is_empty());
    }
}
