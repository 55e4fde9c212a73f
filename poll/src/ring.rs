//! Rings of mbufs, and ports whose queues are such rings (`rte_eth_from_rings`): what links and emulated NICs are made
//! of.

use std::cell::Cell;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dpdk_sys as sys;
use hugepages::{Burst, Mbuf};

use crate::eal::errno_text;
use crate::port::{PortConfig, PortError, PortId, control};

/// DPDK's `SOCKET_ID_ANY`.
const ANY_NUMA_NODE: i32 = -1;

/// Rings of ports. They outlive the ports and whatever else uses them: each holds an `Arc`. What is still in them at the
/// end goes back to its pool.
#[derive(Debug, Default)]
pub(crate) struct Rings(Vec<NonNull<sys::rte_ring>>);

// SAFETY: an rte_ring may be used from any thread as its flags say; this type only keeps and frees them.
unsafe impl Send for Rings {}
// SAFETY: as above; a shared reference gives no access at all.
unsafe impl Sync for Rings {}

impl Rings {
    /// Makes a ring for each queue of a port, which hold `descriptors` mbufs or a little more. One lcore puts mbufs into a
    /// ring, and one takes them out.
    pub(crate) fn create(
        &mut self,
        stem: &str,
        port: &str,
        queues: u16,
        descriptors: u16,
    ) -> Result<Vec<RingId>, PortError> {
        let failed = |reason| PortError::Call {
            name: port.to_owned(),
            call: "rte_ring_create",
            reason,
        };
        (0..queues)
            .map(|queue| {
                let name = CString::new(format!("{stem}_{port}_{queue}"))
                    .map_err(|error| failed(error.to_string()))?;
                // A ring of n places holds n - 1; it has to be a power of two.
                let places = u32::from(descriptors).next_power_of_two().max(64);
                // SAFETY: EAL is started, the name is NUL-terminated and copied. One lcore sends and one receives.
                let ring = unsafe {
                    sys::rte_ring_create(
                        name.as_ptr(),
                        places,
                        ANY_NUMA_NODE,
                        (sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ) as u32,
                    )
                };
                self.0
                    .push(NonNull::new(ring).ok_or_else(|| failed(errno_text()))?);
                LIVE.fetch_add(1, Ordering::SeqCst);
                Ok(RingId(self.0.len() - 1))
            })
            .collect()
    }

    /// A port that receives from the rings `rx` and sends to the rings `tx`, one a queue.
    pub(crate) fn port(
        &self,
        name: &str,
        rx: &[RingId],
        tx: &[RingId],
    ) -> Result<PortId, PortError> {
        let failed = |reason| PortError::Call {
            name: name.to_owned(),
            call: "rte_eth_from_rings",
            reason,
        };
        let c_name = CString::new(name).map_err(|error| failed(error.to_string()))?;
        let pointers = |ids: &[RingId]| -> Vec<*mut sys::rte_ring> {
            ids.iter().map(|id| self.0[id.0].as_ptr()).collect()
        };
        let (rx, tx) = (pointers(rx), pointers(tx));
        let _turn = control();
        // SAFETY: the arrays hold as many live rings as said; the driver copies the pointers; the rings outlive the port.
        let id = unsafe {
            sys::rte_eth_from_rings(
                c_name.as_ptr(),
                rx.as_ptr(),
                rx.len() as u32,
                tx.as_ptr(),
                tx.len() as u32,
                0,
            )
        };
        u16::try_from(id)
            .map(PortId)
            .map_err(|_| failed(errno_text()))
    }
}

/// Rings that exist, for [`Eal::cleanup`](crate::Eal::cleanup).
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many rings exist. Emulated NICs use theirs without a port, so open ports do not tell.
pub(crate) fn live_rings() -> usize {
    LIVE.load(Ordering::SeqCst)
}

impl Drop for Rings {
    fn drop(&mut self) {
        for &ring in &self.0 {
            while let Some(mbuf) = dequeue(ring) {
                drop(mbuf);
            }
            // SAFETY: all that used the ring is gone (it held an Arc of this), and nothing else knows it.
            unsafe { sys::rte_ring_free(ring.as_ptr()) };
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn dequeue(ring: NonNull<sys::rte_ring>) -> Option<Mbuf> {
    let mut object = std::ptr::null_mut();
    // SAFETY: a live ring with room for one pointer; nobody else uses it any more.
    let taken = unsafe { sys::stoq_ring_dequeue_burst(ring.as_ptr(), &mut object, 1) };
    let raw = NonNull::new(object.cast()).filter(|_| taken == 1)?;
    // SAFETY: these rings hold mbufs that their senders have given up (`RingPort`, and the ring driver).
    Some(unsafe { Mbuf::from_raw(raw) })
}

/// One of the [`Rings`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingId(usize);

/// A port over rings, and the other side of its queues.
pub(crate) struct RingPort {
    pub(crate) id: PortId,
    pub(crate) rings: Arc<Rings>,
    pub(crate) queues: Vec<FarQueue>,
}

impl RingPort {
    /// A port with rings as `config` sizes them, whose other side is driven by this process.
    pub(crate) fn new(name: &str, config: &PortConfig) -> Result<Self, PortError> {
        let mut rings = Rings::default();
        let rx = rings.create("rx", name, config.queues, config.rx_descriptors)?;
        let tx = rings.create("tx", name, config.queues, config.tx_descriptors)?;
        let id = rings.port(name, &rx, &tx)?;
        let rings = Arc::new(rings);
        let queue = |(rx, tx): (&RingId, &RingId)| FarQueue {
            to_port: rings.0[rx.0],
            from_port: rings.0[tx.0],
            _rings: Arc::clone(&rings),
            _not_shared: PhantomData,
        };
        let queues = rx.iter().zip(&tx).map(queue).collect();
        Ok(Self { id, rings, queues })
    }
}

/// The other side of a queue pair: takes what the port sends, and gives it what it receives. It exists once for each queue
/// pair, and is used by one thread at a time.
#[derive(Debug)]
pub(crate) struct FarQueue {
    to_port: NonNull<sys::rte_ring>,
    from_port: NonNull<sys::rte_ring>,
    _rings: Arc<Rings>,
    /// Send, but not Sync.
    _not_shared: PhantomData<Cell<()>>,
}

// SAFETY: rings belong to no thread, and there is one user of each side.
unsafe impl Send for FarQueue {}

impl FarQueue {
    /// Fills the free places of `burst` with what the port has sent, in order; returns how many were added.
    pub(crate) fn take<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let ring = self.from_port.as_ptr();
        // SAFETY: `receive_with` gives room for `room` pointers and takes over those that were written: mbufs that the ring
        // driver has given up. The ring lives while `self` does, for EAL is not cleaned up while there are rings; `&mut self` on a type that is neither Clone nor Sync, made
        // once for a ring, is its only consumer.
        unsafe {
            burst.receive_with(|place, room| {
                sys::stoq_ring_dequeue_burst(ring, place.cast(), room.into()) as u16
            })
        }
    }

    /// Hands the frames of `burst` to the port, first ones first; returns how many it had room for. The others stay in
    /// the burst.
    pub(crate) fn give<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let ring = self.to_port.as_ptr();
        // SAFETY: `send_with` passes `count` mbufs and gives up as many as the ring took. The ring lives while `self` does,
        // and this is its only producer, as in `take`.
        unsafe {
            burst.send_with(|mbufs, count| {
                sys::stoq_ring_enqueue_burst(ring, mbufs.cast(), count.into()) as u16
            })
        }
    }
}
