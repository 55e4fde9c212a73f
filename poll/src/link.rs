//! A link: two ports of this process joined by rings. What one sends the other receives; mbufs cross, bytes do not move.
//! It needs no device, no huge pages and no root.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::{Eal, errno_text};
use crate::port::{Port, PortConfig, PortError, PortId, PortInfo, control};
use crate::queue::QueuePair;

/// DPDK's `SOCKET_ID_ANY`.
const ANY_NUMA_NODE: i32 = -1;

/// Rings of a link, both directions. They outlive both ports: each holds an `Arc`.
#[derive(Debug)]
pub(crate) struct Rings(Vec<NonNull<sys::rte_ring>>);

// SAFETY: an rte_ring may be used from any thread as its flags say; this type only keeps and frees them.
unsafe impl Send for Rings {}
// SAFETY: as above; a shared reference gives no access at all.
unsafe impl Sync for Rings {}

/// One end of a link: the port and its queue pairs.
pub type LinkEnd = (Port, Vec<QueuePair>);

/// Makes two ports called `names`, joined by rings: queue i of one is connected to queue i of the other. Each direction
/// holds as many frames as the sender has transmit descriptors.
///
/// # Errors
/// Different numbers of queues, a name that is taken, or no memory.
pub fn link(
    _eal: &Eal,
    names: [&str; 2],
    configs: [&PortConfig; 2],
) -> Result<[LinkEnd; 2], PortError> {
    let queues = configs[0].queues;
    if queues != configs[1].queues {
        return Err(PortError::Unsupported {
            name: names[0].to_owned(),
            driver: "link".to_owned(),
            problem: format!(
                "{queues} queue pairs, but {} at its other end {}; make them equal",
                configs[1].queues, names[1]
            ),
        });
    }
    let mut rings = Rings(Vec::new());
    let forward = rings.create(names[0], configs[0])?;
    let backward = rings.create(names[1], configs[1])?;
    let rings = Arc::new(rings);
    // Each port holds the rings as soon as it exists, so that they outlive it whatever fails.
    let end = |index: usize, rx: &[_], tx: &[_]| {
        let id = port(names[index], rx, tx)?;
        Port::start(id, names[index], configs[index], Some(Arc::clone(&rings)))
    };
    let first = end(0, &backward, &forward)?;
    let second = end(1, &forward, &backward)?;
    Ok([first, second])
}

/// What an end called `name` of a link with `queues` queues will say of itself. The number is that of no port.
pub fn link_info(name: &str, queues: u16) -> PortInfo {
    PortInfo {
        id: PortId(u16::MAX),
        name: name.to_owned(),
        driver: "net_ring".to_owned(),
        numa_node: None,
        rx_queues_max: queues,
        tx_queues_max: queues,
        mtu_range: (sys::RTE_ETHER_MIN_MTU as u16, u16::MAX),
        rx_frame_max: u32::MAX,
        rss_table: 0,
        rss_key_size: 0,
        rss_types: 0,
        rx_offloads: sys::RTE_ETH_RX_OFFLOAD_SCATTER,
        tx_offloads: sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
    }
}

impl Rings {
    /// One ring a queue, for what `sender` sends.
    fn create(
        &mut self,
        sender: &str,
        config: &PortConfig,
    ) -> Result<Vec<*mut sys::rte_ring>, PortError> {
        let failed = |reason| PortError::Call {
            name: sender.to_owned(),
            call: "rte_ring_create",
            reason,
        };
        (0..config.queues)
            .map(|queue| {
                let name = CString::new(format!("link_{sender}_{queue}"))
                    .map_err(|error| failed(error.to_string()))?;
                // A ring of n places holds n - 1; it has to be a power of two.
                let places = u32::from(config.tx_descriptors).next_power_of_two().max(64);
                // SAFETY: EAL is started, the name is NUL-terminated and copied. One lcore sends and one receives.
                let ring = unsafe {
                    sys::rte_ring_create(
                        name.as_ptr(),
                        places,
                        ANY_NUMA_NODE,
                        (sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ) as u32,
                    )
                };
                let ring = NonNull::new(ring).ok_or_else(|| failed(errno_text()))?;
                self.0.push(ring);
                Ok(ring.as_ptr())
            })
            .collect()
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        for ring in &self.0 {
            // SAFETY: both ports that used the ring are closed (they held an Arc of this), and nothing else knows it.
            unsafe { sys::rte_ring_free(ring.as_ptr()) };
        }
    }
}

fn port(
    name: &str,
    rx: &[*mut sys::rte_ring],
    tx: &[*mut sys::rte_ring],
) -> Result<PortId, PortError> {
    let failed = |reason| PortError::Call {
        name: name.to_owned(),
        call: "rte_eth_from_rings",
        reason,
    };
    let c_name = CString::new(name).map_err(|error| failed(error.to_string()))?;
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
