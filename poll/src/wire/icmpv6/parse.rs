//! Reading ICMPv6 messages, with the checks that RFC 4861, RFC 4443 and RFC 3810 ask of a receiver.

use std::net::Ipv6Addr;

use super::{
    DESTINATION_UNREACHABLE, ECHO_REPLY, ECHO_REQUEST, LISTENER_QUERY, Message, ND_HOP_LIMIT,
    NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, Options, PACKET_TOO_BIG, QuotedUdp,
    ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION,
};
use crate::wire::{DropReason, Icmpv6Frame, PROTOCOL_UDP, solicited_node};

impl<'a> Message<'a> {
    /// Reads the message that `headers` found in `frame`.
    ///
    /// # Errors
    /// [`DropReason::BadNd`] or [`DropReason::BadIcmpv6`] for a message that breaks the rules of its type,
    /// [`DropReason::Icmpv6Unhandled`] for a type that is not read here.
    pub fn parse(headers: &Icmpv6Frame, frame: &'a [u8]) -> Result<Self, DropReason> {
        let message = frame
            .get(headers.message.clone())
            .ok_or(DropReason::Truncated)?;
        let Some((&[kind, code, _, _], body)) = message.split_first_chunk::<4>() else {
            return Err(DropReason::BadIcmpv6);
        };
        match kind {
            ECHO_REQUEST | ECHO_REPLY | DESTINATION_UNREACHABLE | PACKET_TOO_BIG => {
                Self::parse_icmp(headers, kind, code, body)
            }
            NEIGHBOUR_SOLICITATION
            | NEIGHBOUR_ADVERTISEMENT
            | ROUTER_SOLICITATION
            | ROUTER_ADVERTISEMENT => {
                // Beyond a router, or not the one code there is (RFC 4861 §6.1, §7.1).
                if headers.hop_limit != ND_HOP_LIMIT || code != 0 {
                    return Err(DropReason::BadNd);
                }
                match kind {
                    NEIGHBOUR_SOLICITATION => Self::parse_neighbour_solicitation(headers, body),
                    NEIGHBOUR_ADVERTISEMENT => Self::parse_neighbour_advertisement(headers, body),
                    ROUTER_SOLICITATION => Self::parse_router_solicitation(headers, body),
                    _ => Self::parse_router_advertisement(headers, body),
                }
            }
            LISTENER_QUERY => Self::parse_listener_query(headers, body),
            _ => Err(DropReason::Icmpv6Unhandled),
        }
    }

    fn parse_icmp(
        headers: &Icmpv6Frame,
        kind: u8,
        code: u8,
        body: &'a [u8],
    ) -> Result<Self, DropReason> {
        let Some((&word, rest)) = body.split_first_chunk::<4>() else {
            return Err(DropReason::BadIcmpv6);
        };
        // Without a source there is nobody to answer, or to have been on the way (RFC 4443 §2.4).
        if headers.src.is_unspecified() {
            return Err(DropReason::SourceAddress);
        }
        Ok(match kind {
            ECHO_REQUEST => Self::EchoRequest {
                id: word,
                data: rest,
            },
            ECHO_REPLY => Self::EchoReply {
                id: word,
                data: rest,
            },
            PACKET_TOO_BIG => Self::PacketTooBig {
                mtu: u32::from_be_bytes(word),
                quoted: rest,
            },
            _ => Self::DestinationUnreachable { code, quoted: rest },
        })
    }

    /// RFC 4861 §7.1.1.
    fn parse_neighbour_solicitation(
        headers: &Icmpv6Frame,
        body: &'a [u8],
    ) -> Result<Self, DropReason> {
        let (_, target, options) = split_target(body)?;
        let source_mac = options.source_mac();
        if headers.src.is_unspecified()
            && (headers.dst != solicited_node(target) || source_mac.is_some())
        {
            return Err(DropReason::BadNd);
        }
        Ok(Self::NeighbourSolicitation { target, source_mac })
    }

    /// RFC 4861 §7.1.2.
    fn parse_neighbour_advertisement(
        headers: &Icmpv6Frame,
        body: &'a [u8],
    ) -> Result<Self, DropReason> {
        let (flags, target, options) = split_target(body)?;
        let solicited = flags & 0x40 != 0;
        if solicited && headers.dst.is_multicast() || headers.src.is_unspecified() {
            return Err(DropReason::BadNd);
        }
        Ok(Self::NeighbourAdvertisement {
            target,
            target_mac: options.target_mac(),
            router: flags & 0x80 != 0,
            solicited,
            overrides: flags & 0x20 != 0,
        })
    }

    /// RFC 4861 §6.1.1.
    fn parse_router_solicitation(
        headers: &Icmpv6Frame,
        body: &'a [u8],
    ) -> Result<Self, DropReason> {
        let options = Options::new(body.get(4..).ok_or(DropReason::BadNd)?)?;
        let source_mac = options.source_mac();
        if headers.src.is_unspecified() && source_mac.is_some() {
            return Err(DropReason::BadNd);
        }
        Ok(Self::RouterSolicitation { source_mac })
    }

    /// RFC 4861 §6.1.2.
    fn parse_router_advertisement(
        headers: &Icmpv6Frame,
        body: &'a [u8],
    ) -> Result<Self, DropReason> {
        let Some((&[_, _, l0, l1, ..], options)) = body.split_first_chunk::<12>() else {
            return Err(DropReason::BadNd);
        };
        if !headers.src.is_unicast_link_local() {
            return Err(DropReason::BadNd);
        }
        Ok(Self::RouterAdvertisement {
            lifetime_s: u16::from_be_bytes([l0, l1]),
            options: Options::new(options)?,
        })
    }

    /// RFC 3810 §5.1 and §6.2. A query of version 1 (24 bytes) has the same first fields.
    fn parse_listener_query(headers: &Icmpv6Frame, body: &'a [u8]) -> Result<Self, DropReason> {
        let Some((&[c0, c1, _, _], rest)) = body.split_first_chunk::<4>() else {
            return Err(DropReason::BadIcmpv6);
        };
        let Some((&group, rest)) = rest.split_first_chunk::<16>() else {
            return Err(DropReason::BadIcmpv6);
        };
        // Between the length of version 1 and the least one of version 2 there is none (RFC 3810 §8.1).
        let no_version = !rest.is_empty() && rest.len() < 4;
        if no_version || !headers.src.is_unicast_link_local() || headers.hop_limit != 1 {
            return Err(DropReason::BadIcmpv6);
        }
        let code = u32::from(u16::from_be_bytes([c0, c1]));
        // Version 2 writes long times as a floating-point number (RFC 3810 §5.1.3).
        let delay_ms_max = if rest.is_empty() || code < 0x8000 {
            code
        } else {
            (code & 0x0fff | 0x1000) << ((code >> 12 & 0x7) + 3)
        };
        Ok(Self::ListenerQuery {
            group: group.into(),
            delay_ms_max,
        })
    }
}

impl QuotedUdp {
    /// Reads what an ICMPv6 error quotes; none when it is not the start of a UDP datagram without extension headers,
    /// the only kind that is sent.
    pub fn parse(quoted: &[u8]) -> Option<Self> {
        let (head, udp) = quoted.split_first_chunk::<40>()?;
        let &[s0, s1, d0, d1, ..] = udp else {
            return None;
        };
        if head[0] >> 4 != 6 || head[6] != PROTOCOL_UDP {
            return None;
        }
        let mut src = [0; 16];
        let mut dst = [0; 16];
        src.copy_from_slice(&head[8..24]);
        dst.copy_from_slice(&head[24..40]);
        Some(Self {
            src: src.into(),
            dst: dst.into(),
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
        })
    }
}

/// The parts that neighbour solicitation and advertisement share: flags, target, options.
fn split_target(body: &[u8]) -> Result<(u8, Ipv6Addr, Options<'_>), DropReason> {
    let Some((&[flags, _, _, _], rest)) = body.split_first_chunk::<4>() else {
        return Err(DropReason::BadNd);
    };
    let Some((&target, options)) = rest.split_first_chunk::<16>() else {
        return Err(DropReason::BadNd);
    };
    let target = Ipv6Addr::from(target);
    if target.is_multicast() || target.is_unspecified() {
        return Err(DropReason::BadNd);
    }
    Ok((flags, target, Options::new(options)?))
}
