//! What the state knows of one peer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::back_off::Delay;
use super::config::PoolConfig;
use super::health::Checkup;
use super::roster::Roster;
use super::slot::{Held, Pooled, Slot, SlotId};
use super::{OpenError, PeerKey};

/// An attempt to open a connection. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OpenId(pub u64);

/// The place of somebody who waits, until that one has left it.
pub(super) type WaiterKey = usize;

/// A connection being opened.
pub(super) struct Opening {
    pub id: OpenId,
    pub shard: usize,
    pub begun: Instant,
    /// How many attempts had failed before it.
    pub failures: u32,
}

/// A connection of the pool.
pub(super) struct Entry<C> {
    pub slot: Arc<Slot<C>>,
    pub opened: Instant,
    /// Lasts long enough to count as a success.
    pub settled: bool,
    /// How often it was lent, whether it was out when last looked at, and when either was seen to have changed.
    pub uses: u64,
    pub busy: bool,
    pub used: Instant,
    pub checkup: Checkup,
}

impl<C> Entry<C> {
    /// Takes note of whether it was used. Returns since when it has not been.
    pub fn look(&mut self, now: Instant) -> Option<Instant> {
        let load = self.slot.load();
        let busy = load.leases() > 0;
        if busy || self.busy || load.uses() != self.uses {
            self.uses = load.uses();
            self.busy = busy;
            self.used = now;
        }
        (!busy).then_some(self.used)
    }
}

pub(super) struct Peer<C> {
    pub roster: Arc<Roster<C>>,
    /// How many connections can be spread over.
    pub shards: usize,
    pub entries: Vec<Entry<C>>,
    pub openings: Vec<Opening>,
    /// First come, first served.
    pub queue: VecDeque<WaiterKey>,
    pub delay: Delay,
    pub last_error: Option<OpenError>,
    /// Waits for room in the pool.
    pub starved: bool,
    /// When a connection was last asked for that was not there.
    pub asked: Instant,
}

impl<C: Pooled> Peer<C> {
    pub fn new(now: Instant, roster: Arc<Roster<C>>, shards: usize) -> Self {
        Self {
            roster,
            shards,
            entries: Vec::new(),
            openings: Vec::new(),
            queue: VecDeque::new(),
            delay: Delay::default(),
            last_error: None,
            starved: false,
            asked: now,
        }
    }

    pub fn key(&self) -> &PeerKey {
        &self.roster.key
    }

    /// Connections, those being opened among them.
    pub fn connections(&self) -> usize {
        self.entries.len() + self.openings.len()
    }

    pub fn entry(&mut self, id: SlotId) -> Option<&mut Entry<C>> {
        self.entries.iter_mut().find(|entry| entry.slot.id == id)
    }

    /// Nothing is lent, and nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.openings.is_empty()
            && (self.entries.iter()).all(|entry| entry.slot.load().leases() == 0)
    }

    /// Nothing to wait for but a time: callers who would not wait for that get an error.
    pub fn is_hopeless(&self, now: Instant, config: &PoolConfig) -> bool {
        let fails = |error: &OpenError| !config.back_off.wait || error.is_final();
        self.connections() == 0
            && self.last_error.as_ref().is_some_and(fails)
            && self.delay.wait(now).is_some()
    }

    /// How many more connections those who wait need. After a failure, one shows whether the peer is back.
    pub fn wanted(&self, now: Instant, config: &PoolConfig) -> usize {
        if self.queue.is_empty() || self.delay.wait(now).is_some() {
            return 0;
        }
        let useful = match self.delay.failures() {
            0 => self.queue.len().div_ceil(config.open_at),
            _ => 1,
        };
        let allowed = config.connections_per_peer - self.entries.len();
        useful.min(allowed).saturating_sub(self.openings.len())
    }

    /// Whether a busy peer may have one connection more without anybody waiting for it.
    pub fn may_grow(&self, now: Instant, config: &PoolConfig) -> bool {
        !self.entries.is_empty()
            && self.openings.is_empty()
            && self.connections() < config.connections_per_peer
            && self.delay.wait(now).is_none()
    }

    /// A lease of the least-loaded connection, or the place of one that turned out to be over.
    pub fn lend(&self, max: usize) -> Result<Option<Held<C>>, usize> {
        loop {
            let best = (self.entries.iter().enumerate())
                .map(|(index, entry)| (index, entry.slot.load()))
                .filter(|(_, load)| load.leases() < max && !load.is_retired())
                .min_by_key(|(_, load)| load.leases());
            let Some((index, load)) = best else {
                return Ok(None);
            };
            let slot = &self.entries[index].slot;
            if slot.connection().is_closed() {
                return Err(index);
            }
            // Refused when another thread came first.
            if let Some(held) = slot.lend(load) {
                return Ok(Some(held));
            }
        }
    }

    /// Shows the connections to callers.
    pub fn publish(&self) {
        let slots = self.entries.iter().map(|entry| Arc::clone(&entry.slot));
        self.roster.publish(slots.collect());
    }

    /// Tells all connections whether somebody waits.
    pub fn mark(&self) {
        for entry in &self.entries {
            entry.slot.set_queued(!self.queue.is_empty());
        }
    }

    /// How many connections are on a shard.
    pub fn on_shard(&self, shard: usize) -> usize {
        let open = (self.entries.iter()).filter(|entry| entry.slot.shard == shard);
        let opening = self
            .openings
            .iter()
            .filter(|opening| opening.shard == shard);
        open.count() + opening.count()
    }

    /// Connections that last are the end of a row of failures.
    pub fn settle(&mut self, now: Instant, config: &PoolConfig) {
        for entry in &mut self.entries {
            if !entry.settled
                && !entry.slot.is_early()
                && now.duration_since(entry.opened) >= config.settle
            {
                entry.settled = true;
                self.delay.succeeded();
                self.last_error = None;
            }
        }
    }
}
