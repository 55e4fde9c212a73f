//! Trouble over real rings: a device that takes nothing, an lcore that does not run, floods, slow readers. Nothing that
//! was pulled from a transport is lost, and everything goes on by itself when the trouble ends.

mod common;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{
    STRANGER, Setup, Station, THEIRS, datagram, eal, payload, settle, solicitation,
    station_and_wire, stations,
};
use hugepages::PacketAlloc;
use poll::wire::DropReason;
use poll::{BURST_DEFAULT, Eal};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

const TURN: Duration = Duration::from_micros(10);

#[test]
fn trouble_passes() {
    let eal = eal();
    a_device_that_takes_nothing_stops_the_pulling_and_loses_nothing(&eal);
    an_lcore_that_was_descheduled_catches_up(&eal);
    a_flood_for_others_does_not_starve_sending(&eal);
    slow_readers_on_several_queues_leave_the_device_its_mbufs(&eal);
    eal.cleanup().expect("no mbuf is out");
}

/// The number that a datagram of these tests carries.
fn number(payload: &[u8]) -> u64 {
    let (number, _) = payload.split_first_chunk().expect("eight bytes");
    u64::from_be_bytes(*number)
}

fn send_numbers(station: &Station, count: u64, len: usize) {
    for number in 0..count {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(len, 0);
        station.probes[0].send(THEIRS, &payload);
    }
}

fn a_device_that_takes_nothing_stops_the_pulling_and_loses_nothing(eal: &Eal) {
    const COUNT: u64 = 2000;
    let (mut station, mut wire) = station_and_wire(eal, Setup::default());
    let mut now = settle(&mut station, &mut wire);
    wire.inject(0, &[solicitation()]);
    station.turn(now);
    wire.collect();

    // Twenty seconds in which nobody reads the other end: longer than a neighbour may stay silent.
    send_numbers(&station, COUNT, 100);
    for _ in 0..200 {
        now += Duration::from_millis(100);
        station.turn(now);
    }
    let stats = station.lanes[0].stats();
    let in_ring = stats.tx_frames - stats.host.advertisements_sent;
    assert!(stats.tx_stalled > 100, "{} turns", stats.tx_stalled);
    assert!(
        station.probes[0].pulled() <= in_ring + BURST_DEFAULT as u64,
        "what the ring has no room for stays with the transport"
    );
    // Receiving goes on meanwhile.
    assert_eq!(wire.inject(0, &[datagram(station.mac, b"hello")]), 1);
    station.turn(now);
    assert_eq!(station.probes[0].received().len(), 1);

    let mut arrived = Vec::new();
    for _ in 0..200 {
        now += TURN;
        let frames = wire.collect();
        arrived.extend(frames.iter().filter_map(|(_, f)| payload(f).map(number)));
        station.turn(now);
    }
    assert!(arrived.into_iter().eq(0..COUNT), "all of them, in order");
    let stats = station.lanes[0].stats();
    assert_eq!(stats.drops.total(), 0);
    assert_eq!(stats.host.neighbours_failed, 0);
}

fn an_lcore_that_was_descheduled_catches_up(eal: &Eal) {
    const COUNT: u64 = 2000;
    let [mut left, mut right] = stations(eal, Setup::default());
    let mut now = Instant::now();
    // The first one finds the neighbour.
    left.probes[0].send(THEIRS, b"hello");
    for _ in 0..5 {
        now += TURN;
        left.turn(now);
        right.turn(now);
    }
    assert_eq!(right.probes[0].received().len(), 1);
    send_numbers(&left, COUNT, 100);
    let mut arrived = Vec::new();
    for turn in 0..200 {
        now += TURN;
        left.turn(now);
        // The other end runs, is away for 1.5 s, and is back with a clock that jumped.
        if turn == 20 {
            for _ in 0..15 {
                now += Duration::from_millis(100);
                left.turn(now);
            }
        }
        right.turn(now);
        arrived.extend(right.probes[0].received());
    }
    let numbers = arrived.iter().map(|(_, payload)| number(payload));
    assert!(numbers.eq(0..COUNT), "all of them, in order");
    let [left, right] = [left, right].map(|station| station.lanes[0].stats());
    assert!(left.tx_stalled > 0);
    for drops in [left.drops, right.drops] {
        // Reports and probes of the other end at its start are for others.
        assert_eq!(drops.total(), drops.of(DropReason::ForeignAddress));
    }
}

fn a_flood_for_others_does_not_starve_sending(eal: &Eal) {
    let (mut station, mut wire) = station_and_wire(eal, Setup::default());
    let mut now = settle(&mut station, &mut wire);
    wire.inject(0, &[solicitation()]);
    station.turn(now);
    wire.collect();
    send_numbers(&station, 4000, 100);
    let flood = vec![datagram(STRANGER, b"for somebody else"); BURST_DEFAULT];
    let before = station.lanes[0].stats();
    for _ in 0..100 {
        now += TURN;
        // More than a turn takes: the ring is always full.
        wire.inject(0, &flood);
        wire.inject(0, &flood);
        station.turn(now);
        let sent = wire.collect();
        assert_eq!(sent.len(), BURST_DEFAULT, "a full burst in every turn");
    }
    let stats = station.lanes[0].stats();
    let dropped = stats.drops.of(DropReason::ForeignMac);
    assert_eq!(dropped, stats.rx_frames - before.rx_frames);
    assert_eq!(dropped, 100 * BURST_DEFAULT as u64);
    while station.lanes[0].turn(now) {
        wire.collect();
    }
}

fn slow_readers_on_several_queues_leave_the_device_its_mbufs(eal: &Eal) {
    const QUEUES: usize = 4;
    const LOW_MARK: usize = 600;
    let setup = Setup {
        queues: QUEUES as u16,
        mbufs: 4095,
        pool_low_mark: LOW_MARK,
    };
    let (mut station, mut wire) = station_and_wire(eal, setup);
    let mut now = settle(&mut station, &mut wire);
    let pool = wire.pool;
    let frames = vec![datagram(station.mac, &[7; 1000]); BURST_DEFAULT];
    let mut held: Vec<BytesMut> = Vec::new();
    let mut receive = |station: &mut Station, held: &mut Vec<BytesMut>| {
        for queue in 0..QUEUES {
            assert_eq!(
                wire.inject(queue, &frames),
                BURST_DEFAULT,
                "the device has mbufs"
            );
        }
        now += TURN;
        station.turn(now);
        for probe in &station.probes {
            held.extend(probe.received().into_iter().map(|(_, payload)| payload));
        }
    };
    // Readers that let nothing go, with twice as much as the pool holds.
    for _ in 0..64 {
        receive(&mut station, &mut held);
        let free = pool.available() as usize;
        assert!(
            free >= LOW_MARK - QUEUES * BURST_DEFAULT,
            "{free} free mbufs"
        );
    }
    assert_eq!(held.len(), 64 * QUEUES * BURST_DEFAULT);
    assert!(held.iter().all(|payload| payload[..] == [7; 1000]));
    let in_packet_memory: u64 = station.lanes.iter().map(|l| l.stats().rx_zero_copy).sum();
    assert!(in_packet_memory > 1000, "as long as there were enough");
    for lane in &station.lanes {
        let stats = lane.stats();
        assert!(stats.pool_pressure > 0 && stats.rx_copied > 0);
        assert_eq!(stats.rx_pool_free, u64::from(pool.available()));
    }

    // The readers let go: no more copies.
    held.clear();
    for _ in 0..64 {
        receive(&mut station, &mut held);
        held.clear();
    }
    let copied = |station: &Station| -> u64 {
        let stats = station.lanes.iter().map(|lane| lane.stats());
        stats.map(|stats| stats.rx_copied).sum()
    };
    let before = copied(&station);
    receive(&mut station, &mut held);
    assert_eq!(copied(&station), before);
    drop(held);
    assert_eq!(pool.in_use(), 0);
}
