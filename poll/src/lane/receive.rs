//! The way up: from frames to datagrams for the transport.

use std::time::Instant;

use bytes::Buf;
use hugepages::Mbuf;

use super::Lane;
use crate::host::{Audience, Verdict};
use crate::offload::ChecksumVerdict;
use crate::profile::{Stage, enter, within};
use crate::relay::RELAYED_MAX;
use crate::transport::{Datagram, Transport};
use crate::wire::DropReason;

impl<T: Transport> Lane<T> {
    /// Frames that the lanes on other queues of the port handed over.
    #[inline]
    pub(super) fn receive_relayed(&mut self, now: Instant) -> usize {
        let Some(relay) = &self.relay else { return 0 };
        let mut count = 0;
        while count < RELAYED_MAX
            && let Some(frame) = relay.next()
        {
            self.host.receive_relayed(now, &frame);
            count += 1;
        }
        self.stats.relay_received += count as u64;
        count
    }

    /// Receives a burst; returns how many frames.
    pub(super) fn receive(&mut self, now: Instant) -> usize {
        let count = within(Stage::Rx, || self.queue.rx.rx_burst(&mut self.received));
        if count == 0 {
            return 0;
        }
        self.stats.rx_frames += count as u64;
        self.rx.begin(&mut self.stats);
        let mut shared = 0;
        enter(Stage::Parse);
        while let Some(mut mbuf) = self.received.pop() {
            match self.offloads.admit(&mut mbuf) {
                Ok(checksum) if mbuf.segment_count() == 1 => {
                    self.take(now, mbuf, checksum, &mut shared);
                }
                Ok(checksum) => self.take_chain(now, mbuf, checksum, &mut shared),
                Err(reason) => {
                    self.stats.drops.count(reason);
                    self.rx.discard(mbuf);
                }
            }
        }
        enter(Stage::Lift);
        self.rx.end();
        enter(Stage::Other);
        count
    }

    #[inline]
    fn take(&mut self, now: Instant, mbuf: Mbuf, checksum: ChecksumVerdict, shared: &mut usize) {
        match self.host.receive_checked(now, mbuf.data(), checksum) {
            Verdict::Udp { path, ecn, payload } => {
                enter(Stage::Lift);
                let payload = self.rx.lift(mbuf, payload, &mut self.stats);
                enter(Stage::Receive);
                self.transport.receive(now, Datagram { path, ecn, payload });
                enter(Stage::Parse);
            }
            other => {
                self.conclude(other, mbuf.data(), shared);
                self.rx.discard(mbuf);
            }
        }
    }

    /// A frame that came in several mbufs is copied into one piece first.
    #[inline(never)]
    fn take_chain(
        &mut self,
        now: Instant,
        mbuf: Mbuf,
        checksum: ChecksumVerdict,
        shared: &mut usize,
    ) {
        let Some(mut frame) = self.rx.linearise(mbuf, self.frame_max) else {
            self.stats.drops.count(DropReason::Chained);
            return;
        };
        match self.host.receive_checked(now, &frame, checksum) {
            Verdict::Udp { path, ecn, payload } => {
                self.stats.rx_bytes += payload.len() as u64;
                self.stats.rx_copied += 1;
                frame.truncate(payload.end);
                frame.advance(payload.start);
                let payload = frame;
                enter(Stage::Receive);
                self.transport.receive(now, Datagram { path, ecn, payload });
                enter(Stage::Parse);
            }
            other => self.conclude(other, &frame, shared),
        }
    }

    /// What is to be done with a frame that is no datagram. `shared` counts those of this turn.
    fn conclude(&mut self, verdict: Verdict, frame: &[u8], shared: &mut usize) {
        match verdict {
            Verdict::Udp { .. } => {}
            Verdict::Consumed => self.stats.rx_icmpv6 += 1,
            Verdict::Shared(audience) => {
                self.stats.rx_icmpv6 += 1;
                *shared += 1;
                self.share(frame, audience, *shared);
            }
            Verdict::Dropped(reason) => self.stats.drops.count(reason),
        }
    }

    /// Hands a frame to the lanes on other queues of the port: it is the `nth` of this turn.
    fn share(&mut self, frame: &[u8], audience: Audience, nth: usize) {
        let Some(relay) = &self.relay else { return };
        if nth > RELAYED_MAX {
            self.stats.relay_full += 1;
            return;
        }
        let refused = relay.send(frame, audience);
        self.stats.relayed += 1;
        self.stats.relay_full += refused as u64;
    }
}
