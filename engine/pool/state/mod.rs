//! The decisions of a pool: what is lent, opened, evicted, and who waits. No I/O, no clock: `now` is an argument, and
//! what is to be done outside is written down in [`Outbox`] and [`Chores`].
//!
//! One mutex guards it all. Callers who find a connection with room never come here.
//!
//! After whatever happens to a peer, [`settle`](State::settle) brings it in order again: it serves the queue, opens what
//! is wanted, and lets those go who wait for nothing. When room is made in the pool, [`feed`](State::feed) passes it to
//! the peer that has waited longest.

mod settle;
mod sweep;

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::back_off::Jitter;
use super::config::PoolConfig;
use super::health::Checkup;
use super::peer::{Entry, OpenId, Peer, WaiterKey};
use super::roster::{Directory, Roster};
use super::slot::{Held, Home, Origin, PeerId, Pooled, Slot, SlotId};
use super::{OpenError, PeerKey, PoolError, PoolStats};

/// Why a connection is no longer of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    Idle,
    Crowded,
    Broken,
    Unhealthy,
    /// The pool is closed.
    Closing,
}

/// What has to be done once the lock is released: user code runs in it.
pub(super) struct Outbox<C> {
    pub wakers: Vec<Waker>,
    /// To be dropped: nobody waits with them any more.
    pub stale: Vec<Waker>,
    /// To be dropped.
    pub buried: Vec<Arc<Slot<C>>>,
    /// To be closed.
    pub unhealthy: Vec<Arc<Slot<C>>>,
    /// The keeper has something to do.
    pub rouse: bool,
}

impl<C> Default for Outbox<C> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            stale: Vec::new(),
            buried: Vec::new(),
            unhealthy: Vec::new(),
            rouse: false,
        }
    }
}

/// What the keeper has to do.
pub(super) struct Chores<C> {
    /// Connections to open.
    pub open: Vec<Order>,
    /// Attempts that are given up.
    pub abandon: Vec<OpenId>,
    /// Connections whose figures are wanted.
    pub ask: Vec<Arc<Slot<C>>>,
    /// Connections that need no watching any more.
    pub forget: Vec<SlotId>,
}

impl<C> Default for Chores<C> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            abandon: Vec::new(),
            ask: Vec::new(),
            forget: Vec::new(),
        }
    }
}

/// A connection to be opened.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub id: OpenId,
    pub peer: PeerId,
    pub key: PeerKey,
    pub shard: usize,
}

/// What came of asking for a connection.
pub(super) enum Got<C> {
    Lease(Held<C>),
    Wait(WaiterKey),
    Refused(PoolError),
}

/// Somebody who waits, or has not yet seen what came of it.
pub(super) struct Waiter<C> {
    pub(super) peer: PeerId,
    pub(super) since: Instant,
    waker: Option<Waker>,
    outcome: Option<Result<Held<C>, PoolError>>,
}

/// See the module.
pub(super) struct State<C> {
    pub(super) config: Arc<PoolConfig>,
    pub(super) directory: Arc<Directory<C>>,
    home: Weak<dyn Home>,
    jitter: Jitter,
    pub(super) peers: FxHashMap<PeerId, Peer<C>>,
    pub(super) waiters: Slab<Waiter<C>>,
    /// Peers that wait for room in the pool; first come, first served.
    starved: VecDeque<PeerId>,
    /// Whether there are such, for those who return leases.
    starving: Arc<AtomicBool>,
    /// Connections by shard, those being opened among them. A shard is a number within the port that leads to a peer, so
    /// with several ports this is a rough figure: it decides only where a peer's own connections do not.
    shards: Vec<usize>,
    next_id: u64,
    /// When the keeper has to look at the time again.
    pub(super) due: Option<Instant>,
    closed: bool,
    /// Only counters in it are kept up to date, and `connections`, `opening`, `waiters`.
    pub(super) stats: PoolStats,
    /// How often connections that are gone were lent, and how often waiters were served.
    uses: u64,
    served: u64,
    pub(super) outbox: Outbox<C>,
    pub(super) chores: Chores<C>,
}

impl<C: Pooled> State<C> {
    /// `seed` is for jitter.
    pub fn new(
        config: Arc<PoolConfig>,
        directory: Arc<Directory<C>>,
        home: Weak<dyn Home>,
        seed: u64,
    ) -> Self {
        Self {
            config,
            directory,
            home,
            jitter: Jitter::new(seed),
            peers: FxHashMap::default(),
            waiters: Slab::new(),
            starved: VecDeque::new(),
            starving: Arc::default(),
            shards: Vec::new(),
            next_id: 0,
            due: None,
            closed: false,
            stats: PoolStats::default(),
            uses: 0,
            served: 0,
            outbox: Outbox::default(),
            chores: Chores::default(),
        }
    }

    /// The peer of this key, remembered from now on, whose connections can be spread over so many shards.
    pub fn register(
        &mut self,
        now: Instant,
        key: &PeerKey,
        shards: usize,
    ) -> Result<Arc<Roster<C>>, PoolError> {
        if self.closed {
            return Err(PoolError::Closed);
        }
        if let Some(known) = self.directory.with(key, Arc::clone) {
            return Ok(known);
        }
        if self.peers.len() >= self.config.peers && !self.forget_one(now) {
            self.stats.refused += 1;
            return Err(PoolError::TooManyPeers {
                limit: self.config.peers,
            });
        }
        let id = PeerId(self.next_id());
        let roster = Arc::new(Roster::new(key.clone(), id));
        self.directory.insert(Arc::clone(&roster));
        let shards = shards.max(1);
        if self.shards.len() < shards {
            self.shards.resize(shards, 0);
        }
        self.peers
            .insert(id, Peer::new(now, Arc::clone(&roster), shards));
        self.due_by(now + self.config.idle_timeout);
        Ok(roster)
    }

    /// A lease for somebody who found no connection with room, or a place in the queue.
    pub fn get(&mut self, now: Instant, id: PeerId) -> Got<C> {
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !self.closed) else {
            return Got::Refused(PoolError::Closed);
        };
        peer.asked = now;
        if peer.queue.is_empty()
            && let Some(held) = self.lend(now, id)
        {
            self.feed(now);
            return Got::Lease(held);
        }
        self.stats.misses += 1;
        if let Some(error) = self.refusal(now, id) {
            self.stats.refused += 1;
            return Got::Refused(error);
        }
        let waiter = self.waiters.insert(Waiter {
            peer: id,
            since: now,
            waker: None,
            outcome: None,
        });
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.queue.push_back(waiter);
        }
        self.stats.waiters += 1;
        self.stats.waiters_max = self.stats.waiters_max.max(self.stats.waiters);
        self.due_by(now + self.config.wait_timeout);
        self.settle(now, id);
        self.feed(now);
        match self.take_outcome(waiter) {
            Some(Ok(held)) => Got::Lease(held),
            Some(Err(error)) => Got::Refused(error),
            None => Got::Wait(waiter),
        }
    }

    /// What came of waiting. The place is left when it is ready.
    pub fn poll(
        &mut self,
        waiter: WaiterKey,
        context: &mut Context<'_>,
    ) -> Poll<Result<Held<C>, PoolError>> {
        if let Some(outcome) = self.take_outcome(waiter) {
            return Poll::Ready(outcome);
        }
        let Some(waiter) = self.waiters.get_mut(waiter) else {
            return Poll::Ready(Err(PoolError::Closed));
        };
        match &mut waiter.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            waker => {
                let stale = waker.replace(context.waker().clone());
                self.outbox.stale.extend(stale);
            }
        }
        Poll::Pending
    }

    /// Somebody waits no longer. What was found meanwhile is to be dropped outside the lock.
    pub fn cancel(&mut self, now: Instant, key: WaiterKey) -> Option<Held<C>> {
        let waiter = self.waiters.try_remove(key)?;
        self.stats.cancelled += 1;
        if let Some(outcome) = waiter.outcome {
            return outcome.ok();
        }
        self.stats.waiters -= 1;
        if let Some(peer) = self.peers.get_mut(&waiter.peer) {
            peer.queue.retain(|other| *other != key);
        }
        self.outbox.stale.extend(waiter.waker);
        self.settle(now, waiter.peer);
        self.feed(now);
        None
    }

    /// A lease came back that somebody waits for.
    pub fn returned(&mut self, now: Instant, id: PeerId) {
        self.settle(now, id);
        self.feed(now);
    }

    /// All connections to a peer are busy: opens one beside them, if that is still so.
    pub fn grow(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !self.closed) else {
            return;
        };
        peer.asked = now;
        if peer.may_grow(now, &self.config) && self.has_room() {
            self.open(now, id);
        }
        self.show_growth(now, id);
    }

    /// An attempt succeeded. Returns the slot to be watched, unless nobody wants the connection any more.
    pub fn opened(
        &mut self,
        now: Instant,
        peer_id: PeerId,
        id: OpenId,
        connection: C,
        early: bool,
    ) -> Result<Arc<Slot<C>>, C> {
        let slot_id = SlotId(self.next_id());
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return Err(connection);
        };
        let Some(index) = peer.openings.iter().position(|opening| opening.id == id) else {
            return Err(connection);
        };
        let opening = peer.openings.swap_remove(index);
        let origin = Origin {
            id: slot_id,
            peer: peer_id,
            shard: opening.shard,
            starved: Arc::clone(&self.starving),
            home: Weak::clone(&self.home),
        };
        let slot = Arc::new(Slot::new(connection, early, origin));
        peer.entries.push(Entry {
            slot: Arc::clone(&slot),
            opened: now,
            settled: false,
            uses: 0,
            busy: false,
            used: now,
            checkup: Checkup::new(now, &self.config.health.unwrap_or_default()),
        });
        peer.mark();
        peer.publish();
        self.stats.opening -= 1;
        self.stats.connections += 1;
        self.stats.opens_early += u64::from(early);
        // When this one is to be looked at depends on much: the next sweep finds out.
        self.due_by(now);
        self.settle(now, peer_id);
        self.feed(now);
        Ok(slot)
    }

    /// An attempt failed.
    pub fn failed(&mut self, now: Instant, peer_id: PeerId, id: OpenId, error: OpenError) {
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        let Some(index) = peer.openings.iter().position(|opening| opening.id == id) else {
            return;
        };
        let opening = peer.openings.swap_remove(index);
        self.stats.opening -= 1;
        self.shards[opening.shard] -= 1;
        let last = peer.connections() == 0;
        self.count_failure(now, peer_id, opening.failures, error.clone());
        if last && (!self.config.back_off.wait || error.is_final()) {
            self.fail_queue(peer_id, &PoolError::OpenFailed(error));
        }
        self.settle(now, peer_id);
        self.feed(now);
    }

    /// A connection is over.
    pub fn ended(&mut self, now: Instant, peer: PeerId, slot: SlotId) {
        self.evict(now, peer, slot, Eviction::Broken);
    }

    /// The handshake of a connection that was lent early is complete, with its early data accepted or not.
    pub fn confirmed(&mut self, now: Instant, id: PeerId, slot: SlotId, accepted: bool) {
        if let Some(entry) = self.peers.get_mut(&id).and_then(|peer| peer.entry(slot)) {
            entry.slot.set_confirmed();
            let refused = !accepted && !entry.slot.connection().is_closed();
            self.stats.early_refused += u64::from(refused);
            self.due_by(now);
        }
    }

    /// The pool is closed: nothing is lent any more, and who waits is told so.
    pub fn close(&mut self, now: Instant) {
        self.closed = true;
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.fail_queue(id, &PoolError::Closed);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            for opening in peer.openings.drain(..) {
                self.stats.opening -= 1;
                self.shards[opening.shard] -= 1;
                self.chores.abandon.push(opening.id);
            }
            while self
                .peers
                .get(&id)
                .is_some_and(|peer| !peer.entries.is_empty())
            {
                self.bury(now, id, 0, Eviction::Closing);
            }
            self.show_growth(now, id);
        }
        self.chores.open.clear();
        self.outbox.rouse = true;
    }

    /// The figures as of now.
    pub fn stats(&self) -> PoolStats {
        let mut stats = self.stats;
        let loads = (self.peers.values())
            .flat_map(|peer| &peer.entries)
            .map(|entry| entry.slot.load());
        let (uses, leases) = loads.fold((self.uses, 0), |(uses, leases), load| {
            (uses + load.uses(), leases + load.leases())
        });
        stats.hits = uses - self.served;
        stats.leases = leases;
        stats.peers = self.peers.len();
        stats
    }

    #[cfg(test)]
    pub(super) fn is_starved(&self, id: PeerId) -> bool {
        self.starved.contains(&id)
    }
}
