//! The neighbour cache: MAC addresses of the hosts and routers on the link, and whether they still answer (RFC 4861 §7).
//!
//! ```text
//!              resolve             advertisement                no word for 15–45 s
//! (no entry) ──────────► Incomplete ───────────► Reachable ◄──────────────────────┐
//!     ▲                      │ 3 solicitations      │ time      confirmation       │
//!     │                      ▼                      ▼                              │
//!     └──────────────── no answer             Stale ── resolve ──► Delay ── 5 s ──► Probe
//!     ▲                                                                            │ 3 probes
//!     └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The table never grows: its slots are made once. What the host needs to send may replace an entry that is not in use,
//! what it merely overhears may only fill a free slot. So a flood of invented senders costs nothing but free slots.

mod entry;

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::keyed::KeyedHash;
use crate::deadline::earlier;
use crate::random::Random;
use crate::wire::MacAddr;
use entry::{Neighbour, Slot, State};

pub(super) use entry::{Advertised, Event, Resolution};
pub use entry::{NeighbourInfo, Reachability};

/// Time between solicitations for one neighbour (RFC 4861 §10, RETRANS_TIMER).
pub(super) const RETRANSMIT: Duration = Duration::from_secs(1);
/// Solicitations without an answer before a neighbour is given up, multicast and unicast ones alike (RFC 4861 §10).
const SOLICITATIONS_MAX: u8 = 3;
/// How long a neighbour counts as reachable after it was confirmed; each time a factor of 0.5 to 1.5 is drawn
/// (RFC 4861 §6.3.2).
const REACHABLE: Duration = Duration::from_secs(30);
/// How long a stale neighbour is used before it is probed, so that traffic can confirm it (RFC 4861 §10).
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// Entries that are compared to find one to replace.
const CANDIDATES_MAX: usize = 64;
/// Timers that fall due within this time of each other are run together.
const TIMER_GRAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Neighbours {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_address: HashMap<Ipv6Addr, u32, KeyedHash>,
    /// Slots whose neighbours wait for something: incomplete, delay, probe.
    timed: Vec<u32>,
    /// When the list of timers is to be gone through.
    due: Option<Instant>,
    /// Where in that list the going through has got to, and the earliest deadline it has seen.
    cursor: usize,
    next_due: Option<Instant>,
    /// Where the search for an entry to replace goes on.
    hand: usize,
    random: Random,
    /// Entries that were replaced.
    pub(super) evicted: u64,
}

impl Neighbours {
    pub(super) fn new(max: usize, hash: KeyedHash, seed: u64) -> Self {
        Self {
            slots: vec![Slot::default(); max],
            free: (0..max as u32).rev().collect(),
            // Twice the bound: so the table never has to grow, whatever was removed from it.
            by_address: HashMap::with_capacity_and_hasher(2 * max, hash),
            timed: Vec::with_capacity(max),
            due: None,
            cursor: 0,
            next_due: None,
            hand: 0,
            random: Random::new(seed),
            evicted: 0,
        }
    }

    /// When [`next_event`](Self::next_event) is to be called next.
    #[inline]
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// The MAC address to send to for `address`, because there is something to send. Starts to ask for it when it is
    /// unknown; to make room, an entry that is stale and not in `keep` may go.
    pub(super) fn resolve(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        keep: impl Fn(Ipv6Addr) -> bool,
    ) -> Resolution {
        let Some(slot) = self.find(address) else {
            return self.start(now, address, keep);
        };
        let Some(neighbour) = self.at(slot) else {
            return Resolution::Full;
        };
        neighbour.last_used = now;
        let mac = neighbour.mac;
        match neighbour.state {
            State::Incomplete { .. } => Resolution::Waiting { first: false },
            State::Reachable { until } if now < until => Resolution::Ready { mac, until },
            State::Reachable { .. } | State::Stale => {
                let due = now + DELAY_FIRST_PROBE;
                neighbour.state = State::Delay { due };
                self.arm(slot, due);
                Resolution::Ready { mac, until: due }
            }
            State::Delay { due } | State::Probe { due, .. } => {
                Resolution::Ready { mac, until: due }
            }
        }
    }

    /// A neighbour told its MAC address without being asked: by a solicitation or a router advertisement (RFC 4861
    /// §7.2.3, §6.3.4). True when the address became known or changed.
    pub(super) fn learn(&mut self, now: Instant, address: Ipv6Addr, mac: MacAddr) -> bool {
        let Some(slot) = self.find(address) else {
            return self.create(now, address, mac, State::Stale).is_some();
        };
        let Some(neighbour) = self.at(slot) else {
            return false;
        };
        let known = !matches!(neighbour.state, State::Incomplete { .. });
        if known && neighbour.mac == mac {
            return false;
        }
        neighbour.mac = mac;
        neighbour.state = State::Stale;
        true
    }

    /// A datagram came from `address` and `mac`. It confirms a neighbour that is in use, or makes an unknown one known;
    /// it never changes a MAC address. RFC 4861 §7.3.1 would have the transport confirm that what was *sent* arrived;
    /// that a peer goes on sending stands for it here, since a QUIC peer that hears nothing falls silent. True when the address became known.
    pub(super) fn heard(&mut self, now: Instant, address: Ipv6Addr, mac: MacAddr) -> bool {
        let Some(slot) = self.find(address) else {
            return self.create(now, address, mac, State::Stale).is_some();
        };
        let until = now + self.reachable_time();
        let Some(neighbour) = self.at(slot) else {
            return false;
        };
        match neighbour.state {
            State::Incomplete { .. } => {
                neighbour.mac = mac;
                neighbour.state = State::Stale;
                true
            }
            _ => {
                let in_use = now.saturating_duration_since(neighbour.last_used) < REACHABLE;
                if neighbour.mac == mac && in_use {
                    neighbour.state = State::Reachable { until };
                }
                false
            }
        }
    }

    /// Like [`heard`](Self::heard), but only for a neighbour that is known already.
    pub(super) fn confirm(&mut self, now: Instant, address: Ipv6Addr, mac: MacAddr) {
        if self.mac_of(address) == Some(mac) {
            self.heard(now, address, mac);
        }
    }

    /// A neighbour advertisement for `address` (RFC 4861 §7.2.5). True when its MAC address became known or changed.
    /// One that nobody asked for makes no entry.
    pub(super) fn advertised(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        advertised: Advertised,
    ) -> bool {
        let until = now + self.reachable_time();
        let Some(neighbour) = self.find(address).and_then(|slot| self.at(slot)) else {
            return false;
        };
        let confirmed = State::Reachable { until };
        if let State::Incomplete { .. } = neighbour.state {
            let Some(mac) = advertised.mac else {
                return false;
            };
            neighbour.mac = mac;
            neighbour.state = if advertised.solicited {
                confirmed
            } else {
                State::Stale
            };
            return true;
        }
        let other_mac = advertised.mac.filter(|mac| *mac != neighbour.mac);
        match other_mac {
            Some(_) if !advertised.overrides => {
                if matches!(neighbour.state, State::Reachable { .. }) {
                    neighbour.state = State::Stale;
                }
                false
            }
            Some(mac) => {
                neighbour.mac = mac;
                neighbour.state = if advertised.solicited {
                    confirmed
                } else {
                    State::Stale
                };
                true
            }
            None => {
                if advertised.solicited {
                    neighbour.state = confirmed;
                }
                false
            }
        }
    }

    /// What the next timer that is due found. To be called until it returns `None`, now or later.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<Event> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        while let Some(&slot) = self.timed.get(self.cursor) {
            let (event, due) = self.run_slot(now, slot);
            match due {
                Some(due) => {
                    self.next_due = earlier(self.next_due, Some(due));
                    self.cursor += 1;
                }
                None => {
                    if let Some(slot) = self.slots.get_mut(slot as usize) {
                        slot.timed = false;
                    }
                    self.timed.swap_remove(self.cursor);
                }
            }
            if event.is_some() {
                return event;
            }
        }
        self.cursor = 0;
        self.due = self.next_due.take().map(|due| due.max(now + TIMER_GRAIN));
        None
    }

    /// The MAC address of a neighbour, when it is known.
    pub(super) fn mac_of(&self, address: Ipv6Addr) -> Option<MacAddr> {
        let slot = self.find(address)?;
        let neighbour = self.slots.get(slot as usize)?.neighbour?;
        match neighbour.state {
            State::Incomplete { .. } => None,
            _ => Some(neighbour.mac),
        }
    }

    /// All entries, in no order.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = NeighbourInfo> {
        self.slots
            .iter()
            .filter_map(|slot| slot.neighbour)
            .map(move |neighbour| neighbour.info(now))
    }

    fn start(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        keep: impl Fn(Ipv6Addr) -> bool,
    ) -> Resolution {
        if self.free.is_empty() {
            self.evict(now, keep);
        }
        let due = now + RETRANSMIT;
        let state = State::Incomplete { sent: 1, due };
        match self.create(now, address, MacAddr::default(), state) {
            Some(slot) => {
                self.arm(slot, due);
                Resolution::Waiting { first: true }
            }
            None => Resolution::Full,
        }
    }

    /// Fills a free slot, if there is one.
    fn create(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        mac: MacAddr,
        state: State,
    ) -> Option<u32> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.neighbour = Some(Neighbour {
            address,
            mac,
            state,
            last_used: now,
        });
        self.by_address.insert(address, index);
        Some(index)
    }

    /// Frees the slot of the entry that was not used for the longest time, among some candidates. Those that are
    /// reachable, or that something waits for, are none.
    fn evict(&mut self, now: Instant, keep: impl Fn(Ipv6Addr) -> bool) {
        let mut oldest: Option<Neighbour> = None;
        for _ in 0..self.slots.len().min(CANDIDATES_MAX) {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = self.slots.get(self.hand);
            let Some(neighbour) = slot.and_then(|slot| slot.neighbour) else {
                continue;
            };
            let idle = match neighbour.state {
                State::Stale => true,
                State::Reachable { until } => until <= now,
                _ => false,
            };
            let older = oldest.is_none_or(|oldest| neighbour.last_used < oldest.last_used);
            if idle && older && !keep(neighbour.address) {
                oldest = Some(neighbour);
            }
        }
        if let Some(oldest) = oldest {
            self.remove(oldest.address);
            self.evicted += 1;
        }
    }

    fn remove(&mut self, address: Ipv6Addr) {
        if let Some(index) = self.by_address.remove(&address) {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.neighbour = None;
            }
            self.free.push(index);
        }
    }

    /// What is due in one slot, and its next deadline.
    fn run_slot(&mut self, now: Instant, slot: u32) -> (Option<Event>, Option<Instant>) {
        let Some(neighbour) = self.at(slot) else {
            return (None, None);
        };
        let (address, mac) = (neighbour.address, neighbour.mac);
        let (due, sent) = match neighbour.state {
            State::Incomplete { sent, due } | State::Probe { sent, due } => (due, sent),
            State::Delay { due } => (due, 0),
            State::Reachable { .. } | State::Stale => return (None, None),
        };
        if now < due {
            return (None, Some(due));
        }
        if sent >= SOLICITATIONS_MAX {
            self.remove(address);
            return (Some(Event::Failed(address)), None);
        }
        let (sent, due) = (sent + 1, now + RETRANSMIT);
        let event = if let State::Incomplete { .. } = neighbour.state {
            neighbour.state = State::Incomplete { sent, due };
            Event::Solicit(address)
        } else {
            neighbour.state = State::Probe { sent, due };
            Event::Probe(address, mac)
        };
        (Some(event), Some(due))
    }

    fn arm(&mut self, index: u32, due: Instant) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && !std::mem::replace(&mut slot.timed, true)
        {
            self.timed.push(index);
        }
        self.due = earlier(self.due, Some(due));
    }

    fn find(&self, address: Ipv6Addr) -> Option<u32> {
        self.by_address.get(&address).copied()
    }

    fn at(&mut self, slot: u32) -> Option<&mut Neighbour> {
        self.slots.get_mut(slot as usize)?.neighbour.as_mut()
    }

    fn reachable_time(&mut self) -> Duration {
        self.random.between(REACHABLE / 2, REACHABLE * 3 / 2)
    }
}

#[cfg(test)]
mod tests;
