//! Bytes get across: whole, in order, fairly, whatever the network does.

use std::time::Duration;

use stoq::transport::Congestion;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, PAYLOAD_MAX, Setup, ready};

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// A server, and a client that makes requests; runs until they are done.
fn transfer(link: Link, requests: Vec<Request>) -> (Net, Log, Log) {
    transfer_with(&Setup::default(), link, requests)
}

fn transfer_with(setup: &Setup, link: Link, requests: Vec<Request>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(link);
    net.add(setup.server("test", Server::new(&server)));
    let application = Client::new(&client, setup.target("test"), requests.clone());
    net.add(setup.clients(vec![ready(application)]));
    net.run_until(120 * SECOND, |_| {
        client.lock().completed.len() == requests.len()
    });
    (net, server, client)
}

fn assert_both_ways(link: Link) {
    let requests = vec![Request::download(8 * MIB), Request::upload(8 * MIB)];
    let (net, server, client) = transfer(link, requests);
    assert_eq!(client.lock().received.values().sum::<u64>(), 8 * MIB);
    assert_eq!(server.lock().received.values().sum::<u64>(), 8 * MIB);
    for node in [0, 1] {
        let counters = net.counters(node);
        assert_eq!(counters.connections_lost.get(), 0);
        assert!(counters.bytes_received.get() >= 8 * MIB);
        assert!(counters.bytes_sent.get() >= 8 * MIB);
    }
}

#[test]
fn a_clean_link_carries_bulk_both_ways_at_full_size() {
    let requests = vec![Request::download(8 * MIB), Request::upload(8 * MIB)];
    let (mut net, ..) = transfer(Link::default(), requests);
    for node in [0, 1] {
        net.shard(node).publish();
        assert_eq!(net.counters(node).mtu.get(), u64::from(PAYLOAD_MAX));
        assert_eq!(net.counters(node).lost_packets.get(), 0);
    }
}

#[test]
fn one_percent_loss() {
    assert_both_ways(Link {
        loss: 0.01,
        ..Link::default()
    });
}

#[test]
fn every_congestion_controller_carries_bulk() {
    let time = |congestion| {
        let mut setup = Setup::default();
        setup.settings.congestion = congestion;
        let link = Link {
            loss: 0.005,
            ..Link::default()
        };
        let (net, _, client) = transfer_with(&setup, link, vec![Request::download(4 * MIB)]);
        assert_eq!(client.lock().received.values().sum::<u64>(), 4 * MIB);
        assert_eq!(net.counters(0).connections_lost.get(), 0);
        let (end, ..) = client.lock().completed[0];
        end - net.start
    };
    let all = [
        time(Congestion::Cubic),
        time(Congestion::NewReno),
        time(Congestion::Bbr),
    ];
    // Were two of them one, they would take the same time: the links lose the same datagrams.
    assert!(
        all[0] != all[1] && all[1] != all[2] && all[0] != all[2],
        "{all:?}"
    );
}

#[test]
fn five_percent_loss() {
    assert_both_ways(Link {
        loss: 0.05,
        latency: Duration::from_millis(1),
        ..Link::default()
    });
}

#[test]
fn reordering_and_duplication() {
    assert_both_ways(Link {
        reordering: 0.1,
        duplication: 0.05,
        latency: Duration::from_millis(1),
        ..Link::default()
    });
}

#[test]
fn losses_are_counted() {
    let link = Link {
        loss: 0.02,
        ..Link::default()
    };
    let (mut net, ..) = transfer(link, vec![Request::download(4 * MIB)]);
    net.shard(0).publish();
    let lost = net.counters(0).lost_packets.get();
    let events = net.counters(0).congestion_events.get();
    // About 4 MiB / 1452 × 2 % = 58 datagrams.
    assert!((20..200).contains(&lost), "{lost} packets lost");
    assert!(events > 0 && events <= lost, "{events} congestion events");
}

#[test]
fn a_thousand_streams_through_a_limit_of_256() {
    let (net, server, client) = transfer(Link::default(), vec![Request::download(1_000); 1_000]);
    assert_eq!(client.lock().received.values().sum::<u64>(), 1_000_000);
    assert_eq!(server.lock().connected.len(), 1);
    assert_eq!(net.counters(0).streams_accepted.get(), 1_000);
    assert_eq!(net.counters(1).streams_opened.get(), 1_000);
}

#[test]
fn unreliable_datagrams_come_back() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut client = Client::new(&log, setup.target("test"), Vec::new());
    client.datagrams = 100;
    net.add(setup.clients(vec![ready(client)]));
    net.run_until(SECOND, |_| log.lock().datagrams.len() == 100);
    assert_eq!(log.lock().datagrams[99], "datagram 99");
    for node in [0, 1] {
        assert_eq!(net.counters(node).datagrams_sent.get(), 100);
        assert_eq!(net.counters(node).datagrams_received.get(), 100);
    }
}

#[test]
fn congestion_marks_reach_the_sender_and_nothing_is_lost() {
    let link = Link {
        congestion: 0.01,
        ..Link::default()
    };
    let (mut net, ..) = transfer(link, vec![Request::download(4 * MIB)]);
    net.shard(0).publish();
    assert_eq!(net.counters(0).lost_packets.get(), 0);
    assert!(net.counters(0).congestion_events.get() > 0);
}

#[test]
fn a_client_goes_on_from_another_udp_port() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut net = Net::new(Link {
        rate: Some(10_000_000),
        ..Link::default()
    });
    net.nat = Some(1_111);
    net.add(setup.server("test", Server::new(&server)));
    let requests = vec![Request::download(4 * MIB), Request::upload(4 * MIB)];
    let client = Client::new(&log, setup.target("test"), requests);
    net.add(setup.clients(vec![ready(client)]));
    net.run_for(SECOND / 5);
    net.nat = Some(2_222);
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 2);
    assert!(log.reasons().is_empty() && server.reasons().is_empty());
    assert_eq!(server.lock().connected.len(), 1);
}

#[test]
fn keys_change_while_data_flows() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut client = Client::new(
        &log,
        setup.target("test"),
        vec![Request::download(100_000); 50],
    );
    client.outstanding = 1;
    client.update_keys = true;
    net.add(setup.clients(vec![ready(client)]));
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 50);
    assert!(log.reasons().is_empty());
}

#[test]
fn two_bulk_connections_share_a_full_link() {
    let setup = Setup::default();
    let (server, log) = (Log::default(), Log::default());
    let mut net = Net::new(Link {
        rate: Some(100_000_000),
        latency: Duration::from_micros(50),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    let mut client = Client::new(
        &log,
        setup.target("test"),
        vec![Request::download(64 * MIB)],
    );
    client.connections = 2;
    net.add(setup.clients(vec![ready(client)]));
    net.run_for(SECOND / 5);
    let received: Vec<_> = log.lock().received.values().copied().collect();
    let total: u64 = received.iter().sum();
    assert_eq!(received.len(), 2);
    assert!(
        total > 15_000_000,
        "the link is used: {total} of 20,000,000 bytes"
    );
    assert!(
        received.iter().all(|&bytes| bytes * 10 > total * 4),
        "within 20 %: {received:?}"
    );
}

#[test]
fn small_requests_are_not_held_up_by_a_bulk_transfer() {
    let (worst, bulk) = small_requests_beside_bulk(16);
    // The first one includes the handshake: some round trips, each of which waits for a turn.
    assert!(
        worst < Duration::from_millis(10),
        "a request took {worst:?}"
    );
    assert!(bulk > 4 * MIB, "the transfer went on: {bulk} bytes");
    let (without_turns, _) = small_requests_beside_bulk(u16::MAX);
    assert!(
        without_turns > 4 * worst,
        "turns matter: {without_turns:?} without"
    );
}

/// The longest of 100 small requests, one after the other beside a transfer, and the bytes of the latter. The handshake
/// counts as part of the first.
fn small_requests_beside_bulk(turn_budget: u16) -> (Duration, u64) {
    let mut setup = Setup::default();
    setup.limits.turn_budget = turn_budget;
    let (server, bulk, small) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link {
        // A datagram takes 100 µs, a turn of 16 takes 1.6 ms.
        rate: Some(14_520_000),
        latency: Duration::from_micros(50),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    let transfer = Client::new(
        &bulk,
        setup.target("test"),
        vec![Request::download(64 * MIB)],
    );
    let mut requests = Client::new(
        &small,
        setup.target("test"),
        vec![Request::download(500); 100],
    );
    requests.outstanding = 1;
    let start = net.now + SECOND / 2;
    requests.start = Some(start);
    net.add(setup.clients(vec![ready(transfer), ready(requests)]));
    net.run_until(20 * SECOND, |_| small.lock().completed.len() == 100);

    let small = small.lock();
    let ends = small.completed.iter().map(|&(at, ..)| at);
    let times: Vec<_> = [start].into_iter().chain(ends).collect();
    let worst = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    let bytes = bulk.lock().received.values().sum();
    (worst.unwrap(), bytes)
}
