//! Where headers lie in a frame, as a NIC finds them: one VLAN tag or none, IPv6, UDP directly behind it.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::ops::Range;

use crate::wire::{ETHERNET_HEADER, IPV6_HEADER, PROTOCOL_UDP, Sum, UDP_HEADER};

/// Bytes of a VLAN tag: its ethertype, and the control information (priority and VLAN id).
pub(super) const TAG: usize = 4;
/// Bytes of the MAC addresses, which a tag follows.
pub(super) const MACS: usize = 12;
/// Ethertype of a VLAN tag (IEEE 802.1Q).
pub(super) const TAG_TYPE: [u8; 2] = [0x81, 0x00];
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];

/// What of a frame a NIC has parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Headers {
    /// Control information of a VLAN tag.
    pub(super) tag: Option<u16>,
    /// IPv6, if it is.
    pub(super) ipv6: Option<Ipv6>,
}

/// An IPv6 packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipv6 {
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    /// Where its header starts.
    start: usize,
    /// The UDP datagram directly behind its header, UDP header included.
    pub(super) udp: Option<Range<usize>>,
}

impl Headers {
    pub(super) fn parse(frame: &[u8]) -> Self {
        let tagged = bytes(frame, MACS) == Some(TAG_TYPE);
        let start = ETHERNET_HEADER + if tagged { TAG } else { 0 };
        let tag = bytes(frame, MACS + 2).filter(|_| tagged);
        let is_ipv6 = bytes(frame, start - 2) == Some(IPV6_TYPE);
        Self {
            tag: tag.map(u16::from_be_bytes),
            ipv6: is_ipv6.then(|| Ipv6::parse(frame, start)).flatten(),
        }
    }
}

impl Ipv6 {
    fn parse(frame: &[u8], start: usize) -> Option<Self> {
        let header = frame.get(start..start + IPV6_HEADER)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let end = start + IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
        Some(Self {
            src: bytes::<16>(header, 8)?.into(),
            dst: bytes::<16>(header, 24)?.into(),
            start,
            udp: (header[6] == PROTOCOL_UDP)
                .then(|| udp(frame, start + IPV6_HEADER..end))
                .flatten(),
        })
    }

    /// Source and destination with their UDP ports.
    pub(super) fn udp_addresses(&self, frame: &[u8]) -> Option<[SocketAddrV6; 2]> {
        let start = self.udp.as_ref()?.start;
        let port = |at| Some(u16::from_be_bytes(bytes(frame, at)?));
        Some([
            SocketAddrV6::new(self.src, port(start)?, 0, 0),
            SocketAddrV6::new(self.dst, port(start + 2)?, 0, 0),
        ])
    }

    /// Whether the checksum of the UDP datagram is right. Nothing where there is none to verify.
    pub(super) fn udp_checksum_is_good(&self, frame: &[u8]) -> Option<bool> {
        let datagram = frame.get(self.udp.clone()?)?;
        if bytes(datagram, 6) == Some([0, 0]) {
            return None;
        }
        let len = datagram.len() as u16;
        let mut sum = Sum::of_pseudo_header(self.src, self.dst, len, PROTOCOL_UDP);
        sum.add(datagram);
        Some(sum.is_valid())
    }

    /// Marks the packet "congestion experienced", if its sender is capable of ECN (RFC 3168 §5). True when it is marked.
    pub(super) fn mark_congestion(&self, frame: &mut [u8]) -> bool {
        // The traffic class straddles two bytes: its low two bits are bits 5 and 4 of the second.
        const ECN: u8 = 0b0011_0000;
        match frame.get_mut(self.start + 1) {
            Some(byte) if *byte & ECN != 0 => {
                *byte |= ECN;
                true
            }
            _ => false,
        }
    }
}

/// The UDP datagram at the start of an IPv6 payload; none when its length does not fit in.
fn udp(frame: &[u8], payload: Range<usize>) -> Option<Range<usize>> {
    let header = frame.get(payload.clone())?;
    let len = usize::from(u16::from_be_bytes(bytes(header, 4)?));
    (UDP_HEADER..=payload.len())
        .contains(&len)
        .then(|| payload.start..payload.start + len)
}

/// `N` bytes from `at` on.
pub(super) fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

/// Puts a 16-bit number to `at`, in network byte order. False when the frame ends before.
pub(super) fn put_u16(frame: &mut [u8], at: usize, value: u16) -> bool {
    let place = frame
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<2>());
    match place {
        Some(place) => {
            *place = value.to_be_bytes();
            true
        }
        None => false,
    }
}
