//! From mbufs to the byte containers QUIC code works with, and back, without copying.

use std::mem::ManuallyDrop;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use dpdk_sys::{MBUF_SIZE, mbuf_buf_addr};

use crate::alloc::is_installed;
use crate::mbuf::Mbuf;
use crate::offload::TxOffload;
use crate::registry::{self, Lookup};

/// Where a `Vec` made by [`Mbuf::into_vec`] starts within the buffer, bytes: room for Ethernet,
/// VLAN tag, IPv6 and UDP headers (66) and for what virtual drivers put before them. Not a multiple
/// of 64, so that the allocator can tell such a pointer from the start of a buffer by its
/// alignment.
pub const TX_HEADROOM: usize = 96;

/// Turns a received mbuf into a `BytesMut` over `range` of its [`data`](Mbuf::data), without
/// copying or allocating. Dropping the last slice of it gives the mbuf back to its pool.
///
/// Returns the mbuf, so that the caller copies instead ([`Mbuf::copy_range`]), when the program
/// does not run on [`PacketAlloc`](crate::PacketAlloc), when the frame is chained, shared or in an
/// external buffer, when its pool is not a [`Mempool`](crate::Mempool) of this process, or when the
/// range is not within the data.
#[inline]
pub fn into_bytes_mut(mbuf: Mbuf, range: Range<usize>) -> Result<BytesMut, Mbuf> {
    if range.start > range.end || range.end > mbuf.len() {
        return Err(mbuf);
    }
    let start = mbuf.headroom() + range.start;
    let len = range.end - range.start;
    let vec = whole_buffer(mbuf)?;
    // Length equals capacity, so `Bytes` takes the allocation as it is; it is unique, so `BytesMut`
    // does, too.
    let mut bytes = BytesMut::from(Bytes::from(vec));
    bytes.advance(start);
    bytes.truncate(len);
    Ok(bytes)
}

impl Mbuf {
    /// Turns the mbuf into an empty `Vec` whose memory is the buffer behind [`TX_HEADROOM`]. What
    /// was in the mbuf is lost; what is written to the `Vec` becomes its data in
    /// [`from_vec`](Self::from_vec). Dropping the `Vec` gives the mbuf back to its pool; growing it
    /// beyond its capacity moves its content to the heap and does so, too.
    ///
    /// Returns the mbuf when the program does not run on [`PacketAlloc`](crate::PacketAlloc), or
    /// when the mbuf is chained, shared, in an external buffer, or not from a
    /// [`Mempool`](crate::Mempool) of this process.
    #[inline]
    pub fn into_vec(self) -> Result<Vec<u8>, Self> {
        let Some(capacity) = self
            .buffer_len()
            .checked_sub(TX_HEADROOM)
            .filter(|&n| n > 0)
        else {
            return Err(self);
        };
        if !is_ours(&self) {
            return Err(self);
        }
        let start = buffer_start(&self).wrapping_add(TX_HEADROOM);
        let _owned_by_the_vec = self.into_raw();
        // SAFETY: the program's global allocator is `PacketAlloc` and owns this address through the
        // mbuf: `is_ours` has found the mbuf from its buffer's address, so `dealloc` and `realloc`
        // will find it from this one. Nothing else owns the mbuf now. `capacity` bytes follow in
        // the buffer; a length of 0 claims no content; u8 needs no alignment.
        Ok(unsafe { Vec::from_raw_parts(start, 0, capacity) })
    }

    /// Turns a `Vec` made by [`into_vec`](Self::into_vec) back: its content is the mbuf's data,
    /// with [`TX_HEADROOM`] bytes of headroom. Offload flags are cleared.
    ///
    /// Returns the `Vec` when it is any other, such as one that grew out of the mbuf.
    #[inline]
    pub fn from_vec(vec: Vec<u8>) -> Result<Self, Vec<u8>> {
        let address = vec.as_ptr().addr();
        if address % registry::BUFFER_ALIGN != TX_HEADROOM % registry::BUFFER_ALIGN {
            return Err(vec);
        }
        let Lookup::Buffer(raw) = registry::look_up(address) else {
            return Err(vec);
        };
        let len = vec.len();
        // The mbuf is what owns the memory again.
        let _memory = ManuallyDrop::new(vec);
        // SAFETY: the `Vec` owned the mbuf: it starts where only `into_vec` lets one start. It was
        // direct, unchained and unshared then, and a `Vec` gives no way to change that.
        let mut mbuf = unsafe { Self::from_raw(raw) };
        mbuf.set_only_segment(TX_HEADROOM, len);
        mbuf.set_tx(TxOffload::default());
        Ok(mbuf)
    }
}

/// The mbuf as a `Vec` over its whole buffer, full.
#[inline]
fn whole_buffer(mbuf: Mbuf) -> Result<Vec<u8>, Mbuf> {
    if !is_ours(&mbuf) {
        return Err(mbuf);
    }
    let start = buffer_start(&mbuf);
    let room = mbuf.buffer_len();
    let _owned_by_the_vec = mbuf.into_raw();
    // SAFETY: the program's global allocator is `PacketAlloc` and owns this address through the
    // mbuf: `is_ours` has found the mbuf from it. Nothing else owns the mbuf now. All `room` bytes
    // are initialised: they are memory that the kernel mapped, zeroed, into this process, and that
    // drivers and we have written to since; none of it was ever allocated uninitialised as far as
    // the language knows.
    Ok(unsafe { Vec::from_raw_parts(start, room, room) })
}

/// Will the global allocator find the way from the buffer to the mbuf, and is nobody else using it?
///
/// Reads the mbuf's first cache line only, which the driver has just written. The second one, where
/// the pool is, would be a miss here.
#[inline]
fn is_ours(mbuf: &Mbuf) -> bool {
    let start = buffer_start(mbuf).addr();
    is_installed()
        && mbuf.is_direct_single()
        && start == mbuf.as_ptr().addr() + MBUF_SIZE
        && registry::contains(start)
}

#[inline]
pub(crate) fn buffer_start(mbuf: &Mbuf) -> *mut u8 {
    // SAFETY: `mbuf` owns the mbuf.
    unsafe { mbuf_buf_addr(mbuf.as_ptr()).cast() }
}
