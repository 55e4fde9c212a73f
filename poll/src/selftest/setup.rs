//! How ports are opened to be tested.

use dpdk_sys as sys;
use hugepages::Mempool;

use crate::offload::{Mode, OffloadConfig, Vlan};
use crate::port::{PortConfig, PortInfo};
use crate::wire::{ETHERNET_HEADER, VLAN_TAG};

/// Data room of the mbufs that frames to send are built in, bytes: whole frames of any MTU, and payloads to be cut.
pub const TX_DATA_ROOM: u16 = 32_768;
/// What drivers expect at least, headroom included, bytes.
const DATA_ROOM_MIN: u16 = (sys::RTE_PKTMBUF_HEADROOM + 2048) as u16;
/// Descriptors of each queue.
const DESCRIPTORS: u16 = 256;
/// Queue pairs, where there is something to spread.
const QUEUES_MAX: u16 = 4;
/// The VLAN of ports that are in none.
const VLAN: u16 = 100;

/// Data room of the mbufs to receive into, bytes: too small for a jumbo frame where the device scatters, else large enough.
pub fn rx_data_room(info: &PortInfo, mtu: u16) -> u16 {
    if info.rx_offloads & sys::RTE_ETH_RX_OFFLOAD_SCATTER != 0 {
        return DATA_ROOM_MIN;
    }
    let headers = sys::RTE_PKTMBUF_HEADROOM as u16 + (ETHERNET_HEADER + VLAN_TAG) as u16;
    mtu.saturating_add(headers).max(DATA_ROOM_MIN)
}

/// Asks a device for everything that it offers. `vlan`: that of the port, if it is in one.
pub fn port_config(
    info: &PortInfo,
    mtu: u16,
    vlan: Option<u16>,
    [pool, tx_pool]: [Mempool; 2],
) -> PortConfig {
    let by = |offered: bool| if offered { Mode::Hardware } else { Mode::Auto };
    let sends = |bit: u64| info.tx_offloads & bit != 0;
    let receives = |bit: u64| info.rx_offloads & bit != 0;
    let tx_checksum = sends(sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
    let rss = info.rss_table > 0;
    PortConfig {
        mtu,
        queues: match rss {
            true => info
                .rx_queues_max
                .min(info.tx_queues_max)
                .clamp(1, QUEUES_MAX),
            false => 1,
        },
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        pool,
        tx_pool,
        rss_key: None,
        offload: OffloadConfig {
            tx_checksum: by(tx_checksum),
            rx_checksum: by(receives(sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM)),
            udp_segmentation: by(tx_checksum && sends(sys::RTE_ETH_TX_OFFLOAD_UDP_TSO)),
            rss: Mode::Auto,
            vlan: Some(Vlan {
                id: vlan.unwrap_or(VLAN),
                mode: Mode::Auto,
            }),
            mbuf_fast_free: Mode::Auto,
            hardware_pacing: by(sends(sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP)),
        },
    }
}
