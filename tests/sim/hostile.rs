//! What nobody well-behaved sends.

use std::net::SocketAddrV6;
use std::time::Duration;

use poll::Ecn;
use quinn_proto::ConnectionError;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Random, Setup, Wire, address, listener, ready};

const SECOND: Duration = Duration::from_secs(1);

fn pair(setup: &Setup, requests: Vec<Request>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.tap = Some(Vec::new());
    net.add(setup.server("test", Server::new(&server)));
    let application = Client::new(&client, setup.target("test"), requests);
    net.add(setup.clients(vec![ready(application)]));
    (net, server, client)
}

fn from_nobody(payload: Vec<u8>) -> Wire {
    Wire {
        from: SocketAddrV6::new(address(9), 1_234, 0, 0),
        to: listener(0),
        ecn: Ecn::NotEct,
        payload,
    }
}

/// What node 0 sent since the last time.
fn answers(net: &mut Net) -> Vec<Wire> {
    let sent = net.tap.replace(Vec::new()).unwrap();
    sent.into_iter()
        .filter(|wire| *wire.from.ip() == address(0))
        .collect()
}

/// A long header (RFC 8999 §5.1) of some version, padded to `len`.
fn long_header(version: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(version.to_be_bytes());
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.extend([4, 9, 10, 11, 12]);
    packet.resize(len, 0);
    packet
}

#[test]
fn an_unknown_version_is_negotiated() {
    let (mut net, ..) = pair(&Setup::default(), Vec::new());
    net.settle();
    answers(&mut net);
    net.inject(from_nobody(long_header(0xabcd_0001, 1_200)));
    net.run_for(SECOND / 10);
    let answers = answers(&mut net);
    assert_eq!(answers.len(), 1);
    let [Wire { to, payload, .. }] = &answers[..] else {
        unreachable!()
    };
    assert_eq!(*to, SocketAddrV6::new(address(9), 1_234, 0, 0));
    // RFC 8999 §6: version 0, connection IDs swapped, then the versions we speak.
    assert!(payload[0] & 0x80 != 0);
    assert_eq!(payload[1..5], [0; 4]);
    assert_eq!(payload[5..10], [4, 9, 10, 11, 12]);
    assert_eq!(payload[10..19], [8, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(
        payload[19..]
            .chunks(4)
            .any(|version| version == [0, 0, 0, 1])
    );
    assert_eq!(net.counters(0).responses.get(), 1);
}

#[test]
fn a_short_packet_of_an_unknown_version_is_not_answered() {
    let (mut net, ..) = pair(&Setup::default(), Vec::new());
    net.settle();
    answers(&mut net);
    net.inject(from_nobody(long_header(0xabcd_0001, 1_199)));
    net.run_for(SECOND / 10);
    assert_eq!(answers(&mut net), []);
    assert_eq!(net.counters(0).dropped_quic_ignored.get(), 1);
}

#[test]
fn a_flood_of_questions_fills_a_bounded_queue() {
    let mut setup = Setup::default();
    setup.limits.responses = 10;
    setup.limits.stateless = None;
    let (mut net, ..) = pair(&setup, Vec::new());
    net.settle();
    for _ in 0..1_000 {
        net.inject(from_nobody(long_header(0xabcd_0001, 1_200)));
    }
    net.run_for(SECOND / 10);
    assert_eq!(net.counters(0).responses.get(), 10);
    assert_eq!(net.counters(0).dropped_response_queue_full.get(), 990);
}

#[test]
fn a_flood_of_questions_does_not_take_the_port_from_connections() {
    let mut setup = Setup::default();
    setup.limits.stateless = None;
    let (mut net, _, client) = pair(&setup, vec![Request::download(1_000_000)]);
    net.link.rate = Some(10_000_000);
    net.run_until(SECOND, |net| {
        for _ in 0..4 {
            net.inject(from_nobody(long_header(0xabcd_0001, 1_200)));
        }
        client.lock().completed.len() == 1
    });
    assert!(net.counters(0).responses.get() > 100);
    assert!(net.counters(0).dropped_response_queue_full.get() > 100);
}

#[test]
fn an_unknown_udp_port_is_counted() {
    let (mut net, ..) = pair(&Setup::default(), Vec::new());
    let mut wire = from_nobody(vec![0; 100]);
    wire.to.set_port(5);
    net.inject(wire);
    assert_eq!(net.counters(0).dropped_unknown_udp_port.get(), 1);
}

#[test]
fn a_peer_that_lost_its_state_resets_the_connection() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(60 * SECOND);
    let (mut net, server, client) = pair(&setup, vec![Request::download(1_000)]);
    net.settle();
    assert_eq!(client.lock().completed.len(), 1);
    // The server shuts down and its close is lost, so only the client still knows of the connection.
    net.link.loss = 1.0;
    net.stop(0);
    net.run_for(5 * SECOND);
    assert_eq!(server.reasons().len(), 1);
    assert_eq!(net.counters(0).connections_current.get(), 0);
    assert!(client.reasons().is_empty());
    net.link.loss = 0.0;
    // Anything the client sends now is answered by a stateless reset (RFC 9000 §10.3).
    net.stop(1);
    net.run_for(SECOND);
    assert_eq!(net.counters(0).responses.get(), 1);
    assert_eq!(client.reasons().len(), 1);
}

#[test]
fn a_stateless_reset_is_understood() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(60 * SECOND);
    setup.settings.keep_alive = Some(10 * SECOND);
    let server_setup = Setup {
        identity: setup.identity.clone(),
        ..Setup::default()
    };
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(server_setup.server("test", Server::new(&server)));
    let application = Client::new(&client, setup.target("test"), Vec::new());
    net.add(setup.clients(vec![ready(application)]));
    net.settle();
    net.link.loss = 1.0;
    net.stop(0);
    net.run_for(5 * SECOND);
    assert_eq!(net.counters(0).connections_current.get(), 0);
    net.link.loss = 0.0;
    net.run_for(10 * SECOND); // The keep-alive ping provokes it.
    assert_eq!(client.reasons(), [ConnectionError::Reset]);
    assert_eq!(net.counters(1).connections_lost.get(), 1);
}

#[test]
fn random_bytes_do_no_harm() {
    let (mut net, _, client) = pair(&Setup::default(), vec![Request::download(100_000)]);
    let mut random = Random(7);
    for round in 0..3_000 {
        let len = random.below(1_500);
        let mut payload: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        // Half of them look like QUIC version 1.
        if round % 2 == 0 && len > 5 {
            payload[0] |= 0xc0;
            payload[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        net.inject(from_nobody(payload));
        if round % 10 == 0 {
            net.run_for(Duration::from_millis(1));
        }
    }
    net.run_until(10 * SECOND, |_| client.lock().completed.len() == 1);
    assert!(client.reasons().is_empty());
    // Each was ignored or answered, or looked like the start of a handshake that came to nothing.
    let counters = net.counters(0);
    let ignored = counters.dropped_quic_ignored.get();
    let answered = counters.responses.get() + counters.dropped_response_queue_full.get();
    let begun = counters.connections_accepted.get() - 1 + counters.handshakes_failed.get();
    assert!(ignored > 1_000, "{ignored} ignored");
    assert!(
        ignored + answered + begun >= 3_000,
        "{ignored} ignored, {answered} answered, {begun} begun"
    );
}

#[test]
fn changed_packets_do_no_harm() {
    let setup = Setup::default();
    let (mut net, _, client) = pair(
        &setup,
        vec![Request::download(200_000), Request::upload(50_000)],
    );
    let mut random = Random(11);
    let mut turns = 0;
    net.run_until(60 * SECOND, |net| {
        // Everything on the wire comes a second time, with some bits changed, cut, or lengthened.
        for mut wire in net.tap.replace(Vec::new()).unwrap() {
            match random.below(4) {
                0 => wire.payload.truncate(random.below(wire.payload.len())),
                1 if wire.payload.len() < 1_452 => {
                    wire.payload.resize(1_452, random.next() as u8);
                }
                _ => {
                    for _ in 0..1 + random.below(8) {
                        let position = random.below(wire.payload.len());
                        wire.payload[position] ^= 1 + random.below(255) as u8;
                    }
                }
            }
            // Some come from elsewhere, which looks like a migration.
            if random.below(8) == 0 {
                wire.from.set_port(1 + random.below(65_535) as u16);
            }
            net.inject(wire);
        }
        turns += 1;
        client.lock().completed.len() == 2
    });
    assert!(turns > 10);
    assert!(client.reasons().is_empty());
}
