//! What callers see of peers without the lock of the pool's state: the connections of each, and which peers there are.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::PeerKey;
use super::slot::{Held, PeerId, Pooled, Slot};

/// The connections of one peer, as the state last published them.
pub(super) struct Roster<C> {
    pub(super) key: PeerKey,
    pub(super) id: PeerId,
    slots: ArcSwap<Vec<Arc<Slot<C>>>>,
    may_grow: AtomicBool,
}

/// What a look for a connection came to.
pub(super) enum Drawn<C> {
    /// A lease. With `grow`, the state should be asked for one connection more.
    Lent { held: Held<C>, grow: bool },
    /// A connection that is over stands in the way: the state must hear of it.
    Broken(Arc<Slot<C>>),
    /// No room, or others wait for it.
    Full,
}

impl<C: Pooled> Roster<C> {
    pub fn new(key: PeerKey, id: PeerId) -> Self {
        Self {
            key,
            id,
            slots: ArcSwap::default(),
            may_grow: AtomicBool::new(false),
        }
    }

    /// Takes a lease of the connection with the fewest, the first of several. `max` leases a connection; from `open_at`
    /// on there should be one more connection. No lock, no allocation: tried again only when another thread succeeded.
    pub fn draw(&self, max: usize, open_at: usize) -> Drawn<C> {
        let slots = self.slots.load();
        loop {
            let mut best = None;
            let mut fewest = max;
            for slot in slots.iter() {
                let load = slot.load();
                if load.is_open() && load.leases() < fewest {
                    fewest = load.leases();
                    best = Some((slot, load));
                    if fewest == 0 {
                        break;
                    }
                }
            }
            let Some((slot, load)) = best else {
                return Drawn::Full;
            };
            if slot.connection().is_closed() {
                return Drawn::Broken(Arc::clone(slot));
            }
            if let Some(held) = slot.lend(load) {
                let grow = fewest >= open_at
                    && self.may_grow.load(Ordering::Relaxed)
                    && self.may_grow.swap(false, Ordering::Relaxed);
                return Drawn::Lent { held, grow };
            }
        }
    }

    pub fn publish(&self, slots: Vec<Arc<Slot<C>>>) {
        self.slots.store(Arc::new(slots));
    }

    pub fn set_may_grow(&self, may_grow: bool) {
        self.may_grow.store(may_grow, Ordering::Relaxed);
    }
}

const PARTS: usize = 16;

type Part<C> = FxHashMap<PeerKey, Arc<Roster<C>>>;

/// Which peers are remembered. Divided, so that threads that look up different peers do not meet.
///
/// Locked after the pool's state, never before it.
pub(super) struct Directory<C> {
    parts: [RwLock<Part<C>>; PARTS],
}

impl<C> Default for Directory<C> {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| RwLock::default()),
        }
    }
}

impl<C> Directory<C> {
    /// What `look` says of the peer, under the lock of its part.
    pub fn with<R>(&self, key: &PeerKey, look: impl FnOnce(&Arc<Roster<C>>) -> R) -> Option<R> {
        self.read(key).get(key).map(look)
    }

    pub fn insert(&self, roster: Arc<Roster<C>>) {
        self.write(&roster.key).insert(roster.key.clone(), roster);
    }

    /// Removes the peer if nobody has its roster but the directory and the state, from whose copy this is called.
    pub fn forget(&self, roster: &Arc<Roster<C>>) -> bool {
        let mut part = self.write(&roster.key);
        let unused = Arc::strong_count(roster) <= 2;
        if unused {
            part.remove(&roster.key);
        }
        unused
    }

    fn part(&self, key: &PeerKey) -> &RwLock<Part<C>> {
        // The map takes the hash's other end.
        &self.parts[(FxBuildHasher.hash_one(key) >> 32) as usize % PARTS]
    }

    fn read(&self, key: &PeerKey) -> RwLockReadGuard<'_, Part<C>> {
        self.part(key)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &PeerKey) -> RwLockWriteGuard<'_, Part<C>> {
        self.part(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
