//! The ceiling: how fast quinn-proto alone sends, and receives, on one core.

use std::error::Error;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bare::Bare;
use crate::memory::{Charge, Clock, LEFT, Pair, RIGHT};
use crate::settings::Settings;

/// Longest time that a connection may take to reach the MTU of its path.
const WARM_UP_MAX: Duration = Duration::from_secs(5);
/// Time that is left out after the MTU is reached: caches and the congestion window.
const SETTLE: Duration = Duration::from_millis(100);

/// What one measurement found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceiling {
    /// Stream bytes by the time spent in calls to the sender, 1e9 bit/s.
    pub sender_gbps: f64,
    /// Stream bytes by the time spent in calls to the receiver, 1e9 bit/s.
    pub receiver_gbps: f64,
    /// Time of the sender for each datagram it sent, its share of acknowledgements included, ns.
    pub sender_ns: f64,
    /// Time of the receiver for each datagram it received, its share of acknowledgements included, ns.
    pub receiver_ns: f64,
}

/// Transfers for `duration` over a path of `mtu` bytes of IPv6 packet, on this thread.
///
/// # Errors
/// The connection does not come up, does not reach the path's MTU, or loses packets.
pub fn measure(mtu: u16, duration: Duration) -> Result<Ceiling, Box<dyn Error>> {
    let settings = Settings::new(mtu)?;
    let sender = Bare::sender(&settings, RIGHT.port(), LEFT)?;
    let receiver = Bare::receiver(&settings, LEFT.port());
    let mut pair = Pair::new(receiver, sender, settings.udp_payload_max());
    let clock = Clock::new();

    let start = Instant::now();
    while pair.right.transport.mtu() != settings.udp_payload_max() {
        pair.turn(&clock);
        if start.elapsed() > WARM_UP_MAX {
            let reached = pair.right.transport.mtu();
            return Err(format!("the sender reached an MTU of {reached} bytes only").into());
        }
    }
    run(&mut pair, &clock, SETTLE);
    pair.reset();
    let before = pair.left.transport.received();
    run(&mut pair, &clock, duration);
    let bytes = pair.left.transport.received() - before;

    match pair.right.transport.lost_packets() {
        0 => Ok(ceiling(bytes, pair.right.charge, pair.left.charge)),
        lost => Err(format!("{lost} packets were declared lost in memory").into()),
    }
}

fn run(pair: &mut Pair<Bare, Bare>, clock: &Clock, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        for _ in 0..16 {
            pair.turn(clock);
        }
    }
}

fn ceiling(bytes: u64, sender: Charge, receiver: Charge) -> Ceiling {
    let bits = bytes as f64 * 8.0;
    Ceiling {
        sender_gbps: bits / sender.cost as f64,
        receiver_gbps: bits / receiver.cost as f64,
        sender_ns: sender.cost as f64 / sender.sent as f64,
        receiver_ns: receiver.cost as f64 / receiver.received as f64,
    }
}
