//! What shards do where a device does more: segments what it is given, and sends it on time.

use std::time::{Duration, Instant};

use poll::Transmit;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, PAYLOAD_MAX, Setup, ready};

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// How far ahead of their time datagrams may be built.
const AHEAD_MAX: Duration = Duration::from_millis(2);

/// Clients download from a server, all at once, over devices that take `segments_max` datagrams in a buffer.
fn downloads(setup: &Setup, link: Link, segments_max: usize, clients: usize, bytes: u64) -> Net {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(link);
    net.segments_max = segments_max;
    net.transmits = Some(Vec::new());
    net.add(setup.server("test", Server::new(&server)));
    for _ in 0..clients {
        let requests = vec![Request::download(bytes)];
        let application = Client::new(&client, setup.target("test"), requests);
        net.add(setup.clients(vec![ready(application)]));
    }
    net.run_until(120 * SECOND, |_| client.lock().completed.len() == clients);
    assert_eq!(
        client.lock().received.values().sum::<u64>(),
        bytes * clients as u64
    );
    net
}

/// What the server handed to its device, and when.
fn of_server(net: &Net) -> Vec<(Instant, Transmit)> {
    let all = net.transmits.iter().flatten();
    all.filter(|(_, node, _)| *node == 0)
        .map(|&(at, _, transmit)| (at, transmit))
        .collect()
}

#[test]
fn a_segmenting_device_gets_full_buffers_and_the_same_datagrams() {
    let setup = Setup::default();
    let budget = usize::from(setup.limits.turn_budget);
    for segments_max in [2, 7, budget, 45] {
        let mut net = downloads(&setup, Link::default(), segments_max, 1, 8 * MIB);
        let sent = of_server(&net);
        let most = sent.iter().map(|(_, transmit)| transmit.datagrams()).max();
        assert_eq!(
            most,
            Some(segments_max.min(budget)),
            "a turn's budget bounds it, too"
        );
        let datagrams: usize = sent.iter().map(|(_, transmit)| transmit.datagrams()).sum();
        assert_eq!(net.counters(0).udp_sent.get(), datagrams as u64);
        assert!(
            datagrams > sent.len() * segments_max.min(budget) / 2,
            "{datagrams} datagrams in {} buffers of up to {segments_max}",
            sent.len()
        );
        net.shard(0).publish();
        assert_eq!(net.counters(0).mtu.get(), u64::from(PAYLOAD_MAX));
        assert_eq!(net.counters(0).lost_packets.get(), 0);
    }
}

#[test]
fn losses_are_mended_with_segmentation_as_without() {
    let link = Link {
        loss: 0.02,
        ..Link::default()
    };
    let mut net = downloads(&Setup::default(), link, 16, 1, 4 * MIB);
    net.shard(0).publish();
    let lost = net.counters(0).lost_packets.get();
    assert!(
        (20..200).contains(&lost),
        "{lost} packets lost of some 2900"
    );
}

#[test]
fn connections_share_by_datagrams_not_by_buffers() {
    const CLIENTS: usize = 4;
    let setup = Setup::default();
    let budget = usize::from(setup.limits.turn_budget);
    // The device is the bottleneck: after the first round trips all connections have something to send, all the time.
    let slow = Link {
        latency: Duration::from_micros(200),
        rate: Some(125_000_000),
        ..Link::default()
    };
    for segments_max in [1, 7, budget] {
        let mut net = downloads(&setup, slow.clone(), segments_max, CLIENTS, 4 * MIB);
        let sent = of_server(&net);
        // Past the slow start, and well before the first connection is done.
        let busy = &sent[sent.len() / 4..sent.len() / 2];
        let runs = busy.chunk_by(|(_, a), (_, b)| a.destination == b.destination);
        let runs: Vec<usize> = runs
            .map(|run| run.iter().map(|(_, transmit)| transmit.datagrams()).sum())
            .collect();
        assert!(runs.len() > 4 * CLIENTS, "{} turns", runs.len());
        assert_eq!(
            runs.iter().max(),
            Some(&budget),
            "datagrams in a row, with up to {segments_max} in a buffer"
        );
        net.shard(0).publish();
        assert_eq!(net.counters(0).lost_packets.get(), 0);
    }
}

/// A link on which the pacer is at work: a window's worth takes longer than it is allowed to leave at once.
fn long_way() -> Link {
    Link {
        latency: Duration::from_millis(25),
        ..Link::default()
    }
}

fn paced(paced_by_device: bool) -> Setup {
    let mut setup = Setup {
        paced_by_device,
        ..Setup::default()
    };
    // The window, not the link, is the bound: slow start would go on for ever.
    setup.settings.receive_window = MIB;
    setup.settings.stream_receive_window = MIB;
    setup
}

#[test]
fn a_device_that_sends_on_time_gets_bursts_ahead_and_never_too_far() {
    let net = downloads(&paced(true), long_way(), 1, 1, 16 * MIB);
    let sent = of_server(&net);
    let ahead: Vec<_> = sent
        .iter()
        .filter_map(|(at, transmit)| Some(transmit.departure?.duration_since(*at)))
        .collect();
    assert!(
        ahead.len() > sent.len() / 4,
        "{} of {} ahead of their time",
        ahead.len(),
        sent.len()
    );
    assert!(
        ahead
            .iter()
            .all(|ahead| (Duration::from_nanos(1)..=AHEAD_MAX).contains(ahead))
    );
    // What a connection sends leaves in the order in which it was built.
    let leaves: Vec<_> = sent
        .iter()
        .map(|(at, transmit)| transmit.departure.unwrap_or(*at))
        .collect();
    assert!(leaves.is_sorted(), "departures are in order");
}

#[test]
fn software_paces_where_the_device_does_not() {
    let net = downloads(&paced(false), long_way(), 1, 1, MIB);
    assert!(
        of_server(&net)
            .iter()
            .all(|(_, transmit)| transmit.departure.is_none())
    );
}

#[test]
fn pacing_by_the_device_takes_fewer_turns_and_leaves_time_and_round_trip_as_they_are() {
    let run = |by_device| {
        let mut net = downloads(&paced(by_device), long_way(), 1, 1, 16 * MIB);
        net.shard(0).publish();
        let counters = net.counters(0);
        assert_eq!(counters.lost_packets.get(), 0);
        let seen: u64 = counters.rtt.counts().iter().sum();
        let rtt = counters.rtt.sum() / seen as u32;
        (net.now - net.start, net.sent_by_timer(0), rtt)
    };
    let (software, device) = (run(false), run(true));
    assert!(
        device.1 * 10 < software.1 * 9,
        "{} and {}",
        device.1,
        software.1
    );
    let ratio = device.0.as_secs_f64() / software.0.as_secs_f64();
    assert!((0.95..1.05).contains(&ratio), "{ratio} of the time");
    let ratio = device.2.as_secs_f64() / software.2.as_secs_f64();
    assert!((0.95..1.05).contains(&ratio), "{ratio} of the round trip");
}
