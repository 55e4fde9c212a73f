//! How a peer is brought in order after something happened: who is served, what is opened, what makes room.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use super::super::peer::{OpenId, Opening, Peer, WaiterKey};
use super::super::slot::{Held, PeerId, Pooled, SlotId};
use super::super::{OpenError, PoolError};
use super::{Eviction, Order, State};

impl<C: Pooled> State<C> {
    /// Brings a peer in order. See the module.
    pub(super) fn settle(&mut self, now: Instant, id: PeerId) {
        // Before the look for room, so that nobody returns a lease unheard after it.
        if let Some(peer) = self.peers.get(&id)
            && !peer.queue.is_empty()
        {
            peer.mark();
        }
        self.serve(now, id);
        self.plan(now, id);
        if let Some(peer) = self.peers.get(&id) {
            if !peer.queue.is_empty()
                && peer.is_hopeless(now, &self.config)
                && let Some(error) = Self::backing_off(now, peer)
            {
                self.fail_queue(id, &error);
            }
            if let Some(peer) = self.peers.get(&id) {
                peer.mark();
            }
        }
        self.show_growth(now, id);
    }

    /// Gives those who wait what room there is.
    fn serve(&mut self, now: Instant, id: PeerId) {
        while self
            .peers
            .get(&id)
            .is_some_and(|peer| !peer.queue.is_empty())
        {
            let Some(held) = self.lend(now, id) else {
                return;
            };
            let Some(waiter) = self
                .peers
                .get_mut(&id)
                .and_then(|peer| peer.queue.pop_front())
            else {
                return;
            };
            self.served += 1;
            self.tell(waiter, Ok(held));
        }
    }

    /// Opens what those who wait need.
    fn plan(&mut self, now: Instant, id: PeerId) {
        while !self.closed
            && let Some(peer) = self.peers.get(&id)
            && peer.wanted(now, &self.config) > 0
        {
            if !self.has_room() {
                // `feed` makes room, if there is an idle connection. Whoever returns one from now on says so.
                self.starve(id);
                self.mark_starving();
                fence(Ordering::SeqCst);
                return;
            }
            self.open(now, id);
        }
    }

    /// Passes room in the pool to the peers that wait for it.
    pub(super) fn feed(&mut self, now: Instant) {
        while let Some(id) = self.starved.front().copied() {
            let wanted = match self.peers.get(&id) {
                Some(peer) => peer.wanted(now, &self.config),
                None => 0,
            };
            if wanted > 0 && !self.has_room() && !self.evict_idle(now, id) {
                return;
            }
            self.starved.pop_front();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.starved = false;
            }
            self.settle(now, id);
        }
        self.mark_starving();
    }

    /// Evicts the connection of another peer that was not used for longest.
    fn evict_idle(&mut self, now: Instant, except: PeerId) -> bool {
        let mut idle: Vec<(Instant, PeerId, SlotId)> = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(id, _)| **id != except) {
            for entry in &mut peer.entries {
                if let Some(since) = entry.look(now) {
                    idle.push((since, *id, entry.slot.id));
                }
            }
        }
        idle.sort_unstable();
        for (_, id, slot) in idle {
            let place = self.peers.get(&id).and_then(|peer| {
                let place = peer
                    .entries
                    .iter()
                    .position(|entry| entry.slot.id == slot)?;
                peer.entries[place].slot.retire_idle().then_some(place)
            });
            if let Some(place) = place {
                self.bury(now, id, place, Eviction::Crowded);
                return true;
            }
        }
        false
    }

    /// Evicts a connection, lent or not, and brings its peer in order.
    pub(super) fn evict(&mut self, now: Instant, id: PeerId, slot: SlotId, why: Eviction) {
        let place = (self.peers.get(&id))
            .and_then(|peer| peer.entries.iter().position(|entry| entry.slot.id == slot));
        if let Some(place) = place {
            self.bury(now, id, place, why);
            self.settle(now, id);
            self.feed(now);
        }
    }

    /// Takes a connection out of the pool.
    pub(super) fn bury(&mut self, now: Instant, id: PeerId, place: usize, why: Eviction) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let entry = peer.entries.remove(place);
        let slot = entry.slot;
        self.uses += slot.retire().uses();
        peer.publish();
        self.shards[slot.shard] -= 1;
        self.stats.connections -= 1;
        match why {
            Eviction::Idle => self.stats.evicted_idle += 1,
            Eviction::Crowded => self.stats.evicted_crowded += 1,
            Eviction::Broken => self.stats.evicted_broken += 1,
            Eviction::Unhealthy => self.stats.evicted_unhealthy += 1,
            Eviction::Closing => {}
        }
        let fault = match why {
            Eviction::Broken => slot.connection().is_fault(),
            Eviction::Unhealthy => true,
            _ => false,
        };
        let young = now.duration_since(entry.opened) < self.config.settle;
        if fault && !entry.settled && (young || slot.is_early()) {
            let failures = peer.delay.failures();
            self.count_failure(now, id, failures, OpenError::ShortLived);
        }
        self.chores.forget.push(slot.id);
        if why == Eviction::Unhealthy {
            self.outbox.unhealthy.push(Arc::clone(&slot));
        }
        self.outbox.buried.push(slot);
        self.outbox.rouse = true;
    }

    pub(super) fn lend(&mut self, now: Instant, id: PeerId) -> Option<Held<C>> {
        loop {
            match self.peers.get(&id)?.lend(self.config.leases_per_connection) {
                Ok(held) => return held,
                Err(place) => self.bury(now, id, place, Eviction::Broken),
            }
        }
    }

    pub(super) fn open(&mut self, now: Instant, id: PeerId) {
        let open_id = OpenId(self.next_id());
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let shard = (0..peer.shards)
            .min_by_key(|shard| (peer.on_shard(*shard), self.shards[*shard]))
            .unwrap_or(0);
        peer.openings.push(Opening {
            id: open_id,
            shard,
            begun: now,
            failures: peer.delay.failures(),
        });
        self.shards[shard] += 1;
        self.stats.opens += 1;
        self.stats.opening += 1;
        self.chores.open.push(Order {
            id: open_id,
            peer: id,
            key: peer.key().clone(),
            shard,
        });
        self.outbox.rouse = true;
        self.due_by(now + self.config.open_timeout);
    }

    pub(super) fn count_failure(
        &mut self,
        now: Instant,
        id: PeerId,
        failures: u32,
        error: OpenError,
    ) {
        self.stats.open_failures += 1;
        if let Some(peer) = self.peers.get_mut(&id) {
            let config = &self.config.back_off;
            peer.delay.failed(now, failures, config, &mut self.jitter);
            peer.last_error = Some(error);
            if let Some(until) = peer.delay.wait(now) {
                self.due_by(until);
            }
        }
    }

    pub(super) fn refusal(&self, now: Instant, id: PeerId) -> Option<PoolError> {
        let peer = self.peers.get(&id)?;
        if peer.is_hopeless(now, &self.config) {
            return Self::backing_off(now, peer);
        }
        let config = &self.config;
        let limit = if self.stats.waiters >= config.waiters {
            config.waiters
        } else if peer.queue.len() >= config.waiters_per_peer {
            config.waiters_per_peer
        } else {
            return None;
        };
        Some(PoolError::TooManyWaiters { limit })
    }

    fn backing_off(now: Instant, peer: &Peer<C>) -> Option<PoolError> {
        Some(PoolError::BackingOff {
            next: peer.delay.wait(now)?.duration_since(now),
            failures: peer.delay.failures(),
            last: peer.last_error.clone()?,
        })
    }

    pub(super) fn fail_queue(&mut self, id: PeerId, error: &PoolError) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for waiter in std::mem::take(&mut peer.queue) {
            self.stats.failed += 1;
            self.tell(waiter, Err(error.clone()));
        }
    }

    /// Tells somebody who waited, and is not in the queue any more, what came of it.
    pub(super) fn tell(&mut self, key: WaiterKey, outcome: Result<Held<C>, PoolError>) {
        self.stats.waiters -= 1;
        if let Some(waiter) = self.waiters.get_mut(key) {
            waiter.outcome = Some(outcome);
            self.outbox.wakers.extend(waiter.waker.take());
        }
    }

    pub(super) fn take_outcome(&mut self, key: WaiterKey) -> Option<Result<Held<C>, PoolError>> {
        let outcome = self.waiters.get_mut(key)?.outcome.take()?;
        self.waiters.remove(key);
        Some(outcome)
    }

    pub(super) fn has_room(&self) -> bool {
        self.stats.connections + self.stats.opening < self.config.connections
    }

    fn starve(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !peer.starved
        {
            peer.starved = true;
            self.starved.push_back(id);
        }
    }

    fn mark_starving(&self) {
        (self.starving).store(!self.starved.is_empty(), Ordering::SeqCst);
    }

    pub(super) fn show_growth(&self, now: Instant, id: PeerId) {
        if let Some(peer) = self.peers.get(&id) {
            let may = !self.closed && self.has_room() && peer.may_grow(now, &self.config);
            peer.roster.set_may_grow(may);
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The keeper must look at the time again then, at the latest.
    pub(super) fn due_by(&mut self, time: Instant) {
        if self.due.is_none_or(|due| time < due) {
            self.due = Some(time);
            self.outbox.rouse = true;
        }
    }
}
