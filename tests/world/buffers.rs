//! Received datagrams in memory that is watched.
//!
//! The engine takes packet memory as `BytesMut` over the allocator's own memory, and what it hands to applications are
//! slices of that. Whether all of it is given back is asked of the allocator itself: the buffers have a size that
//! nothing else has, and blocks of that size are counted as they are taken and freed. Each world lives on one thread,
//! so the counts are kept by thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};

/// The size of a buffer in bytes: like an mbuf's data room, but odd, so that it is nobody else's.
const ROOM: usize = 2_179;
/// What lies before the payload, as headers do in an mbuf.
const HEADERS: usize = 14 + 40 + 8;

thread_local! {
    static IN_USE: Cell<i64> = const { Cell::new(0) };
}

/// A received payload in a buffer that is counted.
pub fn payload(bytes: &[u8]) -> BytesMut {
    let mut room = Vec::with_capacity(ROOM);
    room.resize(HEADERS, 0);
    room.extend_from_slice(bytes);
    room.resize(ROOM, 0);
    // Full and unshared: neither step copies, just as in the bridge.
    let mut buffer = BytesMut::from(Bytes::from(room));
    let _ = buffer.split_to(HEADERS);
    buffer.truncate(bytes.len());
    buffer
}

/// Buffers that this thread has taken and not freed.
pub fn in_use() -> i64 {
    IN_USE.get()
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(layout: Layout, by: i64) {
    if layout.size() == ROOM && layout.align() == 1 {
        IN_USE.set(IN_USE.get() + by);
    }
}

// SAFETY: memory comes from `System` and goes back to it with the layout that it was asked for. `count` touches a
// thread-local without destructor or lazy initialisation, so it neither allocates nor unwinds. `realloc` is the default
// one, which goes through `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: `pointer` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
