use proptest::prelude::*;

use super::*;
use crate::wire::{DropReason, Icmpv6Frame, Parsed, parse, solicited_node};

const OURS: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Headers of a message as if parsed, for hand-written message bytes.
fn frame_of(src: &str, dst: &str, hop_limit: u8, message: &[u8]) -> Icmpv6Frame {
    Icmpv6Frame {
        src_mac: THEIRS,
        dst_mac: OURS,
        src: ip(src),
        dst: ip(dst),
        hop_limit,
        message: 0..message.len(),
    }
}

fn read<'a>(
    src: &str,
    dst: &str,
    hop_limit: u8,
    message: &'a [u8],
) -> Result<Message<'a>, DropReason> {
    Message::parse(&frame_of(src, dst, hop_limit, message), message)
}

/// fe80::2 as it stands in a target field.
const TARGET: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn nd(kind: u8, flags: u8, options: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &TARGET, options].concat()
}

#[test]
fn neighbour_solicitation_by_hand() {
    let message = nd(135, 0, &[1, 1, 2, 0, 0, 0, 0, 2]);
    assert_eq!(
        read("fe80::1", "ff02::1:ff00:2", 255, &message),
        Ok(Message::NeighbourSolicitation {
            target: ip("fe80::2"),
            source_mac: Some(THEIRS)
        })
    );
    let probe = nd(135, 0, &[]);
    assert_eq!(
        read("::", "ff02::1:ff00:2", 255, &probe),
        Ok(Message::NeighbourSolicitation {
            target: ip("fe80::2"),
            source_mac: None
        })
    );
}

#[test]
fn solicitations_that_rfc_4861_7_1_1_refuses() {
    let good = nd(135, 0, &[1, 1, 2, 0, 0, 0, 0, 2]);
    let code = {
        let mut message = good.clone();
        message[1] = 1;
        message
    };
    let multicast_target = {
        let mut message = good.clone();
        message[8] = 0xff;
        message
    };
    for (src, dst, hop_limit, message) in [
        ("fe80::1", "fe80::2", 254, &good),
        ("fe80::1", "fe80::2", 255, &code),
        ("fe80::1", "fe80::2", 255, &multicast_target),
        ("fe80::1", "fe80::2", 255, &good[..23].to_vec()),
        ("fe80::1", "fe80::2", 255, &good[..30].to_vec()),
        (
            "fe80::1",
            "fe80::2",
            255,
            &nd(135, 0, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ),
        // From the unspecified address: not to the solicited-node group, or with a MAC address.
        ("::", "fe80::2", 255, &nd(135, 0, &[])),
        ("::", "ff02::1:ff00:2", 255, &good),
    ] {
        assert_eq!(read(src, dst, hop_limit, message), Err(DropReason::BadNd));
    }
}

#[test]
fn neighbour_advertisement_by_hand() {
    let message = nd(136, 0b0110_0000, &[2, 1, 2, 0, 0, 0, 0, 2]);
    assert_eq!(
        read("fe80::2", "fe80::1", 255, &message),
        Ok(Message::NeighbourAdvertisement {
            target: ip("fe80::2"),
            target_mac: Some(THEIRS),
            router: false,
            solicited: true,
            overrides: true,
        })
    );
    // Solicited, yet to a group.
    assert_eq!(
        read("fe80::2", "ff02::1", 255, &message),
        Err(DropReason::BadNd)
    );
    let unsolicited = nd(136, 0b1010_0000, &[]);
    assert!(matches!(
        read("fe80::2", "ff02::1", 255, &unsolicited),
        Ok(Message::NeighbourAdvertisement {
            router: true,
            solicited: false,
            target_mac: None,
            ..
        })
    ));
}

#[test]
fn router_advertisement_by_hand() {
    #[rustfmt::skip]
    let message = [
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 2, 0, 0, 0, 0, 2,
        5, 1, 0, 0, 0, 0, 0x05, 0x78,
        25, 1, 0, 0, 0, 0, 0, 0,
        3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let Ok(Message::RouterAdvertisement {
        lifetime_s,
        options,
    }) = read("fe80::2", "ff02::1", 255, &message)
    else {
        panic!("not read");
    };
    assert_eq!(lifetime_s, 1800);
    let expected = [
        NdOption::SourceMac(THEIRS),
        NdOption::Mtu(1400),
        NdOption::Other(25),
        NdOption::Prefix(PrefixInformation {
            prefix: ip("2001:db8:0:5::"),
            len: 64,
            on_link: true,
            autonomous: true,
            valid_s: 3600,
            preferred_s: 1800,
        }),
    ];
    assert_eq!(options.iter().collect::<Vec<_>>(), expected);
    let mut bytes = Vec::new();
    for option in expected {
        option.emit(&mut bytes);
    }
    assert_eq!(bytes, message[16..]);
    // Routers speak from their link-local address only.
    assert_eq!(
        read("2001:db8::2", "ff02::1", 255, &message),
        Err(DropReason::BadNd)
    );
}

#[test]
fn listener_query_by_hand() {
    let mut message = vec![130, 0, 0, 0, 0x03, 0xe8, 0, 0];
    message.extend([0; 16]);
    let all_within = |delay_ms_max| {
        Ok(Message::ListenerQuery {
            group: Ipv6Addr::UNSPECIFIED,
            delay_ms_max,
        })
    };
    assert_eq!(read("fe80::2", "ff02::1", 1, &message), all_within(1000));
    message.extend([2, 125, 0, 0]);
    assert_eq!(read("fe80::2", "ff02::1", 1, &message), all_within(1000));
    // Exponent 1, mantissa 0x234: (0x1234) << 4.
    message[4..6].copy_from_slice(&[0x92, 0x34]);
    assert_eq!(read("fe80::2", "ff02::1", 1, &message), all_within(0x12340));
    assert_eq!(
        read("fe80::2", "ff02::1", 64, &message),
        Err(DropReason::BadIcmpv6)
    );
    assert_eq!(
        read("2001:db8::2", "ff02::1", 1, &message),
        Err(DropReason::BadIcmpv6)
    );
}

#[test]
fn listener_report_by_hand() {
    let group = solicited_node(ip("fe80::ab:cdef"));
    let mut frame = Vec::new();
    emit_listener_report(&mut frame, OURS, ip("fe80::1"), true, &[group]);
    #[rustfmt::skip]
    let expected = [
        0x33, 0x33, 0, 0, 0, 0x16, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 36, 0, 1,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16,
        58, 0, 5, 2, 0, 0, 1, 0,
        143, 0, 0xa2, 0x6d, 0, 0, 0, 1,
        4, 0, 0, 0, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xab, 0xcd, 0xef,
    ];
    assert_eq!(frame, expected);
    assert!(matches!(parse(&frame, true), Ok(Parsed::Icmpv6(_))));
}

#[test]
fn errors_quote_the_packet() {
    let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0];
    #[rustfmt::skip]
    message.extend([
        0x60, 0, 0, 0, 0, 100, 17, 60,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0x11, 0x51, 0x01, 0xbb, 0, 100, 0, 0,
    ]);
    let Ok(Message::PacketTooBig { mtu, quoted }) = read("fd00::9", "fd00::1", 64, &message) else {
        panic!("not read");
    };
    assert_eq!(mtu, 1280);
    let expected = QuotedUdp {
        src: ip("fd00::1"),
        dst: ip("fd00::2"),
        src_port: 4433,
        dst_port: 443,
    };
    assert_eq!(QuotedUdp::parse(quoted), Some(expected));
    for len in 0..44 {
        assert_eq!(QuotedUdp::parse(&quoted[..len]), None);
    }
    message[0] = 1;
    message[1] = 4;
    assert!(matches!(
        read("fd00::9", "fd00::1", 64, &message),
        Ok(Message::DestinationUnreachable { code: 4, .. })
    ));
}

#[test]
fn unknown_types_and_short_messages() {
    assert_eq!(
        read("fe80::2", "fe80::1", 255, &[137; 40]),
        Err(DropReason::Icmpv6Unhandled)
    );
    assert_eq!(
        read("fe80::2", "fe80::1", 255, &[128, 0, 0]),
        Err(DropReason::BadIcmpv6)
    );
    assert_eq!(
        read("fe80::2", "fe80::1", 255, &[128, 0, 0, 0, 1]),
        Err(DropReason::BadIcmpv6)
    );
    assert_eq!(
        read("::", "fe80::1", 255, &[128, 0, 0, 0, 1, 2, 3, 4]),
        Err(DropReason::SourceAddress)
    );
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    (2_u128..0xff_u128 << 120).prop_map(Ipv6Addr::from)
}

proptest! {
    #[test]
    fn parse_reads_what_emit_wrote(
        macs in (mac(), mac()), target in unicast(), source_mac in proptest::option::of(mac()),
        flags: (bool, bool, bool), lifetime_s: u16, id: [u8; 4], mtu: u32, code: u8,
        data in proptest::collection::vec(any::<u8>(), 0..300), delay_ms_max in 0_u32..0x8000,
    ) {
        let mut option_bytes = Vec::new();
        NdOption::SourceMac(macs.0).emit(&mut option_bytes);
        NdOption::Mtu(mtu).emit(&mut option_bytes);
        let options = Options::new(&option_bytes).unwrap();
        let messages = [
            Message::EchoRequest { id, data: &data },
            Message::EchoReply { id, data: &data },
            Message::PacketTooBig { mtu, quoted: &data },
            Message::DestinationUnreachable { code, quoted: &data },
            Message::NeighbourSolicitation { target, source_mac },
            Message::NeighbourAdvertisement {
                target, target_mac: source_mac, router: flags.0, solicited: flags.1, overrides: flags.2,
            },
            Message::RouterSolicitation { source_mac },
            Message::RouterAdvertisement { lifetime_s, options },
            Message::ListenerQuery { group: target, delay_ms_max },
        ];
        for message in messages {
            let hop_limit = if matches!(message, Message::ListenerQuery { .. }) { 1 } else { ND_HOP_LIMIT };
            let headers = Icmpv6Headers {
                src_mac: macs.0, dst_mac: macs.1, src: ip("fe80::1"), dst: ip("fe80::2"), hop_limit,
            };
            let mut frame = Vec::new();
            emit(&mut frame, &headers, &message);
            let Ok(Parsed::Icmpv6(parsed)) = parse(&frame, true) else {
                return Err(TestCaseError::fail("not ICMPv6"));
            };
            prop_assert_eq!((parsed.src_mac, parsed.dst_mac), macs);
            prop_assert_eq!(Message::parse(&parsed, &frame), Ok(message));
        }
    }

    #[test]
    fn random_messages_never_panic(
        kind in prop_oneof![1_u8..5, 128_u8..144], hop_limit in prop_oneof![Just(255_u8), Just(1)],
        mut message in proptest::collection::vec(any::<u8>(), 4..120),
    ) {
        message[0] = kind;
        message[1] = 0;
        if let Ok(Message::RouterAdvertisement { options, .. }) = read("fe80::2", "fe80::1", hop_limit, &message) {
            prop_assert!(options.iter().count() <= message.len() / 8);
        }
        let _ = QuotedUdp::parse(&message);
    }
}
