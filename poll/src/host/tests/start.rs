//! What a host says by itself: reports, probes, router solicitations, and the defence of its addresses.

use super::*;

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
    assert_eq!(host.receive(now, &probe), FOR_ALL);
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
        assert_eq!(host.receive(now, &claim), FOR_ALL);
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
    assert_eq!(host.receive(now, &probe), FOR_ALL);
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
