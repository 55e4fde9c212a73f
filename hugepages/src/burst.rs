//! A fixed array of mbufs, the unit in which frames travel.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;

use dpdk_sys::{rte_mbuf, stoq_alloc_bulk, stoq_free_bulk};

use crate::mbuf::Mbuf;
use crate::pool::Mempool;

/// Up to `N` mbufs, or fewer if [limited](Self::with_limit), in the order they arrived or are to leave.
///
/// Mbufs enter at the back ([`push`](Self::push), [`alloc`](Self::alloc),
/// [`receive_with`](Self::receive_with)) and leave at the front ([`pop`](Self::pop),
/// [`send_with`](Self::send_with)). Dropping the burst frees what is left in one call. `N` is 32 by
/// default, what drivers are tuned for, and at most 1024.
pub struct Burst<const N: usize = 32> {
    /// `[head, head + len)` are initialised.
    slots: [MaybeUninit<Mbuf>; N],
    head: usize,
    len: usize,
    /// At most `N`.
    limit: usize,
}

impl<const N: usize> Burst<N> {
    /// An empty burst.
    pub const fn new() -> Self {
        Self::with_limit(N)
    }

    /// An empty burst that takes `limit` mbufs, 1 to `N`; what is outside counts as the nearest of these.
    pub const fn with_limit(limit: usize) -> Self {
        const { assert!(N > 0 && N <= 1024, "a burst holds 1 to 1024 mbufs") };
        Self {
            slots: [const { MaybeUninit::uninit() }; N],
            head: 0,
            len: 0,
            limit: match limit {
                0 => 1,
                _ if limit < N => limit,
                _ => N,
            },
        }
    }

    /// Mbufs that it takes at most.
    #[inline]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Mbufs in the burst.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Is none in it?
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Are as many in it as it takes?
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.len == self.limit
    }

    /// Mbufs that can still enter.
    #[inline]
    pub const fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Adds an mbuf at the back; returns it when the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.is_full() {
            return Err(mbuf);
        }
        self.make_room_at_the_back();
        self.slots[self.head + self.len].write(mbuf);
        self.len += 1;
        Ok(())
    }

    /// Takes the mbuf at the front.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: slots from `head` for `len` are initialised, and this one leaves that range
        // below.
        let mbuf = unsafe { self.slots[self.head].assume_init_read() };
        self.left_the_front(1);
        Some(mbuf)
    }

    /// The mbufs, front to back.
    #[inline]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: slots from `head` for `len` are initialised; `MaybeUninit<Mbuf>` is laid out as
        // `Mbuf`.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().add(self.head).cast(), self.len) }
    }

    /// The mbufs, front to back, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: as in `as_slice`; `self` is borrowed mutably.
        unsafe {
            slice::from_raw_parts_mut(self.slots.as_mut_ptr().add(self.head).cast(), self.len)
        }
    }

    /// Frees all mbufs in one call.
    pub fn clear(&mut self) {
        let front = self.front();
        let n = std::mem::take(&mut self.len);
        self.head = 0;
        if n > 0 {
            // SAFETY: the `n` slots were initialised and have just left the burst; slots are
            // pointers to mbufs.
            unsafe { stoq_free_bulk(front, n as u32) };
        }
    }

    /// Takes `n` empty mbufs out of the pool: all of them, or none and `false` when the pool has
    /// fewer or the burst has less room.
    pub fn alloc(&mut self, pool: Mempool, n: usize) -> bool {
        let Some(raw) = pool.live().filter(|_| n <= self.room()) else {
            return false;
        };
        self.make_room_at_the_back();
        // SAFETY: the pool lives (`live` says so); `n` slots are free behind `head + len`;
        // the mbufs C writes there are non-null and ours.
        let result = unsafe { stoq_alloc_bulk(raw, self.back(), n as u32) };
        if result == 0 {
            self.len += n;
        }
        result == 0
    }

    /// Lets `receive` write mbufs to the back: it gets where to, and for how many there is room,
    /// and returns how many it wrote. Returns that number.
    ///
    /// # Safety
    /// `receive` writes as many pointers as it returns, from the first on, to mbufs whose ownership
    /// passes to the burst (the contract of [`Mbuf::from_raw`]).
    #[inline]
    pub unsafe fn receive_with(
        &mut self,
        receive: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16,
    ) -> usize {
        self.make_room_at_the_back();
        let room = self.room();
        let received = usize::from(receive(self.back(), room as u16)).min(room);
        self.len += received;
        received
    }

    /// Lets `send` take mbufs from the front: it gets where they are and how many, and returns how
    /// many it took, first ones first. Those belong to it; the others stay in the burst, first in
    /// line. Returns the number taken.
    ///
    /// # Safety
    /// `send` takes over as many mbufs as it returns, from the front, and leaves the other pointers
    /// as they are.
    #[inline]
    pub unsafe fn send_with(&mut self, send: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16) -> usize {
        let front = self.front();
        // Nothing is ours while C decides: should `send` unwind, mbufs leak rather than being freed
        // twice.
        let offered = std::mem::take(&mut self.len);
        let sent = usize::from(send(front, offered as u16)).min(offered);
        self.len = offered;
        self.left_the_front(sent);
        sent
    }

    /// Where the front mbuf's pointer is. An `Mbuf` is a pointer to an mbuf.
    #[inline]
    fn front(&mut self) -> *mut *mut rte_mbuf {
        self.slots.as_mut_ptr().wrapping_add(self.head).cast()
    }

    /// Where the next mbuf's pointer goes.
    #[inline]
    fn back(&mut self) -> *mut *mut rte_mbuf {
        self.slots
            .as_mut_ptr()
            .wrapping_add(self.head + self.len)
            .cast()
    }

    #[inline]
    fn left_the_front(&mut self, n: usize) {
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { self.head + n };
    }

    /// Moves the mbufs to the start of the array, after some have left from there.
    #[inline]
    fn make_room_at_the_back(&mut self) {
        if self.head > 0 {
            let slots = self.slots.as_mut_ptr();
            // SAFETY: both ranges lie within the array, and may overlap; moving a `MaybeUninit`
            // makes no second owner, as the old slots leave the initialised range.
            unsafe { ptr::copy(slots.add(self.head), slots, self.len) };
            self.head = 0;
        }
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Drop for Burst<N> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> fmt::Debug for Burst<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

// The slots are handed to C as an array of pointers.
const _: () = assert!(size_of::<MaybeUninit<Mbuf>>() == size_of::<NonNull<rte_mbuf>>());
