//! Bytes of a frame and what they mean: Ethernet II, IPv6, UDP and the ICMPv6 messages a host needs.
//!
//! Everything here is a pure function over byte slices. Nothing is stored, nothing allocates, no input panics.
//!
//! ```text
//! received:  frame ── parse ──► Parsed::Udp     addresses, ports, ECN, range of the payload
//!                          ├──► Parsed::Icmpv6  addresses, range of the message ── Message::parse ──► Message
//!                          └──► DropReason      every frame that is not for us has a name
//! sent:      UdpHeaders + payload ── emit_udp_headers ──► 62 bytes to put in front of the payload
//! ```

mod checksum;
mod drop_reason;
mod emit;
pub mod icmpv6;
mod mac;
mod parse;
mod vlan;

pub use checksum::Sum;
pub use drop_reason::{DropCounters, DropReason};
pub use emit::{Checksum, UdpHeaders, emit_udp_headers};
pub use mac::{MacAddr, ParseMacError};
pub use parse::{Icmpv6Frame, Parsed, UdpFrame, parse};
pub use vlan::{cover_tag, insert_tag, tag_of, vlan_id};

use std::net::Ipv6Addr;

/// Bytes of an Ethernet II header: destination, source, ethertype.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q), between the MAC addresses and the ethertype.
pub const VLAN_TAG: usize = 4;
/// Bytes of an IPv6 header without extension headers (RFC 8200 §3).
pub const IPV6_HEADER: usize = 40;
/// Bytes of a UDP header (RFC 768).
pub const UDP_HEADER: usize = 8;
/// Bytes in front of a UDP payload: Ethernet, IPv6 and UDP headers.
pub const HEADERS: usize = ETHERNET_HEADER + IPV6_HEADER + UDP_HEADER;
/// The least MTU that every IPv6 link has, in bytes (RFC 8200 §5).
pub const MTU_MIN: u16 = 1280;

/// Next-header value of UDP.
pub(crate) const PROTOCOL_UDP: u8 = 17;
/// Next-header value of ICMPv6.
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;

/// The all-nodes multicast address of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The all-routers multicast address of the link (RFC 4291 §2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Where MLDv2 reports go (RFC 3810 §5.2.14).
pub const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The solicited-node multicast address of `address`: ff02::1:ffXX:XXXX (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let o = address.octets();
    Ipv6Addr::from([
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15],
    ])
}
