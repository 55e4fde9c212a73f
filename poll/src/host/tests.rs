use std::net::SocketAddrV6;

use super::*;
use crate::transport::Transmit;
use crate::wire::icmpv6::{
    Icmpv6Headers, Message, ND_HOP_LIMIT, NdOption, Options, PrefixInformation, emit,
};
use crate::wire::{
    ALL_MLDV2_ROUTERS, ALL_ROUTERS, HEADERS, Parsed, UdpHeaders, emit_udp_headers, parse,
    solicited_node,
};

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const UDP_PORT: u16 = 4433;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> HostConfig {
    HostConfig {
        mac: OURS,
        addresses: vec![(ip("fd00::1"), 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: 1500,
        udp_ports: vec![UDP_PORT],
        verify_checksums: true,
        tx_checksum: Checksum::Software,
        neighbours_max: 32,
        waiting_datagrams_max: 16,
        seed: 5,
    }
}

/// A host two seconds after its start, with what it had to say then thrown away.
fn settled(config: HostConfig) -> (Host, Instant) {
    let start = Instant::now();
    let mut host = Host::new(config, start);
    for half_second in 0..4 {
        frames(&mut host, start + seconds(1) / 2 * half_second);
    }
    let now = start + seconds(2);
    frames(&mut host, now);
    (host, now)
}

/// Everything the host has to send now.
fn frames(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut out = [0; frame_len_max(1500)];
    std::iter::from_fn(|| {
        host.poll_frame(now, &mut out)
            .map(|len| out[..len].to_vec())
    })
    .collect()
}

/// The one frame that the host has to send now, as an ICMPv6 message with its headers.
fn only_message(frames: &[Vec<u8>]) -> (Icmpv6Headers, Message<'_>) {
    let [frame] = frames else {
        panic!("{} frames", frames.len());
    };
    message(frame)
}

fn message(frame: &[u8]) -> (Icmpv6Headers, Message<'_>) {
    let Ok(Parsed::Icmpv6(parsed)) = parse(frame, true) else {
        panic!("not ICMPv6: {frame:x?}");
    };
    let headers = Icmpv6Headers {
        src_mac: parsed.src_mac,
        dst_mac: parsed.dst_mac,
        src: parsed.src,
        dst: parsed.dst,
        hop_limit: parsed.hop_limit,
    };
    (headers, Message::parse(&parsed, frame).unwrap())
}

fn icmpv6(src_mac: MacAddr, src: &str, dst: &str, message: &Message<'_>) -> Vec<u8> {
    let dst = ip(dst);
    let hop_limit = match message {
        Message::ListenerQuery { .. } => 1,
        _ => ND_HOP_LIMIT,
    };
    let dst_mac = if dst.is_multicast() {
        MacAddr::of_multicast(dst)
    } else {
        OURS
    };
    let headers = Icmpv6Headers {
        src_mac,
        dst_mac,
        src: ip(src),
        dst,
        hop_limit,
    };
    let mut frame = Vec::new();
    emit(&mut frame, &headers, message);
    frame
}

fn udp(src_mac: MacAddr, src: &str, src_port: u16) -> (UdpHeaders, Vec<u8>) {
    let headers = UdpHeaders {
        src_mac,
        dst_mac: OURS,
        src: ip(src),
        dst: ip("fd00::1"),
        src_port,
        dst_port: UDP_PORT,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0,
    };
    (headers, udp_frame(&headers, b"hello"))
}

fn udp_frame(headers: &UdpHeaders, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, headers, payload, Checksum::Software);
    [&head[..], payload].concat()
}

fn advertisement(target: &str, mac: MacAddr, router: bool) -> Vec<u8> {
    let message = Message::NeighbourAdvertisement {
        target: ip(target),
        target_mac: Some(mac),
        router,
        solicited: true,
        overrides: true,
    };
    icmpv6(mac, target, "fd00::1", &message)
}

fn router_advertisement(lifetime_s: u16, options: &[NdOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        option.emit(&mut bytes);
    }
    let options = Options::new(&bytes).unwrap();
    let message = Message::RouterAdvertisement {
        lifetime_s,
        options,
    };
    icmpv6(ROUTER, "fe80::fe", "ff02::1", &message)
}

fn transmit_to(destination: &str) -> Transmit {
    Transmit {
        destination: SocketAddrV6::new(ip(destination), 443, 0, 0),
        source: None,
        source_udp_port: UDP_PORT,
        ecn: Ecn::Ect0,
        size: 5,
    }
}

fn ready(mac: MacAddr, source: &str) -> Route {
    Route::Ready {
        mac,
        source: ip(source),
    }
}

fn waiting(source: &str) -> Route {
    Route::Waiting { source: ip(source) }
}

/// A host that knows `fd00::2` to be reachable at `PEER`.
fn with_peer() -> (Host, Instant) {
    let (mut host, now) = settled(config());
    assert_eq!(host.route(now, ip("fd00::2"), None, 5), waiting("fd00::1"));
    let frame = advertisement("fd00::2", PEER, false);
    assert_eq!(host.receive(now, &frame), Verdict::Consumed);
    frames(&mut host, now);
    (host, now)
}

#[test]
fn at_start_groups_are_reported_and_addresses_probed() {
    let start = Instant::now();
    let address = ip("fd00::a1:b2c3");
    let addresses = vec![(address, 64)];
    let mut host = Host::new(
        HostConfig {
            addresses,
            ..config()
        },
        start,
    );
    let reports = frames(&mut host, start);
    let [report] = &reports[..] else {
        panic!("{} frames", reports.len());
    };
    let Ok(Parsed::Icmpv6(headers)) = parse(report, true) else {
        panic!("not ICMPv6");
    };
    assert_eq!(
        (headers.src, headers.dst, headers.hop_limit),
        (OURS.link_local(), ALL_MLDV2_ROUTERS, 1)
    );
    for group in [address, OURS.link_local()].map(solicited_node) {
        assert!(report.windows(16).any(|bytes| bytes == group.octets()));
        assert!(
            host.multicast_macs()
                .contains(&MacAddr::of_multicast(group))
        );
    }

    let mut probed = Vec::new();
    let mut reports = 0;
    while let Some(now) = host.timeout() {
        assert!(now <= start + seconds(2), "probes take a second at most");
        for frame in frames(&mut host, now) {
            if frame[20] == 0 {
                reports += 1;
                continue;
            }
            let (headers, message) = message(&frame);
            let Message::NeighbourSolicitation { target, source_mac } = message else {
                panic!("{message:?}");
            };
            assert_eq!((headers.src, source_mac), (Ipv6Addr::UNSPECIFIED, None));
            assert_eq!(headers.dst, solicited_node(target));
            probed.push(target);
        }
    }
    probed.sort();
    assert_eq!(probed, [address, OURS.link_local()]);
    assert_eq!(reports, 1, "the report is repeated once");
}

#[test]
fn routers_are_solicited_three_times_unless_one_answers() {
    let start = Instant::now();
    let accepting = HostConfig {
        accept_router_advertisements: true,
        ..config()
    };
    let mut host = Host::new(accepting.clone(), start);
    let mut sent = Vec::new();
    while let Some(now) = host.timeout() {
        for frame in frames(&mut host, now) {
            if frame[20] == 58
                && let (headers, Message::RouterSolicitation { source_mac }) = message(&frame)
            {
                assert_eq!((headers.dst, source_mac), (ALL_ROUTERS, Some(OURS)));
                sent.push(now);
            }
        }
    }
    let [first, second, third] = sent[..] else {
        panic!("{} solicitations", sent.len());
    };
    assert!(first < start + seconds(1));
    assert_eq!((second - first, third - second), (seconds(4), seconds(4)));

    let mut host = Host::new(accepting, start);
    host.receive(start, &router_advertisement(1800, &[]));
    for half_second in 0..40 {
        frames(&mut host, start + seconds(1) / 2 * half_second);
    }
    assert_eq!(host.counters().router_solicitations_sent, 0);
}

#[test]
fn a_datagram_is_received() {
    let (mut host, now) = settled(config());
    let (_, frame) = udp(PEER, "fd00::2", 5000);
    let expected = Verdict::Udp {
        path: Path {
            remote: SocketAddrV6::new(ip("fd00::2"), 5000, 0, 0),
            local: ip("fd00::1"),
            local_udp_port: UDP_PORT,
        },
        ecn: Ecn::Ect0,
        payload: 62..67,
    };
    assert_eq!(host.receive(now, &frame), expected);
    // The sender is known from now on.
    assert_eq!(
        host.route(now, ip("fd00::2"), None, 5),
        ready(PEER, "fd00::1")
    );
}

#[test]
fn datagrams_for_others_have_their_reasons() {
    let (mut host, now) = settled(config());
    let (headers, good) = udp(PEER, "fd00::2", 5000);
    let all_nodes = MacAddr::of_multicast(ALL_NODES);
    for (headers, reason) in [
        (
            UdpHeaders {
                dst_mac: PEER,
                ..headers
            },
            DropReason::ForeignMac,
        ),
        (
            UdpHeaders {
                dst_mac: all_nodes,
                ..headers
            },
            DropReason::ForeignAddress,
        ),
        (
            UdpHeaders {
                dst: ip("fd00::3"),
                ..headers
            },
            DropReason::ForeignAddress,
        ),
        (
            UdpHeaders {
                dst_port: 1,
                ..headers
            },
            DropReason::ForeignUdpPort,
        ),
    ] {
        let frame = udp_frame(&headers, b"hello");
        assert_eq!(host.receive(now, &frame), Verdict::Dropped(reason));
    }
    let empty = udp_frame(&headers, b"");
    assert_eq!(
        host.receive(now, &empty),
        Verdict::Dropped(DropReason::EmptyDatagram)
    );
    let mut bad = good.clone();
    bad[66] ^= 1;
    assert_eq!(
        host.receive(now, &bad),
        Verdict::Dropped(DropReason::BadUdpChecksum)
    );
    assert_eq!(
        host.drops().total(),
        0,
        "what is returned is for the caller to count"
    );

    let unverified = HostConfig {
        verify_checksums: false,
        ..config()
    };
    let (mut host, now) = settled(unverified);
    assert!(matches!(host.receive(now, &bad), Verdict::Udp { .. }));
}

#[test]
fn a_solicitation_is_answered_and_its_sender_learned() {
    let (mut host, now) = settled(config());
    let solicitation = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac: Some(PEER),
    };
    let frame = icmpv6(PEER, "fd00::2", "ff02::1:ff00:1", &solicitation);
    assert_eq!(host.receive(now, &frame), Verdict::Consumed);
    let sent = frames(&mut host, now);
    let (headers, answer) = only_message(&sent);
    assert_eq!((headers.dst_mac, headers.dst), (PEER, ip("fd00::2")));
    assert_eq!(
        (headers.src, headers.hop_limit),
        (ip("fd00::1"), ND_HOP_LIMIT)
    );
    let expected = Message::NeighbourAdvertisement {
        target: ip("fd00::1"),
        target_mac: Some(OURS),
        router: false,
        solicited: true,
        overrides: true,
    };
    assert_eq!(answer, expected);
    let known: Vec<_> = host.neighbours(now).collect();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].mac, known[0].reachability),
        (Some(PEER), Reachability::Stale)
    );

    // Somebody else's address in the same group.
    let other = Message::NeighbourSolicitation {
        target: ip("fd00::ff00:1"),
        source_mac: Some(PEER),
    };
    let frame = icmpv6(PEER, "fd00::2", "ff02::1:ff00:1", &other);
    assert_eq!(
        host.receive(now, &frame),
        Verdict::Dropped(DropReason::ForeignAddress)
    );
}

#[test]
fn a_fresh_address_overrides_nobody() {
    let now = Instant::now();
    let mut host = Host::new(config(), now);
    frames(&mut host, now);
    let solicitation = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac: Some(PEER),
    };
    let frame = icmpv6(PEER, "fd00::2", "ff02::1:ff00:1", &solicitation);
    host.receive(now, &frame);
    let sent = frames(&mut host, now);
    assert!(matches!(
        only_message(&sent).1,
        Message::NeighbourAdvertisement {
            overrides: false,
            ..
        }
    ));
}

#[test]
fn duplicate_addresses_are_defended_or_reported() {
    let probe = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac: None,
    };
    let probe = icmpv6(PEER, "::", "ff02::1:ff00:1", &probe);
    // Settled: the other is told.
    let (mut host, now) = settled(config());
    assert_eq!(host.receive(now, &probe), Verdict::Consumed);
    let sent = frames(&mut host, now);
    let (headers, answer) = only_message(&sent);
    assert_eq!(headers.dst, ALL_NODES);
    assert!(matches!(
        answer,
        Message::NeighbourAdvertisement {
            solicited: false,
            overrides: true,
            ..
        }
    ));
    assert_eq!(host.address_conflicts().count(), 0);
    // It insists.
    let claim = Message::NeighbourAdvertisement {
        target: ip("fd00::1"),
        target_mac: Some(PEER),
        router: false,
        solicited: false,
        overrides: true,
    };
    let claim = icmpv6(PEER, "fd00::1", "ff02::1", &claim);
    for _ in 0..3 {
        assert_eq!(host.receive(now, &claim), Verdict::Consumed);
    }
    assert_eq!(
        host.address_conflicts().collect::<Vec<_>>(),
        [ip("fd00::1")]
    );
    assert_eq!(host.counters().address_conflicts, 1);
    assert!(
        host.addresses()
            .any(|(address, _)| address == ip("fd00::1"))
    );
    // Both probe at the same time.
    let mut host = Host::new(config(), now);
    assert_eq!(host.receive(now, &probe), Verdict::Consumed);
    assert_eq!(host.address_conflicts().count(), 1);
    // Our own probe, sent back by a switch, is none.
    let mut host = Host::new(config(), now);
    let mut own = probe.clone();
    own[6..12].copy_from_slice(&OURS.0);
    assert_eq!(
        host.receive(now, &own),
        Verdict::Dropped(DropReason::Loopback)
    );
    assert_eq!(host.address_conflicts().count(), 0);
}

#[test]
fn a_parked_datagram_leaves_when_the_neighbour_answers() {
    let (mut host, now) = settled(config());
    let transmit = transmit_to("fd00::2");
    assert_eq!(host.route(now, ip("fd00::2"), None, 5), waiting("fd00::1"));
    host.park(now, &transmit, ip("fd00::1"), b"first").unwrap();
    host.park(now, &transmit, ip("fd00::1"), b"other").unwrap();

    let sent = frames(&mut host, now);
    let (headers, solicitation) = only_message(&sent);
    assert_eq!(headers.dst, ip("ff02::1:ff00:2"));
    assert_eq!(headers.dst_mac, MacAddr([0x33, 0x33, 0xff, 0, 0, 2]));
    let expected = Message::NeighbourSolicitation {
        target: ip("fd00::2"),
        source_mac: Some(OURS),
    };
    assert_eq!(solicitation, expected);

    host.receive(now, &advertisement("fd00::2", PEER, false));
    assert!(host.timeout().unwrap() <= now);
    let sent = frames(&mut host, now);
    assert_eq!(sent.len(), 2);
    for (frame, payload) in sent.iter().zip([b"first", b"other"]) {
        let Ok(Parsed::Udp(udp)) = parse(frame, true) else {
            panic!("not UDP");
        };
        assert_eq!(
            (udp.dst_mac, udp.dst, udp.dst_port),
            (PEER, ip("fd00::2"), 443)
        );
        assert_eq!(
            (udp.src, udp.src_port, udp.ecn),
            (ip("fd00::1"), UDP_PORT, Ecn::Ect0)
        );
        assert_eq!(&frame[udp.payload], payload);
    }
    assert_eq!(
        host.route(now, ip("fd00::2"), None, 5),
        ready(PEER, "fd00::1")
    );
    assert_eq!(host.counters().parked, 2);
}

#[test]
fn parking_is_bounded_and_a_dead_neighbour_drops_what_waits() {
    let (mut host, start) = settled(config());
    for i in 0..10 {
        let destination = format!("fd00::2:{i}");
        for n in 0..10 {
            host.route(start, ip(&destination), None, 5);
            let parked = host.park(start, &transmit_to(&destination), ip("fd00::1"), b"hello");
            // Sixteen in all, ten for the first and six for the second.
            let expected = if i * 10 + n < 16 {
                Ok(())
            } else {
                Err(DropReason::TxNeighbourQueueFull)
            };
            assert_eq!(parked, expected);
        }
    }
    assert_eq!(host.waiting.len(), 16);
    assert_eq!(host.drops().of(DropReason::TxNeighbourQueueFull), 0);
    for second in 0..4 {
        frames(&mut host, start + seconds(second));
    }
    assert_eq!(host.waiting.len(), 0);
    assert_eq!(host.drops().of(DropReason::TxNeighbourUnreachable), 16);
    assert_eq!(host.counters().neighbours_failed, 10);
    assert_eq!(host.timeout(), None);
}

#[test]
fn routes_that_do_not_exist_have_their_reasons() {
    let (mut host, now) = with_peer();
    let peer = ip("fd00::2");
    for (destination, source, payload, reason) in [
        ("2001:db8::1", None, 5, DropReason::TxNoRoute),
        ("ff02::1", None, 5, DropReason::TxNoRoute),
        ("::", None, 5, DropReason::TxNoRoute),
        ("::1", None, 5, DropReason::TxLoopback),
        ("fd00::1", None, 5, DropReason::TxLoopback),
        ("fd00::2", Some("fd00::77"), 5, DropReason::TxSourceAddress),
        ("fd00::2", None, 1453, DropReason::TxTooBig),
    ] {
        let route = host.route(now, ip(destination), source.map(ip), payload);
        assert_eq!(route, Route::Refused(reason), "{destination}");
    }
    assert_eq!(host.route(now, peer, None, 1452), ready(PEER, "fd00::1"));
    // The same from what is remembered.
    assert_eq!(
        host.route(now, peer, None, 1453),
        Route::Refused(DropReason::TxTooBig)
    );
    let link_local = OURS.link_local();
    assert_eq!(
        host.route(now, peer, Some(link_local), 5),
        Route::Ready {
            mac: PEER,
            source: link_local
        }
    );
}

#[test]
fn a_changed_mac_is_used_at_once() {
    let (mut host, now) = with_peer();
    let peer = ip("fd00::2");
    assert_eq!(host.route(now, peer, None, 5), ready(PEER, "fd00::1"));
    host.receive(now, &advertisement("fd00::2", ROUTER, false));
    assert_eq!(host.route(now, peer, None, 5), ready(ROUTER, "fd00::1"));
}

#[test]
fn a_neighbour_in_use_is_probed_unless_traffic_confirms_it() {
    let peer = ip("fd00::2");
    for confirmed in [false, true] {
        let (mut host, start) = with_peer();
        let mut probes = 0;
        for second in 0..60 {
            let now = start + seconds(second);
            host.route(now, peer, None, 5);
            if confirmed {
                let (_, frame) = udp(PEER, "fd00::2", 5000);
                host.receive(now, &frame);
            }
            for frame in frames(&mut host, now) {
                let (headers, message) = message(&frame);
                assert!(matches!(message, Message::NeighbourSolicitation { .. }));
                probes += usize::from(headers.dst_mac == PEER);
            }
        }
        assert_eq!(probes, if confirmed { 0 } else { 3 });
        let reachable = host
            .neighbours(start + seconds(59))
            .any(|n| n.reachability == Reachability::Reachable);
        assert_eq!(reachable, confirmed);
    }
}

#[test]
fn traffic_through_a_router_confirms_the_router_only() {
    let gateway = ip("fe80::fe");
    let (mut host, now) = settled(HostConfig {
        gateway: Some(gateway),
        ..config()
    });
    let far = ip("2001:db8::9");
    assert_eq!(host.route(now, far, None, 5), waiting("fd00::1"));
    host.receive(now, &advertisement("fe80::fe", ROUTER, true));
    assert_eq!(host.route(now, far, None, 5), ready(ROUTER, "fd00::1"));
    // A source address of this link that comes from the router was forged beyond it.
    let (_, forged) = udp(ROUTER, "fd00::66", 5000);
    assert!(matches!(host.receive(now, &forged), Verdict::Udp { .. }));
    assert_eq!(host.neighbours(now).count(), 1);

    let later = now + seconds(50);
    assert_eq!(
        host.neighbours(later).next().unwrap().reachability,
        Reachability::Stale
    );
    host.route(later, far, None, 5);
    let (_, reply) = udp(ROUTER, "2001:db8::9", 443);
    host.receive(later, &reply);
    assert_eq!(
        host.neighbours(later).next().unwrap().reachability,
        Reachability::Reachable
    );
}

#[test]
fn a_router_advertisement_configures_the_host() {
    let (mut host, now) = settled(HostConfig {
        accept_router_advertisements: true,
        addresses: Vec::new(),
        ..config()
    });
    let far = ip("2600::1");
    assert_eq!(
        host.route(now, far, None, 5),
        Route::Refused(DropReason::TxNoRoute)
    );
    let generation = host.multicast_generation();
    let prefix = NdOption::Prefix(PrefixInformation {
        prefix: ip("2001:db8:7::"),
        len: 64,
        on_link: true,
        autonomous: true,
        valid_s: 100,
        preferred_s: 100,
    });
    let advertised = router_advertisement(
        60,
        &[NdOption::SourceMac(ROUTER), NdOption::Mtu(1400), prefix],
    );
    assert_eq!(host.receive(now, &advertised), Verdict::Consumed);

    let made = "2001:db8:7::ff:fe00:1";
    assert!(host.addresses().any(|entry| entry == (ip(made), 64)));
    assert_eq!(host.mtu(), 1400);
    assert_ne!(host.multicast_generation(), generation);
    assert_eq!(host.route(now, far, None, 1352), ready(ROUTER, made));
    assert_eq!(
        host.route(now, far, None, 1353),
        Route::Refused(DropReason::TxTooBig)
    );
    assert_eq!(
        host.route(now, ip("2001:db8:7::9"), None, 5),
        waiting(made),
        "on the link"
    );
    // The new address is reported and probed.
    let mut probed = false;
    for tenth in 0..20 {
        for frame in frames(&mut host, now + seconds(1) / 10 * tenth) {
            probed |= frame[22..38] == [0; 16];
        }
    }
    assert!(probed);

    // The router goes first, then the address.
    let later = now + seconds(61);
    frames(&mut host, later);
    assert_eq!(
        host.route(later, far, None, 5),
        Route::Refused(DropReason::TxNoRoute)
    );
    let later = now + seconds(101);
    let generation = host.multicast_generation();
    frames(&mut host, later);
    assert!(!host.addresses().any(|(address, _)| address == ip(made)));
    assert_ne!(host.multicast_generation(), generation);
}

#[test]
fn a_router_advertisement_is_ignored_when_not_wanted_or_unlawful() {
    let (mut host, now) = settled(config());
    let advertised = router_advertisement(60, &[]);
    assert_eq!(
        host.receive(now, &advertised),
        Verdict::Dropped(DropReason::Icmpv6Unhandled)
    );
    let (mut host, now) = settled(HostConfig {
        accept_router_advertisements: true,
        ..config()
    });
    for mtu in [0, 1279, 1501, 70_000] {
        host.receive(now, &router_advertisement(60, &[NdOption::Mtu(mtu)]));
        assert_eq!(host.mtu(), 1500);
    }
}

#[test]
fn a_dead_gateway_gives_way_to_an_advertised_router() {
    let (mut host, now) = settled(HostConfig {
        accept_router_advertisements: true,
        gateway: Some(ip("fe80::ad")),
        ..config()
    });
    let far = ip("2600::1");
    host.receive(
        now,
        &router_advertisement(600, &[NdOption::SourceMac(ROUTER)]),
    );
    assert_eq!(host.route(now, far, None, 5), waiting("fd00::1"));
    for second in 0..4 {
        frames(&mut host, now + seconds(second));
    }
    let now = now + seconds(4);
    assert_eq!(host.route(now, far, None, 5), ready(ROUTER, "fd00::1"));
}

fn packet_too_big(mtu: u32, quoted: &UdpHeaders) -> Vec<u8> {
    let packet = udp_frame(quoted, &[0; 100]);
    let message = Message::PacketTooBig {
        mtu,
        quoted: &packet[ETHERNET_HEADER..],
    };
    icmpv6(ROUTER, "2001:db8::fe", "fd00::1", &message)
}

#[test]
fn packet_too_big_lowers_the_mtu_of_its_destination() {
    let (mut host, now) = with_peer();
    let peer = ip("fd00::2");
    let (received, _) = udp(PEER, "fd00::2", 443);
    let sent = UdpHeaders {
        src: received.dst,
        dst: received.src,
        src_port: UDP_PORT,
        dst_port: 443,
        ..received
    };
    // Not from an address, or not from a UDP port of ours.
    for forged in [
        UdpHeaders {
            src: ip("fd00::77"),
            ..sent
        },
        UdpHeaders {
            src_port: 9,
            ..sent
        },
    ] {
        assert_eq!(
            host.receive(now, &packet_too_big(1300, &forged)),
            Verdict::Dropped(DropReason::BadIcmpv6)
        );
    }
    assert_eq!(host.route(now, peer, None, 1452), ready(PEER, "fd00::1"));
    assert_eq!(
        host.receive(now, &packet_too_big(1300, &sent)),
        Verdict::Consumed
    );
    assert_eq!(
        host.route(now, peer, None, 1253),
        Route::Refused(DropReason::TxTooBig)
    );
    assert_eq!(host.route(now, peer, None, 1252), ready(PEER, "fd00::1"));
    host.receive(now, &packet_too_big(600, &sent));
    assert_eq!(host.route(now, peer, None, 1252), ready(PEER, "fd00::1"));
    assert_eq!(host.counters().path_mtu_lowered, 1);
    let later = now + seconds(601);
    assert_eq!(host.route(later, peer, None, 1452), ready(PEER, "fd00::1"));
}

#[test]
fn echo_is_answered_within_a_rate() {
    let (mut host, now) = settled(config());
    let id = [1, 2, 3, 4];
    let request = Message::EchoRequest { id, data: b"ping" };
    for (dst, src) in [("fd00::1", "fd00::1"), ("ff02::1", "fd00::1")] {
        let frame = icmpv6(PEER, "fd00::2", dst, &request);
        assert_eq!(host.receive(now, &frame), Verdict::Consumed);
        let sent = frames(&mut host, now);
        let (headers, reply) = only_message(&sent);
        assert_eq!(reply, Message::EchoReply { id, data: b"ping" });
        assert_eq!(
            (headers.src, headers.dst, headers.dst_mac),
            (ip(src), ip("fd00::2"), PEER)
        );
    }
    let frame = icmpv6(PEER, "fd00::2", "fd00::1", &request);
    let mut answered = 0;
    for millisecond in 0..1000 {
        let now = now + seconds(1) + Duration::from_millis(millisecond);
        for _ in 0..3 {
            answered += usize::from(host.receive(now, &frame) == Verdict::Consumed);
        }
        frames(&mut host, now);
    }
    assert_eq!(answered, 1000 + 99);
}

#[test]
fn a_listener_query_is_answered_once_in_time() {
    let (mut host, now) = settled(config());
    let query = Message::ListenerQuery {
        group: Ipv6Addr::UNSPECIFIED,
        delay_ms_max: 1000,
    };
    let frame = icmpv6(ROUTER, "fe80::fe", "ff02::1", &query);
    for _ in 0..100 {
        assert_eq!(host.receive(now, &frame), Verdict::Consumed);
    }
    let at = host.timeout().unwrap();
    assert!((now..now + seconds(1)).contains(&at));
    assert_eq!(frames(&mut host, at).len(), 1);
    assert_eq!(host.timeout(), None);
}

#[test]
fn messages_for_others_have_their_reasons() {
    let (mut host, now) = settled(config());
    let request = Message::EchoRequest {
        id: [0; 4],
        data: b"",
    };
    let good = icmpv6(PEER, "fd00::2", "fd00::1", &request);
    let edited = |offset: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[offset..offset + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let elsewhere = icmpv6(PEER, "fd00::2", "ff02::1:ff77:7777", &request);
    let from_us = icmpv6(PEER, "fe80::ff:fe00:1", "fd00::1", &request);
    let reply = Message::EchoReply {
        id: [0; 4],
        data: b"",
    };
    for (frame, reason) in [
        (edited(0, &PEER.0), DropReason::ForeignMac),
        (edited(6, &OURS.0), DropReason::Loopback),
        (edited(6, &[0x33]), DropReason::SourceAddress),
        (edited(60, &[9]), DropReason::BadIcmpv6Checksum),
        (from_us, DropReason::Loopback),
        (elsewhere, DropReason::ForeignAddress),
        (
            icmpv6(PEER, "fd00::2", "fd00::1", &reply),
            DropReason::Icmpv6Unhandled,
        ),
    ] {
        assert_eq!(host.receive(now, &frame), Verdict::Dropped(reason));
    }
}

#[test]
fn a_flood_of_solicitations_is_bounded_by_the_queue() {
    let (mut host, now) = settled(config());
    let solicitation = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac: Some(PEER),
    };
    let frame = icmpv6(PEER, "fd00::2", "ff02::1:ff00:1", &solicitation);
    for _ in 0..1000 {
        host.receive(now, &frame);
    }
    let sent = frames(&mut host, now).len() as u64;
    assert_eq!(sent, 64);
    assert_eq!(host.drops().of(DropReason::TxHostQueueFull), 1000 - sent);
}

#[test]
fn many_timers_at_once_lose_no_solicitation() {
    let (mut host, start) = settled(HostConfig {
        neighbours_max: 200,
        ..config()
    });
    for i in 0..200 {
        host.route(start, ip(&format!("fd00::2:{i:x}")), None, 5);
        frames(&mut host, start);
    }
    for second in 1..=3 {
        let sent = frames(&mut host, start + seconds(second)).len();
        assert_eq!(sent, if second < 3 { 200 } else { 0 });
    }
    assert_eq!(host.counters().neighbours_failed, 200);
    assert_eq!(host.drops().total(), 0);
}

#[test]
fn headers_carry_what_was_asked_for() {
    let (host, _) = with_peer();
    let mut out = [0; HEADERS];
    let transmit = transmit_to("fd00::2");
    host.write_headers(&mut out, PEER, ip("fd00::1"), &transmit, b"hello");
    let frame = [&out[..], b"hello"].concat();
    let Ok(Parsed::Udp(udp)) = parse(&frame, true) else {
        panic!("not UDP");
    };
    assert_eq!((udp.src_mac, udp.dst_mac), (OURS, PEER));
    assert_eq!((udp.src, udp.src_port), (ip("fd00::1"), UDP_PORT));
    assert_eq!((udp.dst, udp.dst_port), (ip("fd00::2"), 443));
    assert_eq!((udp.ecn, udp.hop_limit), (Ecn::Ect0, 64));
    assert_ne!(out[15..18], [0x20, 0, 0], "a flow label");
}
