//! What the host itself has to send: its own frames, and datagrams that wait for their neighbour. Both are bounded, and
//! both reuse their buffers.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use crate::transport::Transmit;
use crate::wire::MacAddr;

/// Frames of the host that wait to be sent.
const FRAMES_MAX: usize = 64;
/// The share of the places that datagrams for one neighbour may take, so that some are left for others: one in so many
/// stays free. A client that opens many connections at once sends them all to one router or server, hence not less.
const KEPT_FREE: usize = 4;

/// Whole frames: solicitations, advertisements, reports, echo replies.
#[derive(Debug, Default)]
pub(super) struct Frames {
    queue: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Frames {
    /// Adds the frame that `build` writes into an empty buffer. False when the queue is full.
    #[must_use]
    pub(super) fn push(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.queue.len() >= FRAMES_MAX {
            return false;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        build(&mut frame);
        self.queue.push_back(frame);
        true
    }

    /// Copies the next frame to the start of `out`. `Some(None)` for a frame that did not fit and is gone.
    pub(super) fn pop(&mut self, out: &mut [u8]) -> Option<Option<usize>> {
        let frame = self.queue.pop_front()?;
        let written = out.get_mut(..frame.len()).map(|out| {
            out.copy_from_slice(&frame);
            frame.len()
        });
        self.spare.push(frame);
        Some(written)
    }

    /// True while at most half of the room is taken: what can wait leaves the other half to answers.
    pub(super) fn is_calm(&self) -> bool {
        self.queue.len() <= FRAMES_MAX / 2
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// A datagram that waits, or waited, for the MAC address of its next hop.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) next_hop: Ipv6Addr,
    pub(super) transmit: Transmit,
    pub(super) source: Ipv6Addr,
    /// Set once the next hop answered.
    pub(super) mac: Option<MacAddr>,
    pub(super) payload: Vec<u8>,
}

/// The datagrams that wait, in the order they came.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: VecDeque<Parked>,
    /// How many of them may go: their next hop answered.
    released: usize,
    max: usize,
    max_per_neighbour: usize,
    spare: Vec<Vec<u8>>,
}

/// What became of a datagram to park.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParkOutcome {
    /// It waits.
    Parked,
    /// It waits, and the oldest one for the same next hop was dropped for it, as RFC 4861 §7.2.2 advises.
    ReplacedOldest,
    /// There is no room.
    Full,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            released: 0,
            max,
            max_per_neighbour: (max - max / KEPT_FREE).max(1),
            spare: Vec::new(),
        }
    }

    pub(super) fn park(
        &mut self,
        next_hop: Ipv6Addr,
        transmit: &Transmit,
        source: Ipv6Addr,
        mac: Option<MacAddr>,
        payload: &[u8],
    ) -> ParkOutcome {
        let for_same = |parked: &&Parked| parked.next_hop == next_hop && parked.mac.is_none();
        let replaces =
            mac.is_none() && self.queue.iter().filter(for_same).count() >= self.max_per_neighbour;
        if replaces {
            let oldest = self.queue.iter().position(|parked| for_same(&parked));
            self.remove(oldest);
        } else if self.queue.len() >= self.max {
            return ParkOutcome::Full;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(payload);
        self.released += usize::from(mac.is_some());
        self.queue.push_back(Parked {
            next_hop,
            transmit: *transmit,
            source,
            mac,
            payload: copy,
        });
        if replaces {
            ParkOutcome::ReplacedOldest
        } else {
            ParkOutcome::Parked
        }
    }

    /// Lets go what waits for `next_hop`.
    pub(super) fn release(&mut self, next_hop: Ipv6Addr, mac: MacAddr) {
        for parked in &mut self.queue {
            if parked.next_hop == next_hop && parked.mac.is_none() {
                parked.mac = Some(mac);
                self.released += 1;
            }
        }
    }

    /// Drops what waits for `next_hop`; returns how many that were.
    pub(super) fn fail(&mut self, next_hop: Ipv6Addr) -> u64 {
        let before = self.queue.len();
        let spare = &mut self.spare;
        self.queue.retain_mut(|parked| {
            let keep = parked.next_hop != next_hop || parked.mac.is_some();
            if !keep {
                spare.push(std::mem::take(&mut parked.payload));
            }
            keep
        });
        (before - self.queue.len()) as u64
    }

    /// True when a datagram may go.
    #[inline]
    pub(super) fn has_released(&self) -> bool {
        self.released > 0
    }

    /// The first datagram that may go, with its MAC address, handed to `send`.
    pub(super) fn pop_released<R>(
        &mut self,
        send: impl FnOnce(&Parked, MacAddr) -> R,
    ) -> Option<R> {
        if self.released == 0 {
            return None;
        }
        let (index, mac) = self
            .queue
            .iter()
            .enumerate()
            .find_map(|(index, parked)| Some((index, parked.mac?)))?;
        let sent = self.queue.get(index).map(|parked| send(parked, mac));
        self.released -= 1;
        self.remove(Some(index));
        sent
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn remove(&mut self, index: Option<usize>) {
        if let Some(parked) = index.and_then(|index| self.queue.remove(index)) {
            self.spare.push(parked.payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Ecn;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xb);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn park(waiting: &mut Waiting, next_hop: Ipv6Addr, byte: u8) -> ParkOutcome {
        let transmit = Transmit {
            destination: std::net::SocketAddrV6::new(next_hop, 1, 0, 0),
            source: None,
            source_udp_port: 2,
            ecn: Ecn::NotEct,
            size: 1,
            segment_size: None,
            departure: None,
        };
        waiting.park(next_hop, &transmit, A, None, &[byte])
    }

    fn next(waiting: &mut Waiting) -> Option<u8> {
        waiting.pop_released(|parked, mac| {
            assert_eq!(mac, MAC);
            parked.payload[0]
        })
    }

    #[test]
    fn the_newest_of_a_neighbour_are_kept_in_order_and_leave_room_for_others() {
        let mut waiting = Waiting::new(5);
        for byte in 0..4 {
            assert_eq!(park(&mut waiting, A, byte), ParkOutcome::Parked);
        }
        assert_eq!(park(&mut waiting, A, 4), ParkOutcome::ReplacedOldest);
        assert_eq!(park(&mut waiting, B, 9), ParkOutcome::Parked);
        assert_eq!(next(&mut waiting), None);
        waiting.release(A, MAC);
        for byte in 1..5 {
            assert_eq!(next(&mut waiting), Some(byte));
        }
        assert_eq!(next(&mut waiting), None);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.fail(B), 1);
        assert_eq!(waiting.fail(B), 0);
    }

    #[test]
    fn the_bound_over_all_neighbours_refuses() {
        let mut waiting = Waiting::new(2);
        assert_eq!(park(&mut waiting, A, 0), ParkOutcome::Parked);
        assert_eq!(park(&mut waiting, B, 1), ParkOutcome::Parked);
        assert_eq!(park(&mut waiting, B, 2), ParkOutcome::Full);
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn frames_are_bounded_and_reuse_their_buffers() {
        let mut frames = Frames::default();
        for round in 0..3 {
            for byte in 0..FRAMES_MAX as u8 {
                assert!(frames.push(|frame| frame.push(byte)));
            }
            assert!(!frames.push(|_| panic!("built though there is no room")));
            let mut out = [0; 4];
            for byte in 0..FRAMES_MAX as u8 {
                assert_eq!(frames.pop(&mut out), Some(Some(1)));
                assert_eq!(out[0], byte);
            }
            assert_eq!(frames.pop(&mut out), None, "round {round}");
            assert_eq!(frames.spare.len(), FRAMES_MAX);
        }
        assert!(frames.push(|frame| frame.extend([0; 9])));
        assert_eq!(frames.pop(&mut [0; 4]), Some(None));
    }
}
