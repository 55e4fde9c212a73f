//! The devices EAL sees, and what they say of themselves.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

use dpdk_sys as sys;

use super::{PortError, PortId, control};
use crate::eal::{Eal, error_text};

/// What a device says of itself.
#[derive(Debug, Clone)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// Its name: a PCI address or a vdev's name.
    pub name: String,
    /// Its driver, such as `net_tap`.
    pub driver: String,
    /// The NUMA node it is attached to, when it says so.
    pub numa_node: Option<u32>,
    /// Largest number of receive queues.
    pub rx_queues_max: u16,
    /// Largest number of transmit queues.
    pub tx_queues_max: u16,
    /// Smallest and largest MTU.
    pub mtu_range: (u16, u16),
    /// Longest frame it receives, bytes, as drivers give it: with or without a VLAN tag and the checksum behind it.
    pub rx_frame_max: u32,
    /// Entries of the RSS redirection table; 0 without RSS.
    pub rss_table: u16,
    /// Bytes of the RSS hash key; 0 where the device does not say.
    pub rss_key_size: u8,
    /// Hash types RSS can use (`RTE_ETH_RSS_*`).
    pub rss_types: u64,
    /// Receive offloads offered (`RTE_ETH_RX_OFFLOAD_*`).
    pub rx_offloads: u64,
    /// Transmit offloads offered (`RTE_ETH_TX_OFFLOAD_*`).
    pub tx_offloads: u64,
}

/// The ports EAL sees.
pub fn ports(_eal: &Eal) -> Vec<PortInfo> {
    let _turn = control();
    (0..sys::RTE_MAX_ETHPORTS as u16)
        // SAFETY: any number may be asked for.
        .filter(|&id| unsafe { sys::rte_eth_dev_is_valid_port(id) } != 0)
        .filter_map(|id| {
            let name = name(PortId(id))?;
            info(PortId(id), &name).ok()
        })
        .collect()
}

/// The name DPDK gives a bit of `RTE_ETH_RX_OFFLOAD_*`.
pub fn rx_offload_name(bit: u64) -> String {
    // SAFETY: returns a pointer to a static string for any value.
    unsafe { CStr::from_ptr(sys::rte_eth_dev_rx_offload_name(bit)) }
        .to_string_lossy()
        .into_owned()
}

/// The name DPDK gives a bit of `RTE_ETH_TX_OFFLOAD_*`.
pub fn tx_offload_name(bit: u64) -> String {
    // SAFETY: returns a pointer to a static string for any value.
    unsafe { CStr::from_ptr(sys::rte_eth_dev_tx_offload_name(bit)) }
        .to_string_lossy()
        .into_owned()
}

pub(super) fn find(name: &str) -> Option<PortId> {
    let name = CString::new(name).ok()?;
    let mut id = 0_u16;
    // SAFETY: a NUL-terminated string and a place for the number.
    let code = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(PortId(id))
}

fn name(id: PortId) -> Option<String> {
    let mut buffer = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: the function writes at most RTE_ETH_NAME_MAX_LEN bytes, NUL included, and checks the id.
    let code = unsafe { sys::rte_eth_dev_get_name_by_port(id.0, buffer.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so the buffer holds a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

pub(super) fn info(id: PortId, name: &str) -> Result<PortInfo, PortError> {
    let mut raw = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: a valid place; the id is checked by the function, which fills the whole structure on success.
    let code = unsafe { sys::rte_eth_dev_info_get(id.0, raw.as_mut_ptr()) };
    if code != 0 {
        return Err(PortError::Call {
            name: name.to_owned(),
            call: "rte_eth_dev_info_get",
            reason: error_text(code),
        });
    }
    // SAFETY: filled by the successful call above.
    let raw = unsafe { raw.assume_init() };
    let driver = if raw.driver_name.is_null() {
        "unknown".to_owned()
    } else {
        // SAFETY: a driver's name is a static NUL-terminated string.
        unsafe { CStr::from_ptr(raw.driver_name) }
            .to_string_lossy()
            .into_owned()
    };
    // SAFETY: the id is valid, as the call above has shown.
    let node = unsafe { sys::rte_eth_dev_socket_id(id.0) };
    Ok(PortInfo {
        id,
        name: name.to_owned(),
        driver,
        numa_node: u32::try_from(node).ok(),
        rx_queues_max: raw.max_rx_queues,
        tx_queues_max: raw.max_tx_queues,
        mtu_range: (raw.min_mtu, raw.max_mtu),
        rx_frame_max: raw.max_rx_pktlen,
        rss_table: raw.reta_size,
        rss_key_size: raw.hash_key_size,
        rss_types: raw.flow_type_rss_offloads,
        rx_offloads: raw.rx_offload_capa,
        tx_offloads: raw.tx_offload_capa,
    })
}
