//! A link: two ports of this process joined by rings. What one sends the other receives; mbufs cross, bytes do not move.
//! It needs no device, no huge pages and no root.

use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::Eal;
use crate::port::{Backing, Port, PortConfig, PortError, PortId, PortInfo};
use crate::queue::QueuePair;
use crate::ring::Rings;

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
    let mut rings = Rings::default();
    // One ring a queue, for what the named end sends.
    let mut create =
        |index: usize| rings.create("link", names[index], queues, configs[index].tx_descriptors);
    let (forward, backward) = (create(0)?, create(1)?);
    let rings = Arc::new(rings);
    // Each port holds the rings as soon as it exists, so that they outlive it whatever fails.
    let end = |index: usize, rx: &[_], tx: &[_]| {
        let id = rings.port(names[index], rx, tx)?;
        let _rings = Arc::clone(&rings);
        Port::start(
            id,
            names[index],
            configs[index],
            Some(Backing::Link { _rings }),
        )
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
        // DPDK's own limits, where a driver gives none.
        mtu_range: (46, u16::MAX),
        rx_frame_max: u32::MAX,
        rss_table: 0,
        rss_key_size: 0,
        rss_types: 0,
        rx_offloads: sys::RTE_ETH_RX_OFFLOAD_SCATTER,
        tx_offloads: sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
    }
}
