//! What a NIC makes of frames, as bytes: without ports, rings and mbufs.

use std::net::{Ipv6Addr, SocketAddrV6};

use dpdk_sys as sys;
use proptest::prelude::*;

use super::headers::Headers;
use super::kit::Kit;
use super::receive::{Receiver, Verdict};
use super::transmit::{Layout, Request, Transmitter};
use super::*;
use crate::port::Rss;
use crate::transport::Ecn;
use crate::wire::{
    Checksum, DropReason, HEADERS, MacAddr, Parsed, UdpHeaders, emit_udp_headers, parse,
};

const SRC: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const CHECKSUM: u64 = sys::RTE_MBUF_F_TX_IPV6 | sys::RTE_MBUF_F_TX_UDP_CKSUM;
const SEGMENT: u64 = CHECKSUM | sys::RTE_MBUF_F_TX_UDP_SEG;
const LAYOUT: Layout = Layout {
    l2: 14,
    l3: 40,
    l4: 8,
    segment: 0,
};
const ALL: u64 = u64::MAX;

/// A frame whose checksum field is as said.
fn datagram(payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let headers = UdpHeaders {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src: SRC,
        dst: DST,
        src_port: 4433,
        dst_port: 50_000,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 7,
    };
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, &headers, payload, checksum);
    [&head[..], payload].concat()
}

/// A frame to be cut up: its field holds the sum of the pseudo-header without the length.
fn large(payload: &[u8]) -> Vec<u8> {
    let mut frame = datagram(payload, Checksum::Skip);
    let sum = crate::wire::Sum::of_pseudo_header(SRC, DST, 0, 17).fold();
    frame[60..62].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn payload(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index * 7 + index / 256) as u8)
        .collect()
}

/// What a NIC with `granted` offloads puts on the wire.
fn send(
    granted: u64,
    fragments: bool,
    frame: Vec<u8>,
    request: Request,
) -> (Vec<Vec<u8>>, NicStats) {
    let mut transmitter = Transmitter {
        granted,
        misbehaves: if fragments {
            vec![Misbehaviour::UsoFragments]
        } else {
            Vec::new()
        },
        frame_max: frame_max(9000),
        fragment_id: 0,
    };
    let mut kit = Kit::default();
    let mut sent = Vec::new();
    transmitter.process(frame, &request, &mut kit, |frame, _| sent.push(frame));
    (sent, kit.stats)
}

fn request(flags: u64) -> Request {
    Request {
        flags,
        layout: LAYOUT,
        vlan_tci: 0,
    }
}

fn verified(frame: &[u8]) -> Result<Vec<u8>, DropReason> {
    match parse(frame, true)? {
        Parsed::Udp(udp) => Ok(frame[udp.payload].to_vec()),
        Parsed::Icmpv6(_) => Err(DropReason::OtherProtocol),
    }
}

fn receiver(granted: u64, rss: Option<Rss>) -> Receiver {
    Receiver {
        granted,
        rss,
        misbehaves: Vec::new(),
        frame_max: frame_max(1500),
    }
}

/// What a NIC says of a frame, and what it leaves of it.
fn receive(receiver: &Receiver, frame: &[u8]) -> (Option<Verdict>, Vec<u8>, NicStats) {
    let mut kit = Kit::default();
    let mut frame = frame.to_vec();
    let verdict = receiver.examine(&mut frame, &mut kit);
    (verdict, frame, kit.stats)
}

#[test]
fn a_checksum_is_filled_when_asked_and_prepared() {
    let bytes = payload(1000);
    let prepared = || datagram(&bytes, Checksum::PseudoHeader);
    let (sent, stats) = send(ALL, false, prepared(), request(CHECKSUM));
    assert_eq!(sent, [datagram(&bytes, Checksum::Software)]);
    assert_eq!((stats.tx_checksums, stats.tx_not_granted), (1, 0));

    // Not asked for: the bytes go as they are.
    let (sent, stats) = send(ALL, false, prepared(), Request::default());
    assert_eq!(sent, [prepared()]);
    assert_eq!(stats.tx_checksums, 0);

    // Not granted: likewise, and counted.
    let (sent, stats) = send(0, false, prepared(), request(CHECKSUM));
    assert_eq!(sent, [prepared()]);
    assert_eq!((stats.tx_checksums, stats.tx_not_granted), (0, 1));
}

#[test]
fn what_is_not_prepared_arrives_broken() {
    let bytes = payload(1000);
    for field in [Checksum::Skip, Checksum::Software] {
        let (sent, _) = send(ALL, false, datagram(&bytes, field), request(CHECKSUM));
        assert_eq!(verified(&sent[0]), Err(DropReason::BadUdpChecksum));
    }
    for (l2, l3) in [(14, 20), (18, 40), (0, 0)] {
        let mut request = request(CHECKSUM);
        (request.layout.l2, request.layout.l3) = (l2, l3);
        let frame = datagram(&bytes, Checksum::PseudoHeader);
        let (sent, _) = send(ALL, false, frame, request);
        assert!(verified(&sent[0]).is_err(), "{l2} {l3}");
    }
    // Without the flag that says IPv6, hardware does not know what to do.
    let frame = datagram(&bytes, Checksum::PseudoHeader);
    let (sent, stats) = send(
        ALL,
        false,
        frame.clone(),
        request(sys::RTE_MBUF_F_TX_UDP_CKSUM),
    );
    assert_eq!((sent, stats.tx_bad_request), (vec![frame], 1));
}

#[test]
fn a_large_datagram_becomes_several() {
    let bytes = payload(5000);
    let mut request = request(SEGMENT);
    request.layout.segment = 1452;
    let (sent, stats) = send(ALL, false, large(&bytes), request);
    let expected: Vec<_> = bytes
        .chunks(1452)
        .map(|chunk| datagram(chunk, Checksum::Software))
        .collect();
    assert_eq!(sent, expected, "as if they had been sent one by one");
    assert_eq!((stats.tx_segmented, stats.tx_checksums), (1, 4));

    // Prepared with a length in the sum, as without segmentation: broken.
    let wrong = datagram(&bytes, Checksum::PseudoHeader);
    let (sent, _) = send(ALL, false, wrong, request);
    assert_eq!(verified(&sent[0]), Err(DropReason::BadUdpChecksum));

    // Not granted: too long for the wire, or one large frame.
    let not_granted = ALL & !sys::RTE_ETH_TX_OFFLOAD_UDP_TSO;
    let (sent, stats) = send(not_granted, false, large(&bytes), request);
    assert_eq!((sent.len(), stats.tx_not_granted), (1, 1));
    let (sent, stats) = send(not_granted, false, large(&payload(20_000)), request);
    assert_eq!((sent.len(), stats.tx_bad_length), (0, 1));

    // Segments without a size, or of headers alone, cannot be made.
    request.layout.segment = 0;
    let (sent, stats) = send(ALL, false, large(&bytes), request);
    assert_eq!((sent.len(), stats.tx_bad_segmentation), (0, 1));
}

#[test]
fn a_nic_that_misbehaves_makes_fragments_of_one_datagram() {
    let bytes = payload(3000);
    let mut request = request(SEGMENT);
    request.layout.segment = 1452;
    let (sent, stats) = send(ALL, true, large(&bytes), request);
    assert_eq!((sent.len(), stats.tx_fragmented), (3, 1));
    let mut datagram_bytes = Vec::new();
    for (index, frame) in sent.iter().enumerate() {
        assert_eq!(parse(frame, true), Err(DropReason::Fragment));
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[18], frame[19]])),
            frame.len() - 54
        );
        let [next, _, high, low, ..] = frame[54..62] else {
            panic!("a fragment header")
        };
        assert_eq!(next, 17);
        let offset = u16::from_be_bytes([high, low]);
        assert_eq!(usize::from(offset & !7), datagram_bytes.len());
        assert_eq!(offset & 1 == 1, index < 2, "more follow");
        datagram_bytes.extend_from_slice(&frame[62..]);
    }
    // Put together again it is the datagram, with one good checksum.
    let mut whole = datagram(&bytes, Checksum::Software);
    assert_eq!(datagram_bytes, whole.split_off(54));
}

#[test]
fn a_tag_is_inserted_and_taken_off_again() {
    let bytes = payload(100);
    let plain = datagram(&bytes, Checksum::Software);
    let mut request = request(CHECKSUM | sys::RTE_MBUF_F_TX_VLAN);
    request.vlan_tci = 0x6064;
    let frame = datagram(&bytes, Checksum::PseudoHeader);
    let (sent, stats) = send(ALL, false, frame, request);
    let tagged = &sent[0];
    assert_eq!(tagged[..12], plain[..12]);
    assert_eq!(tagged[12..16], [0x81, 0, 0x60, 0x64]);
    assert_eq!(tagged[16..], plain[12..]);
    assert_eq!(stats.tx_vlan_inserted, 1);

    let strip = receiver(ALL, None);
    let (verdict, left, stats) = receive(&strip, tagged);
    let verdict = verdict.expect("received");
    assert_eq!(left, plain);
    assert_eq!(verdict.vlan_tci, 0x6064);
    let flags = sys::RTE_MBUF_F_RX_VLAN
        | sys::RTE_MBUF_F_RX_VLAN_STRIPPED
        | sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    assert_eq!(verdict.flags, flags);
    assert_eq!(stats.rx_vlan_stripped, 1);

    let (verdict, left, _) = receive(&receiver(0, None), tagged);
    assert_eq!((verdict, &left), (Some(Verdict::default()), tagged));
}

#[test]
fn short_frames_are_padded_and_long_ones_dropped() {
    let (sent, _) = send(ALL, false, vec![1; 20], Request::default());
    assert_eq!(sent[0], [vec![1; 20], vec![0; 40]].concat());
    let (sent, stats) = send(ALL, false, vec![1; 13], Request::default());
    assert_eq!((sent.len(), stats.tx_bad_length), (0, 1));
    for (len, received) in [(13, false), (14, true), (1518, true), (1519, false)] {
        let (verdict, _, stats) = receive(&receiver(0, None), &vec![0; len]);
        assert_eq!(verdict.is_some(), received, "{len}");
        assert_eq!(stats.rx_bad_length, u64::from(!received));
    }
}

#[test]
fn verdicts() {
    let good = datagram(b"good", Checksum::Software);
    let mut bad = good.clone();
    bad[62] ^= 1;
    let mut fragment = good.clone();
    fragment[20] = 44;
    let mut icmpv6 = good.clone();
    icmpv6[20] = 58;
    let none = datagram(b"none", Checksum::Skip);
    let cases = [
        (good, sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD),
        (bad, sys::RTE_MBUF_F_RX_L4_CKSUM_BAD),
        (fragment, sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN),
        (icmpv6, sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN),
        (none, sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN),
    ];
    for (frame, expected) in cases {
        let (verdict, _, _) = receive(&receiver(ALL, None), &frame);
        let flags = verdict.expect("received").flags;
        assert_eq!(flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK, expected);
        let (verdict, _, _) = receive(&receiver(0, None), &frame);
        assert_eq!(verdict, Some(Verdict::default()), "not granted");
    }
}

#[test]
fn flows_spread_as_toeplitz_predicts() {
    let rss = Rss {
        key: crate::port::DEFAULT_RSS_KEY[..40].to_vec(),
        table: (0..128).map(|entry| entry % 4).collect(),
        types: sys::RTE_ETH_RSS_IPV6 | sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP,
    };
    let nic = receiver(ALL, Some(rss.clone()));
    let mut seen = [0; 4];
    for port in 1000_u16..1100 {
        let mut frame = datagram(b"flow", Checksum::Software);
        frame[54..56].copy_from_slice(&port.to_be_bytes());
        let verdict = receive(&nic, &frame).0.expect("received");
        let src = SocketAddrV6::new(SRC, port, 0, 0);
        let dst = SocketAddrV6::new(DST, 50_000, 0, 0);
        assert_eq!(verdict.queue, rss.queue(src, dst));
        assert_eq!(verdict.rss_hash, crate::toeplitz(&rss.key, src, dst));
        assert!(verdict.flags & sys::RTE_MBUF_F_RX_RSS_HASH != 0);
        seen[usize::from(verdict.queue)] += 1;
    }
    assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    // Fragments and ICMPv6 go by their addresses, everything else to the first queue.
    let mut fragment = datagram(b"flow", Checksum::Software);
    fragment[20] = 44;
    let hash = crate::toeplitz::toeplitz_addresses(&rss.key, SRC, DST);
    let verdict = receive(&nic, &fragment).0.expect("received");
    assert_eq!(
        (verdict.rss_hash, verdict.queue),
        (hash, rss.table[hash as usize % 128])
    );
    let verdict = receive(&nic, &[0xff; 60]).0.expect("received");
    assert_eq!(verdict, Verdict::default());
}

#[test]
fn only_capable_packets_are_marked() {
    for (ecn, marked) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
        let mut frame = datagram(b"ecn", Checksum::Software);
        frame[15] = frame[15] & !0x30 | ecn << 4;
        let ipv6 = Headers::parse(&frame).ipv6.expect("IPv6");
        assert_eq!(ipv6.mark_congestion(&mut frame), ecn != 0);
        assert_eq!(frame[15] >> 4 & 3, marked);
        assert!(verified(&frame).is_ok());
    }
}

proptest! {
    /// Whatever the bytes, flags and lengths are: nothing panics, and what comes out is bounded.
    #[test]
    fn hostile_requests(
        frame in proptest::collection::vec(any::<u8>(), 0..3000),
        head in any::<bool>(),
        flags: u64,
        granted: u64,
        fragments: bool,
        l2 in 0_usize..=127,
        l3 in 0_usize..=511,
        l4 in 0_usize..=255,
        segment in prop_oneof![0_usize..=70, 0_usize..=65_535],
        vlan_tci: u16,
    ) {
        let frame = if head { large(&frame) } else { frame };
        let len = frame.len();
        let request = Request { flags, layout: Layout { l2, l3, l4, segment }, vlan_tci };
        let (sent, stats) = send(granted, fragments, frame, request);
        prop_assert!(sent.len() <= 1 + len / 64);
        prop_assert!(sent.iter().all(|frame| frame.len() >= 60));
        prop_assert!(!sent.is_empty() || stats.dropped() > 0, "every drop is counted");
        for frame in sent {
            let (verdict, left, _) = receive(&receiver(granted, None), &frame);
            prop_assert!(verdict.is_none() || left.len() + 4 >= frame.len());
        }
    }

    /// The parts of a large datagram are its payload, and each is a datagram in its own right.
    #[test]
    fn segments_are_complete(len in 1_usize..20_000, segment in 64_usize..9000) {
        let bytes = payload(len);
        let mut request = request(SEGMENT);
        request.layout.segment = segment.min(1452);
        let (sent, _) = send(ALL, false, large(&bytes), request);
        let parts: Result<Vec<_>, _> = sent.iter().map(|frame| verified(frame)).collect();
        prop_assert_eq!(parts.map(|parts| parts.concat()), Ok(bytes));
    }
}
