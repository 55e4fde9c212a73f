//! In steady state, the engine allocates nothing for a packet of its own: what is allocated, quinn-proto allocates.
//!
//! The same transfer runs on quinn-proto alone, on shards joined in memory, and on shards over lanes and a link, on one
//! thread with a counting allocator. All do the same work on quinn-proto, so the differences are ours.

use std::error::Error;
use std::time::{Duration, Instant};

use bench::bare::Bare;
use bench::lanes::{COPYBREAK, LaneSettings, eal_arguments, join};
use bench::memory::{Bulk, LEFT, Meter, Pair, RIGHT};
use bench::settings::Settings;
use bench::shards;
use poll::wire::Checksum;
use poll::{Eal, Lane, TxPath};
use stoq::shard::Shard;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// Mbufs of each pool; there are many in this process, and few frames are under way on one thread.
const MBUFS: u32 = 2047;
/// How long each transfer is observed.
const DURATION: Duration = Duration::from_millis(300);
/// Time before that: handshake, MTU discovery, queues that grow to their size.
const WARM_UP: Duration = Duration::from_millis(400);
/// A difference below one allocation in a hundred datagrams is noise: quinn-proto's lists of acknowledged ranges and
/// sent packets depend on how datagrams fall into turns, which differs from run to run.
const NOISE: f64 = 0.01;

struct Allocations;

impl Meter for Allocations {
    fn read(&self) -> u64 {
        hugepages::thread_allocations().allocations
    }
}

/// Allocations for each datagram.
#[derive(Debug, Clone, Copy)]
struct Rates {
    /// Of the sender, for each datagram that it sent.
    sender: f64,
    /// Of the receiver, for each datagram that it received.
    receiver: f64,
    /// Datagrams that the sender received (acknowledgements), for each that it sent.
    answers: f64,
}

fn in_memory<T: Bulk>(mut pair: Pair<T, T>) -> Result<Rates, Box<dyn Error>> {
    pair.warm_up(&Allocations)?;
    pair.run(&Allocations, DURATION);
    let (receiver, sender) = (pair.left.charge, pair.right.charge);
    assert!(sender.sent > 1000, "a transfer ran: {sender:?}");
    Ok(Rates {
        sender: sender.cost as f64 / sender.sent as f64,
        receiver: receiver.cost as f64 / receiver.received as f64,
        answers: sender.received as f64 / sender.sent as f64,
    })
}

fn of_bare(settings: &Settings) -> Result<Rates, Box<dyn Error>> {
    let receiver = Bare::receiver(settings, LEFT.port());
    let sender = Bare::sender(settings, RIGHT.port(), LEFT)?;
    in_memory(Pair::new(receiver, sender, settings.udp_payload_max()))
}

fn of_shards(settings: &Settings) -> Result<Rates, Box<dyn Error>> {
    let receiver = shards::receiver(settings, LEFT.port())?;
    let sender = shards::sender(settings, RIGHT.port(), LEFT)?;
    in_memory(Pair::new(receiver, sender, settings.udp_payload_max()))
}

/// Turns both lanes until `end`; returns the allocations of each.
fn turn(left: &mut Lane<Shard>, right: &mut Lane<Shard>, end: Instant) -> (u64, u64) {
    let mut cost = (0, 0);
    loop {
        let now = Instant::now();
        if now > end {
            return cost;
        }
        let start = Allocations.read();
        left.turn(now);
        left.timeout(now);
        let between = Allocations.read();
        right.turn(now);
        right.timeout(now);
        cost.0 += between - start;
        cost.1 += Allocations.read() - between;
    }
}

fn of_lanes(eal: &Eal, name: &str, lanes: LaneSettings) -> Result<Rates, Box<dyn Error>> {
    let settings = Settings::new(lanes.mtu)?;
    let receiver = shards::receiver(&settings, LEFT.port())?;
    let sender = shards::sender(&settings, RIGHT.port(), LEFT)?;
    let (mut left, mut right) = join(eal, name, lanes, receiver, sender)?;
    turn(&mut left, &mut right, Instant::now() + WARM_UP);

    let counts = |left: &Lane<Shard>, right: &Lane<Shard>| {
        let (receiver, sender) = (left.transport().counters(), right.transport().counters());
        [
            &receiver.udp_received,
            &sender.udp_sent,
            &sender.udp_received,
        ]
        .map(|c| c.get() as f64)
    };
    let before = counts(&left, &right);
    let (receiving, sending) = turn(&mut left, &mut right, Instant::now() + DURATION);
    let after = counts(&left, &right);
    let [received, sent, answers] = std::array::from_fn(|i| after[i] - before[i]);
    assert!(sent > 1000.0, "a transfer ran: {sent} datagrams");
    Ok(Rates {
        sender: sending as f64 / sent,
        receiver: receiving as f64 / received,
        answers: answers / sent,
    })
}

#[test]
fn nothing_is_allocated_for_a_packet() -> Result<(), Box<dyn Error>> {
    assert!(hugepages::is_installed(), "allocations are counted");
    let eal = Eal::start(&eal_arguments("0"))?;
    for mtu in [1500, 9000] {
        let settings = Settings::new(mtu)?;
        let bare = of_bare(&settings)?;
        println!("MTU {mtu}, quinn-proto alone: {bare:?}");
        let shards = of_shards(&settings)?;
        println!("MTU {mtu}, shards: {shards:?}");
        assert!(
            shards.sender - bare.sender < NOISE,
            "MTU {mtu}: the sending shard allocates"
        );
        assert!(
            shards.receiver - bare.receiver < NOISE,
            "MTU {mtu}: the receiving shard allocates"
        );

        for tx_path in [TxPath::InPlace, TxPath::Scratch] {
            let mut lanes = LaneSettings {
                mtu,
                tx_path,
                checksum: Checksum::Software,
                rx_copybreak: 0,
                mbufs: MBUFS,
            };
            let rates = of_lanes(&eal, &format!("{mtu}{tx_path:?}"), lanes)?;
            println!("MTU {mtu}, lanes, {tx_path:?}: {rates:?}");
            let ours = rates.sender - bare.sender;
            assert!(
                ours < NOISE,
                "MTU {mtu}, {tx_path:?}: the sending lane allocates"
            );
            let ours = rates.receiver - bare.receiver;
            assert!(
                ours < NOISE,
                "MTU {mtu}, {tx_path:?}: the receiving lane allocates"
            );

            // By default, datagrams below the copybreak are copied: one allocation for each.
            lanes.rx_copybreak = COPYBREAK;
            let rates = of_lanes(&eal, &format!("{mtu}{tx_path:?}c"), lanes)?;
            println!("MTU {mtu}, lanes, {tx_path:?}, small datagrams copied: {rates:?}");
            let ours = rates.sender - bare.sender - rates.answers;
            assert!(
                ours < NOISE,
                "MTU {mtu}, {tx_path:?}: more than the copies is allocated"
            );
        }
    }
    Ok(())
}
