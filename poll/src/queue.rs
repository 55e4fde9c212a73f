//! Queue pairs. A queue is polled by one lcore only, which DPDK leaves to the caller; here the types see to it: a queue
//! is handed out once, cannot be copied, can be sent to another thread but not shared, and polling takes `&mut self`.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;
use hugepages::{Burst, Mbuf};

use crate::host::frame_len_max;
use crate::offload::Offloads;
use crate::port::Device;

/// Frames moved by one call at most.
pub const BURST: usize = 64;
/// Frames moved by one call unless something else is asked for: what drivers are tuned for.
pub const BURST_DEFAULT: usize = 32;

/// One receive and one transmit queue of a port, for one lcore.
#[derive(Debug)]
pub struct QueuePair {
    /// The receiving half.
    pub rx: RxQueue,
    /// The sending half.
    pub tx: TxQueue,
}

/// A receive queue.
#[derive(Debug)]
pub struct RxQueue {
    device: Arc<Device>,
    queue: u16,
    /// Send, but not Sync.
    _not_shared: PhantomData<Cell<()>>,
}

/// A transmit queue.
#[derive(Debug)]
pub struct TxQueue {
    device: Arc<Device>,
    queue: u16,
    /// Send, but not Sync.
    _not_shared: PhantomData<Cell<()>>,
}

impl QueuePair {
    /// What is in force on the port.
    pub(crate) fn offloads(&self) -> &Offloads {
        &self.rx.device.offloads
    }

    /// Longest frame of the port's MTU, without a VLAN tag, bytes.
    pub(crate) fn frame_max(&self) -> usize {
        frame_len_max(self.rx.device.mtu)
    }
}

impl RxQueue {
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self {
            device,
            queue,
            _not_shared: PhantomData,
        }
    }

    /// Fills the free places of `burst` with received frames, in order; returns how many were added.
    #[inline]
    pub fn rx_burst(&mut self, burst: &mut Burst<BURST>) -> usize {
        let (device, queue) = (self.device.id(), self.queue);
        // SAFETY: `receive_with` gives room for `room` pointers and takes over as many mbufs as the closure says were
        // written. The queue exists and the port is started while `self.device` lives; `&mut self` on a type that is
        // neither Clone nor Sync makes this the only poll of the queue.
        unsafe { burst.receive_with(|place, room| sys::stoq_rx_burst(device, queue, place, room)) }
    }
}

impl TxQueue {
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self {
            device,
            queue,
            _not_shared: PhantomData,
        }
    }

    /// Hands the frames of `burst` to the device, first ones first; returns how many it took. The others stay in the
    /// burst, first in line.
    ///
    /// Where mbufs are [freed without a look](crate::offload::Offloads::mbuf_fast_free), the device is offered only those
    /// before the first that is not a single, direct, unshared mbuf of the port's transmit pool.
    #[inline]
    pub fn tx_burst(&mut self, burst: &mut Burst<BURST>) -> usize {
        let (device, queue) = (self.device.id(), self.queue);
        let fit = match self.device.offloads.mbuf_fast_free {
            true => self.fit_for_fast_free(burst.as_slice()),
            false => BURST as u16,
        };
        // SAFETY: `send_with` passes `count` valid mbufs and gives up as many as the closure returns, which are those
        // the driver has taken over, of the first `fit`. RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE wants mbufs of one pool a
        // queue, direct, single and with one owner: `fit_for_fast_free` lets no others pass. Queue and exclusivity as in
        // `rx_burst`.
        unsafe {
            burst.send_with(|mbufs, count| sys::stoq_tx_burst(device, queue, mbufs, count.min(fit)))
        }
    }

    /// How many mbufs, from the first on, may be freed without a look.
    #[inline]
    fn fit_for_fast_free(&self, mbufs: &[Mbuf]) -> u16 {
        let pool = self.device.tx_pool();
        let fit = |mbuf: &&Mbuf| mbuf.is_of(pool) && mbuf.is_direct_single();
        mbufs.iter().take_while(fit).count() as u16
    }
}
