//! The packet-aware global allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hint::black_box;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use dpdk_sys::{rte_mbuf, stoq_raw_free};
use mimalloc::MiMalloc;

use crate::registry::{self, Lookup};

/// The allocator a program installs to receive and send without copying:
///
/// ```no_run
/// #[global_allocator]
/// static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;
/// ```
///
/// It is mimalloc, except for pointers into a [`Mempool`](crate::Mempool): freeing one gives the
/// mbuf back to its pool, from any thread, and reallocating one copies the bytes to the heap and
/// gives the mbuf back. Memory is never *allocated* from a pool here; pool pointers come from
/// [`into_bytes_mut`](crate::into_bytes_mut) and [`Mbuf::into_vec`](crate::Mbuf::into_vec) alone.
///
/// A pointer into a pool that neither of them made ends the process with a message: going on would
/// corrupt packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketAlloc;

// SAFETY: pointers that mimalloc made go back to mimalloc with the layout they came with. Pointers
// into a registered pool were made by this crate's conversions from an mbuf they own, and stay
// valid and unshared until `dealloc` or `realloc` gives that mbuf back; the layout's size is not
// needed for that. Registered chunks hold no other Rust allocations, as their addresses belong to
// DPDK. Nothing here unwinds or allocates through the global allocator.
unsafe impl GlobalAlloc for PacketAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|counters| counters.allocated(layout.size()));
        // SAFETY: the caller's contract is mimalloc's.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(|counters| counters.allocated(layout.size()));
        // SAFETY: the caller's contract is mimalloc's.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match registry::look_up(ptr.addr()) {
            Lookup::Foreign => {
                count(Counters::freed);
                // SAFETY: the pointer lies in no pool, so mimalloc made it, with this layout.
                unsafe { MiMalloc.dealloc(ptr, layout) }
            }
            // SAFETY: the caller owns the allocation, which is the mbuf, and gives it up.
            Lookup::Buffer(mbuf) => unsafe { give_back(mbuf) },
            Lookup::Stray => abort_on_stray(),
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match registry::look_up(ptr.addr()) {
            Lookup::Foreign => {
                count(|counters| counters.allocated(new_size));
                // SAFETY: the pointer lies in no pool, so mimalloc made it; the rest is the
                // caller's contract.
                unsafe { MiMalloc.realloc(ptr, layout, new_size) }
            }
            // SAFETY: the caller owns the allocation, which is the mbuf.
            Lookup::Buffer(mbuf) => unsafe { copy_out(mbuf, ptr, layout, new_size) },
            Lookup::Stray => abort_on_stray(),
        }
    }
}

/// Returns an mbuf whose buffer nobody refers to any longer.
///
/// # Safety
/// The caller owns the mbuf: direct, unchained, reference count 1.
#[inline]
unsafe fn give_back(mbuf: NonNull<rte_mbuf>) {
    count(Counters::returned);
    // SAFETY: by the caller. DPDK takes mbufs back on any thread: an lcore through its cache,
    // others through the ring.
    unsafe { stoq_raw_free(mbuf.as_ptr()) }
}

/// `realloc` of a packet buffer: it cannot grow where it is, and need not shrink there.
///
/// # Safety
/// As `GlobalAlloc::realloc`, with `ptr` the allocation that owns `mbuf`.
#[cold]
unsafe fn copy_out(
    mbuf: NonNull<rte_mbuf>,
    ptr: *mut u8,
    layout: Layout,
    new_size: usize,
) -> *mut u8 {
    // SAFETY: realloc's contract: `new_size`, rounded up to the alignment, does not overflow isize.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    count(|counters| counters.allocated(new_size));
    // SAFETY: realloc's contract: `new_size` is not zero.
    let new = unsafe { MiMalloc.alloc(new_layout) };
    if !new.is_null() {
        // SAFETY: the old allocation is valid for its layout's size, the new one for `new_size`;
        // they cannot overlap.
        unsafe { ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size)) };
        // SAFETY: on success the caller has given up the old allocation.
        unsafe { give_back(mbuf) };
    }
    new
}

/// No formatting and no allocation: this is called from inside the allocator.
#[cold]
fn abort_on_stray() -> ! {
    const MESSAGE: &[u8] =
        b"stoq: a pointer into packet memory was freed that no buffer starts at: memory is \
        corrupt, stopping\n";
    // SAFETY: a plain write of a constant to standard error.
    unsafe { libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    std::process::abort()
}

/// What one thread has asked of [`PacketAlloc`] since it started. Counts wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadAllocations {
    /// Heap allocations, reallocations included.
    pub allocations: u64,
    /// Heap allocations freed.
    pub frees: u64,
    /// Bytes asked for by the allocations.
    pub bytes: u64,
    /// Packet buffers given back to their pool by a drop or a reallocation.
    pub buffers_returned: u64,
}

/// The calling thread's counts; all zero when [`PacketAlloc`] is not the global allocator.
pub fn thread_allocations() -> ThreadAllocations {
    COUNTERS
        .try_with(|counters| ThreadAllocations {
            allocations: counters.allocations.get(),
            frees: counters.frees.get(),
            bytes: counters.bytes.get(),
            buffers_returned: counters.buffers_returned.get(),
        })
        .unwrap_or_default()
}

/// Does this program run on [`PacketAlloc`]? Found out by one allocation, once.
pub fn is_installed() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let before = thread_allocations().allocations;
        drop(black_box(Box::new(black_box(0_u64))));
        thread_allocations().allocations != before
    })
}

struct Counters {
    allocations: Cell<u64>,
    frees: Cell<u64>,
    bytes: Cell<u64>,
    buffers_returned: Cell<u64>,
}

thread_local! {
    // Constant and without a destructor: usable before main, in threads being torn down, and
    // without allocating.
    static COUNTERS: Counters = const {
        Counters {
            allocations: Cell::new(0),
            frees: Cell::new(0),
            bytes: Cell::new(0),
            buffers_returned: Cell::new(0),
        }
    };
}

#[inline(always)]
fn count(update: impl FnOnce(&Counters)) {
    // An allocator must not panic, whatever state its thread is in.
    let _ = COUNTERS.try_with(update);
}

impl Counters {
    #[inline(always)]
    fn allocated(&self, bytes: usize) {
        self.allocations.set(self.allocations.get().wrapping_add(1));
        self.bytes.set(self.bytes.get().wrapping_add(bytes as u64));
    }

    #[inline(always)]
    fn freed(&self) {
        self.frees.set(self.frees.get().wrapping_add(1));
    }

    #[inline(always)]
    fn returned(&self) {
        self.buffers_returned
            .set(self.buffers_returned.get().wrapping_add(1));
    }
}
