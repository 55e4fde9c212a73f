//! Slow readers, silent peers, devices that take nothing, lcores that do not run: what connections survive, and what
//! they cost meanwhile.

use std::time::Duration;

use poll::Transport;
use quinn_proto::ConnectionError;
use stoq::app::{Application, ConnectTarget, Connection, Context, Dir, StreamId};

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Setup, ready};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;
/// What a link of the tests carries, in bytes a second.
const RATE: u64 = 10_000_000;

fn pair(setup: &Setup, requests: Vec<Request>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link {
        rate: Some(RATE),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    let application = Client::new(&client, setup.target("test"), requests);
    net.add(setup.clients(vec![ready(application)]));
    (net, server, client)
}

/// Asks for as much as a server can send, and reads none of it.
struct NeverReads(Option<ConnectTarget>);

impl Application for NeverReads {
    fn run(&mut self, shard: &mut Context<'_>) {
        if let Some(target) = self.0.take() {
            shard.connect(&target).unwrap();
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        for _ in 0..4 {
            let id = connection.open(Dir::Bi).unwrap();
            let bytes = (1u64 << 40).to_be_bytes();
            assert_eq!(connection.write(id, &bytes), Ok(8));
            connection.finish(id);
        }
    }

    fn readable(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}
}

#[test]
fn a_reader_that_reads_nothing_is_sent_its_window() {
    let mut setup = Setup::default();
    setup.settings.receive_window = MIB;
    setup.settings.stream_receive_window = MIB;
    setup.settings.send_window = MIB / 2;
    setup.settings.keep_alive = Some(5 * SECOND);
    let (server, busy) = (Log::default(), Log::default());
    let mut net = Net::new(Link {
        rate: Some(RATE),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    net.add(setup.clients(vec![
        ready(NeverReads(Some(setup.target("test")))),
        ready(Client::new(
            &busy,
            setup.target("test"),
            vec![Request::download(10 * MIB)],
        )),
    ]));
    net.run_for(60 * SECOND);
    // The other one is served, and this one holds what it was promised, no more.
    assert_eq!(busy.lock().completed.len(), 1);
    let sent = net.counters(0).bytes_sent.get() - 10 * MIB;
    assert!((MIB..=MIB + MIB / 2).contains(&sent), "{sent} bytes sent");
    assert_eq!(server.reasons(), []);
}

#[test]
fn a_peer_that_never_acknowledges_holds_the_send_window_until_it_times_out() {
    let mut setup = Setup::default();
    setup.settings.send_window = MIB;
    setup.settings.idle_timeout = Some(10 * SECOND);
    let (mut net, server, _) = pair(&setup, vec![Request::download(1 << 40)]);
    net.run_for(100 * MILLISECOND);
    net.away = Some(1);
    let before = net.counters(0).bytes_sent.get();
    net.run_for(5 * SECOND);
    assert_eq!(server.reasons(), []);
    let taken = net.counters(0).bytes_sent.get() - before;
    assert!(taken <= MIB, "{taken} bytes taken from the application");
    net.run_for(15 * SECOND);
    assert_eq!(server.reasons(), [ConnectionError::TimedOut]);
    assert_eq!(net.counters(0).connections_current.get(), 0);
    assert_eq!(net.counters(0).connections_lost.get(), 1);
    assert_eq!(net.shard(0).timeout(), None, "nothing is left to wait for");
}

/// Transfers both ways, during which something happens at 100 ms; returns what is left to look at.
fn disturbed(setup: &Setup, disturb: impl FnOnce(&mut Net)) -> (Net, Log, Log) {
    let requests = vec![Request::download(3 * MIB), Request::upload(3 * MIB)];
    let (mut net, server, client) = pair(setup, requests);
    net.run_for(100 * MILLISECOND);
    assert_eq!(client.lock().completed.len(), 0);
    disturb(&mut net);
    net.run_until(20 * SECOND, |_| client.lock().completed.len() == 2);
    assert_eq!(client.lock().received.values().sum::<u64>(), 3 * MIB);
    assert_eq!(server.lock().received.values().sum::<u64>(), 3 * MIB);
    for node in [0, 1] {
        assert_eq!(net.counters(node).connections_lost.get(), 0);
    }
    (net, server, client)
}

#[test]
fn transfers_go_on_after_a_device_took_nothing_for_seconds() {
    for node in [0, 1] {
        for seconds in [1, 3, 10] {
            disturbed(&Setup::default(), |net| {
                let before = net.counters(node).udp_sent.get();
                net.stalled = Some(node);
                net.run_for(seconds * SECOND);
                // Nothing was built that could not be sent.
                assert_eq!(net.counters(node).udp_sent.get(), before);
                net.stalled = None;
            });
        }
    }
}

#[test]
fn transfers_go_on_after_an_lcore_did_not_run_for_seconds() {
    for node in [0, 1] {
        for seconds in [1, 2, 3] {
            disturbed(&Setup::default(), |net| {
                net.away = Some(node);
                net.run_for(seconds * SECOND);
                net.away = None;
            });
        }
    }
}

#[test]
fn a_clock_that_jumps_again_and_again_costs_no_connection() {
    disturbed(&Setup::default(), |net| {
        for jump in 0..20 {
            net.away = Some(jump % 2);
            net.run_for(500 * MILLISECOND);
            net.away = None;
            net.run_for(20 * MILLISECOND);
        }
    });
}

#[test]
fn what_arrived_during_a_pause_counts_before_the_idle_timer() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(4 * SECOND);
    setup.settings.keep_alive = Some(SECOND);
    let (mut net, server, client) = pair(&setup, Vec::new());
    net.run_for(SECOND / 2);
    // The server's idle timer is due when it comes back, but the client's pings wait in its ring.
    net.away = Some(0);
    net.run_for(Duration::from_millis(3_900));
    net.away = None;
    net.run_for(20 * SECOND);
    assert_eq!(server.reasons(), []);
    assert_eq!(client.reasons(), []);
}

#[test]
fn a_pause_beyond_the_idle_timeout_ends_connections_for_that_reason() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(4 * SECOND);
    let (mut net, server, client) = pair(&setup, vec![Request::download(1 << 40)]);
    net.run_for(SECOND / 2);
    net.away = Some(1);
    net.run_for(10 * SECOND);
    assert_eq!(server.reasons(), [ConnectionError::TimedOut]);
    net.away = None;
    net.run_for(10 * SECOND);
    assert_eq!(client.reasons().len(), 1);
    for node in [0, 1] {
        assert_eq!(net.counters(node).connections_lost.get(), 1);
        assert_eq!(net.counters(node).connections_current.get(), 0);
    }
}

#[test]
fn a_device_that_takes_nothing_does_not_hold_up_the_end() {
    let setup = Setup {
        drain_timeout: 2 * SECOND,
        ..Setup::default()
    };
    // With nothing to do, the connection could be closed at once.
    for request in [Vec::new(), vec![Request::download(1 << 40)]] {
        let (mut net, server, _) = pair(&setup, request);
        net.run_for(SECOND / 2);
        net.stalled = Some(0);
        net.stop(0);
        net.run_for(2 * SECOND);
        assert!(!net.shard(0).is_drained());
        net.run_for(600 * MILLISECOND);
        assert!(net.shard(0).is_drained());
        assert_eq!(server.reasons(), [ConnectionError::LocallyClosed]);
    }
}

#[test]
fn a_device_that_takes_frames_again_tells_the_peer_of_the_end() {
    let setup = Setup {
        drain_timeout: 2 * SECOND,
        ..Setup::default()
    };
    let (mut net, _, client) = pair(&setup, Vec::new());
    net.run_for(SECOND / 2);
    net.stalled = Some(0);
    net.stop(0);
    net.run_for(SECOND);
    assert!(!net.shard(0).is_drained());
    net.stalled = None;
    net.run_for(100 * MILLISECOND);
    assert!(net.shard(0).is_drained());
    assert!(matches!(
        client.reasons()[..],
        [ConnectionError::ApplicationClosed(_)]
    ));
}

#[test]
fn a_peer_that_is_gone_does_not_hold_up_the_end() {
    let setup = Setup {
        drain_timeout: 2 * SECOND,
        ..Setup::default()
    };
    let (mut net, server, _) = pair(&setup, vec![Request::download(1 << 40)]);
    net.run_for(SECOND / 2);
    net.away = Some(1);
    net.stop(0);
    net.run_for(2 * SECOND - MILLISECOND);
    assert!(!net.shard(0).is_drained());
    net.run_for(100 * MILLISECOND);
    assert!(net.shard(0).is_drained());
    assert_eq!(server.reasons(), [ConnectionError::LocallyClosed]);
}

#[test]
fn a_crowd_of_timers_fires_in_parts() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Some(5 * SECOND);
    // All connect at once: more Retries than may wait would be due, and their loss be a matter of luck.
    setup.limits.retry_above = setup.limits.incoming;
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut crowd = Client::new(&client, setup.target("test"), Vec::new());
    crowd.connections = 600;
    net.add(setup.clients(vec![ready(crowd)]));
    net.run_until(5 * SECOND, |_| server.lock().connected.len() == 600);
    net.settle();
    net.away = Some(0);
    net.run_for(20 * SECOND);
    assert_eq!(client.reasons().len(), 600);
    net.away = None;
    // All are due at once.
    net.run_for(MILLISECOND);
    let reasons = server.reasons();
    let timed_out = |reason: &&ConnectionError| **reason == ConnectionError::TimedOut;
    assert_eq!(reasons.iter().filter(timed_out).count(), 600);
    assert_eq!(reasons.len(), 600);
    assert_eq!(net.counters(0).connections_current.get(), 0);
}
