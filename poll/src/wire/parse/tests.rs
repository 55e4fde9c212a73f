use proptest::prelude::*;

use super::*;
use crate::wire::{Checksum, UdpHeaders, emit_udp_headers};

/// A datagram "hello" from [fd00::2]:443 to [fd00::1]:5000, ECN CE, written by hand.
#[rustfmt::skip]
const HELLO: [u8; 67] = [
    0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd,
    0x60, 0x30, 0, 0, 0, 13, 17, 64,
    0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    0x01, 0xbb, 0x13, 0x88, 0, 13, 0xac, 0xba,
    b'h', b'e', b'l', b'l', b'o',
];

fn udp(frame: &[u8]) -> UdpFrame {
    match parse(frame, true) {
        Ok(Parsed::Udp(udp)) => udp,
        other => panic!("not UDP: {other:?}"),
    }
}

fn reason(frame: &[u8]) -> DropReason {
    parse(frame, true).unwrap_err()
}

fn with(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = HELLO.to_vec();
    edit(&mut frame);
    frame
}

/// `HELLO` with extension headers in front of UDP.
fn extended(first: u8, headers: &[u8]) -> Vec<u8> {
    let mut frame = HELLO[..54].to_vec();
    frame.extend(headers);
    frame.extend(&HELLO[54..]);
    frame[20] = first;
    frame[19] = (frame.len() - 54) as u8;
    frame
}

#[test]
fn a_datagram_by_hand() {
    let udp = udp(&HELLO);
    assert_eq!(udp.src_mac, MacAddr([2, 0, 0, 0, 0, 2]));
    assert_eq!(udp.dst_mac, MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(udp.src, "fd00::2".parse::<Ipv6Addr>().unwrap());
    assert_eq!(udp.dst, "fd00::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!((udp.src_port, udp.dst_port), (443, 5000));
    assert_eq!(udp.ecn, Ecn::Ce);
    assert_eq!(udp.hop_limit, 64);
    assert_eq!(&HELLO[udp.payload], b"hello");
}

#[test]
fn ethernet_padding_is_left_out() {
    let frame = with(|f| f.extend([0xaa; 20]));
    assert_eq!(&frame[udp(&frame).payload], b"hello");
}

#[test]
fn every_prefix_is_truncated() {
    for len in 0..HELLO.len() {
        assert_eq!(reason(&HELLO[..len]), DropReason::Truncated, "length {len}");
    }
}

#[test]
fn other_ethertypes_have_their_reasons() {
    for (ethertype, expected) in [
        (0x0800_u16, DropReason::Ipv4),
        (0x0806, DropReason::Arp),
        (0x8100, DropReason::Vlan),
        (0x88a8, DropReason::Vlan),
        (0x88cc, DropReason::NotIpv6),
        (46, DropReason::NotIpv6),
    ] {
        let frame = with(|f| f[12..14].copy_from_slice(&ethertype.to_be_bytes()));
        assert_eq!(reason(&frame), expected);
        assert_eq!(reason(&frame[..20]), expected);
    }
    assert_eq!(reason(&[0; 64]), DropReason::NotIpv6);
}

#[test]
fn wrong_fields_have_their_reasons() {
    for (offset, value, expected) in [
        (14, 0x45, DropReason::BadVersion),
        (19, 14, DropReason::Truncated),
        (19, 12, DropReason::BadLength),
        (19, 0, DropReason::BadLength),
        (20, 6, DropReason::OtherProtocol),
        (20, 59, DropReason::OtherProtocol),
        (22, 0xff, DropReason::SourceAddress),
        (37, 1, DropReason::Loopback),
        (59, 14, DropReason::BadLength),
        (59, 7, DropReason::BadLength),
        (61, 0xbb, DropReason::BadUdpChecksum),
        (62, b'j', DropReason::BadUdpChecksum),
        (63, b'x', DropReason::BadUdpChecksum),
    ] {
        assert_eq!(
            reason(&with(|f| f[offset] = value)),
            expected,
            "{offset} {value}"
        );
    }
    let frame = with(|f| f[54..56].fill(0));
    assert_eq!(reason(&frame), DropReason::SourceUdpPort);
    let frame = with(|f| f[60..62].fill(0));
    assert_eq!(reason(&frame), DropReason::ZeroUdpChecksum);
    assert!(parse(&frame, false).is_ok());
    let frame = with(|f| f[22..38].fill(0));
    assert_eq!(reason(&frame), DropReason::SourceAddress);
    let frame = with(|f| {
        f[22..37].fill(0);
        f[37] = 1;
    });
    assert_eq!(reason(&frame), DropReason::Loopback);
}

#[test]
fn extension_headers_are_skipped() {
    // Hop-by-hop with PadN; destination options with an unknown option that may be skipped; a used-up routing header.
    for (first, headers) in [
        (0, &[17, 0, 1, 4, 0, 0, 0, 0][..]),
        (60, &[17, 0, 0x1e, 3, 1, 2, 3, 0]),
        (43, &[17, 0, 3, 0, 0, 0, 0, 0]),
        (
            0,
            &[
                60, 0, 5, 2, 0, 0, 1, 0, 17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
    ] {
        let frame = extended(first, headers);
        let udp = udp(&frame);
        assert_eq!(&frame[udp.payload], b"hello");
    }
}

#[test]
fn bad_extension_headers_are_dropped() {
    let pad = [1, 4, 0, 0, 0, 0];
    let chain = |n: usize| {
        let mut headers = Vec::new();
        for index in 0..n {
            headers.extend([if index + 1 == n { 17 } else { 60 }, 0]);
            headers.extend(pad);
        }
        headers
    };
    assert!(parse(&extended(60, &chain(4)), true).is_ok());
    for (first, headers) in [
        (60, chain(5)),
        // Hop-by-hop behind another header.
        (
            60,
            [[0, 0, 1, 4, 0, 0, 0, 0], [17, 0, 1, 4, 0, 0, 0, 0]].concat(),
        ),
        // Longer than the packet.
        (0, vec![17, 200, 1, 4, 0, 0, 0, 0]),
        // Unknown options that ask for a drop.
        (0, vec![17, 0, 0x45, 4, 0, 0, 0, 0]),
        (0, vec![17, 0, 0x85, 4, 0, 0, 0, 0]),
        (60, vec![17, 0, 0xc5, 4, 0, 0, 0, 0]),
        // An option beyond its header, and one without length.
        (60, vec![17, 0, 1, 5, 0, 0, 0, 0]),
        (60, vec![17, 0, 0, 0, 0, 0, 0, 1]),
        // A routing header that is not used up.
        (43, vec![17, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(
            reason(&extended(first, &headers)),
            DropReason::ExtensionHeader
        );
    }
    let fragment = extended(44, &[17, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(reason(&fragment), DropReason::Fragment);
    let behind = extended(
        60,
        &[[44, 0, 1, 4, 0, 0, 0, 0], [17, 0, 0, 0, 0, 0, 0, 1]].concat(),
    );
    assert_eq!(reason(&behind), DropReason::Fragment);
}

#[test]
fn an_icmpv6_checksum_is_always_verified() {
    #[rustfmt::skip]
    let mut echo = [
        0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 8, 58, 64,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        128, 0, 0x85, 0xb5, 0, 1, 0, 2,
    ];
    let Ok(Parsed::Icmpv6(icmpv6)) = parse(&echo, false) else {
        panic!("not ICMPv6: {:?}", parse(&echo, false));
    };
    assert_eq!(icmpv6.message, 54..62);
    echo[60] ^= 1;
    assert_eq!(parse(&echo, false), Err(DropReason::BadIcmpv6Checksum));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), verify: bool) {
        let _ = parse(&bytes, verify);
    }

    #[test]
    fn random_bytes_behind_ipv6_never_panic(
        next_header in prop_oneof![Just(0_u8), Just(43), Just(44), Just(60), Just(58), Just(17), any::<u8>()],
        len in 0_u16..150,
        bytes in proptest::collection::vec(any::<u8>(), 0..150),
    ) {
        let mut frame = HELLO[..54].to_vec();
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame[20] = next_header;
        frame.extend(bytes);
        let _ = parse(&frame, false);
    }

    #[test]
    fn a_flipped_bit_is_never_the_same_datagram(bit in 0..HELLO.len() * 8) {
        let frame = with(|f| f[bit / 8] ^= 1 << (bit % 8));
        let original = udp(&HELLO);
        if let Ok(Parsed::Udp(udp)) = parse(&frame, true) {
            // Ethernet addresses, traffic class, flow label and hop limit are not under the checksum.
            prop_assert!(matches!(bit / 8, 0..=11 | 14..=17 | 21));
            prop_assert_eq!(&frame[udp.payload.clone()], b"hello");
            prop_assert_eq!((udp.src, udp.dst, udp.src_port, udp.dst_port),
                (original.src, original.dst, original.src_port, original.dst_port));
        }
    }

    #[test]
    fn parse_reads_what_emit_wrote(
        macs: ([u8; 6], [u8; 6]), src in 2_u128..(0xff_u128 << 120), dst: u128,
        src_port in 1_u16.., dst_port: u16, ecn: u8, hop_limit: u8, flow_label in 0_u32..1 << 20,
        payload in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        prop_assume!(src != dst);
        let headers = UdpHeaders {
            src_mac: MacAddr(macs.0), dst_mac: MacAddr(macs.1), src: src.into(), dst: dst.into(),
            src_port, dst_port, ecn: Ecn::from_bits(ecn), hop_limit, flow_label,
        };
        let mut head = [0; HEADERS];
        emit_udp_headers(&mut head, &headers, &payload, Checksum::Software);
        let frame = [&head[..], &payload].concat();
        prop_assert_eq!(parse(&frame, true), Ok(Parsed::Udp(UdpFrame {
            src_mac: headers.src_mac, dst_mac: headers.dst_mac, src: headers.src, dst: headers.dst,
            src_port, dst_port, ecn: headers.ecn, hop_limit, payload: HEADERS..frame.len(),
        })));
    }
}
