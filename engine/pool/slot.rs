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
