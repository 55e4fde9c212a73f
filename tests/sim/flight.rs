//! A datagram on its way through a simulated network: shared by the simulations of shards and of worlds.

use std::cmp::Ordering;
use std::net::SocketAddrV6;
use std::time::Instant;

use poll::Ecn;

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    pub from: SocketAddrV6,
    pub to: SocketAddrV6,
    pub ecn: Ecn,
    pub payload: Vec<u8>,
}

/// When it arrives. Of those that arrive at once, the one with the lower number is the first.
#[derive(PartialEq, Eq)]
pub struct Flight {
    pub at: Instant,
    pub serial: u64,
    pub wire: Wire,
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
