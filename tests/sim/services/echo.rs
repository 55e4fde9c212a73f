//! The echo service.

use stoq::app::{ConnectTarget, Dir, ReadError, Side, StreamId, VarInt};
use stoq::clients::echo::EchoClient;
use stoq::clients::{ClientError, ClientResults, LatencyFrom, Rate};
use stoq::services::echo::{ALPN, EchoService};

use super::raw::{Raw, RawLog, Script};
use super::{MS, SECOND, counters, join, latency_ms, results};
use crate::net::{Link, Net, Setup, ready};

fn client(target: ConnectTarget) -> EchoClient {
    EchoClient {
        target,
        connections: 1,
        streams: 1,
        size: 64,
        datagrams: false,
        rate: None,
        requests: None,
        duration: None,
        datagram_timeout: SECOND,
    }
}

fn run(setup: &Setup, link: Link, client: EchoClient) -> ClientResults {
    let mut net = Net::new(link);
    let (application, handle) = client.application().unwrap();
    join(
        &mut net,
        setup,
        ALPN,
        EchoService::default(),
        vec![ready(application)],
    );
    results(&mut net, 300 * SECOND, &handle)
}

fn target(setup: &Setup) -> ConnectTarget {
    setup.target("echo")
}

#[test]
fn stream_round_trips_one_by_one() {
    let setup = Setup::default();
    let results = run(
        &setup,
        Link::default(),
        EchoClient {
            requests: Some(50),
            ..client(target(&setup))
        },
    );
    assert_eq!((results.completed, results.failures_total), (50, 0));
    assert_eq!((results.bytes_sent, results.bytes_received), (3200, 3200));
    assert_eq!(results.latency_from, LatencyFrom::Begin);
    assert!((9.9..10.5).contains(&latency_ms(&results, 0.5)));
    assert!(results.elapsed >= 500 * MS);
}

#[test]
fn large_messages_on_many_streams_through_a_bad_link() {
    let setup = Setup::default();
    let link = Link {
        loss: 0.01,
        reordering: 0.02,
        latency: MS,
        ..Link::default()
    };
    let results = run(
        &setup,
        link,
        EchoClient {
            connections: 2,
            streams: 4,
            size: 300_000,
            requests: Some(24),
            ..client(target(&setup))
        },
    );
    assert_eq!((results.completed, results.failures_total), (24, 0));
    assert_eq!(results.bytes_received, 24 * 300_000);
}

#[test]
fn stream_messages_at_a_rate() {
    let setup = Setup::default();
    let results = run(
        &setup,
        Link::default(),
        EchoClient {
            streams: 2,
            rate: Rate::per_second(1000.0),
            duration: Some(SECOND),
            ..client(target(&setup))
        },
    );
    assert_eq!((results.completed, results.unanswered), (1000, 0));
    assert_eq!(results.latency_from, LatencyFrom::Schedule);
    assert!((9.9..11.0).contains(&latency_ms(&results, 0.5)));
}

#[test]
fn datagram_round_trips() {
    let setup = Setup::default();
    let results = run(
        &setup,
        Link::default(),
        EchoClient {
            streams: 10,
            datagrams: true,
            requests: Some(500),
            ..client(target(&setup))
        },
    );
    assert_eq!((results.completed, results.datagrams_lost), (500, 0));
    assert_eq!(results.failures_total, 0);
    assert!((9.9..10.5).contains(&latency_ms(&results, 0.5)));
}

#[test]
fn lost_datagrams_are_counted_by_time() {
    let setup = Setup::default();
    let link = Link {
        loss: 0.05,
        duplication: 0.05,
        ..Link::default()
    };
    let lossy = EchoClient {
        streams: 10,
        datagrams: true,
        requests: Some(1000),
        datagram_timeout: 100 * MS,
        ..client(target(&setup))
    };
    let results = run(&setup, link.clone(), lossy.clone());
    assert_eq!(results.completed + results.datagrams_lost, 1000);
    // About one in ten, there or back.
    assert!(
        (50..170).contains(&results.datagrams_lost),
        "{}",
        results.datagrams_lost
    );
    assert_eq!((results.failures_total, results.unanswered), (0, 0));

    let results = run(
        &setup,
        link,
        EchoClient {
            rate: Rate::per_second(500.0),
            duration: Some(SECOND),
            requests: None,
            ..lossy
        },
    );
    assert_eq!(results.completed + results.datagrams_lost, 500);
    assert!(results.datagrams_lost > 20);
}

#[test]
fn datagrams_wait_for_the_path_to_be_wide_enough() {
    let setup = Setup::default();
    let sized = |size| EchoClient {
        datagrams: true,
        size,
        requests: Some(10),
        ..client(target(&setup))
    };
    // More than the first packets carry, and less than what MTU discovery finds.
    let results = run(&setup, Link::default(), sized(1350));
    assert_eq!((results.completed, results.failures_total), (10, 0));

    let results = run(&setup, Link::default(), sized(1500));
    assert_eq!((results.completed, results.failures_total), (0, 1));
    let failure = &results.failures[0];
    assert!(
        matches!(failure, ClientError::DatagramSize { size: 1500, largest, .. } if *largest > 1350),
        "{failure}"
    );
}

#[test]
fn a_peer_without_datagrams_is_a_failure() {
    let mut setup = Setup::default();
    setup.settings.datagram_buffer = 0;
    let results = run(
        &setup,
        Link::default(),
        EchoClient {
            datagrams: true,
            ..client(target(&setup))
        },
    );
    assert!(matches!(
        results.failures[..],
        [ClientError::NoDatagrams { .. }]
    ));
}

#[test]
fn messages_too_small_to_tell_apart_are_refused() {
    let setup = Setup::default();
    for (datagrams, size) in [(false, 0), (true, 7)] {
        let error = EchoClient {
            datagrams,
            size,
            ..client(target(&setup))
        };
        assert!(matches!(
            error.application(),
            Err(ClientError::MessageSize { .. })
        ));
    }
}

#[test]
fn datagrams_beyond_the_send_buffer_are_dropped_and_counted() {
    let mut setup = Setup::default();
    let client_setup = Setup {
        identity: setup.identity.clone(),
        ..Setup::default()
    };
    setup.settings.datagram_buffer = 4000;
    let (counters, seen) = counters();
    let mut net = Net::new(Link::default());
    net.add(setup.server("echo", EchoService::new(counters)));
    let many = EchoClient {
        datagrams: true,
        streams: 200,
        size: 1000,
        requests: Some(200),
        datagram_timeout: 200 * MS,
        ..client(target(&client_setup))
    };
    let (application, handle) = many.application().unwrap();
    net.add(client_setup.clients(vec![ready(application)]));
    let results = results(&mut net, 30 * SECOND, &handle);
    assert_eq!(results.completed + results.datagrams_lost, 200);
    assert_eq!(seen.datagrams_echoed.get(), results.completed);
    assert!(results.completed > 0);
    assert!(
        seen.datagrams_dropped.get() > 0,
        "{} {}",
        results.completed,
        seen.datagrams_dropped.get()
    );
}

fn bidi(n: u64) -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, n)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 249) as u8).collect()
}

#[test]
fn streams_of_both_kinds_come_back_whole() {
    let mut setup = Setup::default();
    setup.settings.uni_streams = 1; // The second answer waits until the first has ended.
    let server = Setup {
        identity: setup.identity.clone(),
        ..Setup::default()
    };
    let log = RawLog::default();
    let mut net = Net::new(Link {
        loss: 0.01,
        ..Link::default()
    });
    let scripts = vec![
        Script::new(Dir::Bi, content(500_000)),
        Script::new(Dir::Bi, content(0)),
        Script::new(Dir::Uni, content(200_000)),
        Script::new(Dir::Uni, content(1)),
    ];
    net.add(server.server("echo", EchoService::default()));
    net.add(setup.clients(vec![ready(Raw::new(&log, target(&setup), scripts))]));
    net.run_until(60 * SECOND, |_| log.all_ended(4));
    let state = log.lock();
    let server_uni = |n| StreamId::new(Side::Server, Dir::Uni, n);
    let back = [
        (bidi(0), 500_000),
        (bidi(1), 0),
        (server_uni(0), 200_000),
        (server_uni(1), 1),
    ];
    for (id, len) in back {
        assert_eq!(state.streams[&id].end, Some(Ok(())), "{id}");
        assert!(state.streams[&id].read == content(len), "{id}");
    }
}

#[test]
fn a_reset_and_a_stop_pass_through() {
    let setup = Setup::default();
    let (counters, seen) = counters();
    let log = RawLog::default();
    let reset = Script {
        reset: true,
        ..Script::new(Dir::Bi, vec![1; 10])
    };
    let stop = Script {
        finish: false,
        stop_after: Some(5),
        ..Script::new(Dir::Bi, vec![1; 10])
    };
    let mut net = Net::new(Link::default());
    let raw = Raw::new(&log, target(&setup), vec![reset, stop]);
    join(
        &mut net,
        &setup,
        ALPN,
        EchoService::new(counters),
        vec![ready(raw)],
    );
    net.run_until(10 * SECOND, |_| log.all_ended(2));
    net.run_for(100 * MS);
    let reset = Err(ReadError::Reset(VarInt::from_u32(77)));
    assert_eq!(log.end(bidi(0)).map(|(_, end)| end), Some(reset));
    assert_eq!(
        log.lock().streams[&bidi(1)].stopped,
        Some(VarInt::from_u32(78))
    );
    assert_eq!((seen.aborted.get(), seen.answered.get()), (2, 0));
}

#[test]
fn a_client_that_does_not_read_is_slowed_down() {
    let mut setup = Setup::default();
    setup.settings.stream_receive_window = 100_000;
    setup.settings.receive_window = 100_000;
    setup.settings.send_window = 100_000;
    let log = RawLog::default();
    log.lock().hold = true;
    let sent = content(2_000_000);
    let mut net = Net::new(Link::default());
    let raw = Raw::new(
        &log,
        target(&setup),
        vec![Script::new(Dir::Bi, sent.clone())],
    );
    join(
        &mut net,
        &setup,
        ALPN,
        EchoService::default(),
        vec![ready(raw)],
    );
    net.run_for(5 * SECOND);
    // The windows of both directions and what the service holds, and no more.
    let written = log.lock().streams[&bidi(0)].written;
    assert!((100_000..600_000).contains(&written), "{written}");
    let read = net.counters(0).bytes_received.get();
    assert!(read <= 300_000, "{read}");

    log.lock().hold = false;
    net.run_until(120 * SECOND, |_| log.all_ended(1));
    assert!(log.lock().streams[&bidi(0)].read == sent);
}
