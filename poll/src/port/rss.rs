//! Receive side scaling: which queue a flow is received on.
//!
//! What is wanted is set, then read back, and what was read is what counts: drivers cut keys, add hash types, or keep
//! a table of their own.

use std::net::SocketAddrV6;

use dpdk_sys as sys;
use tracing::{debug, warn};

use super::PortInfo;
use crate::eal::error_text;
use crate::toeplitz::toeplitz;

/// The key used where the configuration gives none: 52 bytes, the longest key of a common device, made by SHA-512 of a
/// sentence, so that no two of its 32-bit windows are alike.
pub const DEFAULT_RSS_KEY: [u8; 52] = [
    0xbe, 0xc7, 0x97, 0x8a, 0xa9, 0x23, 0x63, 0x01, 0x03, 0xae, 0x25, 0x90, 0xb7, 0x29, 0x50, 0x6e,
    0xc7, 0xd5, 0xea, 0x3b, 0x94, 0x38, 0xb9, 0x17, 0x3a, 0xff, 0x11, 0x00, 0xff, 0x55, 0xf8, 0x60,
    0x24, 0xf9, 0xb7, 0xca, 0xb8, 0x6a, 0xed, 0xf9, 0x28, 0xc7, 0x50, 0xac, 0x3f, 0x58, 0x6c, 0x4b,
    0x7d, 0x72, 0x56, 0x66,
];

/// Key length of a device that does not say, bytes; DPDK assumes it, too (`rte_eth_rss_conf`).
const USUAL_KEY: usize = 40;
/// Longest key that DPDK can name, bytes: the length is an octet.
const KEY_MAX: usize = u8::MAX as usize;
/// Entries of the redirection table that DPDK moves at once.
const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;

/// Receive side scaling as the device says it does it: read back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rss {
    /// The hash key.
    pub key: Vec<u8>,
    /// The redirection table: the queue of each entry. Not empty.
    pub table: Vec<u16>,
    /// What is hashed (`RTE_ETH_RSS_*`); `RTE_ETH_RSS_NONFRAG_IPV6_UDP`, addresses and UDP ports, is among it.
    pub types: u64,
}

impl Rss {
    /// The queue on which a UDP datagram from `src` to `dst` is received.
    pub fn queue(&self, src: SocketAddrV6, dst: SocketAddrV6) -> u16 {
        let hash = toeplitz(&self.key, src, dst) as usize;
        self.table
            .get(hash % self.table.len().max(1))
            .copied()
            .unwrap_or(0)
    }
}

/// What a device is asked to do. Nothing in it changes, and it lives until the device is closed: drivers keep pointing to
/// the key.
#[derive(Debug)]
pub(super) struct Wanted {
    key: Vec<u8>,
    types: u64,
    table: Vec<u16>,
}

impl Wanted {
    /// For `queues` queues of a device; `None` where there is nothing to ask: a single queue, no redirection table
    /// (`net_tap` lists hash types all the same), or no hash of IPv6.
    ///
    /// `key` is cut or repeated to the length the device takes. Without a hash over UDP ports that over addresses is
    /// asked for, which still spreads peers, though not the connections of one.
    pub(super) fn new(info: &PortInfo, queues: u16, key: Option<&[u8]>) -> Option<Self> {
        let types = [sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP, sys::RTE_ETH_RSS_IPV6]
            .into_iter()
            .find(|types| info.rss_types & types != 0)?;
        if queues < 2 || info.rss_table == 0 {
            return None;
        }
        let key = key
            .filter(|key| !key.is_empty())
            .unwrap_or(&DEFAULT_RSS_KEY);
        Some(Self {
            key: key.iter().copied().cycle().take(key_size(info)).collect(),
            types,
            table: (0..info.rss_table).map(|entry| entry % queues).collect(),
        })
    }

    /// As done by a device that does all that it is asked to.
    pub(super) fn as_wanted(&self) -> Rss {
        Rss {
            key: self.key.clone(),
            table: self.table.clone(),
            types: self.types,
        }
    }

    /// For `rte_eth_dev_configure`. The key goes with it where the device says how long one is, since a wrong length
    /// fails the call; it is set again when the port runs, in any case.
    pub(super) fn conf(&mut self, info: &PortInfo) -> sys::rte_eth_rss_conf {
        let mut conf = rss_conf(&mut self.key, self.types);
        if info.rss_key_size == 0 {
            conf.rss_key = std::ptr::null_mut();
            conf.rss_key_len = 0;
        }
        conf
    }

    /// Sets the key and the table of a started port and reads both back. What could not be set, or was changed by the
    /// device, is a warning. `None` when queues cannot be computed from the result: it cannot be read, or UDP over
    /// IPv6 is not hashed.
    pub(super) fn apply(&mut self, info: &PortInfo) -> Option<Rss> {
        let port = info.name.as_str();
        if let Err(code) = set_hash(info.id.0, &mut self.key, self.types) {
            warn!(port, error = %error_text(code), "the device does not take the RSS key and hash types");
        }
        if let Err(code) = set_table(info.id.0, &self.table) {
            warn!(port, error = %error_text(code), "the device does not take the RSS redirection table");
        }
        let hash = read_hash(info.id.0, key_size(info));
        let table = read_table(info.id.0, info.rss_table);
        let ((key, types), table) = match (hash, table) {
            (Ok(hash), Ok(table)) => (hash, table),
            (Err(code), _) | (_, Err(code)) => {
                warn!(
                    port, error = %error_text(code),
                    "what RSS does cannot be read back: shards hand over what arrives on a wrong queue"
                );
                return None;
            }
        };
        for (what, differs) in [("key", key != self.key), ("table", table != self.table)] {
            if differs {
                warn!(
                    port,
                    what,
                    "RSS: the device uses another one than was asked for; clients go by the device's"
                );
            }
        }
        let udp = sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP;
        if types & udp == 0 {
            warn!(
                port, types = %rss_type_names(types).join(" "),
                "RSS does not hash the ports of UDP over IPv6: shards hand over what arrives on a wrong queue"
            );
            return None;
        }
        debug!(port, types = %rss_type_names(types).join(" "), entries = table.len(), "RSS is set");
        Some(Rss { key, table, types })
    }
}

/// Bytes of the device's key.
fn key_size(info: &PortInfo) -> usize {
    match usize::from(info.rss_key_size) {
        0 => USUAL_KEY,
        size => size,
    }
}

/// DPDK's form of a key and hash types; it points to `key`.
fn rss_conf(key: &mut [u8], types: u64) -> sys::rte_eth_rss_conf {
    // SAFETY: plain data, for which zero is a valid value and means "default" in the fields later releases added.
    let mut conf: sys::rte_eth_rss_conf = unsafe { std::mem::zeroed() };
    conf.rss_key = key.as_mut_ptr();
    conf.rss_key_len = key.len().min(KEY_MAX) as u8;
    conf.rss_hf = types;
    conf
}

fn set_hash(port: u16, key: &mut [u8], types: u64) -> Result<(), i32> {
    let mut conf = rss_conf(key, types);
    // SAFETY: the port is started; `conf` points to a key of the length it says, which the driver copies.
    done(unsafe { sys::rte_eth_dev_rss_hash_update(port, &mut conf) })
}

fn set_table(port: u16, table: &[u16]) -> Result<(), i32> {
    let mut groups: Vec<_> = table.chunks(GROUP).map(group).collect();
    let entries = table.len() as u16;
    // SAFETY: the port is started; `groups` has an element for every 64 of the entries.
    done(unsafe { sys::rte_eth_dev_rss_reta_update(port, groups.as_mut_ptr(), entries) })
}

fn read_hash(port: u16, key_size: usize) -> Result<(Vec<u8>, u64), i32> {
    // Some drivers write their own key's length, whatever length is announced: there is room for the longest.
    let mut key = [0_u8; KEY_MAX];
    let mut conf = rss_conf(&mut key, 0);
    conf.rss_key_len = key_size as u8;
    // SAFETY: the port is started; `conf` points to a buffer that holds any key.
    done(unsafe { sys::rte_eth_dev_rss_hash_conf_get(port, &mut conf) })?;
    Ok((key[..key_size].to_vec(), conf.rss_hf))
}

fn read_table(port: u16, entries: u16) -> Result<Vec<u16>, i32> {
    let all = vec![0; usize::from(entries)];
    let mut groups: Vec<_> = all.chunks(GROUP).map(group).collect();
    // SAFETY: the port is started; `groups` has an element for every 64 of the entries.
    done(unsafe { sys::rte_eth_dev_rss_reta_query(port, groups.as_mut_ptr(), entries) })?;
    let queues = groups.iter().flat_map(|group| group.reta);
    Ok(queues.take(usize::from(entries)).collect())
}

/// Up to 64 entries; the mask says which of them are meant.
fn group(entries: &[u16]) -> sys::rte_eth_rss_reta_entry64 {
    let mut reta = [0; GROUP];
    for (place, queue) in reta.iter_mut().zip(entries) {
        *place = *queue;
    }
    sys::rte_eth_rss_reta_entry64 {
        mask: u64::MAX >> (GROUP - entries.len().clamp(1, GROUP)),
        reta,
    }
}

fn done(code: i32) -> Result<(), i32> {
    if code == 0 { Ok(()) } else { Err(code) }
}

/// DPDK's names of the hash types of IPv6 in `types`, such as `ipv6-udp`.
pub fn rss_type_names(types: u64) -> Vec<&'static str> {
    [
        (sys::RTE_ETH_RSS_IPV6, "ipv6"),
        (sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP, "ipv6-udp"),
        (sys::RTE_ETH_RSS_IPV6_EX, "ipv6-ex"),
        (sys::RTE_ETH_RSS_IPV6_UDP_EX, "ipv6-udp-ex"),
    ]
    .into_iter()
    .filter(|(bit, _)| types & bit != 0)
    .map(|(_, name)| name)
    .collect()
}
