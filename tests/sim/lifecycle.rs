//! How connections begin, end, and are kept within bounds.

use std::time::{Duration, Instant};

use poll::Transport;
use quinn_proto::{ConnectionError, TransportErrorCode, VarInt};
use stoq::app::{Application, Connection, Context, PANICKED};
use stoq::shard::{ListenerConfig, Shard, ShardError, ShardLimits};
use stoq::steering::ClientPorts;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Setup, UDP_PORT, ready};

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// A server on node 0 and `connections` of one client on node 1.
fn pair(setup: &Setup, connections: usize, requests: Vec<Request>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut application = Client::new(&client, setup.target("test"), requests);
    application.connections = connections;
    net.add(setup.clients(vec![ready(application)]));
    (net, server, client)
}

fn with_idle_timeout(keep_alive: Option<Duration>) -> Setup {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(5 * SECOND);
    setup.settings.keep_alive = keep_alive;
    setup
}

#[test]
fn an_idle_connection_times_out() {
    let (mut net, server, client) = pair(&with_idle_timeout(None), 1, Vec::new());
    net.run_for(4 * SECOND);
    assert!(client.reasons().is_empty());
    net.run_for(3 * SECOND);
    assert_eq!(client.reasons(), [ConnectionError::TimedOut]);
    assert_eq!(server.reasons(), [ConnectionError::TimedOut]);
    for node in [0, 1] {
        assert_eq!(net.counters(node).connections_lost.get(), 1);
        assert_eq!(net.counters(node).connections_current.get(), 0);
        assert_eq!(
            net.shard(node).timeout(),
            None,
            "nothing is left to wait for"
        );
    }
}

#[test]
fn keep_alive_keeps_it() {
    let (mut net, server, client) = pair(&with_idle_timeout(Some(2 * SECOND)), 1, Vec::new());
    net.run_for(60 * SECOND);
    assert!(client.reasons().is_empty() && server.reasons().is_empty());
}

#[test]
fn an_idle_shard_asks_for_no_turns() {
    let (mut net, _, client) = pair(&Setup::default(), 1, vec![Request::download(1_000)]);
    net.run_for(10 * SECOND);
    assert_eq!(client.lock().completed.len(), 1);
    let now = net.now;
    for node in [0, 1] {
        let timeout = net.shard(node).timeout().expect("the idle time-out");
        assert!(timeout > now + 10 * SECOND);
    }
}

#[test]
fn an_unreachable_server_is_a_lost_connection() {
    let (mut net, _, client) = pair(&with_idle_timeout(None), 1, Vec::new());
    net.link.loss = 1.0;
    net.run_for(10 * SECOND);
    assert_eq!(client.reasons(), [ConnectionError::TimedOut]);
    assert_eq!(net.counters(1).connections_lost.get(), 1);
    assert!(net.shard(1).clients_finished());
}

#[test]
fn a_close_by_the_application_is_no_loss_and_tells_the_peer() {
    let setup = Setup::default();
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut application = Client::new(&client, setup.target("test"), vec![Request::download(10)]);
    application.close = true;
    net.add(setup.clients(vec![ready(application)]));
    assert!(!net.shard(1).clients_finished());
    net.run_for(5 * SECOND);
    assert_eq!(client.reasons(), [ConnectionError::LocallyClosed]);
    match &server.reasons()[..] {
        [ConnectionError::ApplicationClosed(close)] => {
            assert_eq!(close.error_code, VarInt::from_u32(7));
            assert_eq!(close.reason, "done");
        }
        other => panic!("{other:?}"),
    }
    for node in [0, 1] {
        assert_eq!(net.counters(node).connections_lost.get(), 0);
        assert_eq!(net.counters(node).connections_current.get(), 0);
        assert_eq!(net.counters(node).connections_peak.get(), 1);
    }
    assert!(net.shard(1).clients_finished());
    assert_eq!(net.counters(1).clients_finished.get(), 1);
}

fn is_refusal(reason: &ConnectionError) -> bool {
    let refused = TransportErrorCode::CONNECTION_REFUSED;
    matches!(reason, ConnectionError::ConnectionClosed(close) if close.error_code == refused)
}

#[test]
fn connections_above_the_limit_are_refused() {
    let client = Setup::default();
    let (server_log, client_log) = (Log::default(), Log::default());
    let server = Setup {
        identity: client.identity.clone(),
        limits: ShardLimits {
            connections: 3,
            ..ShardLimits::default()
        },
        ..Setup::default()
    };
    let mut net = Net::new(Link::default());
    net.add(server.server("test", Server::new(&server_log)));
    let mut application = Client::new(
        &client_log,
        client.target("test"),
        vec![Request::upload(10)],
    );
    application.connections = 5;
    net.add(client.clients(vec![ready(application)]));
    net.run_for(5 * SECOND);
    assert_eq!(client_log.lock().completed.len(), 3);
    assert_eq!(client_log.reasons().len(), 2);
    assert!(
        client_log.reasons().iter().all(is_refusal),
        "{:?}",
        client_log.reasons()
    );
    let counters = net.counters(0);
    assert_eq!(counters.connections_accepted.get(), 3);
    assert_eq!(counters.connections_refused.get(), 2);
    assert_eq!(counters.connections_peak.get(), 3);
    assert_eq!(counters.connections_lost.get(), 0);
}

#[test]
fn a_client_stays_within_its_own_limit() {
    let mut setup = Setup::default();
    setup.limits.connections = 2;
    let (mut net, server, _) = pair(&setup, 5, Vec::new());
    net.settle();
    assert_eq!(server.lock().connected.len(), 2);
    assert_eq!(net.counters(1).connections_opened.get(), 2);
}

#[test]
fn many_handshakes_at_once_must_prove_their_address() {
    let mut setup = Setup::default();
    setup.limits.retry_above = 2;
    let (mut net, _, client) = pair(&setup, 10, vec![Request::download(10)]);
    net.run_until(5 * SECOND, |_| client.lock().completed.len() == 10);
    let counters = net.counters(0);
    assert_eq!(counters.retries.get(), 8);
    assert_eq!(counters.handshakes.get(), 10);
    assert!(client.reasons().is_empty());
}

#[test]
fn handshakes_in_flight_are_bounded_and_the_bound_is_released() {
    let mut setup = Setup::default();
    setup.limits.incoming = 4;
    setup.limits.retry_above = 4;
    let (mut net, _, client) = pair(&setup, 10, vec![Request::download(10)]);
    // Six hear nothing, and come again when the four have left.
    net.run_until(5 * SECOND, |_| client.lock().completed.len() == 4);
    assert_eq!(net.counters(0).dropped_incoming_full.get(), 6);
    assert_eq!(net.counters(0).connections_refused.get(), 0);
    net.run_until(5 * SECOND, |_| client.lock().completed.len() == 10);
    assert!(client.reasons().is_empty());
}

#[test]
fn stop_lets_transfers_finish_closes_the_rest_and_takes_nothing_new() {
    let setup = Setup::default();
    let (server, idle, busy, late) = (
        Log::default(),
        Log::default(),
        Log::default(),
        Log::default(),
    );
    let mut net = Net::new(Link {
        rate: Some(10_000_000),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    let client = |log: &Log, requests| Client::new(log, setup.target("test"), requests);
    let mut after = client(&late, Vec::new());
    after.start = Some(net.now + SECOND / 2 + SECOND / 100);
    net.add(setup.clients(vec![
        ready(client(&idle, Vec::new())),
        ready(client(&busy, vec![Request::download(10 * MIB)])),
        ready(after),
    ]));
    net.run_for(SECOND / 2);
    assert!(busy.lock().completed.is_empty());
    net.stop(0);
    assert!(server.lock().stopped);
    net.run_for(SECOND / 5);
    assert!(
        matches!(&idle.reasons()[..], [ConnectionError::ApplicationClosed(close)]
        if close.reason == "shutting down" && close.error_code == VarInt::from_u32(0))
    );
    assert!(is_refusal(&late.reasons()[0]));
    assert!(!net.shard(0).is_drained());

    net.run_until(2 * SECOND, |net| net.shard(0).is_drained());
    assert_eq!(busy.lock().completed.len(), 1);
    assert_eq!(net.counters(0).connections_lost.get(), 0);
}

#[test]
fn stop_does_not_wait_longer_than_the_drain_timeout() {
    let setup = Setup {
        drain_timeout: 2 * SECOND,
        ..Setup::default()
    };
    let (mut net, server, client) = pair(&setup, 1, vec![Request::download(1 << 40)]);
    net.link.rate = Some(10_000_000);
    net.run_for(SECOND / 10);
    net.stop(0);
    net.stop(1);
    net.run_for(SECOND);
    assert!(!net.shard(0).is_drained());
    net.run_for(SECOND + SECOND / 10);
    assert!(net.shard(0).is_drained() && net.shard(1).is_drained());
    assert_eq!(server.reasons(), [ConnectionError::LocallyClosed]);
    assert_eq!(client.reasons().len(), 1);
    for node in [0, 1] {
        assert_eq!(net.counters(node).connections_lost.get(), 0);
    }
}

#[test]
fn stop_without_connections_is_drained_at_once() {
    let mut net = Net::new(Link::default());
    net.add(Setup::default().server("test", Server::default()));
    assert!(!net.shard(0).is_drained());
    net.stop(0);
    assert!(net.shard(0).is_drained());
}

#[test]
fn a_panic_in_a_callback_costs_one_connection() {
    let setup = Setup::default();
    let (server_log, bad, good) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    let mut server = Server::new(&server_log);
    server.panic_at = Some(13);
    net.add(setup.server("test", server));
    let client =
        |log, bytes| Client::new(log, setup.target("test"), vec![Request::upload(bytes); 3]);
    net.add(setup.clients(vec![ready(client(&bad, 13)), ready(client(&good, 14))]));
    net.run_for(5 * SECOND);
    assert_eq!(good.lock().completed.len(), 3);
    assert!(bad.lock().completed.is_empty());
    assert!(
        matches!(&bad.reasons()[..], [ConnectionError::ApplicationClosed(close)]
        if close.error_code == PANICKED && close.reason == "internal error")
    );
    assert_eq!(server_log.reasons(), [ConnectionError::LocallyClosed]);
    assert_eq!(net.counters(0).application_panics.get(), 1);
    assert_eq!(net.counters(0).connections_current.get(), 1);
}

/// Panics when it runs for the second time, or when it is asked for its time after that.
struct PanicsInRun {
    runs: usize,
    in_timeout: bool,
    again: Instant,
    inner: Client,
}

impl Application for PanicsInRun {
    fn timeout(&self) -> Option<Instant> {
        assert!(self.runs < 2, "told to panic");
        Some(self.again)
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.runs += 1;
        assert!(self.runs < 2 || self.in_timeout, "told to panic");
        self.inner.run(shard);
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.inner.connected(connection);
    }
}

#[test]
fn a_panic_outside_of_connections_ends_the_application_only() {
    for in_timeout in [false, true] {
        panic_outside_of_connections(in_timeout);
    }
}

fn panic_outside_of_connections(in_timeout: bool) {
    let setup = Setup::default();
    let (server, bad, good) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let bad = PanicsInRun {
        runs: 0,
        in_timeout,
        again: net.now + SECOND / 2,
        inner: Client::new(&bad, setup.target("test"), Vec::new()),
    };
    let mut other = Client::new(&good, setup.target("test"), vec![Request::download(10)]);
    other.start = Some(net.now + SECOND);
    net.add(setup.clients(vec![ready(bad), ready(other)]));
    net.run_until(3 * SECOND, |_| good.lock().completed.len() == 1);
    assert!(
        matches!(&server.reasons()[..], [ConnectionError::ApplicationClosed(close)]
        if close.error_code == PANICKED)
    );
    assert_eq!(net.counters(1).application_panics.get(), 1);
    assert!(net.shard(1).clients_finished());
}

#[test]
fn a_shard_that_cannot_work_is_refused() {
    let setup = Setup::default();
    let config = || setup.server("test", Server::default());
    let error = |config| Shard::new(config, Instant::now()).err().expect("an error");

    let mut twice = config();
    twice.listeners.push(config().listeners.remove(0));
    assert!(matches!(error(twice), ShardError::UdpPortTwice(UDP_PORT)));
    let mut zero = config();
    zero.listeners[0].udp_port = 0;
    assert!(matches!(error(zero), ShardError::UdpPortZero));
    let mut empty = config();
    empty.listeners[0].services.clear();
    assert!(matches!(error(empty), ShardError::NoService(UDP_PORT)));
    let mut same = config();
    let ListenerConfig { services, .. } = &mut same.listeners[0];
    services.push(config().listeners.remove(0).services.remove(0));
    assert!(
        matches!(error(same), ShardError::AlpnTwice { udp_port: UDP_PORT, alpn } if alpn == "test")
    );
    let mut small = config();
    small.udp_payload_max = 1_199;
    assert!(matches!(error(small), ShardError::UdpPayload(1_199)));
    let mut limit = config();
    limit.limits.turn_budget = 0;
    assert!(matches!(error(limit), ShardError::ZeroLimit("turn_budget")));
    let mut clients = setup.clients(vec![ready(Server::default())]);
    clients.listeners = config().listeners;
    clients.client_ports = ClientPorts::one(UDP_PORT);
    assert!(matches!(error(clients), ShardError::UdpPortTwice(UDP_PORT)));
}
