//! Solicitations, parked datagrams, and whether neighbours still answer.

use super::*;

#[test]
fn a_solicitation_is_answered_and_its_sender_learned() {
    let (mut host, now) = settled(config());
    let solicitation = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac: Some(PEER),
    };
    let frame = icmpv6(PEER, "fd00::2", "ff02::1:ff00:1", &solicitation);
    assert_eq!(host.receive(now, &frame), FOR_ALL);
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
