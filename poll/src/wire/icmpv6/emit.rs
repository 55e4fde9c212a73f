//! Writing ICMPv6 messages as whole frames. These are few: they go through a `Vec` and take no part in the hot path.

use std::net::Ipv6Addr;

use super::{
    DESTINATION_UNREACHABLE, ECHO_REPLY, ECHO_REQUEST, LISTENER_QUERY, LISTENER_REPORT_V2, Message,
    NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NdOption, PACKET_TOO_BIG,
    ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION,
};
use crate::wire::{ALL_MLDV2_ROUTERS, ETHERNET_HEADER, IPV6_HEADER, MacAddr, PROTOCOL_ICMPV6, Sum};

/// The headers in front of an ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv6Headers {
    /// MAC address of the sending port.
    pub src_mac: MacAddr,
    /// MAC address of the receiver or of its multicast group.
    pub dst_mac: MacAddr,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Hop limit: 255 for neighbour discovery.
    pub hop_limit: u8,
}

/// Replaces the content of `out` by a frame that carries `message`.
pub fn emit(out: &mut Vec<u8>, headers: &Icmpv6Headers, message: &Message<'_>) {
    start(out, headers, PROTOCOL_ICMPV6);
    let message_start = out.len();
    write_message(out, message);
    finish(out, headers, message_start);
}

/// Replaces the content of `out` by a frame with an MLDv2 report of all `groups` that `src` listens to (RFC 3810 §5.2).
///
/// `joined` tells that they were joined just now; otherwise the report answers a query.
pub fn emit_listener_report(
    out: &mut Vec<u8>,
    src_mac: MacAddr,
    src: Ipv6Addr,
    joined: bool,
    groups: &[Ipv6Addr],
) {
    const HOP_BY_HOP: u8 = 0;
    // Record types (RFC 3810 §5.2.12): listening to any source is "exclude none".
    const MODE_IS_EXCLUDE: u8 = 2;
    const CHANGE_TO_EXCLUDE: u8 = 4;
    let headers = Icmpv6Headers {
        src_mac,
        dst_mac: MacAddr::of_multicast(ALL_MLDV2_ROUTERS),
        src,
        dst: ALL_MLDV2_ROUTERS,
        hop_limit: 1,
    };
    start(out, &headers, HOP_BY_HOP);
    // Hop-by-hop options: router alert for MLD (RFC 2711), then two bytes of padding.
    out.extend([PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    let message_start = out.len();
    out.extend([LISTENER_REPORT_V2, 0, 0, 0, 0, 0]);
    out.extend((groups.len() as u16).to_be_bytes());
    for group in groups {
        let record = if joined {
            CHANGE_TO_EXCLUDE
        } else {
            MODE_IS_EXCLUDE
        };
        out.extend([record, 0, 0, 0]);
        out.extend(group.octets());
    }
    finish(out, &headers, message_start);
}

fn write_message(out: &mut Vec<u8>, message: &Message<'_>) {
    // Type, code, and a checksum that `finish` fills in.
    let mut first = |kind: u8, code: u8, word: [u8; 4]| {
        out.extend([kind, code, 0, 0]);
        out.extend(word);
    };
    match *message {
        Message::EchoRequest { id, data } => {
            first(ECHO_REQUEST, 0, id);
            out.extend(data);
        }
        Message::EchoReply { id, data } => {
            first(ECHO_REPLY, 0, id);
            out.extend(data);
        }
        Message::DestinationUnreachable { code, quoted } => {
            first(DESTINATION_UNREACHABLE, code, [0; 4]);
            out.extend(quoted);
        }
        Message::PacketTooBig { mtu, quoted } => {
            first(PACKET_TOO_BIG, 0, mtu.to_be_bytes());
            out.extend(quoted);
        }
        Message::NeighbourSolicitation { target, source_mac } => {
            first(NEIGHBOUR_SOLICITATION, 0, [0; 4]);
            out.extend(target.octets());
            if let Some(mac) = source_mac {
                NdOption::SourceMac(mac).emit(out);
            }
        }
        Message::NeighbourAdvertisement {
            target,
            target_mac,
            router,
            solicited,
            overrides,
        } => {
            let flags = u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(overrides) << 5;
            first(NEIGHBOUR_ADVERTISEMENT, 0, [flags, 0, 0, 0]);
            out.extend(target.octets());
            if let Some(mac) = target_mac {
                NdOption::TargetMac(mac).emit(out);
            }
        }
        Message::RouterSolicitation { source_mac } => {
            first(ROUTER_SOLICITATION, 0, [0; 4]);
            if let Some(mac) = source_mac {
                NdOption::SourceMac(mac).emit(out);
            }
        }
        Message::RouterAdvertisement {
            lifetime_s,
            options,
        } => {
            let [high, low] = lifetime_s.to_be_bytes();
            first(ROUTER_ADVERTISEMENT, 0, [64, 0, high, low]);
            out.extend([0; 8]);
            out.extend(options.as_bytes());
        }
        Message::ListenerQuery {
            group,
            delay_ms_max,
        } => {
            let [high, low] = (delay_ms_max.min(0x7fff) as u16).to_be_bytes();
            first(LISTENER_QUERY, 0, [high, low, 0, 0]);
            out.extend(group.octets());
            // Robustness 2, query interval 125 s, no sources.
            out.extend([2, 125, 0, 0]);
        }
    }
}

/// Ethernet and IPv6 headers, with the payload length left for [`finish`].
fn start(out: &mut Vec<u8>, headers: &Icmpv6Headers, next_header: u8) {
    out.clear();
    out.extend(headers.dst_mac.0);
    out.extend(headers.src_mac.0);
    out.extend([
        0x86,
        0xdd,
        0x60,
        0,
        0,
        0,
        0,
        0,
        next_header,
        headers.hop_limit,
    ]);
    out.extend(headers.src.octets());
    out.extend(headers.dst.octets());
}

/// Fills in the IPv6 payload length and the ICMPv6 checksum.
fn finish(out: &mut [u8], headers: &Icmpv6Headers, message_start: usize) {
    let ip_payload = (out.len() - ETHERNET_HEADER - IPV6_HEADER) as u16;
    out[18..20].copy_from_slice(&ip_payload.to_be_bytes());
    let message = &mut out[message_start..];
    let len = message.len() as u16;
    let mut sum = Sum::of_pseudo_header(headers.src, headers.dst, len, PROTOCOL_ICMPV6);
    sum.add(message);
    message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
}
