//! Several shards on one port: whatever the network does to the addresses, a connection stays on its shard.

use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poll::{Ecn, Transport, toeplitz};
use quinn_proto::{ConnectionError, TokenStore};
use stoq::app::{ConnectTarget, NewApplication};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig};
use stoq::steering::{CidCodec, CidConfig, CidKey, ClientPorts, RssQueue, Steering, mesh};

use crate::apps::{Client, Log, Request, Server};
use crate::net::{
    Link, Net, Queues, Random, Setup, UDP_PORT, Wire, address, assert_adds_up, listener, ready,
};

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// The first shard of the server's port is node 0, the client is node 1, the server's other shards follow.
const CLIENT: usize = 1;

/// Each datagram to any queue.
fn anywhere() -> Queues {
    let mut random = Random(0xa11);
    Box::new(move |_, queues| random.below(queues))
}

/// All datagrams to one queue.
fn only(queue: usize) -> Queues {
    Box::new(move |_, _| queue)
}

fn codec() -> CidCodec {
    let key = |rotation, byte| CidKey {
        rotation,
        key: [byte; 16],
    };
    CidCodec::new(&CidConfig {
        host_id: vec![0x0a, 0x01],
        keys: vec![key(2, 0x11), key(5, 0x22)],
    })
    .unwrap()
}

/// Servers for the shards of one port: their listeners take clones of one configuration.
fn servers(setup: &Setup, log: &Log, mesh: Vec<Steering>) -> Vec<ShardConfig> {
    let first = setup.server("test", Server::new(log));
    let server = first.listeners[0].server.clone();
    let shard = |(number, steering): (usize, Steering)| ShardConfig {
        seed: Some(100 + number as u64),
        listeners: vec![ListenerConfig {
            udp_port: UDP_PORT,
            streams: None,
            server: server.clone(),
            services: vec![ServiceConfig {
                alpn: b"test".to_vec(),
                early_data: setup.early_data,
                application: ready(Server::new(log)),
            }],
        }],
        steering: Some(steering),
        ..setup.server("test", Server::new(log))
    };
    mesh.into_iter().enumerate().map(shard).collect()
}

/// A port with `shards` shards that serve, and a node of clients. Returns the nodes of the servers.
fn world(
    setup: &Setup,
    link: Link,
    shards: usize,
    server: &Log,
    clients: Vec<NewApplication>,
) -> (Net, Vec<usize>) {
    world_with(setup, link, ends(&codec(), shards, 1024), server, clients)
}

fn ends(codec: &CidCodec, shards: usize, capacity: usize) -> Vec<Steering> {
    let numbers: Vec<u8> = (0..shards as u8).collect();
    mesh(codec, &numbers, capacity)
}

fn world_with(
    setup: &Setup,
    link: Link,
    mesh: Vec<Steering>,
    server: &Log,
    clients: Vec<NewApplication>,
) -> (Net, Vec<usize>) {
    let mut net = Net::new(link);
    let mut configs = servers(setup, server, mesh).into_iter();
    let mut nodes = vec![net.add(configs.next().unwrap())];
    assert_eq!(net.add(setup.clients(clients)), CLIENT);
    nodes.extend(configs.map(|config| net.join(0, config)));
    (net, nodes)
}

/// Sums over shards: handed over, taken over, dropped because an inbox was full. Checks the sums of each shard, too.
fn handovers(net: &Net, nodes: &[usize]) -> (u64, u64, u64) {
    let counters: Vec<_> = nodes.iter().map(|&node| net.counters(node)).collect();
    counters
        .iter()
        .for_each(|counters| assert_adds_up(counters));
    (
        counters.iter().map(|c| c.handed_over.get()).sum(),
        counters.iter().map(|c| c.taken_over.get()).sum(),
        counters.iter().map(|c| c.dropped_handover_full.get()).sum(),
    )
}

fn both_ways() -> Vec<Request> {
    vec![Request::download(2 * MIB), Request::upload(2 * MIB)]
}

/// Connections of one client node to a port whose datagrams arrive on any queue.
fn misplaced(shards: usize, connections: usize, link: Link) {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut client = Client::new(&log, setup.target("test"), both_ways());
    client.connections = connections;
    let (mut net, nodes) = world(&setup, link, shards, &server, vec![ready(client)]);
    net.queues = anywhere();
    net.run_until(120 * SECOND, |_| {
        log.lock().completed.len() == 2 * connections
    });
    assert!(log.reasons().is_empty() && server.reasons().is_empty());
    assert_eq!(server.lock().connected.len(), connections);
    net.settle();
    let (handed_over, taken_over, full) = handovers(&net, &nodes);
    assert_eq!(handed_over, taken_over);
    assert_eq!(full, 0);
    let received: u64 = nodes
        .iter()
        .map(|&node| net.counters(node).udp_received.get())
        .sum();
    // All but one in `shards` are misplaced, and few of them are first packets.
    let expected = received * (shards as u64 - 1) / shards as u64;
    assert!(
        handed_over * 10 > expected * 9 && handed_over * 10 < expected * 11,
        "{handed_over} of {received} handed over"
    );
    let ignored: u64 = nodes
        .iter()
        .map(|&node| net.counters(node).dropped_quic_ignored.get())
        .sum();
    assert_eq!(ignored, 0);
}

#[test]
fn datagrams_on_the_wrong_of_two_queues_find_their_shard() {
    misplaced(2, 1, Link::default());
}

#[test]
fn datagrams_on_the_wrong_of_three_queues_find_their_shard() {
    misplaced(3, 5, Link::default());
}

#[test]
fn misplacement_beside_loss_and_reordering() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut client = Client::new(&log, setup.target("test"), both_ways());
    client.connections = 4;
    let link = Link {
        loss: 0.02,
        reordering: 0.05,
        duplication: 0.02,
        ..Link::default()
    };
    let (mut net, nodes) = world(&setup, link, 3, &server, vec![ready(client)]);
    net.queues = anywhere();
    net.run_until(120 * SECOND, |_| log.lock().completed.len() == 8);
    assert!(log.reasons().is_empty());
    assert!(handovers(&net, &nodes).0 > 0);
}

#[test]
fn nothing_is_handed_over_while_flows_stay_on_their_queues() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let client = Client::new(&log, setup.target("test"), both_ways());
    let (mut net, nodes) = world(&setup, Link::default(), 4, &server, vec![ready(client)]);
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 2);
    assert_eq!(handovers(&net, &nodes), (0, 0, 0));
}

#[test]
fn a_client_whose_nat_moves_it_to_another_queue_stays_on_its_shard() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let requests = vec![Request::download(4 * MIB), Request::upload(4 * MIB)];
    let client = Client::new(&log, setup.target("test"), requests);
    let link = Link {
        rate: Some(10_000_000),
        ..Link::default()
    };
    let (mut net, nodes) = world(&setup, link, 2, &server, vec![ready(client)]);
    net.nat = Some(1_111);
    net.run_for(SECOND / 5);
    assert_eq!(handovers(&net, &nodes), (0, 0, 0));
    net.nat = Some(2_222); // An even UDP port after an odd one: the other queue.
    net.run_for(SECOND / 10);
    let (moved, ..) = handovers(&net, &nodes);
    assert!(moved > 50, "{moved} handed over");
    net.nat = Some(3_333); // And back.
    net.run_for(SECOND / 20);
    let (back, ..) = handovers(&net, &nodes);
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 2);
    let (end, taken_over, full) = handovers(&net, &nodes);
    // What was on its way when the NAT changed is all that is still handed over.
    assert!(end - back < 50, "{back} handed over, then {end}");
    assert_eq!((taken_over, full), (end, 0));
    assert!(log.reasons().is_empty() && server.reasons().is_empty());
    assert_eq!(server.lock().connected.len(), 1);
}

#[test]
fn a_shard_takes_over_so_much_in_a_turn_and_wants_another() {
    let setup = Setup::default();
    let server = Log::default();
    let (mut net, nodes) = world(&setup, Link::default(), 2, &server, Vec::new());
    net.settle();
    // IDs of the second shard, on the queue of the first: of no connection, so each is the end of the matter.
    net.queues = only(0);
    for nonce in 0..100 {
        let mut payload = vec![0x40];
        payload.extend_from_slice(&codec().encode(1, nonce));
        payload.resize(30, 0);
        net.inject(Wire {
            from: SocketAddrV6::new(address(9), 1_234, 0, 0),
            to: listener(0),
            ecn: Ecn::NotEct,
            payload,
        });
    }
    let (now, owner) = (net.now, net.counters(nodes[1]));
    assert_eq!(net.counters(nodes[0]).handed_over.get(), 100);
    let shard = net.shard(nodes[1]);
    let wants_a_turn = |shard: &mut Shard| shard.timeout().is_some_and(|at| at <= now);
    assert!(wants_a_turn(shard));
    shard.advance(now);
    let taken_over = owner.taken_over.get();
    assert!((1..100).contains(&taken_over), "{taken_over} in a turn");
    shard.advance(now);
    assert_eq!(owner.taken_over.get(), taken_over, "the same turn");
    while wants_a_turn(shard) {
        shard.advance(now);
        while shard
            .transmit(now, &mut Vec::with_capacity(1_452), 1)
            .is_some()
        {}
    }
    assert_eq!(owner.taken_over.get(), 100);
    assert_eq!(owner.udp_received.get(), 0);
}

#[test]
fn shards_of_several_numbers_that_stop_finish_and_leave_nothing_behind() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut client = Client::new(&log, setup.target("test"), both_ways());
    client.connections = 6;
    let mesh = mesh(&codec(), &[7, 0, 255], 64);
    let link = Link {
        rate: Some(20_000_000),
        ..Link::default()
    };
    let (mut net, nodes) = world_with(&setup, link, mesh, &server, vec![ready(client)]);
    net.queues = anywhere();
    net.run_for(SECOND / 5);
    assert!(log.lock().completed.is_empty());
    for &node in &nodes {
        net.stop(node);
    }
    // Streams in use may finish.
    net.run_until(10 * SECOND, |net| {
        nodes.iter().all(|&node| net.shard(node).is_drained())
    });
    assert_eq!(log.lock().completed.len(), 12);
    net.run_for(5 * SECOND);
    for &node in &nodes {
        assert_eq!(net.counters(node).connections_current.get(), 0);
    }
    assert_eq!(log.reasons().len(), 6);
    let (handed_over, taken_over, full) = handovers(&net, &nodes);
    assert!(handed_over > 100 && handed_over == taken_over && full == 0);
}

#[test]
fn a_shard_alone_gives_out_ids_that_name_it_and_hands_nothing_over() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let client = Client::new(&log, setup.target("test"), both_ways());
    let codec = codec();
    let mesh = mesh(&codec, &[42], 64);
    let clients = vec![ready(client)];
    let (mut net, nodes) = world_with(&setup, Link::default(), mesh, &server, clients);
    net.tap = Some(Vec::new());
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 2);
    assert_eq!(handovers(&net, &nodes), (0, 0, 0));
    let sent = net.tap.take().unwrap();
    let short = |wire: &&Wire| wire.to.port() == UDP_PORT && wire.payload[0] & 0x80 == 0;
    let ids: Vec<_> = sent
        .iter()
        .filter(short)
        .map(|wire| &wire.payload[1..18])
        .collect();
    assert!(ids.len() > 100 && ids.iter().all(|id| codec.decode(id) == Some(42)));
}

/// The first bytes of the connection IDs that the client sends to, in short headers, since the last time.
fn first_bytes(net: &mut Net) -> Vec<u8> {
    let sent = net.tap.replace(Vec::new()).unwrap();
    let mut seen: Vec<u8> = sent
        .iter()
        .filter(|wire| wire.to.port() == UDP_PORT && wire.payload[0] & 0x80 == 0)
        .map(|wire| wire.payload[1])
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn ids_made_with_an_older_key_stay_readable() {
    let setup = Setup::default();
    let (server, old, new) = (Log::default(), Log::default(), Log::default());
    let first = Client::new(&old, setup.target("test"), both_ways());
    let mut second = Client::new(&new, setup.target("test"), both_ways());
    let codec = codec();
    let link = Link {
        rate: Some(5_000_000),
        ..Link::default()
    };
    let mut net = Net::new(Link::default());
    second.start = Some(net.now + SECOND / 4);
    net.link = link;
    let mut configs = servers(&setup, &server, ends(&codec, 2, 64)).into_iter();
    net.add(configs.next().unwrap());
    net.add(setup.clients(vec![ready(first), ready(second)]));
    net.join(0, configs.next().unwrap());
    net.queues = anywhere();
    net.tap = Some(Vec::new());
    net.run_for(SECOND / 4);
    assert_eq!(first_bytes(&mut net), [2 << 5 | 16]);
    assert!(old.lock().completed.is_empty());
    codec.rotate(5).unwrap();
    net.run_until(20 * SECOND, |_| {
        old.lock().completed.len() == 2 && new.lock().completed.len() == 2
    });
    assert_eq!(first_bytes(&mut net), [2 << 5 | 16, 5 << 5 | 16]);
    assert!(old.reasons().is_empty() && new.reasons().is_empty());
    let (handed_over, taken_over, full) = handovers(&net, &[0, 2]);
    assert!(handed_over > 100 && handed_over == taken_over && full == 0);
}

/// A connection to the second shard of a port, whose process starts again with one shard only, on the first queue.
/// Returns why the client's connection ended.
fn restarted(reset_key: [u8; 32]) -> Vec<ConnectionError> {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(60 * SECOND);
    setup.settings.keep_alive = Some(10 * SECOND);
    let (server, log) = (Log::default(), Log::default());
    let client = Client::new(&log, setup.target("test"), vec![Request::download(1_000)]);
    let (mut net, nodes) = world(&setup, Link::default(), 2, &server, vec![ready(client)]);
    net.queues = only(1);
    net.settle();
    assert_eq!(net.counters(nodes[1]).handshakes.get(), 1);
    let mut restarted = servers(&setup, &server, ends(&codec(), 1, 16)).remove(0);
    restarted.reset_key = reset_key;
    net.queues = only(0);
    net.replace(nodes[0], restarted);
    net.replace(nodes[1], setup.clients(Vec::new()));
    net.run_for(30 * SECOND); // The keep-alive ping provokes it.
    assert!(net.counters(nodes[0]).responses.get() >= 1);
    log.reasons()
}

#[test]
fn a_stateless_reset_from_another_shard_is_believed() {
    let key = [0x2a; 32]; // That of all set-ups.
    assert_eq!(restarted(key), [ConnectionError::Reset]);
}

#[test]
fn a_stateless_reset_with_another_key_is_not() {
    assert_eq!(restarted([0x2b; 32]), []);
}

/// A stateless reset oracle (RFC 9000 §21.11): a connection ID of one listener is shown to another, whose answer is sent
/// on to the client in the name of the first.
#[test]
fn a_listener_answers_nothing_that_resets_connections_of_another() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let client = Client::new(&log, setup.target("test"), vec![Request::download(1_000)]);
    let mut config = servers(&setup, &server, ends(&codec(), 1, 16)).remove(0);
    let other = servers(&setup, &server, ends(&codec(), 1, 16)).remove(0);
    config.listeners.extend(other.listeners);
    config.listeners[1].udp_port = UDP_PORT + 1;
    let mut net = Net::new(Link::default());
    net.tap = Some(Vec::new());
    net.add(config);
    net.add(setup.clients(vec![ready(client)]));
    net.settle();
    let sent = net.tap.replace(Vec::new()).unwrap();
    let short = |wire: &&Wire| wire.to == listener(0) && wire.payload[0] & 0x80 == 0;
    let packet = sent.into_iter().rfind(|wire| short(&wire)).unwrap();
    let spy = SocketAddrV6::new(address(9), 1_234, 0, 0);
    net.inject(Wire {
        from: spy,
        to: SocketAddrV6::new(address(0), UDP_PORT + 1, 0, 0),
        ecn: Ecn::NotEct,
        payload: [&packet.payload[..18], &[0; 100]].concat(),
    });
    net.run_for(SECOND / 10);
    let answers = net.tap.take().unwrap();
    let reset = answers.into_iter().find(|wire| wire.to == spy).unwrap();
    net.inject(Wire {
        from: listener(0),
        to: packet.from,
        ..reset
    });
    net.run_for(SECOND);
    assert_eq!(log.reasons(), []);
}

/// Gives out each token as often as it is asked for: what a client must not do, and an attacker does.
#[derive(Default)]
struct Reuse(std::sync::Mutex<Option<Bytes>>);

impl TokenStore for Reuse {
    fn insert(&self, _: &str, token: Bytes) {
        self.0.lock().unwrap().get_or_insert(token);
    }

    fn take(&self, _: &str) -> Option<Bytes> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn a_token_used_on_one_shard_is_worth_nothing_on_another() {
    let mut setup = Setup::default();
    setup.limits.retry_above = 0; // Whoever has not proved its address is asked to.
    let tokens = Arc::new(Reuse::default());
    let mut target = setup.target("test");
    target.config.token_store(tokens.clone());
    let logs = [
        Log::default(),
        Log::default(),
        Log::default(),
        Log::default(),
    ];
    let mut net = Net::new(Link::default());
    let start = net.now;
    let client = |(number, log): (u32, &Log)| {
        let mut client = Client::new(log, target.clone(), vec![Request::download(1_000)]);
        client.start = Some(start + number * SECOND);
        client.close = true;
        ready(client)
    };
    let clients = (0..).zip(&logs).map(client).collect();
    let server = Log::default();
    let mut configs = servers(&setup, &server, ends(&codec(), 3, 64)).into_iter();
    net.add(configs.next().unwrap());
    net.add(setup.clients(clients));
    let nodes = [
        0,
        net.join(0, configs.next().unwrap()),
        net.join(0, configs.next().unwrap()),
    ];
    let mut retries = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        net.queues = only(number % 3);
        net.run_for(SECOND);
        assert_eq!(log.lock().completed.len(), 1);
        retries.push(net.counters(nodes[number % 3]).retries.get());
    }
    // The first has no token. It gets one from shard 0, which shard 1 honours; then it is used up: on shard 2, and on
    // shard 0, which made it.
    assert_eq!(retries, [1, 0, 1, 2]);
    assert!(tokens.take("").is_some());
}

#[test]
fn a_retry_holds_on_whatever_queue_its_answer_arrives() {
    let mut setup = Setup::default();
    setup.limits.retry_above = 0;
    let (server, log) = (Log::default(), Log::default());
    let mut client = Client::new(&log, setup.target("test"), vec![Request::download(10_000)]);
    client.connections = 20;
    let (mut net, nodes) = world(&setup, Link::default(), 3, &server, vec![ready(client)]);
    net.queues = anywhere();
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 20);
    let sum = |count: fn(&stoq::shard::ShardCounters) -> u64| -> u64 {
        nodes.iter().map(|&node| count(&net.counters(node))).sum()
    };
    assert_eq!(sum(|counters| counters.retries.get()), 20);
    assert_eq!(sum(|counters| counters.connections_accepted.get()), 20);
    assert!(log.reasons().is_empty());
}

#[test]
fn a_session_is_resumed_with_early_data_on_another_shard() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let (server, first, second) = (Log::default(), Log::default(), Log::default());
    let target = setup.target("test");
    let mut net = Net::new(Link::default());
    let mut again = Client::new(&second, target.clone(), vec![Request::download(1_000)]);
    again.start = Some(net.now + SECOND);
    let once = Client::new(&first, target, vec![Request::download(1_000)]);
    let mut configs = servers(&setup, &server, ends(&codec(), 2, 64)).into_iter();
    net.add(configs.next().unwrap());
    net.add(setup.clients(vec![ready(once), ready(again)]));
    let other = net.join(0, configs.next().unwrap());
    net.queues = only(0);
    net.run_for(SECOND);
    net.queues = only(1);
    net.settle(); // Answered early, the handshake ends later.
    assert_eq!(second.lock().completed.len(), 1);
    assert_eq!(net.counters(0).handshakes.get(), 1);
    assert_eq!(net.counters(other).handshakes.get(), 1);
    assert_eq!(net.counters(other).early_data_accepted.get(), 1);
    assert_eq!(second.lock().handshake_done, [true]);
}

#[test]
fn an_inbox_that_is_full_drops_counts_and_recovers() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let requests = vec![Request::upload(4 * MIB), Request::upload(4 * MIB)];
    let client = Client::new(&log, setup.target("test"), requests);
    let mesh = ends(&codec(), 2, 4);
    let link = Link {
        rate: Some(100_000_000),
        latency: Duration::from_millis(1),
        ..Link::default()
    };
    let (mut net, nodes) = world_with(&setup, link, mesh, &server, vec![ready(client)]);
    net.queues = only(0);
    net.run_until(SECOND, |_| log.lock().connected.len() == 1);
    // Bursts on the wrong queue: what arrives between two turns is more than the inbox holds.
    net.queues = only(1);
    net.link.rate = None;
    net.run_until(60 * SECOND, |_| log.lock().completed.len() == 2);
    let (handed_over, taken_over, full) = handovers(&net, &nodes);
    assert!(full > 10, "{full} dropped");
    assert!(handed_over > 1_000 && handed_over == taken_over);
    assert!(log.reasons().is_empty());
    // Back on its queue it needs nobody.
    net.queues = only(0);
    net.settle();
    assert_eq!(handovers(&net, &nodes).0, handed_over);
}

#[test]
fn a_shard_without_the_listener_hands_over_but_begins_nothing() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let client = Client::new(&log, setup.target("test"), both_ways());
    let mut net = Net::new(Link::default());
    let mut configs = servers(&setup, &server, ends(&codec(), 2, 64)).into_iter();
    net.add(configs.next().unwrap());
    net.add(setup.clients(vec![ready(client)]));
    let idle = net.join(
        0,
        ShardConfig {
            listeners: Vec::new(),
            ..configs.next().unwrap()
        },
    );
    net.queues = only(1);
    net.run_for(SECOND / 2);
    assert!(log.lock().connected.is_empty());
    assert!(net.counters(idle).dropped_unknown_udp_port.get() > 0);
    net.queues = only(0);
    net.run_until(10 * SECOND, |_| log.lock().connected.len() == 1);
    net.queues = only(1);
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 2);
    assert!(net.counters(idle).handed_over.get() > 100);
}

/// Clients on three shards of one port share its UDP ports. `rss` gives a shard what it knows of the device.
fn client_shards(rss: impl Fn(u16) -> Option<RssQueue>, queues: Queues) -> (u64, u64) {
    const SHARDS: u16 = 3;
    let setup = Setup::default();
    let server = Log::default();
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let logs: Vec<Log> = (0..SHARDS).map(|_| Log::default()).collect();
    let mut nodes = Vec::new();
    for (queue, steering) in (0..SHARDS).zip(ends(&codec(), usize::from(SHARDS), 256)) {
        let log = &logs[usize::from(queue)];
        let target: ConnectTarget = setup.target("test");
        let mut client = Client::new(log, target, vec![Request::download(100_000)]);
        client.connections = 10;
        let config = ShardConfig {
            seed: Some(u64::from(queue)),
            client_ports: ClientPorts {
                range: 51_200..=51_455,
                rss: rss(queue),
            },
            steering: Some(steering),
            ..setup.clients(vec![ready(client)])
        };
        nodes.push(match nodes.first() {
            None => net.add(config),
            Some(&first) => net.join(first, config),
        });
    }
    net.queues = queues;
    net.tap = Some(Vec::new());
    net.run_until(30 * SECOND, |_| {
        logs.iter().all(|log| log.lock().completed.len() == 10)
    });
    assert!(logs.iter().all(|log| log.reasons().is_empty()));
    let sent = net.tap.take().unwrap();
    let clients = sent.iter().filter(|wire| wire.to.port() == UDP_PORT);
    assert!(
        clients
            .clone()
            .all(|wire| (51_200..=51_455).contains(&wire.from.port()))
    );
    let (handed_over, taken_over, full) = handovers(&net, &nodes);
    assert_eq!((taken_over, full), (handed_over, 0));
    let received = nodes
        .iter()
        .map(|&node| net.counters(node).udp_received.get())
        .sum();
    (handed_over, received)
}

/// A device with three queues.
fn device() -> (Vec<u8>, Vec<u16>) {
    let mut random = Random(0x55);
    let key = (0..40).map(|_| random.next() as u8).collect();
    (key, (0..128).map(|entry| entry % 3).collect())
}

fn hashed() -> Queues {
    let (key, table) = device();
    Box::new(move |wire: &Wire, _| {
        let hash = toeplitz(&key, wire.from, wire.to);
        usize::from(table[hash as usize % table.len()])
    })
}

#[test]
fn answers_to_clients_hash_to_their_queue() {
    let (key, table) = device();
    let rss = |queue| {
        Some(RssQueue {
            key: key.clone(),
            table: table.clone(),
            queue,
            addresses: vec![address(1)],
        })
    };
    let (handed_over, received) = client_shards(rss, hashed());
    assert_eq!(handed_over, 0);
    assert!(received > 1_000);
}

#[test]
fn answers_to_clients_are_handed_over_where_nobody_knows_how_they_hash() {
    let (handed_over, received) = client_shards(|_| None, hashed());
    assert!(handed_over > received / 3, "{handed_over} of {received}");
    client_shards(|_| None, anywhere());
}
