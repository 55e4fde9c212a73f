//! The devices that EAL sees: what they are, how they spread flows over queues, and what becomes of their offloads.

use std::fmt;

use poll::offload::{Buffers, Decision, OffloadConfig, negotiate};
use poll::{Eal, EalError, PortInfo, link_info, rss_type_names, rx_offload_name, tx_offload_name};
use serde::Serialize;

use crate::plan::{Plan, PortKind, PortPlan};
use crate::run::nic_config;
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
    /// EAL's number; none for an end of a link, which is made at the start.
    pub id: Option<u16>,
    /// PCI address or vdev name: what `device:` takes; the port's name for a link.
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
    /// Every receive offload that the device offers, by DPDK's names.
    pub rx_offered: Vec<String>,
    /// Every transmit offload that it offers.
    pub tx_offered: Vec<String>,
    /// What would become of those that the engine has a use for.
    pub offloads: Vec<OffloadEntry>,
    /// Why a start would be refused; `offloads` is empty then.
    pub problem: Option<String>,
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

/// What becomes of an offload.
#[derive(Debug, Clone, Serialize)]
pub struct OffloadEntry {
    /// The key of the configuration file, or a name of its own (`vlan_insert`, `vlan_strip`, `scatter`).
    pub offload: &'static str,
    /// Whether the device offers it.
    pub offered: bool,
    /// What the configuration wants; `auto` without one.
    pub wanted: &'static str,
    /// Who would do it: `hardware`, `software`, or nobody, `off`.
    pub granted: &'static str,
    /// Why; empty where the device does what it offers.
    pub reason: String,
}

/// Starts EAL and asks it.
///
/// # Errors
/// EAL does not start.
pub fn list(eal_arguments: &[String], plan: Option<&Plan>) -> Result<PortList, EalError> {
    let eal = Eal::start(eal_arguments)?;
    let devices = poll::ports(&eal).into_iter().map(|info| {
        let is_it = |port: &&PortPlan| port.kind == PortKind::Device(info.name.clone());
        let port = plan.and_then(|plan| plan.ports.iter().find(is_it));
        PortEntry::of(info, port)
    });
    let mut ports: Vec<PortEntry> = devices.collect();
    // No pool was made, so nothing can be out.
    let _ = eal.cleanup();
    let planned = plan.map_or(&[][..], |plan| &plan.ports);
    ports.extend(planned.iter().filter_map(PortEntry::of_link));
    Ok(PortList { ports })
}

impl PortEntry {
    /// A device, used as `plan` says.
    fn of(info: PortInfo, plan: Option<&PortPlan>) -> Self {
        let wanted = plan.map_or_else(OffloadConfig::default, |plan| plan.offload.0);
        let decided = negotiate(&info, &wanted, buffers(&info, plan));
        let (offloads, problem) = match decided {
            Ok(offloads) => (offloads.decisions, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Self {
            id: Some(info.id.0),
            rss: RssOffer::of(&info),
            port: plan.map(|plan| plan.name.clone()),
            driver: info.driver,
            numa_node: info.numa_node,
            queues_max: info.rx_queues_max.min(info.tx_queues_max),
            mtu_max: info.mtu_range.1,
            rx_offered: names(info.rx_offloads, rx_offload_name),
            tx_offered: names(info.tx_offloads, tx_offload_name),
            offloads: offloads.into_iter().map(OffloadEntry::from).collect(),
            problem,
            device: info.name,
        }
    }

    /// An end of a link, with an emulated NIC or without, which is no device before it runs.
    fn of_link(plan: &PortPlan) -> Option<Self> {
        let info = match &plan.kind {
            PortKind::Device(_) => return None,
            PortKind::Link { .. } => link_info(&plan.name, plan.queues),
            PortKind::Emulated { nic, .. } => nic_config(nic).port_info(&plan.name),
        };
        let entry = Self::of(info, Some(plan));
        Some(Self { id: None, ..entry })
    }
}

impl From<Decision> for OffloadEntry {
    fn from(decision: Decision) -> Self {
        Self {
            offload: decision.name,
            offered: decision.offered,
            wanted: decision.wanted.name(),
            granted: decision.granted.name(),
            reason: decision.reason.into_owned(),
        }
    }
}

/// Those of the plan, or what the engine would choose for as many queues as there are.
fn buffers(info: &PortInfo, plan: Option<&PortPlan>) -> Buffers {
    match plan {
        Some(plan) => Buffers {
            mtu: plan.mtu,
            queues: plan.queues,
            rx_data_room: plan.pool.data_room,
            tx_data_room: plan.tx_pool.unwrap_or(plan.pool).data_room,
        },
        None => Buffers {
            mtu: 1500,
            queues: info.rx_queues_max.min(info.tx_queues_max),
            rx_data_room: 128 + 2048,
            tx_data_room: u16::MAX,
        },
    }
}

fn names(bits: u64, name: fn(u64) -> String) -> Vec<String> {
    let bits = (0..u64::BITS)
        .map(|bit| 1 << bit)
        .filter(|bit| bits & bit != 0);
    bits.map(name).collect()
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
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut table = Table::new("><<<<>>>");
        table.row([
            "id", "device", "port", "driver", "NUMA", "queues", "MTU", "RSS",
        ]);
        for port in &self.ports {
            table.row([
                or_none(port.id.map(|id| id.to_string())),
                port.device.clone(),
                or_none(port.port.clone()),
                port.driver.clone(),
                or_none(port.numa_node.map(|node| node.to_string())),
                port.queues_max.to_string(),
                port.mtu_max.to_string(),
                or_none((port.rss.table != 0).then(|| port.rss.table.to_string())),
            ]);
        }
        write!(f, "{table}")?;
        for port in &self.ports {
            write!(f, "\n{port}")?;
        }
        writeln!(
            f,
            "\ngranted: what a start would ask the device for. Whether it takes it shows at the start, and whether it keeps \
             its word on the wire: `engine selftest`."
        )
    }
}

impl fmt::Display for PortEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.device)?;
        writeln!(f, "  RSS         {}", self.rss)?;
        let steering = self.rss.steering;
        writeln!(f, "  steering    {steering} (with several queues)")?;
        writeln!(f, "  rx offered  {}", words(&self.rx_offered))?;
        writeln!(f, "  tx offered  {}", words(&self.tx_offered))?;
        if let Some(problem) = &self.problem {
            return writeln!(f, "  would not start: {problem}");
        }
        let mut table = Table::new("");
        table.row(["  offload", "offered", "wanted", "granted", "why"]);
        for entry in &self.offloads {
            table.row([
                format!("  {}", entry.offload).as_str(),
                if entry.offered { "yes" } else { "no" },
                entry.wanted,
                entry.granted,
                &entry.reason,
            ]);
        }
        table.fmt(f)
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
    fn a_device_is_listed_with_what_would_become_of_its_offloads() {
        // DPDK's numbers: UDP checksum is bit 2 of both directions, VLAN insertion bit 0 (rte_ethdev.h).
        let card = PortInfo {
            rx_offloads: 1 << 2,
            tx_offloads: 1 << 2 | 1,
            ..card(8, 0, 0)
        };
        let entry = PortEntry::of(card, None);
        let json = serde_json::to_value(&entry).expect("plain data");
        assert_eq!(
            json["offloads"][0],
            serde_json::json!({
                "offload": "tx_checksum", "offered": true, "wanted": "auto", "granted": "hardware", "reason": ""
            })
        );
        assert_eq!(
            json["tx_offered"],
            serde_json::json!(["VLAN_INSERT", "UDP_CKSUM"])
        );
        let text = entry.to_string();
        for line in [
            "  offload           offered  wanted  granted   why\n",
            "  tx_checksum       yes      auto    hardware\n",
            "  udp_segmentation  no       auto    off       not offered\n",
            "  rss               no       auto    software  not offered: shards hand over what is theirs\n",
            "  vlan_insert       yes      off     off       the port is in no VLAN\n",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
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
