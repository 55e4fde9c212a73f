//! Why a frame or a datagram was dropped, and how often.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $variant:ident => $name:literal,)+) => {
        /// Why a frame was not received, or a datagram not sent.
        ///
        /// The names are stable: they are keys of the report and of metrics. Reasons that start with `tx_` concern
        /// datagrams of ours, all others concern received frames.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name of the reason, in snake case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than its headers or their length fields say.
    Truncated => "truncated",
    /// The ethertype is none of IPv6, IPv4, ARP and VLAN.
    NotIpv6 => "not_ipv6",
    /// An IPv4 packet; this host speaks IPv6 only.
    Ipv4 => "ipv4",
    /// An ARP packet; this host speaks IPv6 only.
    Arp => "arp",
    /// A frame of a VLAN, on a port that is in none; or a second tag behind the first.
    Vlan => "vlan",
    /// A frame of no VLAN, on a port that is in one.
    Untagged => "untagged",
    /// A frame of another VLAN than the port's.
    OtherVlan => "other_vlan",
    /// Ethertype IPv6, but the version field is not 6.
    BadVersion => "bad_version",
    /// The UDP length contradicts the IPv6 payload length, or is shorter than a UDP header.
    BadLength => "bad_length",
    /// A fragment: QUIC packets are never fragmented (RFC 9000 §14), and this host does not reassemble.
    Fragment => "fragment",
    /// An extension header that is malformed, misplaced, beyond the bound, or asks to be dropped when not understood
    /// (RFC 8200 §4).
    ExtensionHeader => "extension_header",
    /// Neither UDP nor ICMPv6.
    OtherProtocol => "other_protocol",
    /// The source address is multicast or, for UDP, unspecified.
    SourceAddress => "source_address",
    /// The source UDP port is 0: nobody could be answered.
    SourceUdpPort => "source_udp_port",
    /// A loopback address on the wire, or a frame that claims to come from this host.
    Loopback => "loopback",
    /// The destination MAC address is another station's.
    ForeignMac => "foreign_mac",
    /// The destination address is not one of this host's.
    ForeignAddress => "foreign_address",
    /// Nothing of ours listens on the destination UDP port.
    ForeignUdpPort => "foreign_udp_port",
    /// A UDP datagram without payload, which no QUIC packet fits into.
    EmptyDatagram => "empty_datagram",
    /// The UDP checksum is wrong.
    BadUdpChecksum => "bad_udp_checksum",
    /// The UDP checksum is missing, which IPv6 does not allow (RFC 8200 §8.1).
    ZeroUdpChecksum => "zero_udp_checksum",
    /// The ICMPv6 checksum is wrong.
    BadIcmpv6Checksum => "bad_icmpv6_checksum",
    /// An ICMPv6 message that breaks the rules of its type, such as an error that quotes no packet of ours.
    BadIcmpv6 => "bad_icmpv6",
    /// A neighbour discovery message that fails the checks of RFC 4861 §6.1 or §7.1.
    BadNd => "bad_nd",
    /// An ICMPv6 message of a type this host has no use for.
    Icmpv6Unhandled => "icmpv6_unhandled",
    /// An echo request above the rate that is answered, or a Packet Too Big above the rate that is heeded.
    Icmpv6RateLimited => "icmpv6_rate_limited",
    /// The frame came in several chained packet buffers, and is larger than the MTU allows, or not as long as it says.
    Chained => "chained",
    /// No packet buffer was free to receive into.
    NoMbuf => "no_mbuf",
    /// No on-link prefix and no router leads to the destination, or it is not a unicast address.
    TxNoRoute => "tx_no_route",
    /// The source address is not one of this host's, or none of them suits the destination.
    TxSourceAddress => "tx_source_address",
    /// The destination is this host itself, which no frame reaches.
    TxLoopback => "tx_loopback",
    /// The neighbour cache is full of entries that are in use.
    TxNeighbourTableFull => "tx_neighbour_table_full",
    /// Too many datagrams wait for their neighbour's MAC address.
    TxNeighbourQueueFull => "tx_neighbour_queue_full",
    /// The neighbour did not answer the solicitations.
    TxNeighbourUnreachable => "tx_neighbour_unreachable",
    /// The datagram exceeds the MTU of the link or of the path.
    TxTooBig => "tx_too_big",
    /// The datagram outgrew the buffer that was lent for it, or is not what its writer says.
    TxGrew => "tx_grew",
    /// Too many frames of the host itself (solicitations, advertisements, echo replies) wait to be sent.
    TxHostQueueFull => "tx_host_queue_full",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One counter a [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::COUNT]);

impl DropCounters {
    /// All counters at zero.
    pub const fn new() -> Self {
        Self([0; DropReason::COUNT])
    }

    /// Counts one drop.
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Counts `n` drops.
    #[inline]
    pub fn count_many(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How often `reason` was counted.
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The counts, in the order of [`DropReason::ALL`].
    pub(crate) fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        self.0.iter_mut()
    }

    /// Every reason's name with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL
            .iter()
            .map(|reason| reason.name())
            .zip(self.0)
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for name in names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
        }
    }

    #[test]
    fn all_is_in_the_order_of_the_discriminants() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn counters_count_and_merge() {
        let mut a = DropCounters::new();
        a.count(DropReason::Arp);
        a.count_many(DropReason::TxGrew, 3);
        let mut b = a;
        b.merge(&a);
        assert_eq!(b.of(DropReason::TxGrew), 6);
        assert_eq!(b.total(), 8);
        assert_eq!(b.iter().find(|(name, _)| *name == "arp"), Some(("arp", 2)));
    }
}
