//! Which addresses are packet buffers: a bounded table that the allocator reads on every `dealloc`.
//!
//! Written under a lock when a pool is made, read without one. A reader that holds a pointer into a
//! pool got it, however many threads ago, from whoever made the pool, so registration happened
//! before its look-up and relaxed loads suffice. A reader whose pointer is not a pool's may miss a
//! pool being registered meanwhile, which changes nothing for it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dpdk_sys::{MBUF_SIZE, mbuf_buf_addr, mbuf_pool, mbuf_refcnt, rte_mbuf, rte_mempool};

use crate::convert::TX_HEADROOM;

/// Memory chunks that can be registered, over all pools. A pool has one when its memory is
/// virtually contiguous, which it is unless memory was so short that DPDK pieced it together.
pub(crate) const CHUNKS_MAX: usize = 128;

/// Every pktmbuf and its buffer start on such a boundary (a cache line of 64 bytes, or a multiple).
pub(crate) const BUFFER_ALIGN: usize = 64;

// The two places in a buffer where a Vec may start are told apart by their alignment.
const _: () = assert!(!TX_HEADROOM.is_multiple_of(BUFFER_ALIGN));

/// One contiguous piece of a pool's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chunk {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    pool: AtomicPtr<rte_mempool>,
}

static ENTRIES: [Entry; CHUNKS_MAX] = [const {
    Entry {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        pool: AtomicPtr::new(std::ptr::null_mut()),
    }
}; CHUNKS_MAX];
static ENTRY_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The range that all chunks lie in: one comparison tells nearly every other pointer of the program
/// apart.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

static WRITER: Mutex<()> = Mutex::new(());

/// Does `address` lie in a pool?
#[inline]
pub(crate) fn contains(address: usize) -> bool {
    find(address).is_some()
}

/// What the allocator has to do with a pointer.
pub(crate) enum Lookup {
    /// Not packet memory.
    Foreign,
    /// The start of what a `Vec` made from this mbuf owns.
    Buffer(NonNull<rte_mbuf>),
    /// In a pool's memory, but not where a `Vec` made by this crate could start.
    Stray,
}

/// Finds the mbuf whose buffer, or whose buffer behind [`TX_HEADROOM`], starts at `address`.
#[inline]
pub(crate) fn look_up(address: usize) -> Lookup {
    match find(address) {
        None => Lookup::Foreign,
        Some(entry) => mbuf_at(address, entry).map_or(Lookup::Stray, Lookup::Buffer),
    }
}

#[inline(always)]
fn find(address: usize) -> Option<&'static Entry> {
    if address < LOWEST.load(Ordering::Relaxed) || address >= HIGHEST.load(Ordering::Relaxed) {
        return None;
    }
    let count = ENTRY_COUNT.load(Ordering::Relaxed).min(CHUNKS_MAX);
    ENTRIES[..count].iter().find(|entry| {
        address >= entry.start.load(Ordering::Relaxed)
            && address < entry.end.load(Ordering::Relaxed)
    })
}

/// The mbuf that lies directly before the buffer to which `address` belongs by its alignment.
#[inline]
fn mbuf_at(address: usize, entry: &Entry) -> Option<NonNull<rte_mbuf>> {
    let base = match address % BUFFER_ALIGN {
        0 => address,
        remainder if remainder == TX_HEADROOM % BUFFER_ALIGN => address - TX_HEADROOM,
        _ => return None,
    };
    let mbuf = base
        .checked_sub(MBUF_SIZE)
        .filter(|&mbuf| mbuf >= entry.start.load(Ordering::Relaxed))?;
    let mbuf = NonNull::new(std::ptr::with_exposed_provenance_mut::<rte_mbuf>(mbuf))?;
    // SAFETY: the 128 bytes lie within a registered chunk, which stays mapped while it is
    // registered, and are aligned. If no mbuf starts there they are other initialised bytes of the
    // pool, and the comparison fails.
    let is_owner = unsafe {
        mbuf_buf_addr(mbuf.as_ptr()).addr() == base
            && mbuf_pool(mbuf.as_ptr()) == entry.pool.load(Ordering::Relaxed)
            && mbuf_refcnt(mbuf.as_ptr()) == 1
    };
    is_owner.then_some(mbuf)
}

/// Adds a pool's chunks. Adjacent ones are merged. Fails, and adds none, when the table is too
/// small: what would be needed.
pub(crate) fn register(pool: NonNull<rte_mempool>, mut chunks: Vec<Chunk>) -> Result<(), usize> {
    chunks.sort_unstable();
    chunks.dedup_by(|next, previous| {
        let adjacent = previous.end == next.start;
        if adjacent {
            previous.end = next.end;
        }
        adjacent
    });
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let count = ENTRY_COUNT.load(Ordering::Relaxed);
    if count + chunks.len() > CHUNKS_MAX {
        return Err(count + chunks.len());
    }
    for (entry, chunk) in ENTRIES[count..].iter().zip(&chunks) {
        entry.pool.store(pool.as_ptr(), Ordering::Relaxed);
        entry.start.store(chunk.start, Ordering::Relaxed);
        entry.end.store(chunk.end, Ordering::Relaxed);
        LOWEST.fetch_min(chunk.start, Ordering::Relaxed);
        HIGHEST.fetch_max(chunk.end, Ordering::Relaxed);
    }
    ENTRY_COUNT.store(count + chunks.len(), Ordering::Release);
    Ok(())
}

/// Forgets all chunks.
pub(crate) fn clear() {
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    LOWEST.store(usize::MAX, Ordering::Relaxed);
    HIGHEST.store(0, Ordering::Relaxed);
    ENTRY_COUNT.store(0, Ordering::Relaxed);
}
