//! Headers in front of a UDP payload.

use std::net::Ipv6Addr;

use super::{HEADERS, MacAddr, PROTOCOL_UDP, Sum, UDP_HEADER};
use crate::transport::Ecn;

/// Who computes the UDP checksum of sent datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// This code does, over the payload.
    #[default]
    Software,
    /// The device does; the field holds the sum of the pseudo-header, as DPDK asks for
    /// (`rte_ipv6_phdr_cksum`, `RTE_MBUF_F_TX_UDP_CKSUM`).
    PseudoHeader,
    /// The device does, for each of the datagrams that it cuts the payload into. The field holds the sum of the
    /// pseudo-header without the length, which the device adds for each (`rte_ipv6_phdr_cksum` with
    /// `RTE_MBUF_F_TX_UDP_SEG`, as DPDK 23.11 and later have it; what segmenting devices want is older).
    Segmented,
    /// Nobody does; the field is 0. Only for links inside the process, whose other side does not verify: on a wire,
    /// every IPv6 host drops such a datagram (RFC 8200 §8.1).
    Skip,
}

/// What the headers of a datagram say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpHeaders {
    /// MAC address of the sending port.
    pub src_mac: MacAddr,
    /// MAC address of the next hop.
    pub dst_mac: MacAddr,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Source UDP port.
    pub src_port: u16,
    /// Destination UDP port.
    pub dst_port: u16,
    /// ECN bits of the traffic class.
    pub ecn: Ecn,
    /// Hop limit.
    pub hop_limit: u8,
    /// Flow label, the low 20 bits are sent; 0 for none (RFC 6437).
    pub flow_label: u32,
}

/// Writes Ethernet, IPv6 and UDP headers for `payload` into `out`, whose bytes belong directly in front of it. Their
/// lengths are those of the whole payload, also of one that the device will cut into segments.
///
/// `payload` must not exceed 65,527 bytes, the most that the UDP length field can say.
#[inline]
pub fn emit_udp_headers(
    out: &mut [u8; HEADERS],
    headers: &UdpHeaders,
    payload: &[u8],
    checksum: Checksum,
) {
    debug_assert!(payload.len() <= usize::from(u16::MAX) - UDP_HEADER);
    let len = (UDP_HEADER + payload.len()) as u16;
    let traffic_class = u32::from(headers.ecn as u8);
    let first_word = 6 << 28 | traffic_class << 20 | headers.flow_label & 0x000f_ffff;

    out[0..6].copy_from_slice(&headers.dst_mac.0);
    out[6..12].copy_from_slice(&headers.src_mac.0);
    out[12..14].copy_from_slice(&[0x86, 0xdd]);
    out[14..18].copy_from_slice(&first_word.to_be_bytes());
    out[18..20].copy_from_slice(&len.to_be_bytes());
    out[20] = PROTOCOL_UDP;
    out[21] = headers.hop_limit;
    out[22..38].copy_from_slice(&headers.src.octets());
    out[38..54].copy_from_slice(&headers.dst.octets());
    out[54..56].copy_from_slice(&headers.src_port.to_be_bytes());
    out[56..58].copy_from_slice(&headers.dst_port.to_be_bytes());
    out[58..60].copy_from_slice(&len.to_be_bytes());

    let pseudo_header = || Sum::of_pseudo_header(headers.src, headers.dst, len, PROTOCOL_UDP);
    let field = match checksum {
        Checksum::Software => {
            let mut sum = pseudo_header();
            sum.add_u16(headers.src_port);
            sum.add_u16(headers.dst_port);
            sum.add_u16(len);
            sum.add(payload);
            // 0 would say "no checksum"; its ones' complement twin is sent instead (RFC 8200 §8.1).
            match sum.checksum() {
                0 => 0xffff,
                value => value,
            }
        }
        Checksum::PseudoHeader => pseudo_header().fold(),
        Checksum::Segmented => {
            Sum::of_pseudo_header(headers.src, headers.dst, 0, PROTOCOL_UDP).fold()
        }
        Checksum::Skip => 0,
    };
    out[60..62].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS_OF_TEST: UdpHeaders = UdpHeaders {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
        src_port: 4433,
        dst_port: 50_000,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0xabcde,
    };

    #[test]
    fn every_byte_is_where_the_rfcs_put_it() {
        let mut out = [0xee; HEADERS];
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, b"stoq", Checksum::Software);
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
            0x60, 0x2a, 0xbc, 0xde, 0, 12, 17, 64,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            0x11, 0x51, 0xc3, 0x50, 0, 12,
        ];
        assert_eq!(out[..60], expected);
        // By hand: addresses, length and protocol of the pseudo-header, UDP header, payload.
        let mut sum = 0x5b72 + 0x3 + 0x1d + 0xd4ad_u32 + 0xe2e5;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        assert_eq!(u16::from_be_bytes([out[60], out[61]]), !(sum as u16));
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ffff() {
        let mut out = [0; HEADERS];
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, &[0, 0], Checksum::Software);
        let checksum = [out[60], out[61]];
        // Adding the checksum itself to the sum makes the sum ffff and the checksum 0.
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, &checksum, Checksum::Software);
        assert_eq!(out[60..], [0xff, 0xff]);
    }

    #[test]
    fn what_the_device_completes_and_skip() {
        let mut out = [0xee; HEADERS];
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, b"stoq", Checksum::PseudoHeader);
        assert_eq!(
            u16::from_be_bytes([out[60], out[61]]),
            0x5b72 + 0x3 + 12 + 17
        );
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, b"stoq", Checksum::Segmented);
        assert_eq!(u16::from_be_bytes([out[60], out[61]]), 0x5b72 + 0x3 + 17);
        emit_udp_headers(&mut out, &HEADERS_OF_TEST, b"stoq", Checksum::Skip);
        assert_eq!(out[60..], [0, 0]);
    }
}
