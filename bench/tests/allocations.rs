//! In steady state, the engine allocates nothing for a packet of its own: what is allocated, quinn-proto allocates.
//!
//! The same transfer runs on quinn-proto alone and on shards, on one thread with a counting allocator. Both ends do
//! the same work, so the difference is ours.

use std::error::Error;
use std::time::Duration;

use bench::bare::Bare;
use bench::memory::{Bulk, Charge, LEFT, Meter, Pair, RIGHT};
use bench::settings::Settings;
use bench::shards;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// How long each transfer is observed.
const DURATION: Duration = Duration::from_millis(500);
/// A difference of one allocation in this many packets is noise: queues of quinn-proto that grow at other moments.
const PACKETS_PER_ALLOCATION_MIN: f64 = 1000.0;

struct Allocations;

impl Meter for Allocations {
    fn read(&self) -> u64 {
        hugepages::thread_allocations().allocations
    }
}

/// Allocations of the sender for each datagram sent, and of the receiver for each datagram received.
fn observe<T: Bulk>(mut pair: Pair<T, T>) -> Result<(f64, f64), Box<dyn Error>> {
    pair.warm_up(&Allocations)?;
    pair.run(&Allocations, DURATION);
    let (
        Charge {
            cost: receiving,
            received,
            ..
        },
        Charge {
            cost: sending,
            sent,
            ..
        },
    ) = (pair.left.charge, pair.right.charge);
    assert!(sent > 1000, "a transfer ran: {sent} datagrams");
    Ok((
        sending as f64 / sent as f64,
        receiving as f64 / received as f64,
    ))
}

fn of_bare(settings: &Settings) -> Result<(f64, f64), Box<dyn Error>> {
    let receiver = Bare::receiver(settings, LEFT.port());
    let sender = Bare::sender(settings, RIGHT.port(), LEFT)?;
    observe(Pair::new(receiver, sender, settings.udp_payload_max()))
}

fn of_shards(settings: &Settings) -> Result<(f64, f64), Box<dyn Error>> {
    let receiver = shards::receiver(settings, LEFT.port())?;
    let sender = shards::sender(settings, RIGHT.port(), LEFT)?;
    observe(Pair::new(receiver, sender, settings.udp_payload_max()))
}

#[test]
fn a_shard_allocates_nothing_for_a_packet() -> Result<(), Box<dyn Error>> {
    assert!(hugepages::is_installed(), "allocations are counted");
    for mtu in [1500, 9000] {
        let settings = Settings::new(mtu)?;
        let (bare_sender, bare_receiver) = of_bare(&settings)?;
        let (sender, receiver) = of_shards(&settings)?;
        println!(
            "MTU {mtu}, allocations a packet: sender {sender:.4} (quinn-proto alone {bare_sender:.4}), \
             receiver {receiver:.4} (quinn-proto alone {bare_receiver:.4})"
        );
        let noise = 1.0 / PACKETS_PER_ALLOCATION_MIN;
        assert!(
            sender - bare_sender < noise,
            "MTU {mtu}: the sending shard allocates"
        );
        assert!(
            receiver - bare_receiver < noise,
            "MTU {mtu}: the receiving shard allocates"
        );
    }
    Ok(())
}
