//! The performance protocol.

use std::time::Duration;

use stoq::app::{ConnectTarget, Dir, ReadError, Side, StreamId, VarInt};
use stoq::clients::perf::PerfClient;
use stoq::clients::{ClientHandle, ClientResults, LatencyFrom, Rate};
use stoq::services::ServiceCounters;
use stoq::services::perf::{ALPN, PerfService};

use super::raw::{Raw, RawLog, Script};
use super::{MS, SECOND, counters, join, latency_ms, results};
use crate::net::{Link, Net, Setup, ready};

fn client(target: ConnectTarget) -> PerfClient {
    PerfClient {
        target,
        connections: 1,
        streams: 1,
        upload: 0,
        download: 0,
        repeat: false,
        requests: None,
        rate: None,
        duration: None,
    }
}

fn target(setup: &Setup) -> ConnectTarget {
    setup.target("perf")
}

/// A network with the service and a client in it.
fn net(setup: &Setup, client: PerfClient) -> (Net, ClientHandle) {
    let mut net = Net::new(Link::default());
    let (application, handle) = client.application();
    let server = PerfService::default();
    join(&mut net, setup, ALPN, server, vec![ready(application)]);
    (net, handle)
}

fn run(setup: &Setup, client: PerfClient) -> ClientResults {
    let (mut net, handle) = net(setup, client);
    results(&mut net, 120 * SECOND, &handle)
}

#[test]
fn every_size_up_and_down() {
    let setup = Setup::default();
    for (upload, download) in [(0, 0), (1, 0), (0, 1), (1, 1), (3_000_001, 700_001)] {
        let results = run(
            &setup,
            PerfClient {
                upload,
                download,
                streams: 3,
                connections: 2,
                ..client(target(&setup))
            },
        );
        assert!(results.failures.is_empty(), "{:?}", results.failures);
        assert_eq!((results.completed, results.unanswered), (6, 0));
        assert_eq!(results.bytes_sent, 6 * upload);
        assert_eq!(results.bytes_received, 6 * download);
        assert_eq!(results.latency.len(), 6);
    }
}

#[test]
fn a_closed_loop_runs_for_its_time() {
    let setup = Setup::default();
    let results = run(
        &setup,
        PerfClient {
            download: 100,
            repeat: true,
            duration: Some(SECOND),
            ..client(target(&setup))
        },
    );
    // One request at a time, 10 ms each.
    assert!((95..=100).contains(&results.completed), "{results:?}");
    assert_eq!(results.elapsed.as_millis(), 1000);
    assert_eq!(results.latency_from, LatencyFrom::Begin);
    assert!((9.9..11.0).contains(&latency_ms(&results, 0.5)));
    assert_eq!(results.failures_total, 0);
}

#[test]
fn a_number_of_requests_is_shared_by_connections() {
    let setup = Setup::default();
    let results = run(
        &setup,
        PerfClient {
            connections: 3,
            streams: 2,
            download: 10_000,
            requests: Some(100),
            ..client(target(&setup))
        },
    );
    assert_eq!(
        (results.completed, results.bytes_received),
        (100, 1_000_000)
    );
    assert_eq!(results.failures_total, 0);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let setup = Setup::default();
    let (mut net, handle) = net(
        &setup,
        PerfClient {
            connections: 4,
            download: 50,
            rate: Rate::per_second(1000.0),
            duration: Some(SECOND),
            ..client(target(&setup))
        },
    );
    let results = results(&mut net, 10 * SECOND, &handle);
    assert_eq!((results.completed, results.unanswered), (1000, 0));
    assert_eq!(results.latency_from, LatencyFrom::Schedule);
    assert!((9.9..11.0).contains(&latency_ms(&results, 0.5)));
    // The connections take turns.
    assert_eq!(net.counters(1).streams_opened.get(), 1000);
    assert_eq!(net.counters(0).connections_accepted.get(), 4);
}

#[test]
fn an_overload_shows_in_the_latency_and_not_in_the_schedule() {
    let mut setup = Setup::default();
    setup.settings.bidi_streams = 1; // One request in 10 ms at best, and 200 a second are due.
    let results = run(
        &setup,
        PerfClient {
            rate: Rate::per_second(200.0),
            duration: Some(2 * SECOND),
            ..client(target(&setup))
        },
    );
    let answered = results.completed;
    assert!((50..=300).contains(&answered), "{answered}");
    assert_eq!(answered + results.unanswered, 400);
    assert!(latency_ms(&results, 1.0) > 500.0, "waiting counts");
    assert_eq!(results.failures_total, 0);
}

#[test]
fn a_connection_that_fails_is_listed_and_the_others_go_on() {
    let mut setup = Setup::default();
    setup.limits.connections = 2;
    let (mut net, handle) = net(
        &setup,
        PerfClient {
            connections: 3,
            download: 10,
            requests: Some(20),
            ..client(target(&setup))
        },
    );
    let results = results(&mut net, 60 * SECOND, &handle);
    assert_eq!((results.completed, results.failures_total), (20, 1));
    let failure = results.failures[0].to_string();
    assert!(failure.contains("[fd00::1]:4433"), "{failure}");
}

#[test]
fn a_share_is_not_made_up_for() {
    let mut setup = Setup::default();
    setup.limits.connections = 1;
    let (mut net, handle) = net(
        &setup,
        PerfClient {
            connections: 3,
            streams: 4,
            download: 10,
            ..client(target(&setup))
        },
    );
    let results = results(&mut net, 60 * SECOND, &handle);
    assert_eq!((results.completed, results.failures_total), (4, 2));
}

#[test]
fn an_unreachable_server_is_a_failure() {
    let setup = Setup::default();
    let mut net = Net::new(Link {
        loss: 1.0,
        ..Link::default()
    });
    let (application, handle) = client(target(&setup)).application();
    join(
        &mut net,
        &setup,
        ALPN,
        PerfService::default(),
        vec![ready(application)],
    );
    let results = results(&mut net, 120 * SECOND, &handle);
    assert_eq!((results.completed, results.failures_total), (0, 1));
    let failure = results.failures[0].to_string();
    assert!(
        failure.contains("connection 0") && failure.contains("timed out"),
        "{failure}"
    );
}

#[test]
fn stopping_hands_over_what_there_is() {
    let setup = Setup::default();
    let (mut net, handle) = net(
        &setup,
        PerfClient {
            download: u64::MAX,
            repeat: true,
            ..client(target(&setup))
        },
    );
    net.run_for(200 * MS);
    assert!(handle.take_results().is_none());
    net.stop(1);
    let results = handle.take_results().expect("at the stop");
    assert!(
        results.bytes_received > 100_000,
        "{}",
        results.bytes_received
    );
    assert_eq!((results.completed, results.unanswered), (0, 1));
    assert_eq!(results.failures_total, 0);
    net.run_for(SECOND);
    assert_eq!(net.counters(0).connections_current.get(), 0);
}

#[test]
fn refused_early_data_is_sent_again() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let config = PerfClient {
        streams: 5,
        upload: 100,
        // Within three times what has come: the server has not validated the client's address yet.
        download: 100,
        ..client(target(&setup))
    };
    let mut net = Net::new(Link::default());
    net.add(setup.server("perf", PerfService::default()));
    for replaced in [None, Some(false), Some(true)] {
        if replaced == Some(true) {
            // Another process, which knows nothing of the tickets.
            net.replace(0, setup.server("perf", PerfService::default()));
        }
        let (application, handle) = config.clone().application();
        let node = net.add(setup.clients(vec![ready(application)]));
        net.run_until(10 * SECOND, |net| net.shard(node).clients_finished());
        let results = handle.take_results().unwrap();
        assert!(results.failures.is_empty(), "{:?}", results.failures);
        assert_eq!((results.completed, results.bytes_received), (5, 500));
        let accepted = net.counters(node).early_data_accepted.get();
        assert_eq!(accepted, u64::from(replaced == Some(false)), "{replaced:?}");
        // Early requests are answered with the handshake's round trip, or another one later.
        let expected = if replaced == Some(true) { 20.0 } else { 10.0 };
        let latency = latency_ms(&results, 1.0);
        assert!(
            (expected - 0.1..expected + 6.0).contains(&latency),
            "{replaced:?} {latency}"
        );
        net.run_for(SECOND);
    }
}

#[test]
fn with_early_data_the_first_connection_gets_tickets_for_others() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let (mut net, handle) = net(
        &setup,
        PerfClient {
            connections: 3,
            streams: 2,
            download: 100,
            ..client(target(&setup))
        },
    );
    net.run_for(40 * MS);
    assert_eq!(net.counters(1).connections_opened.get(), 1);
    let results = results(&mut net, 10 * SECOND, &handle);
    assert!(results.failures.is_empty(), "{:?}", results.failures);
    assert_eq!((results.completed, results.unanswered), (6, 0));
    // The server gives two tickets.
    assert_eq!(net.counters(1).connections_opened.get(), 3);
    net.run_for(SECOND);
    assert_eq!(net.counters(1).early_data_accepted.get(), 2);
}

#[test]
fn others_are_connected_even_when_the_first_connection_fails() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let parameters = PerfClient {
        connections: 3,
        ..client(target(&setup))
    };
    let mut net = Net::new(Link {
        loss: 1.0,
        ..Link::default()
    });
    let (application, handle) = parameters.application();
    join(
        &mut net,
        &setup,
        ALPN,
        PerfService::default(),
        vec![ready(application)],
    );
    let results = results(&mut net, 200 * SECOND, &handle);
    assert_eq!((results.completed, results.failures_total), (0, 3));
}

/// Runs a script against the service; stream `n` of the client is the `n`-th of its direction.
fn scripted(scripts: Vec<Script>, streams: usize) -> (RawLog, std::sync::Arc<ServiceCounters>) {
    let setup = Setup::default();
    let (counters, seen) = counters();
    let log = RawLog::default();
    let mut net = Net::new(Link::default());
    let raw = Raw::new(&log, target(&setup), scripts);
    join(
        &mut net,
        &setup,
        ALPN,
        PerfService::new(counters),
        vec![ready(raw)],
    );
    net.run_until(20 * SECOND, |_| log.all_ended(streams));
    net.run_for(Duration::from_millis(100));
    (log, seen)
}

fn bidi(n: u64) -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, n)
}

#[test]
fn responses_are_the_pattern_on_either_kind_of_stream() {
    let size = 600_000u64.to_be_bytes().to_vec();
    let (log, seen) = scripted(
        vec![
            Script::new(Dir::Bi, size.clone()),
            Script::new(Dir::Uni, size),
        ],
        2,
    );
    let expected: Vec<u8> = (0..600_000)
        .map(|n| ((n % (256 * 1024)) % 251) as u8)
        .collect();
    let state = log.lock();
    for id in [bidi(0), StreamId::new(Side::Server, Dir::Uni, 0)] {
        let stream = &state.streams[&id];
        assert_eq!(stream.end, Some(Ok(())));
        assert!(stream.read == expected, "{id}");
    }
    assert_eq!((seen.requests.get(), seen.answered.get()), (2, 2));
}

#[test]
fn streams_without_a_header_are_closed_in_peace() {
    let reset = Script {
        reset: true,
        ..Script::new(Dir::Bi, vec![0; 4])
    };
    let scripts = vec![
        Script::new(Dir::Bi, vec![1; 7]),
        Script::new(Dir::Bi, vec![]),
        reset,
        Script::new(Dir::Uni, vec![1; 3]),
    ];
    let (log, seen) = scripted(scripts, 3);
    for n in 0..3 {
        assert_eq!(log.end(bidi(n)), Some((0, Ok(()))), "{n}");
    }
    assert_eq!((seen.refused.get(), seen.requests.get()), (3, 0));
    assert!(log.lock().closed.is_none());
}

#[test]
fn an_endless_response_ends_when_it_is_stopped() {
    let endless = Script {
        stop_after: Some(1_000_000),
        ..Script::new(Dir::Bi, vec![0xff; 8])
    };
    let (log, seen) = scripted(vec![endless], 1);
    let (read, end) = log.end(bidi(0)).unwrap();
    assert!(read >= 1_000_000);
    assert_eq!(end, Err(ReadError::Closed));
    assert_eq!((seen.aborted.get(), seen.answered.get()), (1, 0));
}

#[test]
fn the_answer_waits_for_the_end_of_the_request() {
    let mut request = 10u64.to_be_bytes().to_vec();
    request.extend(vec![9; 100_000]);
    let open = Script {
        finish: false,
        ..Script::new(Dir::Bi, request.clone())
    };
    let (log, seen) = scripted(vec![open, Script::new(Dir::Bi, request)], 1);
    assert_eq!(log.end(bidi(0)), None);
    assert_eq!(log.end(bidi(1)), Some((10, Ok(()))));
    assert_eq!(seen.requests.get(), 1);
    assert_eq!(log.lock().streams[&bidi(0)].stopped, None::<VarInt>);
}
