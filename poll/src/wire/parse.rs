//! From the bytes of a frame to a UDP datagram, an ICMPv6 message, or the reason why it is neither.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::{
    DropReason, ETHERNET_HEADER, HEADERS, IPV6_HEADER, MacAddr, PROTOCOL_ICMPV6, PROTOCOL_UDP, Sum,
    UDP_HEADER,
};
use crate::transport::Ecn;

/// Extension headers that are read before a packet is given up (RFC 8504 §5.3 lets a host set such a bound).
const EXTENSION_HEADERS_MAX: usize = 4;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A UDP datagram.
    Udp(UdpFrame),
    /// An ICMPv6 message.
    Icmpv6(Icmpv6Frame),
}

/// The headers of a UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFrame {
    /// Source MAC address.
    pub src_mac: MacAddr,
    /// Destination MAC address.
    pub dst_mac: MacAddr,
    /// Source address: never multicast, unspecified or loopback.
    pub src: Ipv6Addr,
    /// Destination address; may be anything but the source address.
    pub dst: Ipv6Addr,
    /// Source UDP port, never 0.
    pub src_port: u16,
    /// Destination UDP port.
    pub dst_port: u16,
    /// ECN bits of the traffic class.
    pub ecn: Ecn,
    /// Hop limit.
    pub hop_limit: u8,
    /// Where in the frame the payload lies; may be empty.
    pub payload: Range<usize>,
}

/// The headers of an ICMPv6 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmpv6Frame {
    /// Source MAC address.
    pub src_mac: MacAddr,
    /// Destination MAC address.
    pub dst_mac: MacAddr,
    /// Source address: never multicast or loopback, but may be unspecified.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Where in the frame the message lies, from its type byte on.
    pub message: Range<usize>,
}

/// Reads the headers of `frame`: Ethernet II, IPv6, extension headers within a bound, then UDP or ICMPv6.
///
/// Bytes behind the IPv6 payload (Ethernet padding) are left out. `verify_checksum` concerns UDP, whose checksum may
/// be missing inside a process or already verified by a device; an ICMPv6 checksum is always verified.
///
/// # Errors
/// The reason to count for a frame that is not a valid UDP datagram or ICMPv6 message over IPv6. Whether the frame is
/// addressed to this host is not looked at.
#[inline]
pub fn parse(frame: &[u8], verify_checksum: bool) -> Result<Parsed, DropReason> {
    // The common case in one bounds check: no extension header, UDP.
    if let Some(head) = frame.first_chunk::<HEADERS>()
        && head[12] == 0x86
        && head[13] == 0xdd
        && head[14] >> 4 == 6
        && head[20] == PROTOCOL_UDP
    {
        let ip_payload = be16([head[18], head[19]]);
        let ip_end = ETHERNET_HEADER + IPV6_HEADER + usize::from(ip_payload);
        if ip_end > frame.len() {
            return Err(DropReason::Truncated);
        }
        let udp = [
            head[54], head[55], head[56], head[57], head[58], head[59], head[60], head[61],
        ];
        let udp_start = ETHERNET_HEADER + IPV6_HEADER;
        return udp_frame(head, udp, udp_start..ip_end, frame, verify_checksum);
    }
    parse_general(frame, verify_checksum)
}

impl UdpFrame {
    /// Sees to it that the frame carries a UDP checksum at all, which it must over IPv6 (RFC 8200 §8.1).
    ///
    /// # Errors
    /// [`DropReason::ZeroUdpChecksum`].
    #[inline]
    pub fn require_checksum(&self, frame: &[u8]) -> Result<(), DropReason> {
        let field = self.payload.start.checked_sub(2);
        match field.and_then(|at| frame.get(at..self.payload.start)) {
            Some([0, 0]) => Err(DropReason::ZeroUdpChecksum),
            _ => Ok(()),
        }
    }

    /// Verifies the UDP checksum of a frame whose sender may have left it to a device that never saw it: the sum of the
    /// pseudo-header alone is accepted, too.
    ///
    /// # Errors
    /// As [`verify_checksum`](Self::verify_checksum).
    pub fn verify_unfinished_checksum(&self, frame: &[u8]) -> Result<(), DropReason> {
        let verified = self.verify_checksum(frame);
        let field = self.payload.start.checked_sub(2);
        let field = field.and_then(|at| frame.get(at..)?.first_chunk());
        let len = UDP_HEADER + self.payload.len();
        let sum = Sum::of_pseudo_header(self.src, self.dst, len as u16, PROTOCOL_UDP);
        match field {
            Some(&field) if be16(field) == sum.fold() => Ok(()),
            _ => verified,
        }
    }

    /// Verifies the UDP checksum of the frame that this was parsed from.
    ///
    /// # Errors
    /// [`DropReason::ZeroUdpChecksum`] or [`DropReason::BadUdpChecksum`].
    #[inline]
    pub fn verify_checksum(&self, frame: &[u8]) -> Result<(), DropReason> {
        let start = self.payload.start.saturating_sub(UDP_HEADER);
        let Some(udp) = frame.get(start..self.payload.end) else {
            return Err(DropReason::Truncated);
        };
        self.require_checksum(frame)?;
        let mut sum = Sum::of_pseudo_header(self.src, self.dst, udp.len() as u16, PROTOCOL_UDP);
        sum.add(udp);
        if sum.is_valid() {
            Ok(())
        } else {
            Err(DropReason::BadUdpChecksum)
        }
    }
}

/// Reads a UDP header whose place in `frame` is the start of `range`, the rest of the IPv6 payload.
#[inline]
fn udp_frame(
    head: &[u8; HEADERS],
    udp: [u8; UDP_HEADER],
    range: Range<usize>,
    frame: &[u8],
    verify_checksum: bool,
) -> Result<Parsed, DropReason> {
    let len = usize::from(be16([udp[4], udp[5]]));
    if len < UDP_HEADER || len > range.len() {
        return Err(DropReason::BadLength);
    }
    let (src, dst) = addresses(head);
    if src.is_unspecified() {
        return Err(DropReason::SourceAddress);
    }
    check_source(src, dst)?;
    let src_port = be16([udp[0], udp[1]]);
    if src_port == 0 {
        return Err(DropReason::SourceUdpPort);
    }
    let udp = UdpFrame {
        src_mac: src_mac(head),
        dst_mac: dst_mac(head),
        src,
        dst,
        src_port,
        dst_port: be16([udp[2], udp[3]]),
        // The traffic class straddles two bytes: its low two bits are bits 5 and 4 of the second.
        ecn: Ecn::from_bits(head[15] >> 4),
        hop_limit: head[21],
        payload: range.start + UDP_HEADER..range.start + len,
    };
    if verify_checksum {
        udp.verify_checksum(frame)?;
    }
    Ok(Parsed::Udp(udp))
}

/// Everything but the common case. Frames too short for [`HEADERS`] bytes are looked at only to name the reason:
/// nothing this host accepts is shorter.
#[cold]
#[inline(never)]
fn parse_general(frame: &[u8], verify_checksum: bool) -> Result<Parsed, DropReason> {
    let ethertype = match frame.get(12..14) {
        Some(&[a, b]) => be16([a, b]),
        _ => return Err(DropReason::Truncated),
    };
    match ethertype {
        0x86dd => {}
        0x0800 => return Err(DropReason::Ipv4),
        0x0806 => return Err(DropReason::Arp),
        0x8100 | 0x88a8 | 0x9100 => return Err(DropReason::Vlan),
        _ => return Err(DropReason::NotIpv6),
    }
    match frame.get(ETHERNET_HEADER) {
        Some(byte) if byte >> 4 == 6 => {}
        Some(_) => return Err(DropReason::BadVersion),
        None => return Err(DropReason::Truncated),
    }
    let Some(head) = frame.first_chunk::<HEADERS>() else {
        return Err(DropReason::Truncated);
    };
    let ip_start = ETHERNET_HEADER + IPV6_HEADER;
    let ip_end = ip_start + usize::from(be16([head[18], head[19]]));
    let Some(ip_payload) = frame.get(ip_start..ip_end) else {
        return Err(DropReason::Truncated);
    };

    let (protocol, upper_layer) = skip_extension_headers(head[20], ip_payload)?;
    let start = ip_end - upper_layer.len();
    match protocol {
        PROTOCOL_UDP => match upper_layer.first_chunk::<UDP_HEADER>() {
            Some(udp) => udp_frame(head, *udp, start..ip_end, frame, verify_checksum),
            None => Err(DropReason::BadLength),
        },
        PROTOCOL_ICMPV6 => icmpv6_frame(head, upper_layer, start),
        _ => Err(DropReason::OtherProtocol),
    }
}

fn icmpv6_frame(head: &[u8; HEADERS], message: &[u8], start: usize) -> Result<Parsed, DropReason> {
    let (src, dst) = addresses(head);
    check_source(src, dst)?;
    let mut sum = Sum::of_pseudo_header(src, dst, message.len() as u16, PROTOCOL_ICMPV6);
    sum.add(message);
    if !sum.is_valid() {
        return Err(DropReason::BadIcmpv6Checksum);
    }
    Ok(Parsed::Icmpv6(Icmpv6Frame {
        src_mac: src_mac(head),
        dst_mac: dst_mac(head),
        src,
        dst,
        hop_limit: head[21],
        message: start..start + message.len(),
    }))
}

/// The protocol behind the extension headers, and its bytes.
fn skip_extension_headers(
    mut next_header: u8,
    mut bytes: &[u8],
) -> Result<(u8, &[u8]), DropReason> {
    for index in 0..=EXTENSION_HEADERS_MAX {
        match next_header {
            FRAGMENT => return Err(DropReason::Fragment),
            HOP_BY_HOP if index == 0 => {}
            // Hop-by-hop options anywhere but first are an error (RFC 8200 §4.3).
            HOP_BY_HOP => return Err(DropReason::ExtensionHeader),
            ROUTING | DESTINATION_OPTIONS => {}
            _ => return Ok((next_header, bytes)),
        }
        let [following, units, third, fourth, ..] = *bytes else {
            return Err(DropReason::ExtensionHeader);
        };
        let Some((header, rest)) = bytes.split_at_checked(8 * (usize::from(units) + 1)) else {
            return Err(DropReason::ExtensionHeader);
        };
        if next_header == ROUTING {
            // A routing header that is used up is skipped whatever its type; this host forwards nothing
            // (RFC 8200 §4.4). Bytes 2 and 3 are routing type and segments left.
            let (_routing_type, segments_left) = (third, fourth);
            if segments_left != 0 {
                return Err(DropReason::ExtensionHeader);
            }
        } else {
            check_options(header.get(2..).unwrap_or_default())?;
        }
        next_header = following;
        bytes = rest;
    }
    Err(DropReason::ExtensionHeader)
}

/// Accepts options that are known or may be skipped when unknown (RFC 8200 §4.2).
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ROUTER_ALERT: u8 = 5;
    while let Some((&kind, rest)) = options.split_first() {
        if kind == PAD1 {
            options = rest;
            continue;
        }
        let Some((&len, data)) = rest.split_first() else {
            return Err(DropReason::ExtensionHeader);
        };
        let Some(following) = data.get(usize::from(len)..) else {
            return Err(DropReason::ExtensionHeader);
        };
        // The two highest bits say what to do with an unknown option: 00 skips it, all others drop the packet.
        let known = matches!(kind, PADN | ROUTER_ALERT);
        if !known && kind >> 6 != 0 {
            return Err(DropReason::ExtensionHeader);
        }
        options = following;
    }
    Ok(())
}

/// Refuses source addresses that no packet on a wire may have.
#[inline]
fn check_source(src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), DropReason> {
    if src.is_multicast() {
        return Err(DropReason::SourceAddress);
    }
    if src.is_loopback() || src == dst {
        return Err(DropReason::Loopback);
    }
    Ok(())
}

#[inline]
fn addresses(head: &[u8; HEADERS]) -> (Ipv6Addr, Ipv6Addr) {
    let mut src = [0; 16];
    let mut dst = [0; 16];
    src.copy_from_slice(&head[22..38]);
    dst.copy_from_slice(&head[38..54]);
    (src.into(), dst.into())
}

#[inline]
fn dst_mac(head: &[u8; HEADERS]) -> MacAddr {
    MacAddr([head[0], head[1], head[2], head[3], head[4], head[5]])
}

#[inline]
fn src_mac(head: &[u8; HEADERS]) -> MacAddr {
    MacAddr([head[6], head[7], head[8], head[9], head[10], head[11]])
}

#[inline]
fn be16(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests;
