//! Where datagrams go: prefixes, routers, source addresses, MTUs.

use super::*;

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
    assert_eq!(host.receive(now, &advertised), FOR_ALL);

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
    assert_eq!(host.receive(now, &packet_too_big(1300, &sent)), FOR_ALL);
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
