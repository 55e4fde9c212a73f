//! Floods and probes of strangers: what they may cost, and that those who are connected do not notice.

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use poll::Ecn;
use quinn_proto::{ClientConfig, EndpointConfig};
use stoq::shard::ShardConfig;
use stoq::steering::ClientPorts;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{
    Link, Net, PAYLOAD_MAX, Random, Setup, Wire, address, assert_adds_up, listener, ready,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A server on node 0 and a client on node 1, of which everything sent is kept.
fn pair(setup: &Setup, connections: usize, requests: Vec<Request>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.tap = Some(Vec::new());
    net.add(setup.server("test", Server::new(&server)));
    let mut application = Client::new(&client, setup.target("test"), requests);
    application.connections = connections;
    net.add(setup.clients(vec![ready(application)]));
    (net, server, client)
}

/// The nth stranger, of a /64 of its own.
fn stranger(n: u32) -> SocketAddrV6 {
    let [high, low] = [(n >> 16) as u16, n as u16];
    let address = Ipv6Addr::new(0x2001, 0xdb8, high, low, 0, 0, 0, 1);
    SocketAddrV6::new(address, 1_024 + low % 60_000, 0, 0)
}

fn from(from: SocketAddrV6, payload: Vec<u8>) -> Wire {
    Wire {
        from,
        to: listener(0),
        ecn: Ecn::NotEct,
        payload,
    }
}

/// The first Initial of a true client.
fn initial(config: &ClientConfig) -> Vec<u8> {
    let mut endpoint =
        quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let now = Instant::now();
    let connect = endpoint.connect(now, config.clone(), listener(0).into(), "server.test");
    let (_, mut connection) = connect.unwrap();
    let mut buf = Vec::with_capacity(usize::from(PAYLOAD_MAX));
    let transmit = connection.poll_transmit(now, 1, &mut buf).unwrap();
    assert_eq!(transmit.size, buf.len());
    buf
}

/// What looks like an Initial of version 1 until it is opened, with a token of some length.
fn junk_initial(random: &mut Random, token: u8) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend((0..8).map(|_| random.next() as u8));
    packet.push(0); // Source connection ID
    packet.push(token);
    packet.extend((0..token).map(|_| random.next() as u8));
    packet.extend((0x4000 | 1_100u16).to_be_bytes());
    packet.extend((0..1_100).map(|_| random.next() as u8));
    packet.resize(1_200, 0);
    packet
}

/// Runs for a time, while so many datagrams arrive in each millisecond.
fn flood(net: &mut Net, time: Duration, each: usize, mut next: impl FnMut() -> Wire) {
    let end = net.now + time;
    while net.now < end {
        for _ in 0..each {
            net.inject(next());
        }
        net.run_for(MILLISECOND);
    }
}

fn strangers_setup() -> Setup {
    let mut setup = Setup::default();
    setup.limits.retry_above = 8;
    setup.limits.incoming = 16;
    setup.limits.strangers = Some(1_000);
    setup
}

#[test]
fn a_flood_of_true_initials_does_not_slow_a_transfer() {
    let setup = strangers_setup();
    let rate = Some(10_000_000);
    let (mut net, _, client) = pair(&setup, 1, vec![Request::download(10_000_000)]);
    net.link.rate = rate;
    net.run_until(2 * SECOND, |_| client.lock().completed.len() == 1);
    let alone = net.now - net.start;

    let config = setup.target("test").config;
    let initials: Vec<_> = (0..64).map(|_| initial(&config)).collect();
    let (mut net, _, client) = pair(&setup, 1, vec![Request::download(10_000_000)]);
    net.link.rate = rate;
    net.run_for(100 * MILLISECOND);
    let mut n = 0;
    flood(&mut net, SECOND, 50, || {
        n += 1;
        // Each has a connection ID of its own, as a flood would have.
        let mut payload = initials[n % initials.len()].clone();
        payload[6..14].copy_from_slice(&(n as u64).to_be_bytes());
        from(stranger(n as u32), payload)
    });
    net.run_until(2 * SECOND, |_| client.lock().completed.len() == 1);
    let (end, ..) = client.lock().completed[0];
    let flooded = end - net.start;
    assert!(
        flooded < alone.mul_f64(1.1),
        "{flooded:?} under the flood, {alone:?} without"
    );
    let counters = net.counters(0);
    let opened = counters.udp_received.get()
        - counters.udp_to_connections.get()
        - counters.dropped_strangers.get();
    // The rate, its burst, and what filled the places of handshakes.
    assert!(opened <= 1_000 + 100 + 16 + 50, "{opened} opened");
    assert!(counters.dropped_strangers.get() > 45_000);
    assert_eq!(client.reasons(), []);
    assert_adds_up(&counters);
}

#[test]
fn a_flood_fills_the_places_of_handshakes_then_meets_retry() {
    let setup = strangers_setup();
    let (mut net, ..) = pair(&setup, 1, Vec::new());
    net.settle();
    let config = setup.target("test").config;
    for n in 0..40 {
        net.inject(from(stranger(n), initial(&config)));
    }
    let counters = net.counters(0);
    assert_eq!(counters.connections_accepted.get(), 1 + 8);
    assert_eq!(counters.retries.get(), 32);
    assert_eq!(counters.connections_refused.get(), 0);
    // Places are free again when these handshakes have timed out.
    net.run_for(40 * SECOND);
    assert_eq!(counters.connections_current.get(), 0);
    net.inject(from(stranger(100), initial(&config)));
    assert_eq!(counters.connections_accepted.get(), 1 + 8 + 1);
    assert_adds_up(&counters);
}

#[test]
fn a_client_that_proved_its_address_gets_through_a_flood() {
    let mut setup = strangers_setup();
    setup.limits.retry_above = 0;
    let (mut net, _, client) = pair(&setup, 1, vec![Request::download(1_000)]);
    let mut random = Random(3);
    // The client has its Retry; what it sends from now on meets an empty bucket.
    net.run_for(8 * MILLISECOND);
    assert_eq!(net.counters(0).retries.get(), 1);
    let mut n = 0;
    flood(&mut net, SECOND / 10, 100, || {
        n += 1;
        from(stranger(n), junk_initial(&mut random, 0))
    });
    assert!(net.counters(0).dropped_strangers.get() > 9_000);
    assert_eq!(client.lock().completed.len(), 1);
    let (end, ..) = client.lock().completed[0];
    // Four trips of 10 ms: Retry, handshake, request. Nothing had to be sent twice.
    assert!(end - net.start < 60 * MILLISECOND);
}

#[test]
fn a_handshake_in_flight_gets_through_a_flood() {
    let (mut net, _, client) = pair(&strangers_setup(), 1, vec![Request::download(1_000)]);
    let mut random = Random(4);
    net.run_for(6 * MILLISECOND);
    assert_eq!(net.counters(0).connections_accepted.get(), 1);
    let mut n = 0;
    flood(&mut net, SECOND / 10, 100, || {
        n += 1;
        from(stranger(n), junk_initial(&mut random, 0))
    });
    let (end, ..) = client.lock().completed[0];
    assert!(end - net.start < 50 * MILLISECOND);
}

#[test]
fn a_flooded_client_hears_its_server() {
    let mut setup = Setup::default();
    let (mut net, ..) = pair(&setup, 1, Vec::new());
    net.settle();
    let sent = net.tap.replace(Vec::new()).unwrap();
    let client_port = sent.iter().find(|wire| *wire.to.ip() == address(0));
    let to = client_port.unwrap().from;
    // More connections at once than an address has Initials past an empty bucket.
    let log = Log::default();
    let mut again = Client::new(&log, setup.target("test"), vec![Request::download(10)]);
    again.connections = 60;
    again.start = Some(net.now + MILLISECOND);
    setup.limits = strangers_setup().limits;
    let mut config = setup.clients(vec![ready(again)]);
    config.client_ports = ClientPorts::one(to.port());
    net.replace(1, config);
    let mut random = Random(6);
    let mut n = 0;
    flood(&mut net, SECOND / 2, 20, || {
        n += 1;
        Wire {
            to,
            ..from(stranger(n), junk_initial(&mut random, 0))
        }
    });
    assert_eq!(log.lock().completed.len(), 60);
    let counters = net.counters(1);
    assert_eq!(counters.dropped_strangers.get(), 0);
    // Strangers may be answered by a reset, at the rate of those.
    let lost = counters.dropped_quic_ignored.get() + counters.responses.get();
    assert_eq!(lost, 10_000);
    assert_adds_up(&counters);
}

#[test]
fn initials_that_cannot_be_opened_are_counted_and_bounded() {
    for token in [0, 40] {
        let (mut net, ..) = pair(&strangers_setup(), 1, Vec::new());
        net.settle();
        let mut random = Random(5);
        let mut n = 0;
        flood(&mut net, SECOND, 20, || {
            n += 1;
            from(stranger(n), junk_initial(&mut random, token))
        });
        let counters = net.counters(0);
        assert!(counters.dropped_strangers.get() > 18_500);
        assert!(counters.dropped_quic_ignored.get() > 900);
        assert_eq!(counters.connections_accepted.get(), 1);
        assert_adds_up(&counters);
    }
}

#[test]
fn handshakes_that_fail_cost_more() {
    let setup = strangers_setup();
    let (mut net, ..) = pair(&setup, 1, Vec::new());
    net.settle();
    let config = setup.target("other").config;
    let initials: Vec<_> = (0..64).map(|_| initial(&config)).collect();
    let mut n = 0;
    flood(&mut net, SECOND, 5, || {
        n += 1;
        from(stranger(n), initials[n as usize % initials.len()].clone())
    });
    let counters = net.counters(0);
    let failed = counters.handshakes_failed.get();
    // A sixteenth of the rate, and the burst.
    assert!((60..=75).contains(&failed), "{failed} failed");
    assert_eq!(counters.connections_current.get(), 1);
    assert_adds_up(&counters);
}

#[test]
fn a_prefix_has_a_rate_of_handshakes() {
    let mut setup = Setup::default();
    setup.limits.handshakes_per_prefix = Some(4);
    let (mut net, _, client) = pair(&setup, 12, vec![Request::download(10)]);
    net.run_for(500 * MILLISECOND);
    let counters = net.counters(0);
    assert_eq!(counters.retries.get(), 8);
    assert!((4..=6).contains(&counters.connections_accepted.get()));
    assert!(counters.dropped_prefix_rate.get() >= 6);
    // They try again, and each second four of them succeed. Others do not wait for them.
    net.inject(from(stranger(1), initial(&setup.target("test").config)));
    assert_eq!(counters.retries.get(), 8);
    net.run_until(20 * SECOND, |_| client.lock().completed.len() == 12);
    assert_eq!(client.reasons(), []);
    assert_adds_up(&counters);
}

#[test]
fn version_negotiation_has_a_rate() {
    let mut setup = Setup::default();
    setup.limits.stateless = Some(100);
    let (mut net, ..) = pair(&setup, 1, Vec::new());
    net.settle();
    let mut n = 0;
    flood(&mut net, SECOND, 10, || {
        n += 1;
        let mut packet = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        packet.resize(1_200, 0);
        from(stranger(n), packet)
    });
    let counters = net.counters(0);
    let answered = counters.responses.get();
    assert!((100..=111).contains(&answered), "{answered} answered");
    assert_eq!(counters.dropped_stateless_rate.get(), 10_000 - answered);
    assert_adds_up(&counters);
}

/// What a client of node 0 sent with a short header once it was connected.
fn short_packet(net: &mut Net) -> Vec<u8> {
    net.settle();
    let sent = net.tap.replace(Vec::new()).unwrap();
    let short = |wire: &&Wire| *wire.to.ip() == address(0) && wire.payload[0] & 0x80 == 0;
    let mut packet = sent.iter().rfind(short).unwrap().payload.clone();
    packet.resize(200, 0);
    packet
}

#[test]
fn a_flood_at_a_listener_does_not_keep_clients_of_its_shard_from_connecting() {
    let setup = strangers_setup();
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut application = Client::new(&client, setup.target("test"), vec![Request::upload(1_000)]);
    application.start = Some(net.now + 200 * MILLISECOND);
    net.add(ShardConfig {
        clients: vec![ready(application)],
        ..setup.server("test", Server::new(&server))
    });
    let mut random = Random(4);
    let mut n = 0;
    flood(&mut net, SECOND, 10, || {
        n += 1;
        Wire {
            to: listener(1),
            ..from(stranger(n), junk_initial(&mut random, 0))
        }
    });
    assert!(net.counters(1).dropped_strangers.get() > 5_000);
    assert_eq!(client.lock().completed.len(), 1);
    assert_adds_up(&net.counters(1));
}

#[test]
fn stateless_resets_have_a_rate() {
    let mut setup = Setup::default();
    setup.limits.stateless = Some(100);
    let (mut net, ..) = pair(&setup, 1, vec![Request::download(1_000)]);
    let packet = short_packet(&mut net);
    // The connection is gone, without the server's process: its connection IDs are still its own.
    net.stop(0);
    net.run_for(10 * SECOND);
    assert_eq!(net.counters(0).connections_current.get(), 0);
    let mut n = 0;
    flood(&mut net, SECOND, 10, || {
        n += 1;
        from(stranger(n), packet.clone())
    });
    let counters = net.counters(0);
    let answered = counters.responses.get();
    assert!((90..=111).contains(&answered), "{answered} answered");
    assert_adds_up(&counters);
}

#[test]
fn nobody_gets_more_than_three_times_what_it_sent() {
    let regimes: [fn(&mut Setup); 4] = [
        |_| {},
        |setup| setup.limits.retry_above = 0,
        |setup| setup.limits.connections = 1,
        |setup| setup.limits.handshakes_per_prefix = Some(1),
    ];
    for (number, regime) in regimes.into_iter().enumerate() {
        for stop in [false, true] {
            let mut setup = Setup::default();
            setup.settings.idle_timeout = Some(20 * SECOND);
            regime(&mut setup);
            amplification(&setup, stop, number);
        }
    }
}

/// Sends one or more datagrams of every kind, each from a source that never answers.
fn amplification(setup: &Setup, stop: bool, regime: usize) {
    let (mut net, ..) = pair(setup, 1, vec![Request::download(1_000)]);
    let packet = short_packet(&mut net);
    if stop {
        net.stop(0);
        net.run_for(10 * SECOND);
    }
    let mut random = Random(9);
    let config = setup.target("test").config;
    let whole = initial(&config);
    let header = |first: u8, version: u32, len: usize| {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 20]);
        packet.extend([7; 20]);
        packet.resize(len, 0);
        packet
    };
    let mut kinds = vec![
        whole.clone(),
        whole[..1_199].to_vec(),
        initial(&setup.target("other").config),
        junk_initial(&mut random, 0),
        junk_initial(&mut random, 63),
        header(0xc0, 0x0a0a_0a0a, 1_200),
        header(0xc0, 0x0a0a_0a0a, 60),
        header(0xe0, 1, 1_200),
        header(0xd0, 1, 1_200),
        packet[..1_200.min(packet.len())].to_vec(),
        packet[..43].to_vec(),
        packet[..22].to_vec(),
        packet[..10].to_vec(),
    ];
    // An Initial whose connection ID is shorter than clients may choose: closed at once.
    let mut short_id = junk_initial(&mut random, 0);
    short_id[5] = 4;
    kinds.push(short_id);
    net.tap = Some(Vec::new());
    let mut received: HashMap<Ipv6Addr, usize> = HashMap::new();
    for (kind, payload) in kinds.iter().enumerate() {
        for copies in [1, 3] {
            let source = stranger((kind * 10 + copies) as u32);
            for _ in 0..copies {
                *received.entry(*source.ip()).or_default() += payload.len();
                net.inject(from(source, payload.clone()));
            }
        }
    }
    // Long enough for everything that is sent again.
    net.run_for(60 * SECOND);
    let mut sent: HashMap<Ipv6Addr, usize> = HashMap::new();
    for wire in net.tap.take().unwrap() {
        *sent.entry(*wire.to.ip()).or_default() += wire.payload.len();
    }
    let mut answered = 0;
    for (source, received) in received {
        let sent = sent.get(&source).copied().unwrap_or(0);
        answered += usize::from(sent > 0);
        assert!(
            sent <= 3 * received,
            "{sent} bytes for {received} in regime {regime}"
        );
    }
    // The same Initial from two sources is one handshake.
    assert!(answered > 3, "{answered} kinds answered in regime {regime}");
    assert_adds_up(&net.counters(0));
}
