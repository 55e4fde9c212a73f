//! ICMPv6 messages (RFC 4443), neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810): the ones a
//! host reads or writes.

mod emit;
mod options;
mod parse;

pub use emit::{Icmpv6Headers, emit, emit_listener_report};
pub use options::{NdOption, Options, PrefixInformation};

use std::net::Ipv6Addr;

use super::MacAddr;

pub(super) const DESTINATION_UNREACHABLE: u8 = 1;
pub(super) const PACKET_TOO_BIG: u8 = 2;
pub(super) const ECHO_REQUEST: u8 = 128;
pub(super) const ECHO_REPLY: u8 = 129;
pub(super) const LISTENER_QUERY: u8 = 130;
pub(super) const ROUTER_SOLICITATION: u8 = 133;
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub(super) const LISTENER_REPORT_V2: u8 = 143;

/// Neighbour discovery packets carry this hop limit, which no router lets through (RFC 4861 §3.1).
pub const ND_HOP_LIMIT: u8 = 255;

/// An ICMPv6 message whose own rules were checked: code, lengths, hop limit, addresses of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Answer me (RFC 4443 §4.1).
    EchoRequest {
        /// Identifier and sequence number.
        id: [u8; 4],
        /// Data to send back.
        data: &'a [u8],
    },
    /// The answer (RFC 4443 §4.2).
    EchoReply {
        /// Identifier and sequence number of the request.
        id: [u8; 4],
        /// Data of the request.
        data: &'a [u8],
    },
    /// A packet of ours did not arrive (RFC 4443 §3.1).
    DestinationUnreachable {
        /// Why.
        code: u8,
        /// The packet, from its IPv6 header on, as much of it as fits.
        quoted: &'a [u8],
    },
    /// A packet of ours does not fit a link on its way (RFC 4443 §3.2).
    PacketTooBig {
        /// MTU of that link in bytes, as sent: it may be below 1280.
        mtu: u32,
        /// The packet, from its IPv6 header on, as much of it as fits.
        quoted: &'a [u8],
    },
    /// Who has `target`? (RFC 4861 §4.3)
    NeighbourSolicitation {
        /// The address asked for; never multicast.
        target: Ipv6Addr,
        /// MAC address of the asker; none when its address is unspecified.
        source_mac: Option<MacAddr>,
    },
    /// I have `target` (RFC 4861 §4.4).
    NeighbourAdvertisement {
        /// The address spoken of; never multicast.
        target: Ipv6Addr,
        /// Its MAC address.
        target_mac: Option<MacAddr>,
        /// The sender is a router.
        router: bool,
        /// This answers a solicitation.
        solicited: bool,
        /// Replaces what the receiver knows.
        overrides: bool,
    },
    /// Routers, advertise yourselves (RFC 4861 §4.1).
    RouterSolicitation {
        /// MAC address of the asker; none when its address is unspecified.
        source_mac: Option<MacAddr>,
    },
    /// I am a router (RFC 4861 §4.2).
    RouterAdvertisement {
        /// How long the sender may be a default router, in seconds; 0: not at all.
        lifetime_s: u16,
        /// Prefixes, MTU, MAC address of the router.
        options: Options<'a>,
    },
    /// Which multicast groups are listened to? (RFC 3810 §5.1)
    ListenerQuery {
        /// The group asked for; unspecified asks for all.
        group: Ipv6Addr,
        /// An answer is to be sent within this time, in milliseconds.
        delay_ms_max: u32,
    },
}

/// What an ICMPv6 error quotes of a UDP datagram that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotedUdp {
    /// Source address: one of the host's, when the error is genuine.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Source UDP port.
    pub src_port: u16,
    /// Destination UDP port.
    pub dst_port: u16,
}

#[cfg(test)]
mod tests;
