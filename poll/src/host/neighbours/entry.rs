//! What the neighbour cache holds and says.

use std::net::Ipv6Addr;
use std::time::Instant;

use crate::wire::MacAddr;

/// What is known of a neighbour (RFC 4861 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// It was asked for its MAC address and has not answered yet.
    Incomplete,
    /// It was confirmed a short time ago.
    Reachable,
    /// Its MAC address is known; whether it still answers is not.
    Stale,
    /// Stale and in use: traffic has some seconds to confirm it.
    Delay,
    /// It was asked by unicast whether it still answers.
    Probe,
}

/// An entry of the neighbour cache, as it can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourInfo {
    /// Its address.
    pub address: Ipv6Addr,
    /// Its MAC address; none while [`Reachability::Incomplete`].
    pub mac: Option<MacAddr>,
    /// What is known of it.
    pub reachability: Reachability,
}

/// The answer to "where do I send this?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum Resolution {
    /// To `mac`; ask again after `until`.
    Ready { mac: MacAddr, until: Instant },
    /// The neighbour was asked; `first`: a solicitation is to be sent at once.
    Waiting { first: bool },
    /// No slot is free, and no entry may go.
    Full,
}

/// What a timer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum Event {
    /// Ask for the MAC address of this neighbour, by multicast.
    Solicit(Ipv6Addr),
    /// Ask this neighbour whether it is still there, by unicast.
    Probe(Ipv6Addr, MacAddr),
    /// This neighbour did not answer; its entry is gone.
    Failed(Ipv6Addr),
}

/// What a neighbour advertisement says.
#[derive(Debug, Clone, Copy)]
pub(in crate::host) struct Advertised {
    pub(in crate::host) mac: Option<MacAddr>,
    pub(in crate::host) solicited: bool,
    pub(in crate::host) overrides: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Incomplete { sent: u8, due: Instant },
    Reachable { until: Instant },
    Stale,
    Delay { due: Instant },
    Probe { sent: u8, due: Instant },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbour {
    pub(super) address: Ipv6Addr,
    /// Means nothing while incomplete.
    pub(super) mac: MacAddr,
    pub(super) state: State,
    pub(super) last_used: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) neighbour: Option<Neighbour>,
    /// The slot is in the list of timers. It leaves it when that list is next gone through.
    pub(super) timed: bool,
}

impl Neighbour {
    /// The entry as it stands at `now`.
    pub(super) fn info(&self, now: Instant) -> NeighbourInfo {
        let reachability = match self.state {
            State::Incomplete { .. } => Reachability::Incomplete,
            State::Reachable { until } if now < until => Reachability::Reachable,
            State::Reachable { .. } | State::Stale => Reachability::Stale,
            State::Delay { .. } => Reachability::Delay,
            State::Probe { .. } => Reachability::Probe,
        };
        let known = reachability != Reachability::Incomplete;
        NeighbourInfo {
            address: self.address,
            mac: known.then_some(self.mac),
            reachability,
        }
    }
}
