//! The devices that EAL sees: what they are, how they spread flows over queues, and what becomes of their offloads.

use std::fmt;

use poll::{Eal, EalError, PortInfo, rss_type_names, rx_offload_name, tx_offload_name};
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
    /// Receive side scaling.
    pub rss: RssOffer,
    /// Receive offloads.
    pub rx_offloads: Offloads,
    /// Transmit offloads.
    pub tx_offloads: Offloads,
}

/// What a device offers of receive side scaling, and what it means for shards on several of its queues.
#[derive(Debug, Clone, Serialize)]
pub struct RssOffer {
    /// Entries of the redirection table; 0 without one.
    pub table: u16,
    /// Bytes of the hash key; 0 where the device does not say.
    pub key_bytes: u8,
    /// Hash types of IPv6, by DPDK's names.
    pub types: Vec<&'static str>,
    /// How a datagram would find its shard, with several queues.
    pub steering: Steering,
}

/// How a datagram finds the shard of its connection, with several queues of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Steering {
    /// There is but one queue.
    OneQueue,
    /// By the hash of addresses and UDP ports; clients choose ports whose replies come to their own queue. Key and table
    /// are read back when the port starts, and what cannot be read is handed over.
    Rss,
    /// By a hash of addresses: a peer's connections share a queue.
    RssByAddress,
    /// As the device likes; shards hand over what lands on the wrong one.
    HandOver,
}

impl RssOffer {
    fn of(info: &PortInfo) -> Self {
        let types = rss_type_names(info.rss_types);
        let steering = if info.rx_queues_max.min(info.tx_queues_max) < 2 {
            Steering::OneQueue
        } else if info.rss_table == 0 {
            // Some drivers of virtual devices list hash types, and yet have no table to make use of them.
            Steering::HandOver
        } else if types.contains(&"ipv6-udp") {
            Steering::Rss
        } else if types.contains(&"ipv6") {
            Steering::RssByAddress
        } else {
            Steering::HandOver
        };
        Self {
            table: info.rss_table,
            key_bytes: info.rss_key_size,
            types,
            steering,
        }
    }
}

impl fmt::Display for RssOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table == 0 {
            return write!(f, "none");
        }
        match self.key_bytes {
            0 => write!(f, "key of the usual 40 bytes")?,
            bytes => write!(f, "key of {bytes} bytes")?,
        }
        write!(f, ", table of {} entries, types ", self.table)?;
        f.write_str(if self.types.is_empty() {
            "none of IPv6"
        } else {
            ""
        })?;
        f.write_str(&self.types.join(" "))
    }
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneQueue => "one queue",
            Self::Rss => "RSS over addresses and UDP ports, hand-over after a change of address",
            Self::RssByAddress => "RSS over addresses, else hand-over",
            Self::HandOver => "hand-over",
        })
    }
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
        rss: RssOffer::of(&info),
        port: plan.and_then(of_plan),
        driver: info.driver,
        numa_node: info.numa_node,
        queues_max: info.rx_queues_max.min(info.tx_queues_max),
        mtu_max: info.mtu_range.1,
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
                if port.rss.table == 0 {
                    "-".to_owned()
                } else {
                    port.rss.table.to_string()
                },
            ]);
        }
        write!(f, "{table}")?;
        for port in &self.ports {
            writeln!(f, "\n{}", port.device)?;
            writeln!(f, "  RSS         {}", port.rss)?;
            writeln!(
                f,
                "  steering    {} (with several queues)",
                port.rss.steering
            )?;
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

#[cfg(test)]
mod tests {
    use poll::PortId;

    use super::*;

    /// A device as the driver of a network card describes it.
    fn card(queues: u16, table: u16, types: u64) -> PortInfo {
        PortInfo {
            id: PortId(0),
            name: "0000:3b:00.0".to_owned(),
            driver: "net_ice".to_owned(),
            numa_node: None,
            rx_queues_max: queues,
            tx_queues_max: 64,
            mtu_range: (68, 9702),
            rx_frame_max: 9728,
            rss_table: table,
            rss_key_size: 52,
            rss_types: types,
            rx_offloads: 0,
            tx_offloads: 0,
        }
    }

    #[test]
    fn steering_follows_from_what_the_device_offers() {
        // DPDK's numbers of hash types: IPv6 is bit 8, UDP over IPv6 bit 11 (rte_ethdev.h).
        let (addresses, ports) = (1 << 8, 1 << 11);
        let steering = |queues, table, types| RssOffer::of(&card(queues, table, types)).steering;
        assert_eq!(steering(1, 512, ports), Steering::OneQueue);
        assert_eq!(steering(8, 512, addresses | ports), Steering::Rss);
        assert_eq!(steering(8, 512, addresses), Steering::RssByAddress);
        assert_eq!(steering(8, 0, ports), Steering::HandOver);
        assert_eq!(steering(8, 512, 0), Steering::HandOver);
    }

    #[test]
    fn people_read_what_is_offered() {
        let offer = RssOffer::of(&card(8, 512, 1 << 8 | 1 << 11));
        assert_eq!(
            offer.to_string(),
            "key of 52 bytes, table of 512 entries, types ipv6 ipv6-udp"
        );
        assert_eq!(RssOffer::of(&card(8, 0, 1 << 11)).to_string(), "none");
    }
}
