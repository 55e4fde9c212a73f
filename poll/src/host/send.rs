//! Datagrams to send: where they go, and what waits until that is known.

use std::net::Ipv6Addr;
use std::time::Instant;

use super::neighbours::Resolution;
use super::outbox::{ParkOutcome, Waiting};
use super::{HOP_LIMIT, Host, REMEMBERED, ROUTES, Remembered, Route};
use crate::transport::Transmit;
use crate::wire::{
    Checksum, DropReason, HEADERS, IPV6_HEADER, MacAddr, UDP_HEADER, UdpHeaders, emit_udp_headers,
};

impl Host {
    /// Finds out where a datagram of `udp_payload` bytes goes, from `source` or, without one, from the address that
    /// suits best.
    #[inline]
    pub fn route(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        source: Option<Ipv6Addr>,
        udp_payload: usize,
    ) -> Route {
        let position = self.hash.of(destination) as usize % ROUTES;
        let known = &self.remembered[position];
        if known.destination == destination
            && known.requested == source
            && known.epoch == self.epoch
            && now < known.until
        {
            if udp_payload > known.payload_max {
                return Route::Refused(DropReason::TxTooBig);
            }
            return Route::Ready {
                mac: known.mac,
                source: known.source,
            };
        }
        match self.look_up(now, destination, source, udp_payload, position) {
            Ok(route) => route,
            Err(reason) => Route::Refused(reason),
        }
    }

    /// Keeps a copy of a datagram until its next hop answers; [`poll_frame`](Self::poll_frame) sends it then.
    /// Of too many for one next hop, the oldest is dropped.
    ///
    /// # Errors
    /// The reason to count when there is no room, or no route any more.
    pub fn park(
        &mut self,
        now: Instant,
        transmit: &Transmit,
        source: Ipv6Addr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let destination = *transmit.destination.ip();
        let next_hop = self
            .routes
            .next_hop(destination)
            .ok_or(DropReason::TxNoRoute)?;
        let mac = self.resolve(now, next_hop)?.map(|(mac, _)| mac);
        match self.waiting.park(next_hop, transmit, source, mac, payload) {
            ParkOutcome::Parked => {}
            ParkOutcome::ReplacedOldest => self.drops.count(DropReason::TxNeighbourQueueFull),
            ParkOutcome::Full => return Err(DropReason::TxNeighbourQueueFull),
        }
        self.counters.parked += 1;
        Ok(())
    }

    /// Writes the headers of a datagram into the bytes in front of its `payload`, as [`route`](Self::route) said. A
    /// payload of several datagrams gets those that a device wants which segments it.
    #[inline]
    pub fn write_headers(
        &self,
        out: &mut [u8; HEADERS],
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
        payload: &[u8],
    ) {
        let checksum = match transmit.segment_size {
            Some(_) => Checksum::Segmented,
            None => self.tx_checksum,
        };
        self.emit_headers(out, mac, source, transmit, payload, checksum);
    }

    /// Runs the timers that are due, then writes the next frame of the host's own to the start of `out` and returns its
    /// length. `out` holds at least 14 bytes more than the MTU; a frame that does not fit is dropped.
    #[inline]
    pub fn poll_frame(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.run_timers(now);
        if self.frames.is_empty() && !self.waiting.has_released() {
            return None;
        }
        self.pop_frame(out)
    }

    /// [`route`](Self::route) when nothing is remembered.
    #[inline(never)]
    fn look_up(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        requested: Option<Ipv6Addr>,
        udp_payload: usize,
        position: usize,
    ) -> Result<Route, DropReason> {
        if destination.is_loopback() || self.addresses.contains(destination) {
            return Err(DropReason::TxLoopback);
        }
        if destination.is_multicast() || destination.is_unspecified() {
            return Err(DropReason::TxNoRoute);
        }
        let next_hop = self
            .routes
            .next_hop(destination)
            .ok_or(DropReason::TxNoRoute)?;
        let source = match requested {
            Some(source) => Some(source).filter(|source| self.addresses.contains(*source)),
            None => self
                .addresses
                .select(now, destination, next_hop == destination),
        };
        let source = source.ok_or(DropReason::TxSourceAddress)?;
        let payload_max = usize::from(self.path_mtu(now, destination)) - IPV6_HEADER - UDP_HEADER;
        if udp_payload > payload_max {
            return Err(DropReason::TxTooBig);
        }
        let Some((mac, until)) = self.resolve(now, next_hop)? else {
            return Ok(Route::Waiting { source });
        };
        self.remembered[position % ROUTES] = Remembered {
            destination,
            requested,
            source,
            mac,
            payload_max,
            // Not for long: the neighbour cache wants to know which of its entries are in use.
            until: until.min(now + REMEMBERED),
            epoch: self.epoch,
        };
        Ok(Route::Ready { mac, source })
    }

    /// The MAC address of a next hop and until when to use it; none when it had to be asked for.
    fn resolve(
        &mut self,
        now: Instant,
        next_hop: Ipv6Addr,
    ) -> Result<Option<(MacAddr, Instant)>, DropReason> {
        let routes = &self.routes;
        let keep = |address| routes.is_router(address);
        match self.neighbours.resolve(now, next_hop, keep) {
            Resolution::Ready { mac, until } => Ok(Some((mac, until))),
            Resolution::Waiting { first } => {
                if first {
                    self.solicit(now, next_hop, None);
                }
                Ok(None)
            }
            Resolution::Full => Err(DropReason::TxNeighbourTableFull),
        }
    }

    #[inline(never)]
    fn pop_frame(&mut self, out: &mut [u8]) -> Option<usize> {
        while let Some(written) = self.frames.pop(out) {
            match written {
                Some(len) => return Some(len),
                None => self.drops.count(DropReason::TxTooBig),
            }
        }
        // `pop_released` lends a parked datagram, and writing it needs the rest of the host.
        let mut waiting = std::mem::replace(&mut self.waiting, Waiting::new(0));
        let mut written = None;
        while written.is_none() {
            let sent = waiting.pop_released(|parked, mac| {
                let len = HEADERS + parked.payload.len();
                let (headers, payload) = out.get_mut(..len)?.split_first_chunk_mut()?;
                payload.copy_from_slice(&parked.payload);
                // No device sees the offload flags of these few.
                let checksum = match self.tx_checksum {
                    Checksum::Skip => Checksum::Skip,
                    Checksum::Software | Checksum::PseudoHeader | Checksum::Segmented => {
                        Checksum::Software
                    }
                };
                let (source, transmit) = (parked.source, &parked.transmit);
                self.emit_headers(headers, mac, source, transmit, payload, checksum);
                Some(len)
            });
            match sent {
                Some(Some(len)) => written = Some(len),
                Some(None) => self.drops.count(DropReason::TxTooBig),
                None => break,
            }
        }
        self.waiting = waiting;
        written
    }

    #[inline]
    fn emit_headers(
        &self,
        out: &mut [u8; HEADERS],
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
        payload: &[u8],
        checksum: Checksum,
    ) {
        let (dst, dst_port) = (*transmit.destination.ip(), transmit.destination.port());
        let src_port = transmit.source_udp_port;
        let headers = UdpHeaders {
            src_mac: self.mac,
            dst_mac: mac,
            src: source,
            dst,
            src_port,
            dst_port,
            ecn: transmit.ecn,
            hop_limit: HOP_LIMIT,
            flow_label: self.hash.flow_label(source, dst, src_port, dst_port),
        };
        emit_udp_headers(out, &headers, payload, checksum);
    }
}
