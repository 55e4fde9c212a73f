//! What is to run on the machine: which lcores, which devices, how much memory.

use hugepages::machine::Need;

use super::finding::Finding;
use super::tree::Tree;
use crate::plan::{EAL_OVERHEAD, Plan, PortKind};

/// What the machine is looked at for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// A configuration says what is to run; without one, everything below is what the machine has.
    pub planned: bool,
    /// CPUs of shards, ascending; none without a configuration.
    pub lcores: Vec<u32>,
    /// Network cards, those of the configuration or all.
    pub cards: Vec<Card>,
    /// Interfaces of the kernel that virtual devices sit on.
    pub interfaces: Vec<Interface>,
    /// Drivers of virtual devices, such as `net_af_packet`.
    pub vdevs: Vec<String>,
    /// Memory in huge pages that the configuration needs; nothing when it runs without.
    pub huge: Option<Need>,
    /// EAL needs no hugetlbfs.
    pub in_memory: bool,
}

/// A PCI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its address, such as `0000:3b:00.0`.
    pub address: String,
    /// The MTU of its port in the configuration.
    pub mtu: Option<u16>,
    /// Bytes of its port's pools, which are made on the card's NUMA node.
    pub pool: u64,
}

/// An interface of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The MTU of its port in the configuration.
    pub mtu: u16,
}

impl Subject {
    /// What a configuration wants to run.
    pub fn of_plan(plan: &Plan) -> Self {
        let mut lcores: Vec<u32> = plan.shards.iter().map(|shard| shard.lcore).collect();
        lcores.sort_unstable();
        lcores.dedup();
        let eal = &plan.eal;
        let bytes = eal.memory.unwrap_or(plan.memory.pools + EAL_OVERHEAD);
        let mut subject = Self {
            planned: true,
            lcores,
            huge: eal.huge_pages.then_some(Need {
                numa_node: None,
                bytes,
            }),
            in_memory: eal.arguments.iter().any(|word| word == "--in-memory"),
            ..Self::default()
        };
        for port in &plan.ports {
            let PortKind::Device(device) = &port.kind else {
                continue;
            };
            if is_pci_address(device) {
                subject.cards.push(Card {
                    address: device.clone(),
                    mtu: Some(port.mtu),
                    pool: port.pool_bytes(),
                });
                continue;
            }
            let driver = device.trim_end_matches(|c: char| c.is_ascii_digit());
            subject.vdevs.push(driver.to_owned());
            let interface = vdev_option(&eal.arguments, device, "iface");
            // A TAP interface comes into being when the engine starts.
            if let Some(name) = interface.filter(|_| driver != "net_tap") {
                subject.interfaces.push(Interface {
                    name,
                    mtu: port.mtu,
                });
            }
        }
        subject.vdevs.sort_unstable();
        subject.vdevs.dedup();
        subject
    }

    /// What keeps a configuration from running is a problem; where none was given, nobody has asked for it, and it is advice.
    pub(super) fn amiss(
        &self,
        topic: &'static str,
        seen: impl Into<String>,
        change: &[&str],
    ) -> Finding {
        match self.planned {
            true => Finding::problem(topic, seen, change),
            false => Finding::advice(topic, seen, change),
        }
    }

    /// What the machine has.
    pub fn of_machine(tree: &Tree) -> Self {
        let devices = tree.names("/sys/bus/pci/devices").into_iter();
        let cards = devices.filter(|address| {
            let class = tree.text(&format!("/sys/bus/pci/devices/{address}/class"));
            // PCI's class 2: network controllers.
            class.is_ok_and(|class| class.starts_with("0x02"))
        });
        Self {
            cards: cards
                .map(|address| Card {
                    address,
                    mtu: None,
                    pool: 0,
                })
                .collect(),
            ..Self::default()
        }
    }
}

/// `0000:3b:00.0`.
fn is_pci_address(device: &str) -> bool {
    let parts: Vec<&str> = device.split([':', '.']).collect();
    let hex = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit());
    parts.len() == 4 && device.matches(':').count() == 2 && parts.into_iter().all(hex)
}

/// The value of an option of a virtual device, from `--vdev=net_af_packet0,iface=eth1` or `--vdev net_…`.
fn vdev_option(arguments: &[String], device: &str, option: &str) -> Option<String> {
    let joined = arguments
        .iter()
        .filter_map(|word| word.strip_prefix("--vdev="));
    let follows = |pair: &[String]| (pair[0] == "--vdev").then(|| pair[1].clone());
    let apart: Vec<String> = arguments.windows(2).filter_map(follows).collect();
    let apart = apart.iter().map(String::as_str);
    joined.chain(apart).find_map(|vdev| {
        let mut parts = vdev.split(',');
        if parts.next()? != device {
            return None;
        }
        let mut pairs = parts.filter_map(|part| part.split_once('='));
        pairs.find_map(|(key, value)| (key == option).then(|| value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_and_names_of_virtual_devices() {
        assert!(is_pci_address("0000:3b:00.0"));
        assert!(!is_pci_address("net_tap0"));
        assert!(!is_pci_address("net_memif:0"));
        assert!(!is_pci_address("0000:3b:00"));
    }

    #[test]
    fn options_of_virtual_devices() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let joined = words("-l 0-1 --vdev=net_af_packet0,iface=eth1,blocksz=4096");
        let iface = |arguments: &[String], device| vdev_option(arguments, device, "iface");
        assert_eq!(iface(&joined, "net_af_packet0").as_deref(), Some("eth1"));
        assert_eq!(iface(&joined, "net_af_packet1"), None);
        let apart = words("--vdev net_af_xdp0,iface=ens1 --no-pci");
        assert_eq!(iface(&apart, "net_af_xdp0").as_deref(), Some("ens1"));
        assert_eq!(iface(&words("--vdev"), "net_af_xdp0"), None);
    }
}
