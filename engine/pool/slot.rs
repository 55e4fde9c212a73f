//! A connection of the pool, and how many have it: one atomic word, so that lending and returning take no lock.
//!
//! ```text
//!   bits 63..18: how often it was lent | 17: retired | 16: queued | 15..0: leases out
//! ```
//!
//! *Retired*: no longer of the pool; never lent again. *Queued*: somebody waits for this peer. Then nobody takes a lease
//! past the queue, and whoever returns one says so to the pool. The pool sets the bit before it looks for room, so a
//! lease is returned either before that look, or with the bit seen.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

const LEASE: u64 = 1;
const LEASES: u64 = 0xffff;
const QUEUED: u64 = 1 << 16;
const RETIRED: u64 = 1 << 17;
const USE: u64 = 1 << 18;

/// What the pool asks of a connection.
pub(super) trait Pooled: Send + Sync + 'static {
    /// Whether it is over. Asked with every lease: a load or two.
    fn is_closed(&self) -> bool;
    /// Of one that is over: whether the other side or the network ended it, and not we.
    fn is_fault(&self) -> bool;
}

/// Who is told of returned leases that somebody waits for.
pub(super) trait Home: Send + Sync {
    /// A lease of a connection to this peer is back.
    fn returned(&self, peer: PeerId);
}

/// A peer, for as long as the pool remembers it. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PeerId(pub u64);

/// A connection. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotId(pub u64);

/// The word of a slot as it was once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load(u64);

impl Load {
    pub fn leases(self) -> usize {
        (self.0 & LEASES) as usize
    }

    pub fn uses(self) -> u64 {
        self.0 / USE
    }

    /// May be lent to somebody who does not wait in the queue.
    pub fn is_open(self) -> bool {
        self.0 & (QUEUED | RETIRED) == 0
    }

    pub fn is_retired(self) -> bool {
        self.0 & RETIRED != 0
    }
}

/// See the module.
pub(super) struct Slot<C> {
    word: AtomicU64,
    /// Its handshake is not complete: it is lent for early data.
    early: AtomicBool,
    connection: C,
    pub(super) id: SlotId,
    pub(super) peer: PeerId,
    /// As asked for when it was opened.
    pub(super) shard: usize,
    /// Whether a peer waits for an idle connection of any other to go.
    starved: Arc<AtomicBool>,
    home: Weak<dyn Home>,
}

/// Whom a slot belongs to.
pub(super) struct Origin {
    pub id: SlotId,
    pub peer: PeerId,
    pub shard: usize,
    pub starved: Arc<AtomicBool>,
    pub home: Weak<dyn Home>,
}

impl<C> Slot<C> {
    pub fn new(connection: C, early: bool, origin: Origin) -> Self {
        Self {
            word: AtomicU64::new(0),
            early: AtomicBool::new(early),
            connection,
            id: origin.id,
            peer: origin.peer,
            shard: origin.shard,
            starved: origin.starved,
            home: origin.home,
        }
    }

    pub fn connection(&self) -> &C {
        &self.connection
    }

    pub fn load(&self) -> Load {
        Load(self.word.load(Ordering::Relaxed))
    }

    /// One lease more, if nothing has changed since `seen`.
    pub fn lend(self: &Arc<Self>, seen: Load) -> Option<Held<C>> {
        let word = seen.0.wrapping_add(LEASE + USE);
        self.word
            .compare_exchange(seen.0, word, Ordering::SeqCst, Ordering::Relaxed)
            .ok()?;
        Some(Held(Arc::clone(self)))
    }

    /// Sets or clears the bit that says that somebody waits. Only under the lock of the pool's state.
    pub fn set_queued(&self, queued: bool) {
        if (self.load().0 & QUEUED != 0) == queued {
            // The word's cache line is left to those who lend.
        } else if queued {
            self.word.fetch_or(QUEUED, Ordering::SeqCst);
        } else {
            self.word.fetch_and(!QUEUED, Ordering::SeqCst);
        }
    }

    /// Never lent again. Returns the word as it stays, but for the leases that are out.
    pub fn retire(&self) -> Load {
        Load(self.word.fetch_or(RETIRED, Ordering::SeqCst))
    }

    /// The same, unless it is lent.
    pub fn retire_idle(&self) -> bool {
        self.word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                (word & LEASES == 0).then_some(word | RETIRED)
            })
            .is_ok()
    }

    pub fn is_early(&self) -> bool {
        self.early.load(Ordering::Relaxed)
    }

    pub fn set_confirmed(&self) {
        self.early.store(false, Ordering::Relaxed);
    }

    fn put_back(&self) {
        let word = self.word.fetch_sub(LEASE, Ordering::SeqCst);
        debug_assert_ne!(word & LEASES, 0, "a lease is returned once");
        if word & RETIRED != 0 {
            return;
        }
        let waited_for = word & QUEUED != 0;
        let idle = word & LEASES == LEASE;
        if (waited_for || (idle && self.starved.load(Ordering::SeqCst)))
            && let Some(home) = self.home.upgrade()
        {
            home.returned(self.peer);
        }
    }
}

/// One lease, which is returned when this is dropped. Not under the lock of the pool's state: it may take that itself.
pub(super) struct Held<C>(Arc<Slot<C>>);

impl<C> Held<C> {
    pub fn slot(&self) -> &Arc<Slot<C>> {
        &self.0
    }
}

impl<C> Deref for Held<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0.connection
    }
}

impl<C> Drop for Held<C> {
    fn drop(&mut self) {
        self.0.put_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it is told.
    #[derive(Default)]
    struct Told(AtomicU64);

    impl Home for Told {
        fn returned(&self, _: PeerId) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slot(home: &Arc<Told>, starved: &Arc<AtomicBool>) -> Arc<Slot<()>> {
        let home: Arc<dyn Home> = home.clone();
        let origin = Origin {
            id: SlotId(1),
            peer: PeerId(2),
            shard: 0,
            starved: Arc::clone(starved),
            home: Arc::downgrade(&home),
        };
        Arc::new(Slot::new((), false, origin))
    }

    #[test]
    fn leases_and_uses_are_counted() {
        let slot = slot(&Arc::default(), &Arc::default());
        let held: Vec<_> = (0..5).map(|_| slot.lend(slot.load()).unwrap()).collect();
        assert_eq!((slot.load().leases(), slot.load().uses()), (5, 5));
        drop(held);
        assert_eq!((slot.load().leases(), slot.load().uses()), (0, 5));
    }

    #[test]
    fn a_lease_by_an_old_look_is_refused() {
        let slot = slot(&Arc::default(), &Arc::default());
        let seen = slot.load();
        drop(slot.lend(seen).unwrap());
        assert!(slot.lend(seen).is_none(), "lent and returned since");
        let seen = slot.load();
        slot.set_queued(true);
        assert!(slot.lend(seen).is_none() && !slot.load().is_open());
        slot.set_queued(false);
        assert!(slot.lend(seen).is_some());
        let seen = slot.load();
        slot.retire();
        assert!(slot.lend(seen).is_none() && !slot.load().is_open());
    }

    #[test]
    fn one_that_is_lent_is_not_retired_as_idle() {
        let slot = slot(&Arc::default(), &Arc::default());
        let held = slot.lend(slot.load());
        assert!(!slot.retire_idle() && !slot.load().is_retired());
        drop(held);
        assert!(slot.retire_idle() && slot.load().is_retired());
    }

    #[test]
    fn a_return_is_told_when_somebody_waits_for_it() {
        let (home, starved) = (Arc::<Told>::default(), Arc::<AtomicBool>::default());
        let slot = slot(&home, &starved);
        let told = || home.0.swap(0, Ordering::SeqCst);
        let two = || {
            let seen = || slot.lend(slot.load()).unwrap();
            (seen(), seen())
        };
        drop(two());
        assert_eq!(told(), 0);
        // Somebody waits for this peer: each return counts. For another: only the one that leaves it idle.
        let held = two();
        slot.set_queued(true);
        drop(held);
        assert_eq!(told(), 2);
        slot.set_queued(false);
        starved.store(true, Ordering::SeqCst);
        drop(two());
        assert_eq!(told(), 1);
        let held = two();
        slot.retire();
        drop(held);
        assert_eq!(told(), 0, "it is of no use to anybody");
    }
}
