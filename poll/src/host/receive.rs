//! Received frames: is it a datagram for us, and what does it say of its sender?

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use super::{HEARD, Heard, Host, REMEMBERED, Verdict};
use crate::offload::ChecksumVerdict;
use crate::transport::Path;
use crate::wire::{DropReason, MacAddr, Parsed, UdpFrame, parse};

impl Host {
    /// Takes a received frame of whose UDP checksum nothing is known.
    #[inline]
    pub fn receive(&mut self, now: Instant, frame: &[u8]) -> Verdict {
        self.receive_checked(now, frame, ChecksumVerdict::Unknown)
    }

    /// Takes a received frame, with what the device says of its UDP checksum.
    #[inline(always)]
    pub fn receive_checked(
        &mut self,
        now: Instant,
        frame: &[u8],
        checksum: ChecksumVerdict,
    ) -> Verdict {
        // The UDP checksum is verified last: a frame that is not for this host is not worth the work.
        let taken = match parse(frame, false) {
            Ok(Parsed::Udp(udp)) => self.receive_udp(now, frame, udp, checksum),
            Ok(Parsed::Icmpv6(headers)) => self.receive_icmpv6(now, frame, &headers),
            Err(reason) => Err(reason),
        };
        taken.unwrap_or_else(Verdict::Dropped)
    }

    /// Takes a frame that another host of the port [shared](Verdict::Shared): learns from it and, as the primary,
    /// answers it. Where it arrived it was not dropped, so a drop here counts in [`drops`](Self::drops).
    pub fn receive_relayed(&mut self, now: Instant, frame: &[u8]) {
        if let Ok(Parsed::Icmpv6(headers)) = parse(frame, false)
            && let Err(reason) = self.receive_icmpv6(now, frame, &headers)
        {
            self.drops.count(reason);
        }
    }

    #[inline]
    fn receive_udp(
        &mut self,
        now: Instant,
        frame: &[u8],
        udp: UdpFrame,
        checksum: ChecksumVerdict,
    ) -> Result<Verdict, DropReason> {
        // Datagrams to groups are of no use to QUIC, and unicast inside a multicast frame would let one frame make
        // every host on the link answer.
        if udp.dst_mac != self.mac {
            return Err(match udp.dst_mac.is_multicast() {
                true => DropReason::ForeignAddress,
                false => DropReason::ForeignMac,
            });
        }
        if !self.addresses.contains(udp.dst) {
            return Err(DropReason::ForeignAddress);
        }
        if !self.udp_ports.contains(udp.dst_port) {
            return Err(DropReason::ForeignUdpPort);
        }
        if udp.payload.is_empty() {
            return Err(DropReason::EmptyDatagram);
        }
        if self.verify_checksums {
            // Devices call it good: for IPv4 it means that there is none.
            udp.require_checksum(frame)?;
            match checksum {
                ChecksumVerdict::Good => {}
                ChecksumVerdict::Bad => return Err(DropReason::BadUdpChecksum),
                ChecksumVerdict::Unknown => udp.verify_checksum(frame)?,
                ChecksumVerdict::Unfinished => udp.verify_unfinished_checksum(frame)?,
            }
        }
        self.hear(now, udp.src, udp.src_mac);
        Ok(Verdict::Udp {
            path: Path {
                remote: SocketAddrV6::new(udp.src, udp.src_port, 0, 0),
                local: udp.dst,
                local_udp_port: udp.dst_port,
            },
            ecn: udp.ecn,
            payload: udp.payload,
        })
    }

    /// Takes the sender of a datagram as a sign of life of the neighbour that it came from, at most once a second.
    #[inline]
    fn hear(&mut self, now: Instant, source: Ipv6Addr, mac: MacAddr) {
        let heard = &mut self.heard[self.hash.of(source) as usize % HEARD];
        if heard.source == source && heard.mac == mac && now < heard.until {
            return;
        }
        let until = now + REMEMBERED;
        *heard = Heard { source, mac, until };
        self.heard_from(now, source, mac);
    }

    fn heard_from(&mut self, now: Instant, source: Ipv6Addr, mac: MacAddr) {
        if mac.is_multicast() {
            return;
        }
        let mut by_router = false;
        for router in self.routes.routers() {
            if self.neighbours.mac_of(router) == Some(mac) {
                by_router |= router != source;
                self.neighbours.confirm(now, router, mac);
            }
        }
        // What a router passed on with a source address of this link was forged beyond it, and says nothing.
        if !by_router && self.routes.is_on_link(source) && self.neighbours.heard(now, source, mac) {
            self.resolved(source, mac);
        }
    }
}
