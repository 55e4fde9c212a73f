//! Several hosts on one port: one speaks, all learn.

use super::*;

/// The hosts of a port with three queues, joined as lanes join theirs.
struct Port {
    hosts: [Host; 3],
}

impl Port {
    /// Two seconds after their start, with what they had to say then thrown away.
    fn settled(config: HostConfig) -> (Self, Instant) {
        let start = Instant::now();
        let mut port = Self::new(config, start);
        for half_second in 0..=4 {
            port.sent(start + seconds(1) / 2 * half_second);
        }
        (port, start + seconds(2))
    }

    fn new(config: HostConfig, now: Instant) -> Self {
        let host = |role, seed| {
            let config = config.clone();
            let config = HostConfig {
                role,
                seed,
                ..config
            };
            Host::new(config, now)
        };
        Self {
            hosts: [
                host(HostRole::Primary, 5),
                host(HostRole::Secondary, 6),
                host(HostRole::Secondary, 7),
            ],
        }
    }

    /// `frame` arrives at `queue`.
    fn receive(&mut self, now: Instant, queue: usize, frame: &[u8]) -> Verdict {
        let verdict = self.hosts[queue].receive(now, frame);
        for (other, host) in self.hosts.iter_mut().enumerate() {
            let told = match verdict {
                Verdict::Shared(Audience::All) => other != queue,
                Verdict::Shared(Audience::Primary) => other == 0,
                _ => false,
            };
            if told {
                assert!(other != queue, "nobody relays to itself");
                host.receive_relayed(now, frame);
            }
        }
        verdict
    }

    /// Everything the hosts have to send now, with the queue it leaves by.
    fn sent(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        let mut sent = Vec::new();
        for (queue, host) in self.hosts.iter_mut().enumerate() {
            sent.extend(frames(host, now).into_iter().map(|frame| (queue, frame)));
        }
        sent
    }
}

fn solicitation(source_mac: Option<MacAddr>, src: &str) -> Vec<u8> {
    let message = Message::NeighbourSolicitation {
        target: ip("fd00::1"),
        source_mac,
    };
    icmpv6(PEER, src, "ff02::1:ff00:1", &message)
}

#[test]
fn a_solicitation_on_any_queue_is_answered_once_and_learned_by_all() {
    for queue in 0..3 {
        let (mut port, now) = Port::settled(config());
        let frame = solicitation(Some(PEER), "fd00::2");
        assert_eq!(port.receive(now, queue, &frame), FOR_ALL);
        let sent = port.sent(now);
        assert_eq!(sent.len(), 1, "one answer");
        assert_eq!(sent[0].0, 0, "from the primary");
        let (headers, answer) = message(&sent[0].1);
        assert_eq!((headers.dst, headers.dst_mac), (ip("fd00::2"), PEER));
        assert!(matches!(answer, Message::NeighbourAdvertisement { .. }));
        for host in &mut port.hosts {
            let route = host.route(now, ip("fd00::2"), None, 5);
            assert_eq!(route, ready(PEER, "fd00::1"));
        }
    }
}

#[test]
fn a_secondary_resolves_its_own_neighbours_through_the_relay() {
    let (mut port, now) = Port::settled(config());
    let secondary = &mut port.hosts[2];
    let transmit = transmit_to("fd00::2");
    assert_eq!(
        secondary.route(now, ip("fd00::2"), None, 5),
        waiting("fd00::1")
    );
    secondary
        .park(now, &transmit, ip("fd00::1"), b"hello")
        .unwrap();
    let sent = port.sent(now);
    assert_eq!(sent.len(), 1);
    let (queue, frame) = &sent[0];
    assert_eq!(*queue, 2, "it asks by its own queue");
    assert!(matches!(
        message(frame).1,
        Message::NeighbourSolicitation { .. }
    ));

    // The answer arrives where the device puts it.
    let answer = advertisement("fd00::2", PEER, false);
    assert_eq!(port.receive(now, 0, &answer), FOR_ALL);
    let sent = port.sent(now);
    assert_eq!(sent.len(), 1, "what waited goes, and nothing else");
    let (queue, frame) = &sent[0];
    let Ok(Parsed::Udp(udp)) = parse(frame, true) else {
        panic!("not UDP");
    };
    assert_eq!((*queue, udp.dst_mac), (2, PEER));
    assert_eq!(&frame[udp.payload], b"hello");
    // An advertisement that a host did not ask for makes no entry.
    let entries = port.hosts.each_ref().map(Host::neighbour_count);
    assert_eq!(entries, [0, 0, 1]);
}

#[test]
fn a_router_advertisement_configures_every_host_alike() {
    let accepting = HostConfig {
        accept_router_advertisements: true,
        addresses: Vec::new(),
        ..config()
    };
    for queue in 0..3 {
        let (mut port, now) = Port::settled(accepting.clone());
        let prefix = NdOption::Prefix(PrefixInformation {
            prefix: ip("2001:db8:7::"),
            len: 64,
            on_link: true,
            autonomous: true,
            valid_s: 100,
            preferred_s: 100,
        });
        let options = [NdOption::SourceMac(ROUTER), NdOption::Mtu(1400), prefix];
        let advertised = router_advertisement(60, &options);
        assert_eq!(port.receive(now, queue, &advertised), FOR_ALL);

        let made = ip("2001:db8:7::ff:fe00:1");
        let filter = port.hosts[0].multicast_macs();
        for host in &mut port.hosts {
            assert!(host.addresses().any(|entry| entry == (made, 64)));
            assert_eq!(host.mtu(), 1400);
            assert_eq!(host.multicast_macs(), filter);
            assert_eq!(host.multicast_generation(), 1);
            let far = host.route(now, ip("2600::1"), None, 5);
            assert_eq!(far, ready(ROUTER, "2001:db8:7::ff:fe00:1"));
        }
        // The new address is reported and probed by one of them only.
        let mut sent = Vec::new();
        for tenth in 0..20 {
            sent.extend(port.sent(now + seconds(1) / 10 * tenth));
        }
        assert!(!sent.is_empty());
        assert!(sent.iter().all(|(queue, _)| *queue == 0));
        // And it ends on all of them.
        let later = now + seconds(101);
        port.sent(later);
        for host in &port.hosts {
            assert!(!host.addresses().any(|(address, _)| address == made));
            assert_eq!(host.multicast_generation(), 2);
        }
    }
}

#[test]
fn packet_too_big_on_any_queue_lowers_the_mtu_on_all() {
    for queue in 0..3 {
        let (mut port, now) = Port::settled(config());
        port.receive(now, 0, &solicitation(Some(PEER), "fd00::2"));
        let (received, _) = udp(PEER, "fd00::2", 443);
        let sent = UdpHeaders {
            src: received.dst,
            dst: received.src,
            src_port: UDP_PORT,
            dst_port: 443,
            ..received
        };
        let frame = packet_too_big(1300, &sent);
        assert_eq!(port.receive(now, queue, &frame), FOR_ALL);
        for host in &mut port.hosts {
            let too_big = host.route(now, ip("fd00::2"), None, 1253);
            assert_eq!(too_big, Route::Refused(DropReason::TxTooBig));
            assert_eq!(host.counters().path_mtu_lowered, 1);
        }
    }
}

#[test]
fn a_secondary_says_nothing_by_itself() {
    let start = Instant::now();
    let accepting = HostConfig {
        accept_router_advertisements: true,
        ..config()
    };
    let mut port = Port::new(accepting, start);
    let mut spoken = 0;
    for second in 0..60 {
        for (queue, _) in port.sent(start + seconds(second)) {
            assert_eq!(queue, 0);
            spoken += 1;
        }
    }
    assert!(spoken > 4, "the primary reports, probes and solicits");
    let [primary, secondary, _] = &port.hosts;
    assert_eq!(secondary.timeout(), None);
    assert_eq!(secondary.multicast_macs(), primary.multicast_macs());
    assert!(secondary.addresses().eq(primary.addresses()));
}

#[test]
fn echo_requests_and_listener_queries_are_the_primarys() {
    let to_primary = Verdict::Shared(Audience::Primary);
    let (mut port, now) = Port::settled(config());
    let id = [1, 2, 3, 4];
    let request = Message::EchoRequest { id, data: b"ping" };
    let request = icmpv6(PEER, "fd00::2", "fd00::1", &request);
    assert_eq!(port.receive(now, 1, &request), to_primary);
    let sent = port.sent(now);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 0);
    assert_eq!(
        message(&sent[0].1).1,
        Message::EchoReply { id, data: b"ping" }
    );
    assert_eq!(port.receive(now, 0, &request), Verdict::Consumed);
    assert_eq!(port.sent(now).len(), 1);

    let query = Message::ListenerQuery {
        group: Ipv6Addr::UNSPECIFIED,
        delay_ms_max: 1000,
    };
    let query = icmpv6(ROUTER, "fe80::fe", "ff02::1", &query);
    assert_eq!(port.receive(now, 2, &query), to_primary);
    let reports = port.sent(now + seconds(1));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].0, 0);
    assert_eq!(port.receive(now, 0, &query), Verdict::Consumed);
}

#[test]
fn a_conflict_is_known_to_all_and_answered_by_one() {
    let probe = solicitation(None, "::");
    let (mut port, now) = Port::settled(config());
    assert_eq!(port.receive(now, 1, &probe), FOR_ALL);
    let sent = port.sent(now);
    assert_eq!(sent.len(), 1, "one host defends the address");
    assert_eq!(sent[0].0, 0);

    let claim = Message::NeighbourAdvertisement {
        target: ip("fd00::1"),
        target_mac: Some(PEER),
        router: false,
        solicited: false,
        overrides: true,
    };
    let claim = icmpv6(PEER, "fd00::1", "ff02::1", &claim);
    port.receive(now, 2, &claim);
    for host in &port.hosts {
        assert!(host.address_conflicts().eq([ip("fd00::1")]));
    }
    // Both probe at the same time, right after the start.
    let mut port = Port::new(config(), now);
    port.receive(now, 1, &probe);
    for host in &port.hosts {
        assert_eq!(host.address_conflicts().count(), 1);
    }
}

#[test]
fn what_no_host_shares_is_not_taken_from_a_relay() {
    let (mut port, now) = Port::settled(config());
    let (_, datagram) = udp(PEER, "fd00::2", 5000);
    let secondary = &mut port.hosts[1];
    secondary.receive_relayed(now, &datagram);
    secondary.receive_relayed(now, b"noise");
    assert_eq!(secondary.neighbour_count(), 0);
    assert_eq!(secondary.drops().total(), 0);
    assert!(frames(secondary, now).is_empty());
}

/// How many of 1000 copies of `frame`, all at once, a host passes on; it drops the others for their rate.
fn shared_of_a_flood(host: &mut Host, now: Instant, frame: &[u8], expected: &Verdict) -> usize {
    let verdicts = (0..1000).map(|_| host.receive(now, frame));
    let (shared, dropped): (Vec<_>, Vec<_>) = verdicts.partition(|verdict| verdict == expected);
    let rate = Verdict::Dropped(DropReason::Icmpv6RateLimited);
    assert!(dropped.iter().all(|verdict| *verdict == rate));
    shared.len()
}

#[test]
fn floods_from_beyond_the_link_are_shared_within_a_rate() {
    let (mut port, now) = Port::settled(config());
    let request = Message::EchoRequest {
        id: [0; 4],
        data: b"ping",
    };
    let request = icmpv6(ROUTER, "2600::1", "fd00::1", &request);
    let (received, _) = udp(ROUTER, "2600::1", 443);
    let sent = UdpHeaders {
        src: received.dst,
        dst: received.src,
        src_port: UDP_PORT,
        dst_port: 443,
        ..received
    };
    let too_big = packet_too_big(1280, &sent);
    let to_primary = Verdict::Shared(Audience::Primary);
    let secondary = &mut port.hosts[1];
    for round in 0..2 {
        // A second later the full burst may come again.
        let now = now + seconds(round);
        let pings = shared_of_a_flood(secondary, now, &request, &to_primary);
        let errors = shared_of_a_flood(secondary, now, &too_big, &FOR_ALL);
        assert_eq!((pings, errors), (100, 100));
    }
    // What neighbours have to say is not crowded out.
    let frame = solicitation(Some(PEER), "fd00::2");
    assert_eq!(secondary.receive(now, &frame), FOR_ALL);
}

#[test]
fn what_was_relayed_and_is_refused_is_counted() {
    let (mut port, now) = Port::settled(config());
    let id = [1, 2, 3, 4];
    let request = Message::EchoRequest { id, data: b"ping" };
    let request = icmpv6(PEER, "fd00::2", "fd00::1", &request);
    let mut answered = 0;
    for queue in [1, 2] {
        for _ in 0..100 {
            let verdict = port.receive(now, queue, &request);
            assert_eq!(verdict, Verdict::Shared(Audience::Primary));
            answered += port.sent(now).len() as u64;
        }
    }
    let drops = port.hosts[0].drops();
    assert_eq!(answered, 100);
    assert_eq!(drops.of(DropReason::Icmpv6RateLimited), 200 - answered);
}
