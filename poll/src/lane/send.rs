//! The way down: from datagrams of the transport, and frames of the host's own, to a burst for the device.

use std::net::Ipv6Addr;
use std::time::Instant;

use hugepages::Mbuf;

use super::Lane;
use crate::bridge::{Written, prepend_headers};
use crate::host::Route;
use crate::offload::segmentation;
use crate::profile::{Stage, within};
use crate::queue::BURST;
use crate::transport::{Transmit, Transport};
use crate::wire::{DropReason, MacAddr};

/// Times that the transport is asked for datagrams in one turn and lane, in bursts. Those that find no neighbour take no
/// place in the burst, so the burst alone would not bound the turn.
const PULLED_BURSTS_MAX: usize = 2;
/// Datagrams after which the transport is not asked for more in one turn and lane, in bursts, where several are sent in
/// one mbuf: received frames wait meanwhile.
const DATAGRAM_BURSTS_MAX: usize = 4;
/// Of how many frames of a burst one may be the host's own. The rest is the transport's: neighbours that keep asking cannot
/// silence it.
const HOST_SHARE: usize = 4;

impl<T: Transport> Lane<T> {
    /// Lets the transport do what is due, fills the burst, and offers it to the device. Returns how many frames it took.
    pub(super) fn send(&mut self, now: Instant) -> usize {
        within(Stage::Advance, || self.transport.advance(now));
        let pulled = self.pull_host(now) && within(Stage::Lend, || self.pull_transport(now));
        let no_mbuf = !pulled;
        if self.outgoing.is_empty() {
            self.stats.tx_stalled += u64::from(no_mbuf);
            return 0;
        }
        let sent = within(Stage::Tx, || self.transmit_burst());
        self.stats.tx_stalled += u64::from(no_mbuf || !self.outgoing.is_empty());
        sent
    }

    /// Offers what is outgoing to the device, and counts what it takes.
    #[inline]
    pub(super) fn transmit_burst(&mut self) -> usize {
        if self.segments_max == 1 {
            let sent = self.queue.tx.tx_burst(&mut self.outgoing);
            self.stats.tx_frames += sent as u64;
            return sent;
        }
        // What the device takes is the device's, and cannot be looked at any more.
        let mut datagrams = [0; BURST];
        for (count, mbuf) in datagrams.iter_mut().zip(self.outgoing.as_slice()) {
            *count = segmentation::frames(mbuf);
        }
        let sent = self.queue.tx.tx_burst(&mut self.outgoing);
        for count in datagrams.into_iter().take(sent) {
            self.stats.tx_frames += count as u64;
            self.stats.tx_segmented += u64::from(count > 1);
        }
        sent
    }

    /// Frames of the host itself: neighbour discovery, echo replies, and datagrams that waited for a neighbour. False when
    /// no mbuf was free.
    fn pull_host(&mut self, now: Instant) -> bool {
        if self.host.timeout().is_none_or(|due| due > now) {
            return true;
        }
        for _ in 0..(self.outgoing.limit() / HOST_SHARE).max(1) {
            if self.outgoing.is_full() {
                break;
            }
            let Some(mut mbuf) = self.tx.blank() else {
                return false;
            };
            let room = mbuf.tailroom();
            let written = mbuf
                .append(room)
                .and_then(|frame| self.host.poll_frame(now, frame));
            let Some(len) = written else {
                self.tx.put_back(mbuf);
                break;
            };
            mbuf.truncate(len);
            if self.offloads.dress_other(&mut mbuf) {
                // There is room, as asked above.
                let _ = self.outgoing.push(mbuf);
            } else {
                self.stats.drops.count(DropReason::TxGrew);
            }
        }
        true
    }

    /// Datagrams of the transport, while the burst has room. False when no mbuf was free.
    #[inline]
    fn pull_transport(&mut self, now: Instant) -> bool {
        let (burst, segments_max) = (self.outgoing.limit(), self.segments_max);
        let mut datagrams = 0;
        for _ in 0..PULLED_BURSTS_MAX * burst {
            if self.outgoing.is_full() || datagrams >= DATAGRAM_BURSTS_MAX * burst {
                break;
            }
            let Some(mbuf) = self.tx.blank() else {
                return false;
            };
            let transport = &mut self.transport;
            let transmit = |buf: &mut Vec<u8>| {
                within(Stage::Transmit, || {
                    transport.transmit(now, buf, segments_max)
                })
            };
            match self.tx.write(mbuf, transmit) {
                Written::Nothing => break,
                Written::Datagram {
                    mbuf,
                    transmit,
                    in_place,
                } => {
                    datagrams += transmit.datagrams();
                    within(Stage::Emit, || self.route(now, mbuf, &transmit, in_place));
                }
                Written::Refused => self.stats.drops.count(DropReason::TxGrew),
            }
        }
        true
    }

    /// Puts headers in front of a datagram, or finds out why it cannot go now.
    #[inline]
    fn route(&mut self, now: Instant, mut mbuf: Mbuf, transmit: &Transmit, in_place: bool) {
        let route = self.host.route(
            now,
            *transmit.destination.ip(),
            transmit.source,
            transmit.datagram_size(),
        );
        let refused = match route {
            Route::Ready { mac, source } => {
                if self.put_headers(&mut mbuf, mac, source, transmit) {
                    self.request(&mut mbuf, transmit);
                    self.count_sent(transmit, in_place);
                    // There is room: the caller has asked.
                    let _ = self.outgoing.push(mbuf);
                    return;
                }
                Some(DropReason::TxGrew)
            }
            Route::Waiting { source } => {
                self.park(now, transmit, source, mbuf.data());
                None
            }
            Route::Refused(reason) => Some(reason),
        };
        if let Some(reason) = refused {
            let datagrams = transmit.datagrams() as u64;
            self.stats.drops.count_many(reason, datagrams);
        }
        self.tx.put_back(mbuf);
    }

    /// Makes a frame of a datagram. False when there is no room in front of it.
    #[inline]
    fn put_headers(
        &self,
        mbuf: &mut Mbuf,
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
    ) -> bool {
        let Some((headers, payload)) = prepend_headers(mbuf) else {
            return false;
        };
        self.host
            .write_headers(headers, mac, source, transmit, payload);
        self.offloads.dress_datagram(mbuf)
    }

    /// Says in the mbuf what the device is to do with it besides.
    #[inline]
    fn request(&self, mbuf: &mut Mbuf, transmit: &Transmit) {
        if let Some(size) = transmit.segment_size {
            mbuf.set_tx(segmentation::ask(mbuf.tx_offload(), size));
        }
        if let (Some(clock), Some(departure)) = (&self.clock, transmit.departure) {
            clock.stamp(mbuf, departure);
        }
    }

    /// Leaves a payload with the host until its neighbour is known, datagram by datagram: each goes in an mbuf of its own.
    fn park(&mut self, now: Instant, transmit: &Transmit, source: Ipv6Addr, payload: &[u8]) {
        for datagram in payload.chunks(transmit.datagram_size().max(1)) {
            let transmit = Transmit {
                size: datagram.len(),
                segment_size: None,
                ..*transmit
            };
            match self.host.park(now, &transmit, source, datagram) {
                // It goes later, as a copy of the copy that waits.
                Ok(()) => self.count_sent(&transmit, false),
                Err(reason) => self.stats.drops.count(reason),
            }
        }
    }

    #[inline]
    fn count_sent(&mut self, transmit: &Transmit, in_place: bool) {
        let datagrams = transmit.datagrams() as u64;
        self.stats.tx_bytes += transmit.size as u64;
        let way = match in_place {
            true => &mut self.stats.tx_in_place,
            false => &mut self.stats.tx_copied,
        };
        *way += datagrams;
    }
}
