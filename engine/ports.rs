//! The devices that EAL sees: what they are, and what becomes of their offloads.

use std::fmt;

use poll::{Eal, EalError, PortInfo, rx_offload_name, tx_offload_name};
use serde::Serialize;

use crate::plan::{Plan, PortKind};
use crate::table::Table;

/// The devices EAL sees.
#[derive(Debug, Clone, Serialize)]
pub struct PortList {
    /// One each, in EAL's order.
    pub ports: Vec<PortEntry>,
}

/// A device.
#[derive(Debug, Clone, Serialize)]
pub struct PortEntry {
    /// EAL's number.
    pub id: u16,
    /// PCI address or vdev name: what `device:` takes.
    pub device: String,
    /// The name of the configuration's port on it.
    pub port: Option<String>,
    /// Its driver.
    pub driver: String,
    /// Its NUMA node, when it says so.
    pub numa_node: Option<u32>,
    /// Largest number of queue pairs.
    pub queues_max: u16,
    /// Largest MTU, bytes.
    pub mtu_max: u16,
    /// Entries of its RSS redirection table; 0 without RSS.
    pub rss_table: u16,
    /// Receive offloads.
    pub rx_offloads: Offloads,
    /// Transmit offloads.
    pub tx_offloads: Offloads,
}

/// Offloads of one direction, by DPDK's names.
#[derive(Debug, Clone, Serialize)]
pub struct Offloads {
    /// What the device can do.
    pub offered: Vec<String>,
    /// What the engine asks for. Checksums are computed in software, so it asks for none.
    pub wanted: Vec<String>,
    /// What the device does for the engine.
    pub granted: Vec<String>,
}

/// Starts EAL and asks it.
///
/// # Errors
/// EAL does not start.
pub fn list(eal_arguments: &[String], plan: Option<&Plan>) -> Result<PortList, EalError> {
    let eal = Eal::start(eal_arguments)?;
    let ports = poll::ports(&eal)
        .into_iter()
        .map(|info| entry(info, plan))
        .collect();
    // No pool was made, so nothing can be out.
    let _ = eal.cleanup();
    Ok(PortList { ports })
}

fn entry(info: PortInfo, plan: Option<&Plan>) -> PortEntry {
    let of_plan = |plan: &Plan| {
        let uses = |kind: &PortKind| *kind == PortKind::Device(info.name.clone());
        plan.ports
            .iter()
            .find(|port| uses(&port.kind))
            .map(|port| port.name.clone())
    };
    PortEntry {
        id: info.id.0,
        port: plan.and_then(of_plan),
        driver: info.driver,
        numa_node: info.numa_node,
        queues_max: info.rx_queues_max.min(info.tx_queues_max),
        mtu_max: info.mtu_range.1,
        rss_table: info.rss_table,
        rx_offloads: offloads(info.rx_offloads, rx_offload_name),
        tx_offloads: offloads(info.tx_offloads, tx_offload_name),
        device: info.name,
    }
}

fn offloads(offered: u64, name: fn(u64) -> String) -> Offloads {
    let bits = (0..u64::BITS)
        .map(|bit| 1 << bit)
        .filter(|bit| offered & bit != 0);
    Offloads {
        offered: bits.map(name).collect(),
        wanted: Vec::new(),
        granted: Vec::new(),
    }
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ports.is_empty() {
            return writeln!(
                f,
                "EAL sees no device; give one with -a (PCI) or --vdev (virtual), for example \
                 engine --no-huge --no-pci --vdev=net_null0 -- ports"
            );
        }
        let mut table = Table::new("><<<<>>>");
        table.row([
            "id", "device", "port", "driver", "NUMA", "queues", "MTU", "RSS",
        ]);
        for port in &self.ports {
            table.row([
                port.id.to_string(),
                port.device.clone(),
                port.port.clone().unwrap_or_else(|| "-".to_owned()),
                port.driver.clone(),
                port.numa_node
                    .map_or_else(|| "-".to_owned(), |node| node.to_string()),
                port.queues_max.to_string(),
                port.mtu_max.to_string(),
                if port.rss_table == 0 {
                    "-".to_owned()
                } else {
                    port.rss_table.to_string()
                },
            ]);
        }
        write!(f, "{table}")?;
        for port in &self.ports {
            writeln!(f, "\n{}", port.device)?;
            for (direction, offloads) in [("rx", &port.rx_offloads), ("tx", &port.tx_offloads)] {
                writeln!(f, "  {direction} offered  {}", words(&offloads.offered))?;
                writeln!(f, "  {direction} wanted   {}", words(&offloads.wanted))?;
                writeln!(f, "  {direction} granted  {}", words(&offloads.granted))?;
            }
        }
        Ok(())
    }
}

fn words(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}
