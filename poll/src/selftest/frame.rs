//! The frames of the self-test, and what is read of them where they come out.

use std::net::Ipv6Addr;
use std::time::Instant;

use dpdk_sys as sys;
use hugepages::Mbuf;

use crate::transport::Ecn;
use crate::wire::{
    Checksum, ETHERNET_HEADER, HEADERS, IPV6_HEADER, MacAddr, PROTOCOL_UDP, Sum, UDP_HEADER,
    UdpHeaders, emit_udp_headers,
};

/// Bytes of a VLAN tag (IEEE 802.1Q).
const TAG: usize = 4;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const PROTOCOL_FRAGMENT: u8 = 44;
/// The ECN field in the second byte of an IPv6 header: "congestion experienced" has both bits.
const ECN: u8 = 0x30;
/// What frames here are sent with.
const ECT_0: u8 = 0x20;
/// Hosts of the prefix for documentation (RFC 3849): nobody has these addresses, nobody answers.
const NET: [u16; 4] = [0x2001, 0xdb8, 0x5701, 0];
/// The UDP port that frames go to.
pub(super) const UDP_PORT: u16 = 4433;

/// The source address of the frames of one question, by which they are known again.
pub(super) fn source(question: u16) -> Ipv6Addr {
    address(question, 1)
}

/// Where the frames of one question go.
pub(super) fn destination(question: u16) -> Ipv6Addr {
    address(question, 2)
}

fn address(question: u16, host: u16) -> Ipv6Addr {
    let [a, b, c, d] = NET;
    Ipv6Addr::new(a, b, c, d, 0, 0, question, host)
}

/// What a frame is to look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    pub(super) src_mac: MacAddr,
    pub(super) dst_mac: MacAddr,
    pub(super) question: u16,
    pub(super) src_port: u16,
    pub(super) checksum: Checksum,
}

/// The bytes of a frame around `payload`.
pub(super) fn bytes(draft: Draft, payload: &[u8]) -> Vec<u8> {
    let headers = UdpHeaders {
        src_mac: draft.src_mac,
        dst_mac: draft.dst_mac,
        src: source(draft.question),
        dst: destination(draft.question),
        src_port: draft.src_port,
        dst_port: UDP_PORT,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, &headers, payload, draft.checksum);
    [&head[..], payload].concat()
}

/// The same frame with a VLAN tag in it.
pub(super) fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let (macs, rest) = frame.split_at(ETHERNET_HEADER - 2);
    [macs, &ETHERTYPE_VLAN, &tci.to_be_bytes(), rest].concat()
}

/// Bytes that tell where they were: no two stretches of a payload are alike.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8)) as u8).collect()
}

/// A frame that came out.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) queue: u16,
    /// `RTE_MBUF_F_RX_*`.
    pub(super) flags: u64,
    /// The tag in the mbuf.
    pub(super) vlan_tci: u16,
    pub(super) mbufs: u16,
    /// The tag in the frame.
    pub(super) tag: Option<u16>,
    /// See [`head`].
    pub(super) head: Vec<u8>,
    pub(super) content: Content,
}

/// What is behind the IPv6 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A UDP datagram.
    Datagram {
        src_port: u16,
        payload: Vec<u8>,
        checksum: SumSeen,
    },
    /// A fragment of one.
    Fragment,
    /// Something with our addresses that is neither, or whose lengths contradict each other.
    Mangled,
}

/// What a checksum field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SumSeen {
    Right,
    /// The sum of the pseudo-header, as it was prepared.
    Prepared,
    Wrong,
}

impl Seen {
    /// Reads a frame, if it belongs to `question`.
    pub(super) fn read(mbuf: &Mbuf, at: Instant, queue: u16, question: u16) -> Option<Self> {
        let frame = mbuf.copy_range(0..mbuf.packet_len())?;
        let (tag, packet) = packet(&frame)?;
        let content = content(packet, question)?;
        Some(Self {
            at,
            queue,
            flags: mbuf.flags(),
            vlan_tci: mbuf.vlan_tci(),
            mbufs: mbuf.segment_count(),
            tag,
            head: head(&frame).unwrap_or_default(),
            content,
        })
    }

    /// The VLAN that it came in: by its tag, or by the mbuf if the device took that off.
    pub(super) fn vlan_tag(&self) -> Option<u16> {
        let stripped = self.flags & sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0;
        self.tag.or(stripped.then_some(self.vlan_tci))
    }

    /// A frame with nothing remarkable about it.
    #[cfg(test)]
    pub(super) fn of(content: Content) -> Self {
        Self {
            at: Instant::now(),
            queue: 0,
            flags: 0,
            vlan_tci: 0,
            mbufs: 1,
            tag: None,
            head: Vec::new(),
            content,
        }
    }

    /// The payload of a datagram.
    pub(super) fn payload(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Datagram { payload, .. } => Some(payload),
            Content::Fragment | Content::Mangled => None,
        }
    }
}

/// What the headers of all parts of a datagram have in common: everything but a tag, the lengths, the checksum, and a mark
/// of congestion that was set on the way.
pub(super) fn head(frame: &[u8]) -> Option<Vec<u8>> {
    let (_, packet) = packet(frame)?;
    let headers = packet.get(..IPV6_HEADER + UDP_HEADER)?;
    let mut head = [&frame[..ETHERNET_HEADER - 2], headers].concat();
    let ipv6 = ETHERNET_HEADER - 2;
    let udp = ipv6 + IPV6_HEADER;
    for field in [ipv6 + 4, udp + 4, udp + 6] {
        head[field..field + 2].fill(0);
    }
    if head[ipv6 + 1] & ECN == ECN {
        head[ipv6 + 1] = head[ipv6 + 1] & !ECN | ECT_0;
    }
    Some(head)
}

/// The VLAN tag of a frame, and its IPv6 packet.
fn packet(frame: &[u8]) -> Option<(Option<u16>, &[u8])> {
    let kind = frame.get(ETHERNET_HEADER - 2..ETHERNET_HEADER)?;
    if kind == ETHERTYPE_IPV6 {
        return Some((None, &frame[ETHERNET_HEADER..]));
    }
    let inner = frame.get(ETHERNET_HEADER..ETHERNET_HEADER + TAG)?;
    let is_tagged = kind == ETHERTYPE_VLAN && inner[2..] == ETHERTYPE_IPV6;
    let tci = u16::from_be_bytes([inner[0], inner[1]]);
    is_tagged.then(|| (Some(tci), &frame[ETHERNET_HEADER + TAG..]))
}

/// What is in a packet of `question`; `None`: it is of something else.
fn content(packet: &[u8], question: u16) -> Option<Content> {
    let (header, rest) = packet.split_at_checked(IPV6_HEADER)?;
    let ours = header[8..24] == source(question).octets()
        && header[24..40] == destination(question).octets();
    if !ours {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    Some(match (header[6], rest.get(..len)) {
        (PROTOCOL_FRAGMENT, _) => Content::Fragment,
        (PROTOCOL_UDP, Some(udp)) => datagram(udp, question).unwrap_or(Content::Mangled),
        _ => Content::Mangled,
    })
}

fn datagram(udp: &[u8], question: u16) -> Option<Content> {
    let (header, payload) = udp.split_at_checked(UDP_HEADER)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let len = u16::try_from(udp.len()).ok()?;
    if field(4) != len {
        return None;
    }
    let pseudo =
        |len| Sum::of_pseudo_header(source(question), destination(question), len, PROTOCOL_UDP);
    let mut sum = pseudo(len);
    sum.add(udp);
    let checksum = if sum.is_valid() {
        SumSeen::Right
    } else if [pseudo(len).fold(), pseudo(0).fold()].contains(&field(6)) {
        SumSeen::Prepared
    } else {
        SumSeen::Wrong
    };
    Some(Content::Datagram {
        src_port: field(0),
        payload: payload.to_vec(),
        checksum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAFT: Draft = Draft {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        question: 7,
        src_port: 50_000,
        checksum: Checksum::Software,
    };

    fn checksum(frame: &[u8]) -> Option<SumSeen> {
        let (_, packet) = packet(frame)?;
        match content(packet, 7)? {
            Content::Datagram { checksum, .. } => Some(checksum),
            Content::Fragment | Content::Mangled => None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let payload = pattern(300);
        let frame = bytes(DRAFT, &payload);
        let (tag, inner) = packet(&frame).unwrap();
        assert_eq!(tag, None);
        let expected = Content::Datagram {
            src_port: 50_000,
            payload,
            checksum: SumSeen::Right,
        };
        assert_eq!(content(inner, 7), Some(expected.clone()));
        assert_eq!(content(inner, 8), None, "another question's");
        let tagged = tagged(&frame, 100);
        let (tag, inner) = packet(&tagged).unwrap();
        assert_eq!((tag, content(inner, 7)), (Some(100), Some(expected)));
    }

    #[test]
    fn checksums_that_were_prepared_are_told_from_wrong_ones() {
        let of = |checksum| self::checksum(&bytes(Draft { checksum, ..DRAFT }, b"stoq"));
        assert_eq!(of(Checksum::Software), Some(SumSeen::Right));
        assert_eq!(of(Checksum::PseudoHeader), Some(SumSeen::Prepared));
        assert_eq!(of(Checksum::Segmented), Some(SumSeen::Prepared));
        assert_eq!(of(Checksum::Skip), Some(SumSeen::Wrong));
        let mut frame = bytes(DRAFT, b"stoq");
        frame[HEADERS] ^= 1;
        assert_eq!(self::checksum(&frame), Some(SumSeen::Wrong));
    }

    #[test]
    fn what_is_cut_short_or_is_no_datagram_is_seen_as_such() {
        let frame = bytes(DRAFT, b"stoq");
        for len in 0..frame.len() {
            if let Some((_, inner)) = packet(&frame[..len]) {
                assert!(
                    matches!(content(inner, 7), None | Some(Content::Mangled)),
                    "{len}"
                );
            }
        }
        let mut fragment = frame.clone();
        fragment[ETHERNET_HEADER + 6] = PROTOCOL_FRAGMENT;
        assert_eq!(
            content(&fragment[ETHERNET_HEADER..], 7),
            Some(Content::Fragment)
        );
        let mut longer = frame;
        longer[HEADERS - 3] += 1;
        assert_eq!(
            content(&longer[ETHERNET_HEADER..], 7),
            Some(Content::Mangled)
        );
    }
}
