//! What time does to a pool: connections become idle, attempts and callers wait too long, peers are forgotten.

use std::time::Instant;

use super::super::health::Advice;
use super::super::slot::{PeerId, Pooled, SlotId};
use super::super::{OpenError, PoolError};
use super::{Eviction, State};

/// An idle connection is looked at so often within its time-out.
const LOOKS: u32 = 4;

impl<C: Pooled> State<C> {
    /// Does what is due. Says when to come again; [`due`](State::due) may become earlier.
    pub fn sweep(&mut self, now: Instant) {
        self.due = None;
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.sweep_openings(now, id);
            self.sweep_queue(now, id);
            self.sweep_entries(now, id);
            self.settle(now, id);
            self.sweep_peer(now, id);
        }
        self.feed(now);
    }

    /// Attempts that take too long.
    fn sweep_openings(&mut self, now: Instant, id: PeerId) {
        let timeout = self.config.open_timeout;
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let late = |begun| now.duration_since(begun) >= timeout;
        let (over, running): (Vec<_>, Vec<_>) = (peer.openings.iter())
            .map(|opening| (opening.id, opening.begun))
            .partition(|(_, begun)| late(*begun));
        for (_, begun) in running {
            self.due_by(begun + timeout);
        }
        for (opening, _) in over {
            self.chores.abandon.push(opening);
            self.outbox.rouse = true;
            self.failed(now, id, opening, OpenError::TimedOut { after: timeout });
        }
    }

    /// Those who waited too long. All wait equally long, so the first is due first.
    fn sweep_queue(&mut self, now: Instant, id: PeerId) {
        let after = self.config.wait_timeout;
        while let Some(peer) = self.peers.get_mut(&id)
            && let Some(first) = peer.queue.front().copied()
            && let Some(waiter) = self.waiters.get(first)
        {
            let due = waiter.since + after;
            if now < due {
                self.due_by(due);
                return;
            }
            peer.queue.pop_front();
            self.stats.timed_out += 1;
            self.tell(first, Err(PoolError::WaitTimeout { after }));
        }
    }

    fn sweep_entries(&mut self, now: Instant, id: PeerId) {
        let config = self.config.clone();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.settle(now, &config);
        let mut evicted: Vec<(SlotId, Eviction)> = Vec::new();
        let mut due = Vec::new();
        for entry in &mut peer.entries {
            let early = entry.slot.is_early();
            if !entry.settled && !early {
                due.push(entry.opened + config.settle);
            }
            let idle = entry.look(now);
            match idle.map(|since| since + config.idle_timeout) {
                Some(end) if end <= now && entry.slot.retire_idle() => {
                    evicted.push((entry.slot.id, Eviction::Idle));
                    continue;
                }
                Some(end) if end > now => due.push(end),
                _ => {}
            }
            due.push(now + config.idle_timeout / LOOKS);
            if early {
                let end = entry.opened + config.open_timeout;
                if end <= now {
                    evicted.push((entry.slot.id, Eviction::Unhealthy));
                    continue;
                }
                due.push(end);
            }
            if let Some(health) = &config.health {
                match entry.checkup.look(now, health) {
                    Advice::Ask => self.chores.ask.push(entry.slot.clone()),
                    Advice::GiveUp => {
                        evicted.push((entry.slot.id, Eviction::Unhealthy));
                        continue;
                    }
                    Advice::Nothing | Advice::Ping => {}
                }
                due.push(entry.checkup.due(health));
            }
        }
        self.outbox.rouse |= !self.chores.ask.is_empty();
        for time in due {
            self.due_by(time);
        }
        for (slot, why) in evicted {
            self.evict(now, id, slot, why);
        }
    }

    /// A peer that nobody asks for is forgotten.
    fn sweep_peer(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        if let Some(until) = peer.delay.wait(now) {
            // Callers may open again then.
            self.due_by(until);
            return;
        }
        if peer.connections() > 0 || !peer.queue.is_empty() {
            return;
        }
        let end = peer.asked + self.config.idle_timeout;
        if now < end {
            self.due_by(end);
        } else if self.directory.forget(&peer.roster) {
            self.peers.remove(&id);
            self.stats.peers_forgotten += 1;
        } else {
            self.due_by(now + self.config.idle_timeout / LOOKS);
        }
    }

    /// Forgets the quiet peer that was not used for longest; those that are backed off from after all others.
    pub(super) fn forget_one(&mut self, now: Instant) -> bool {
        let mut quiet: Vec<(bool, Instant, PeerId)> = Vec::new();
        for (id, peer) in &mut self.peers {
            if !peer.is_quiet() {
                continue;
            }
            let used = (peer.entries.iter_mut()).filter_map(|entry| entry.look(now));
            let used = used.max().map_or(peer.asked, |used| used.max(peer.asked));
            quiet.push((peer.delay.wait(now).is_some(), used, *id));
        }
        quiet.sort_unstable();
        for (_, _, id) in quiet {
            let Some(peer) = self.peers.get(&id) else {
                continue;
            };
            // Once forgotten by the directory, nobody can draw from it any more; leases may have been given until then.
            if !self.directory.forget(&peer.roster) {
                continue;
            }
            if !peer.is_quiet() {
                self.directory.insert(peer.roster.clone());
                continue;
            }
            while self
                .peers
                .get(&id)
                .is_some_and(|peer| !peer.entries.is_empty())
            {
                self.bury(now, id, 0, Eviction::Crowded);
            }
            self.peers.remove(&id);
            self.stats.peers_forgotten += 1;
            self.feed(now);
            return true;
        }
        false
    }

    /// Figures of a connection are there. Says whether to send it a PING frame.
    pub fn examined(&mut self, now: Instant, id: PeerId, slot: SlotId, received: u64) -> bool {
        let Some(health) = self.config.health else {
            return false;
        };
        let Some(entry) = self.peers.get_mut(&id).and_then(|peer| peer.entry(slot)) else {
            return false;
        };
        let advice = entry.checkup.answered(now, received, &health);
        let due = entry.checkup.due(&health);
        match advice {
            Advice::GiveUp => self.evict(now, id, slot, Eviction::Unhealthy),
            _ => self.due_by(due),
        }
        advice == Advice::Ping
    }
}
