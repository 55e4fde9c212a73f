//! What a device counts and says of its link.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::sync::MutexGuard;

use dpdk_sys as sys;

use super::{Port, control, try_control};

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether frames can pass.
    pub up: bool,
    /// Speed in Mbit/s; 0 where the device does not know it.
    pub mbps: u32,
}

/// Counters that the device itself keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames the device dropped because no descriptor was free.
    pub rx_missed: u64,
    /// Frames received with an error.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Receive buffers that could not be allocated.
    pub rx_no_mbuf: u64,
}

impl Port {
    /// The state of the link now.
    pub fn link(&self) -> LinkState {
        if let Some(nic) = self.device.nic() {
            return LinkState {
                up: true,
                mbps: nic.mbps,
            };
        }
        let (mut mbps, mut up, mut full_duplex) = (0, 0, 0);
        let _turn = control();
        // SAFETY: the port exists while the device lives, and the three places are valid.
        let code =
            unsafe { sys::stoq_link(self.device.id(), &mut mbps, &mut up, &mut full_duplex) };
        let mbps = if mbps == u32::MAX { 0 } else { mbps };
        LinkState {
            up: code == 0 && up != 0,
            mbps,
        }
    }

    /// What the device's clock shows, in its own ticks; `None` where it has none that can be read.
    pub(crate) fn read_clock(&self) -> Option<u64> {
        self.read_clock_in(&control())
    }

    /// The same for the data path, which waits for nobody: `None` also while another control call is made.
    pub(crate) fn try_read_clock(&self) -> Option<u64> {
        self.read_clock_in(&try_control()?)
    }

    fn read_clock_in(&self, _turn: &MutexGuard<'_, ()>) -> Option<u64> {
        let mut ticks = 0;
        // SAFETY: as in `link`.
        let code = unsafe { sys::rte_eth_read_clock(self.device.id(), &mut ticks) };
        (code == 0).then_some(ticks)
    }

    /// The device's own counters.
    pub fn stats(&self) -> DeviceStats {
        if let Some(nic) = self.nic_stats() {
            return DeviceStats {
                rx_frames: nic.rx_frames,
                tx_frames: nic.tx_frames,
                rx_missed: nic.rx_missed,
                rx_errors: nic.rx_bad_length + nic.rx_no_scatter,
                tx_errors: nic.tx_bad_length + nic.tx_bad_segmentation,
                rx_no_mbuf: nic.rx_no_mbuf,
            };
        }
        let mut stats = MaybeUninit::<sys::rte_eth_stats>::zeroed();
        let _turn = control();
        // SAFETY: as in `link`: a started port, a valid place, and zero is a valid value.
        let stats = unsafe {
            sys::rte_eth_stats_get(self.device.id(), stats.as_mut_ptr());
            stats.assume_init()
        };
        DeviceStats {
            rx_frames: stats.ipackets,
            tx_frames: stats.opackets,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
        }
    }

    /// Everything the device counts, by the names its driver gives (`rte_eth_xstats_get`), in the driver's order.
    /// Empty where the device cannot be asked.
    pub fn xstats(&self) -> Vec<(String, u64)> {
        if let Some(nic) = self.nic_stats() {
            let named = |(name, value): (&str, u64)| (name.to_owned(), value);
            return nic.iter().map(named).collect();
        }
        let _turn = control();
        let names = xstat_names(self.device.id());
        let values = xstat_values(self.device.id(), names.len());
        // A value names its statistic by the index in the list of names.
        let mut values: HashMap<u64, u64> =
            values.iter().map(|stat| (stat.id, stat.value)).collect();
        names
            .into_iter()
            .zip(0..)
            .filter_map(|(name, id)| Some((name, values.remove(&id)?)))
            .collect()
    }
}

fn xstat_names(port: u16) -> Vec<String> {
    // SAFETY: NULL and 0 ask for the number of statistics.
    let count = unsafe { sys::rte_eth_xstats_get_names(port, std::ptr::null_mut(), 0) };
    let Ok(count) = usize::try_from(count) else {
        return Vec::new();
    };
    let empty = sys::rte_eth_xstat_name {
        name: [0; sys::RTE_ETH_XSTATS_NAME_SIZE as usize],
    };
    let mut names = vec![empty; count];
    // SAFETY: there is room for `count` names.
    let given = unsafe { sys::rte_eth_xstats_get_names(port, names.as_mut_ptr(), count as u32) };
    names.truncate(filled(given, count));
    names.iter().map(|name| text(&name.name)).collect()
}

fn xstat_values(port: u16, count: usize) -> Vec<sys::rte_eth_xstat> {
    let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; count];
    // SAFETY: there is room for `count` values.
    let given = unsafe { sys::rte_eth_xstats_get(port, values.as_mut_ptr(), count as u32) };
    values.truncate(filled(given, count));
    values
}

/// How many of `room` places were filled: more than that means that none was, less than 0 is an error.
fn filled(given: i32, room: usize) -> usize {
    usize::try_from(given)
        .ok()
        .filter(|given| *given <= room)
        .unwrap_or(0)
}

fn text(name: &[c_char]) -> String {
    // C's char is signed on some machines and not on others.
    let bytes: Vec<u8> = name.iter().flat_map(|byte| byte.to_ne_bytes()).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(
        |_| String::from_utf8_lossy(&bytes).into_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
