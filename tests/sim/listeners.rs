//! Listeners that applications open and close while their shard runs.

use std::time::Duration;

use quinn_proto::{ConnectionError, TransportErrorCode};
use stoq::shard::{ShardConfig, ShardError};

use crate::agents::{Desk, Mute};
use crate::apps::{Client, Log, Request};
use crate::net::{Link, Net, Setup, UDP_PORT, assert_adds_up, ready};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;
/// Where agents listen.
const OWN_PORT: u16 = 5_000;

/// Adds a node with a client that makes one request of a server on node 0; returns its index.
pub fn connect_to(net: &mut Net, setup: &Setup, udp_port: u16, alpn: &str, log: &Log) -> usize {
    download_from(net, setup, udp_port, alpn, log, 1_000)
}

fn download_from(
    net: &mut Net,
    setup: &Setup,
    udp_port: u16,
    alpn: &str,
    log: &Log,
    bytes: u64,
) -> usize {
    let mut target = setup.target(alpn);
    target.remote.set_port(udp_port);
    let client = Client::new(log, target, vec![Request::download(bytes)]);
    net.add(setup.clients(vec![ready(client)]))
}

fn is_refusal(reasons: &[ConnectionError]) -> bool {
    let refused = TransportErrorCode::CONNECTION_REFUSED;
    matches!(reasons, [ConnectionError::ConnectionClosed(close)] if close.error_code == refused)
}

#[test]
fn a_port_is_listened_on_let_go_and_listened_on_again() {
    let setup = Setup::default();
    let (desk, old, refused, new, other) = (
        Desk::default(),
        Log::default(),
        Log::default(),
        Log::default(),
        Log::default(),
    );
    let mut net = Net::new(Link {
        rate: Some(10_000_000),
        ..Link::default()
    });
    net.add(setup.agents(vec![desk.agent()]));
    desk.listen(&mut net, &setup, OWN_PORT, "test");
    download_from(&mut net, &setup, OWN_PORT, "test", &old, 10 * MIB);
    net.run_for(SECOND / 2);
    assert_eq!(old.lock().connected.len(), 1);

    // Let go: who is connected stays so, and nobody else is let in.
    desk.unlisten(&mut net, OWN_PORT);
    connect_to(&mut net, &setup, OWN_PORT, "test", &refused);
    net.run_for(SECOND / 10);
    assert!(is_refusal(&refused.reasons()), "{:?}", refused.reasons());
    assert_eq!(net.counters(0).connections_refused.get(), 1);
    assert!(old.lock().completed.is_empty() && old.reasons().is_empty());

    // Again, with another protocol.
    desk.listen(&mut net, &setup, OWN_PORT, "again");
    connect_to(&mut net, &setup, OWN_PORT, "again", &new);
    connect_to(&mut net, &setup, OWN_PORT, "test", &other);
    net.run_for(SECOND / 5);
    assert_eq!(new.lock().completed.len(), 1);
    assert_eq!(new.lock().connected[0].alpn, b"again");
    assert_eq!(other.lock().connected.len(), 0, "no longer spoken");
    assert!(old.lock().completed.is_empty() && old.reasons().is_empty());
    net.run_until(5 * SECOND, |_| old.lock().completed.len() == 1);
    assert_eq!(desk.log.lock().connected.len(), 2);
    assert_adds_up(&net.counters(0));
}

#[test]
fn whoever_came_before_the_listener_gets_in_when_it_is_there() {
    let setup = Setup::default();
    let (desk, client) = (Desk::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.agents(vec![desk.agent()]));
    connect_to(&mut net, &setup, OWN_PORT, "test", &client);
    net.run_for(SECOND / 2);
    assert!(net.counters(0).dropped_unknown_udp_port.get() > 0);
    desk.listen(&mut net, &setup, OWN_PORT, "test");
    net.run_until(5 * SECOND, |_| client.lock().completed.len() == 1);
}

#[test]
fn listeners_that_make_no_sense_are_errors() {
    let setup = Setup::default();
    let (desk, other) = (Desk::default(), Desk::default());
    let mut net = Net::new(Link::default());
    net.add(ShardConfig {
        agents: vec![desk.agent(), other.agent()],
        ..setup.server("static", Mute)
    });
    desk.listen(&mut net, &setup, OWN_PORT, "test");
    let mut error = |udp_port, alpns: &[&str]| {
        let listened = desk.try_listen(&mut net, &setup, udp_port, alpns);
        listened.expect_err("an error")
    };
    let twice = |error| matches!(error, ShardError::UdpPortTwice(_));
    assert!(matches!(error(0, &["test"]), ShardError::UdpPortZero));
    assert!(twice(error(OWN_PORT, &["test"])), "its own");
    assert!(
        twice(error(UDP_PORT, &["test"])),
        "that of the configuration"
    );
    assert!(twice(error(50_000, &["test"])), "where connections begin");
    let none = error(5_001, &[]);
    assert!(matches!(none, ShardError::NoService(5_001)));
    let same = error(5_001, &["one", "two", "one"]);
    assert!(matches!(same, ShardError::AlpnTwice { udp_port: 5_001, alpn } if alpn == "one"));

    // What is another's is not let go.
    desk.unlisten(&mut net, UDP_PORT);
    desk.unlisten(&mut net, 50_000);
    other.unlisten(&mut net, OWN_PORT);
    other.unlisten(&mut net, 5_001);
    for (udp_port, alpn) in [(UDP_PORT, "static"), (OWN_PORT, "test")] {
        let client = Log::default();
        connect_to(&mut net, &setup, udp_port, alpn, &client);
        net.run_until(SECOND, |_| client.lock().connected.len() == 1);
    }
    // What was let go is anybody's.
    desk.unlisten(&mut net, OWN_PORT);
    other.listen(&mut net, &setup, OWN_PORT, "test");
    let client = Log::default();
    connect_to(&mut net, &setup, OWN_PORT, "test", &client);
    net.run_until(SECOND, |_| client.lock().completed.len() == 1);
    assert_eq!(desk.log.lock().connected.len(), 1);
    assert_eq!(other.log.lock().connected.len(), 1);
}

#[test]
fn a_shard_does_not_keep_every_port_that_was_listened_on() {
    let setup = Setup::default();
    let (desk, client) = (Desk::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.agents(vec![desk.agent()]));
    desk.listen(&mut net, &setup, OWN_PORT, "test");
    connect_to(&mut net, &setup, OWN_PORT, "test", &client);
    net.run_until(SECOND, |_| client.lock().completed.len() == 1);
    desk.unlisten(&mut net, OWN_PORT);
    for udp_port in OWN_PORT + 1..OWN_PORT + 50 {
        desk.listen(&mut net, &setup, udp_port, "test");
        desk.unlisten(&mut net, udp_port);
    }
    // That of the clients, that with a connection, and the last one.
    let udp_ports: Vec<_> = net.shard(0).udp_ports().collect();
    assert_eq!(udp_ports.len(), 3, "{udp_ports:?}");
    assert!(udp_ports.contains(&OWN_PORT));
    assert_eq!(client.reasons(), []);
    net.stop(1);
    net.run_for(5 * SECOND);
    let closed = net.counters(0).connections_current.get();
    assert_eq!(closed, 0, "its datagrams still found it");
}

#[test]
fn listeners_of_an_application_that_panicked_are_closed() {
    let setup = Setup::default();
    let (desk, client) = (Desk::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.agents(vec![desk.agent()]));
    desk.listen(&mut net, &setup, UDP_PORT, "test");
    desk.leave(|_| panic!("told to"));
    net.run_for(MILLISECOND);
    connect_to(&mut net, &setup, UDP_PORT, "test", &client);
    net.run_for(SECOND);
    assert!(is_refusal(&client.reasons()), "{:?}", client.reasons());
    assert_eq!(net.counters(0).application_panics.get(), 1);
}
