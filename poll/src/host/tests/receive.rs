//! What a host receives: datagrams, echo requests, and what is not for it.

use super::*;

const ECHO: Message<'_> = Message::EchoRequest {
    id: [1, 2, 3, 4],
    data: b"ping",
};

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
fn the_word_of_a_device_counts_and_its_silence_does_not() {
    use crate::offload::ChecksumVerdict::{Bad, Good, Unfinished, Unknown};
    let (mut host, now) = settled(config());
    let (headers, right) = udp(PEER, "fd00::2", 5000);
    let mut wrong = right.clone();
    wrong[66] ^= 1;
    let mut unfinished = right.clone();
    let (head, payload) = unfinished.split_first_chunk_mut().expect("headers");
    emit_udp_headers(head, &headers, payload, Checksum::PseudoHeader);
    let received = |frame: &[u8], verdict, host: &mut Host| {
        matches!(
            host.receive_checked(now, frame, verdict),
            Verdict::Udp { .. }
        )
    };
    for (frame, verdicts) in [
        (&right, [true, false, true, true]),
        (&wrong, [true, false, false, false]),
        (&unfinished, [true, false, true, false]),
    ] {
        let seen = [Good, Bad, Unfinished, Unknown].map(|v| received(frame, v, &mut host));
        assert_eq!(seen, verdicts, "{frame:?}");
    }
    // Without a checksum there is nothing that could be right.
    let mut without = right.clone();
    without[60..62].fill(0);
    for verdict in [Good, Bad, Unfinished, Unknown] {
        assert_eq!(
            host.receive_checked(now, &without, verdict),
            Verdict::Dropped(DropReason::ZeroUdpChecksum)
        );
    }
    // A device looks at the checksum only: what is not for us is not, whatever it says.
    let foreign = UdpHeaders {
        dst_port: 1,
        ..headers
    };
    let frame = udp_frame(&foreign, b"hello");
    let dropped = host.receive_checked(now, &frame, Bad);
    assert_eq!(dropped, Verdict::Dropped(DropReason::ForeignUdpPort));
    // Of ICMPv6 it is not asked.
    let mut asked = icmpv6(PEER, "fd00::2", "fd00::1", &ECHO);
    assert_eq!(host.receive_checked(now, &asked, Bad), Verdict::Consumed);
    asked[60] ^= 1;
    let dropped = host.receive_checked(now, &asked, Good);
    assert_eq!(dropped, Verdict::Dropped(DropReason::BadIcmpv6Checksum));
}

#[test]
fn udp_ports_open_and_close_while_the_hosts_of_a_port_run() {
    let config = config();
    let udp_ports = config.udp_ports.clone();
    let hosts = [settled(config.clone()), settled(config)];
    let (headers, _) = udp(PEER, "fd00::2", 5000);
    let headers = UdpHeaders {
        dst_port: 4434,
        ..headers
    };
    let frame = udp_frame(&headers, b"hello");
    let dropped = Verdict::Dropped(DropReason::ForeignUdpPort);
    for (mut host, now) in hosts {
        assert_eq!(host.receive(now, &frame), dropped);
        udp_ports.insert(4434);
        assert!(matches!(host.receive(now, &frame), Verdict::Udp { .. }));
        udp_ports.remove(4434);
        assert_eq!(host.receive(now, &frame), dropped);
    }
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
