//! How fast one core sends, and receives, without packet I/O: on quinn-proto alone, which is the ceiling of the
//! engine, and on shards, which is what is left of it above the driver.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;

use crate::bare::Bare;
use crate::memory::{Bulk, Clock, LEFT, Pair, RIGHT};
use crate::settings::Settings;
use crate::shards;

/// What one measurement found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OneCore {
    /// Stream bytes by the time spent in calls to the sender, 1e9 bit/s.
    pub sender_gbps: f64,
    /// Stream bytes by the time spent in calls to the receiver, 1e9 bit/s.
    pub receiver_gbps: f64,
    /// Time of the sender for each datagram it sent, its share of acknowledgements included, ns.
    pub sender_ns: f64,
    /// Time of the receiver for each datagram it received, its share of acknowledgements included, ns.
    pub receiver_ns: f64,
}

/// quinn-proto alone, for `duration` over a path of `mtu` bytes of IPv6 packet, on this thread.
///
/// # Errors
/// The connection does not come up, does not reach the path's MTU, or loses packets.
pub fn bare(mtu: u16, duration: Duration) -> Result<OneCore, Box<dyn Error>> {
    let settings = Settings::new(mtu)?;
    let receiver = Bare::receiver(&settings, LEFT.port());
    let sender = Bare::sender(&settings, RIGHT.port(), LEFT)?;
    measure(
        Pair::new(receiver, sender, settings.udp_payload_max()),
        duration,
    )
}

/// The engine's shards, likewise.
///
/// # Errors
/// As of [`bare`].
pub fn shards(mtu: u16, duration: Duration) -> Result<OneCore, Box<dyn Error>> {
    let settings = Settings::new(mtu)?;
    let receiver = shards::receiver(&settings, LEFT.port())?;
    let sender = shards::sender(&settings, RIGHT.port(), LEFT)?;
    measure(
        Pair::new(receiver, sender, settings.udp_payload_max()),
        duration,
    )
}

fn measure<T: Bulk>(mut pair: Pair<T, T>, duration: Duration) -> Result<OneCore, Box<dyn Error>> {
    let clock = Clock::new();
    pair.warm_up(&clock)?;
    let before = pair.left.transport.received();
    pair.run(&clock, duration);
    let bits = (pair.left.transport.received() - before) as f64 * 8.0;

    let (receiver, sender) = (pair.left.charge, pair.right.charge);
    match pair.right.transport.lost_packets() {
        0 => Ok(OneCore {
            sender_gbps: bits / sender.cost as f64,
            receiver_gbps: bits / receiver.cost as f64,
            sender_ns: sender.cost as f64 / sender.sent as f64,
            receiver_ns: receiver.cost as f64 / receiver.received as f64,
        }),
        lost => Err(format!("{lost} packets were declared lost in memory").into()),
    }
}
