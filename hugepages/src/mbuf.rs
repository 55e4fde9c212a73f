//! The owning mbuf.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

use bytes::BytesMut;
use dpdk_sys::{
    RTE_MBUF_F_EXTERNAL, RTE_MBUF_F_INDIRECT, RTE_PKTMBUF_HEADROOM, mbuf_buf_addr, mbuf_buf_len,
    mbuf_data_len, mbuf_data_off, mbuf_nb_segs, mbuf_next, mbuf_pkt_len, mbuf_pool, mbuf_refcnt,
    mbuf_set_data_len, mbuf_set_data_off, mbuf_set_nb_segs, mbuf_set_next, mbuf_set_pkt_len,
    rte_mbuf, stoq_alloc_bulk, stoq_free_bulk, stoq_raw_free,
};

use crate::convert::buffer_start;
use crate::pool::Mempool;

/// One frame, or room for one, in packet memory.
///
/// Owns the mbuf, with all segments chained to it, and gives it back to its pool when dropped, on
/// any thread.
///
/// ```text
///   buffer: | headroom | data | tailroom |
/// ```
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to no thread; pools take it back on any.
unsafe impl Send for Mbuf {}
// SAFETY: through `&Mbuf` it is only read.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes an empty mbuf, behind the standard headroom of 128 bytes, out of the pool. `None` when
    /// the pool is empty.
    ///
    /// The data path takes a burst at a time instead ([`Burst::alloc`](crate::Burst::alloc)).
    pub fn alloc(pool: Mempool) -> Option<Self> {
        let mut raw = std::ptr::null_mut();
        let live = pool.live()?;
        // SAFETY: the pool lives (`live` says so); there is room for the one pointer asked for.
        let result = unsafe { stoq_alloc_bulk(live, &mut raw, 1) };
        if result == 0 {
            NonNull::new(raw).map(Self)
        } else {
            None
        }
    }

    /// Takes over an mbuf from C.
    ///
    /// # Safety
    /// The caller owns the mbuf and its chain, and everything they hold: reference count 1, data
    /// not shared with another mbuf, no driver or ring still referring to it. It is initialised as
    /// `rte_pktmbuf_alloc` or a driver's receive function leaves it.
    #[inline]
    pub const unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Hands the mbuf to C, which has to free it.
    #[inline]
    pub fn into_raw(self) -> NonNull<rte_mbuf> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// The mbuf itself, for DPDK calls. It stays owned by `self`.
    #[inline]
    pub const fn as_ptr(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    /// The data of the first segment, which is all of it unless
    /// [`segment_count`](Self::segment_count) is above 1.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: data_off and data_len, as drivers and this type set them, lie within the buffer,
        // which is initialised memory of the pool that `self` owns.
        unsafe { slice::from_raw_parts(self.data_start(), self.len()) }
    }

    /// The data of the first segment, to be written.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; `self` is the only owner and is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.data_start(), self.len()) }
    }

    /// Data in the first segment, bytes.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: `self` owns the mbuf.
        usize::from(unsafe { mbuf_data_len(self.as_ptr()) })
    }

    /// Has the first segment no data?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Data in all segments, bytes.
    #[inline]
    pub fn packet_len(&self) -> usize {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_pkt_len(self.as_ptr()) as usize }
    }

    /// Segments in the chain, 1 for a frame that fits one buffer.
    #[inline]
    pub fn segment_count(&self) -> u16 {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_nb_segs(self.as_ptr()) }
    }

    /// The data of each segment in turn.
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            next: self.as_ptr(),
            left: self.segment_count(),
            owner: PhantomData,
        }
    }

    /// Asks the cache for the first `len` bytes behind the data, to be written soon. An mbuf that comes back from another
    /// core is in that core's cache, and stores to it would wait one behind the other.
    #[inline]
    pub fn prefetch_tail(&self, len: usize) {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        const LINE: usize = 64;
        let start = self.headroom() + self.len();
        let base = buffer_start(self);
        for at in (start..start + len.min(self.tailroom())).step_by(LINE) {
            // SAFETY: a prefetch is a hint, whatever the address; this one lies within the buffer.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(base.wrapping_add(at).cast()) };
        }
    }

    /// Free room before the data, bytes.
    #[inline]
    pub fn headroom(&self) -> usize {
        // SAFETY: `self` owns the mbuf.
        usize::from(unsafe { mbuf_data_off(self.as_ptr()) })
    }

    /// Free room behind the data of the first segment, bytes.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.buffer_len()
            .saturating_sub(self.headroom() + self.len())
    }

    /// Size of the buffer: headroom, data and tailroom, bytes.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        // SAFETY: `self` owns the mbuf.
        usize::from(unsafe { mbuf_buf_len(self.as_ptr()) })
    }

    /// Grows the data by `n` bytes to the front and returns those; their content is whatever was
    /// there. `None` when the headroom is smaller.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let offset = self.headroom().checked_sub(n)?;
        self.set_first_segment(offset, self.len() + n);
        self.data_mut().get_mut(..n)
    }

    /// Grows the data by `n` bytes to the back and returns those; their content is whatever was
    /// there. `None` when the tailroom is smaller, or the frame has several segments.
    #[inline]
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.tailroom() || self.segment_count() != 1 {
            return None;
        }
        let len = self.len();
        self.set_only_segment(self.headroom(), len + n);
        self.data_mut().get_mut(len..)
    }

    /// Removes `n` bytes from the front of the first segment. `false`, and nothing done, when it
    /// has fewer.
    #[inline]
    pub fn trim_front(&mut self, n: usize) -> bool {
        match self.len().checked_sub(n) {
            Some(len) => {
                self.set_first_segment(self.headroom() + n, len);
                true
            }
            None => false,
        }
    }

    /// Cuts the data of a frame of one segment to `len` bytes, if they are more.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() && self.segment_count() == 1 {
            self.set_only_segment(self.headroom(), len);
        }
    }

    /// Makes a frame of one segment empty again, behind the standard headroom of 128 bytes.
    #[inline]
    pub fn clear(&mut self) {
        if self.segment_count() == 1 {
            self.set_only_segment((RTE_PKTMBUF_HEADROOM as usize).min(self.buffer_len()), 0);
        }
    }

    /// Is this one segment, in the mbuf's own buffer, with no other owner? Only then can it become
    /// a `Vec` or `BytesMut`.
    #[inline]
    pub fn is_direct_single(&self) -> bool {
        // SAFETY: `self` owns the mbuf.
        let refcnt = unsafe { mbuf_refcnt(self.as_ptr()) };
        refcnt == 1
            && self.segment_count() == 1
            && self.flags() & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL) == 0
    }

    /// Does its first segment belong to `pool`?
    #[inline]
    pub fn is_of(&self, pool: Mempool) -> bool {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_pool(self.as_ptr()) == pool.as_ptr() }
    }

    /// Appends the data of `tail` to the frame: its segments become the last ones of the chain.
    ///
    /// Returns `tail` when the chain would have more segments, or more bytes, than an mbuf can count.
    pub fn chain(&mut self, tail: Self) -> Result<(), Self> {
        let segments = self.segment_count().checked_add(tail.segment_count());
        let packet_len = u32::try_from(self.packet_len() + tail.packet_len());
        let (Some(segments), Ok(packet_len)) = (segments, packet_len) else {
            return Err(tail);
        };
        let mut last = self.as_ptr();
        for _ in 1..self.segment_count() {
            // SAFETY: a segment of the chain that `self` owns; all but the last link to the next.
            last = unsafe { mbuf_next(last) };
        }
        // SAFETY: `self` owns its chain, and now that of `tail`, too; `last` is its last segment.
        unsafe {
            mbuf_set_next(last, tail.into_raw().as_ptr());
            mbuf_set_nb_segs(self.as_ptr(), segments);
            mbuf_set_pkt_len(self.as_ptr(), packet_len);
        }
        Ok(())
    }

    /// Copies bytes of the frame, which may lie in several segments, to the heap. `None` when the
    /// range is not within the frame's data.
    pub fn copy_range(&self, range: Range<usize>) -> Option<BytesMut> {
        let mut skip = range.start;
        let mut left = range.end.checked_sub(range.start)?;
        let mut copy = BytesMut::with_capacity(left.min(self.packet_len()));
        for segment in self.segments() {
            let Some(from) = segment.get(skip..) else {
                skip -= segment.len();
                continue;
            };
            let part = &from[..from.len().min(left)];
            copy.extend_from_slice(part);
            skip = 0;
            left -= part.len();
            if left == 0 {
                return Some(copy);
            }
        }
        None
    }

    #[inline]
    fn data_start(&self) -> *mut u8 {
        // SAFETY: `self` owns the mbuf, whose data offset lies within its buffer.
        unsafe {
            mbuf_buf_addr(self.as_ptr())
                .cast::<u8>()
                .add(self.headroom())
        }
    }

    /// Lays the data of a frame of one segment at `[offset, offset + len)` of the buffer. The
    /// callers have checked that it fits.
    #[inline]
    pub(crate) fn set_only_segment(&mut self, offset: usize, len: usize) {
        self.set_first_segment(offset, len);
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_pkt_len(self.as_ptr(), len as u32) };
    }

    /// Lays the first segment's data at `[offset, offset + len)` of its buffer, and corrects the
    /// frame's length. The callers have checked that it fits.
    #[inline]
    fn set_first_segment(&mut self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.buffer_len());
        let packet_len = self.packet_len().saturating_sub(self.len()) + len;
        // SAFETY: `self` owns the mbuf and is borrowed mutably; the window lies within the buffer,
        // so both of its ends fit u16.
        unsafe {
            mbuf_set_data_off(self.as_ptr(), offset as u16);
            mbuf_set_data_len(self.as_ptr(), len as u16);
            mbuf_set_pkt_len(self.as_ptr(), packet_len as u32);
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        let mut raw = self.as_ptr();
        if self.is_direct_single() {
            // SAFETY: `self` owned it, and it is what the function asks for.
            unsafe { stoq_raw_free(raw) }
        } else {
            // SAFETY: `self` owned the chain; one pointer is passed.
            unsafe { stoq_free_bulk(&mut raw, 1) }
        }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("packet_len", &self.packet_len())
            .field("segments", &self.segment_count())
            .field("headroom", &self.headroom())
            .finish_non_exhaustive()
    }
}

/// The segments of an [`Mbuf`], first to last.
#[derive(Debug)]
pub struct Segments<'a> {
    next: *mut rte_mbuf,
    /// Bounds the walk by what the head says, whatever the links say.
    left: u16,
    owner: PhantomData<&'a Mbuf>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 || self.next.is_null() {
            return None;
        }
        let segment = self.next;
        self.left -= 1;
        // SAFETY: a segment of the chain that the borrowed `Mbuf` owns, its data within its buffer;
        // `next` of the last segment is null.
        unsafe {
            self.next = mbuf_next(segment);
            let start = mbuf_buf_addr(segment)
                .cast::<u8>()
                .add(mbuf_data_off(segment).into());
            Some(slice::from_raw_parts(start, mbuf_data_len(segment).into()))
        }
    }
}
