//! Several queues on one port, over real rings: each has a host of its own, and together they are one host to the link.

mod common;

use std::time::{Duration, Instant};

use common::{
    OURS, STRANGER, Setup, THEIRS, advertisement, eal, icmpv6, is_icmpv6, payload, settle,
    solicitation, station_and_wire, stations,
};
use hugepages::PacketAlloc;
use poll::wire::DropReason;
use poll::wire::icmpv6::Message;
use poll::{Control, Eal, IdlePolicy, Lane, LaneStats, Stop, Transport, Worker};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

fn with_queues(queues: u16) -> Setup {
    Setup {
        queues,
        ..Setup::default()
    }
}

#[test]
fn the_queues_of_a_port_are_one_host() {
    let eal = eal();
    every_queue_finds_its_neighbour_and_talks(&eal);
    a_solicitation_on_any_queue_is_answered_once(&eal);
    an_answer_on_the_first_queue_reaches_the_one_that_asked(&eal);
    packet_too_big_on_the_first_queue_is_heeded_by_all(&eal);
    a_flood_of_neighbour_discovery_is_relayed_within_bounds(&eal);
    lanes_that_share_an_lcore_account_their_own_time(&eal);
    eal.cleanup().expect("no mbuf is out");
}

fn every_queue_finds_its_neighbour_and_talks(eal: &Eal) {
    for queues in [2, 4] {
        let [mut left, mut right] = stations(eal, with_queues(queues));
        let pools = [left.pool, right.pool];
        for (index, probe) in left.probes.iter().enumerate() {
            probe.send(THEIRS, &[index as u8; 1000]);
        }
        let mut now = Instant::now();
        for _ in 0..10 {
            now += Duration::from_micros(10);
            left.turn(now);
            right.turn(now);
        }
        for (index, probe) in right.probes.iter().enumerate() {
            let received = probe.received();
            assert_eq!(received.len(), 1, "queue {index} of {queues}");
            let (path, payload) = &received[0];
            assert_eq!((*path.remote.ip(), path.local), (OURS, THEIRS));
            assert_eq!(payload[..], [index as u8; 1000]);
        }
        // One host of each port speaks for it.
        let hosts = |station: &common::Station| {
            let stats = station.lanes.iter().map(|lane| lane.stats());
            stats.collect::<Vec<_>>()
        };
        let (left_stats, right_stats) = (hosts(&left), hosts(&right));
        assert_eq!(
            right_stats[0].host.advertisements_sent,
            u64::from(queues),
            "every lane asked, one host answered"
        );
        for stats in &right_stats[1..] {
            assert_eq!(stats.host.advertisements_sent, 0);
            assert_eq!(stats.host.listener_reports_sent, 0);
        }
        for stats in &left_stats {
            assert_eq!(stats.host.parked, 1);
            assert_eq!(stats.relay_full, 0);
            assert_eq!(stats.drops.of(DropReason::TxNeighbourUnreachable), 0);
        }
        for stats in left_stats.iter().chain(&right_stats) {
            assert_adds_up(stats);
        }
        for stats in left_stats.iter().chain(&right_stats).skip(1) {
            assert_eq!(stats.neighbours, 1);
        }
        drop((left, right));
        assert_eq!(pools.map(|pool| pool.in_use()), [0, 0]);
    }
}

fn a_solicitation_on_any_queue_is_answered_once(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, with_queues(4));
    let mut now = settle(&mut station, &mut wire);
    for queue in 0..4 {
        assert_eq!(wire.inject(queue, &[solicitation()]), 1);
        for _ in 0..3 {
            now += Duration::from_micros(10);
            station.turn(now);
        }
        let answers = wire.collect();
        assert_eq!(answers.len(), 1, "asked on queue {queue}");
        let (by, frame) = &answers[0];
        assert_eq!(*by, 0, "the primary's queue");
        assert!(is_icmpv6(frame, |message| matches!(
            message,
            Message::NeighbourAdvertisement { target: OURS, .. }
        )));
    }
    // All have learned who asked: nobody has to ask back.
    for (lane, probe) in station.lanes.iter().zip(&station.probes) {
        assert_eq!(lane.stats().neighbours, 1);
        probe.send(THEIRS, b"hello");
    }
    station.turn(now);
    let sent = wire.collect();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|(_, frame)| frame[..6] == STRANGER.0));
}

fn an_answer_on_the_first_queue_reaches_the_one_that_asked(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, with_queues(2));
    let mut now = settle(&mut station, &mut wire);
    station.probes[1].send(THEIRS, b"from the second queue");
    // The datagram is parked in the first turn, the solicitation leaves in the second.
    station.turn(now);
    station.turn(now);
    let asked = wire.collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0, 1, "a host asks by its own queue");
    wire.inject(0, &[advertisement(station.mac)]);
    for _ in 0..2 {
        now += Duration::from_micros(10);
        station.turn(now);
    }
    let sent = wire.collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 1);
    assert_eq!(payload(&sent[0].1), Some(&b"from the second queue"[..]));
    let [first, second] = [0, 1].map(|lane| station.lanes[lane].stats());
    assert_eq!((first.neighbours, second.neighbours), (0, 1));
    assert_eq!((first.relayed, second.relay_received), (1, 1));
}

fn packet_too_big_on_the_first_queue_is_heeded_by_all(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, with_queues(2));
    let mut now = settle(&mut station, &mut wire);
    wire.inject(0, &[solicitation()]);
    station.probes[1].send(THEIRS, &[0; 1400]);
    for _ in 0..2 {
        now += Duration::from_micros(10);
        station.turn(now);
    }
    let sent = wire.collect();
    let too_big = sent.iter().find(|(queue, _)| *queue == 1).expect("a frame");
    // From the IPv6 header on, as much as fits.
    let quoted = &too_big.1[14..14 + 200];
    let message = Message::PacketTooBig { mtu: 1280, quoted };
    wire.inject(0, &[icmpv6(station.mac, OURS, &message)]);
    for _ in 0..2 {
        now += Duration::from_micros(10);
        station.turn(now);
    }
    for (lane, probe) in station.lanes.iter_mut().zip(&station.probes) {
        probe.send(THEIRS, &[0; 1400]);
        lane.turn(now);
        let stats = lane.stats();
        assert_eq!(stats.host.path_mtu_lowered, 1);
        assert_eq!(stats.drops.of(DropReason::TxTooBig), 1);
    }
}

fn a_flood_of_neighbour_discovery_is_relayed_within_bounds(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, with_queues(2));
    let mut now = settle(&mut station, &mut wire);
    let before = station.lanes.each_stats();
    let flood = vec![solicitation(); 200];
    assert_eq!(wire.inject(1, &flood), 200);
    while station.lanes[1].stats().rx_frames < before[1].rx_frames + 200 {
        now += Duration::from_micros(10);
        station.turn(now);
    }
    station.turn(now);
    let [first, second] = station.lanes.each_stats();
    // With one other lane each frame is either relayed or too many, and what is relayed arrives.
    assert!(second.relay_full > before[1].relay_full);
    assert_eq!(
        second.relayed + second.relay_full,
        before[1].relayed + before[1].relay_full + 200
    );
    assert_eq!(
        first.relay_received - before[0].relay_received,
        second.relayed - before[1].relayed
    );
    for stats in [&first, &second] {
        assert_adds_up(stats);
    }
    // A frame that came by the relay goes no further.
    assert_eq!(first.relayed, before[0].relayed);
    assert_eq!(second.relay_received, before[1].relay_received);
}

fn lanes_that_share_an_lcore_account_their_own_time(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, with_queues(2));
    let now = settle(&mut station, &mut wire);
    wire.inject(0, &[solicitation()]);
    station.turn(now);
    let busy = |lane: usize| station.counters[lane].read().busy_ns;
    let turns = |lane: usize| station.counters[lane].read().turns;
    let before = station.lanes.each_stats().map(|stats| stats.turns);
    // One turn of a worker in which the first lane has something to send and the second has nothing to do.
    station.probes[0].send(THEIRS, b"hello");
    let control = Control::new(1);
    control.request(Stop::Now);
    let lanes = std::mem::take(&mut station.lanes);
    let ended = Worker::new(lanes, IdlePolicy::Busy).run(&control);
    assert_eq!([turns(0), turns(1)], before.map(|turns| turns + 1));
    assert!(busy(0) > 0);
    assert_eq!(busy(1), 0);
    drop(ended);
}

/// Every frame was handed on, taken by the host, or dropped for a reason.
fn assert_adds_up(stats: &LaneStats) {
    let drops = stats.drops.iter();
    let of_received = drops.filter(|(name, _)| !name.starts_with("tx_"));
    let dropped: u64 = of_received.map(|(_, count)| count).sum();
    assert_eq!(
        stats.rx_frames,
        stats.rx_zero_copy + stats.rx_copied + stats.rx_icmpv6 + dropped
    );
}

/// The counters of two lanes.
trait EachStats {
    fn each_stats(&self) -> [LaneStats; 2];
}

impl<T: Transport> EachStats for Vec<Lane<T>> {
    fn each_stats(&self) -> [LaneStats; 2] {
        [self[0].stats(), self[1].stats()]
    }
}
