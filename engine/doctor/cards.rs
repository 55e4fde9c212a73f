//! Network cards: the driver they are bound to, where they sit, how wide their slot is.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::links;
use super::subject::{Card, Subject};
use super::tree::{Tree, cpu_list, cpu_text};

const DEVICES: &str = "/sys/bus/pci/devices";
/// The kernel driver that hands a card to user space behind an IOMMU.
const VFIO: &str = "vfio-pci";
/// Those that do so without one.
pub(super) const UIO: [&str; 2] = ["igb_uio", "uio_pci_generic"];
/// Kernel drivers that stay bound, with DPDK's beside them: what they are called there.
const BIFURCATED: [(&str, &str); 3] = [
    ("mlx5_core", "mlx5"),
    ("mlx4_core", "mlx4"),
    ("mana", "mana"),
];
/// DPDK's driver for cards of a kernel driver.
const DRIVERS: [(&str, &str); 12] = [
    ("ice", "ice"),
    ("i40e", "i40e"),
    ("iavf", "iavf"),
    ("ixgbe", "ixgbe"),
    ("ixgbevf", "ixgbe"),
    ("igb", "e1000"),
    ("igc", "igc"),
    ("e1000e", "e1000"),
    ("ena", "ena"),
    ("bnxt_en", "bnxt"),
    ("virtio-pci", "virtio"),
    ("vmxnet3", "vmxnet3"),
];

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for card in &subject.cards {
        let address = &card.address;
        if !tree.has(&format!("{DEVICES}/{address}")) {
            let seen = format!("{address} is not there");
            let change =
                "lspci -D | grep -i -e ethernet -e network   # then `device:` in the configuration";
            findings.push(Finding::problem("network card", seen, &[change]));
            continue;
        }
        findings.push(binding(tree, subject, card));
        findings.push(node(tree, subject, address));
        findings.push(slot(tree, address));
        findings.extend(pipeline(tree, subject, address));
        findings.extend(links::of_card(tree, subject, card));
    }
    if subject.cards.is_empty() && !subject.planned {
        findings.push(Finding::ok(
            "network card",
            "this machine shows none on PCI",
        ));
    }
    findings
}

/// Whether a card stays with its kernel driver while DPDK uses it.
pub(super) fn is_bifurcated(tree: &Tree, address: &str) -> bool {
    let driver = kernel_driver(tree, address);
    driver.is_some_and(|driver| BIFURCATED.iter().any(|(name, _)| *name == driver))
}

/// Whether a card is bound to a driver that hands it to user space by its physical addresses.
pub(super) fn is_on_uio(tree: &Tree, address: &str) -> bool {
    kernel_driver(tree, address).is_some_and(|driver| UIO.contains(&driver.as_str()))
}

/// The name of DPDK's driver for a card, as far as the kernel's tells.
pub(super) fn dpdk_driver(tree: &Tree, address: &str) -> Option<&'static str> {
    let driver = kernel_driver(tree, address)?;
    let mut known = BIFURCATED.iter().chain(&DRIVERS);
    known
        .find(|(kernel, _)| *kernel == driver)
        .map(|(_, dpdk)| *dpdk)
}

fn kernel_driver(tree: &Tree, address: &str) -> Option<String> {
    tree.link(&format!("{DEVICES}/{address}/driver"))
}

/// Interfaces of the kernel on a card. A virtio card has them one folder deeper.
pub(super) fn interfaces(tree: &Tree, address: &str) -> Vec<String> {
    let folder = format!("{DEVICES}/{address}");
    let mut names = tree.names(&format!("{folder}/net"));
    let deeper = tree
        .names(&folder)
        .into_iter()
        .filter(|name| name.starts_with("virtio"));
    for name in deeper {
        names.extend(tree.names(&format!("{folder}/{name}/net")));
    }
    names
}

fn binding(tree: &Tree, subject: &Subject, card: &Card) -> Finding {
    const TOPIC: &str = "driver binding";
    let address = &card.address;
    let Some(driver) = kernel_driver(tree, address) else {
        let change = format!("sudo dpdk-devbind.py --bind=vfio-pci {address}");
        let seen = format!("{address} is bound to no driver");
        return subject.amiss(TOPIC, seen, &[&change]);
    };
    let seen = format!("{address} is bound to {driver}");
    if driver == VFIO || UIO.contains(&driver.as_str()) {
        return Finding::ok(TOPIC, seen);
    }
    if is_bifurcated(tree, address) {
        return verbs(tree, subject, address, &seen);
    }
    let names = interfaces(tree, address);
    let routed = links::default_interfaces(tree);
    let own = names.iter().find(|name| routed.contains(*name));
    let bind = format!("sudo dpdk-devbind.py --bind=vfio-pci {address}");
    match (subject.planned, own) {
        (true, Some(own)) => {
            let seen = format!(
                "{seen}, as {own}, which this machine's default route uses: to take it cuts the machine off"
            );
            Finding::problem(
                TOPIC,
                seen,
                &["use another card, or af_packet or af_xdp on this interface"],
            )
        }
        (true, None) => {
            Finding::problem(TOPIC, format!("{seen}, a driver of the kernel's"), &[&bind])
        }
        (false, Some(own)) => Finding::ok(
            TOPIC,
            format!("{seen}, as {own}, the machine's own way out: leave it there"),
        ),
        (false, None) => Finding::advice(
            TOPIC,
            format!("{seen}, a driver of the kernel's"),
            &[&format!("to give it to the engine: {bind}")],
        ),
    }
}

/// A bifurcated driver works through the kernel's verbs.
fn verbs(tree: &Tree, subject: &Subject, address: &str, seen: &str) -> Finding {
    const TOPIC: &str = "driver binding";
    // mana has them, too, by a module of its own.
    let bound = tree.names(&format!("{DEVICES}/{address}/infiniband_verbs"));
    match bound.is_empty() {
        false => Finding::ok(
            TOPIC,
            format!("{seen}, which stays, with {}", bound.join(", ")),
        ),
        true => subject.amiss(
            TOPIC,
            format!("{seen}, which is right, but the kernel offers no verbs on it"),
            &[
                "sudo modprobe -a ib_uverbs mlx5_ib   # mlx4_ib, mana_ib",
                "sudo apt-get install rdma-core ibverbs-providers",
            ],
        ),
    }
}

fn node(tree: &Tree, subject: &Subject, address: &str) -> Finding {
    const TOPIC: &str = "NUMA node";
    let node = match tree.text(&format!("{DEVICES}/{address}/numa_node")) {
        Ok(node) => node,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let Ok(node) = node.parse::<u32>() else {
        let nodes = tree.names("/sys/devices/system/node");
        let several = nodes.iter().filter(|name| is_node(name)).count() > 1;
        return match several {
            true => Finding::unknown(
                TOPIC,
                format!("the firmware does not say which one {address} is on"),
            ),
            false => Finding::ok(TOPIC, format!("{address}: there is but one node")),
        };
    };
    let list = tree.text(&format!("/sys/devices/system/node/node{node}/cpulist"));
    let near: BTreeSet<u32> = cpu_list(&list.unwrap_or_default()).into_iter().collect();
    let far: Vec<u32> = subject
        .lcores
        .iter()
        .copied()
        .filter(|cpu| !near.contains(cpu))
        .collect();
    if far.is_empty() {
        return Finding::ok(TOPIC, format!("{address} is on node {node}"));
    }
    let near = cpu_text(&near.into_iter().collect::<Vec<_>>());
    let seen = format!(
        "{address} is on node {node}, lcores {} are not",
        cpu_text(&far)
    );
    Finding::advice(
        TOPIC,
        seen,
        &[&format!("give its shards lcores out of {near}")],
    )
}

fn is_node(name: &str) -> bool {
    name.strip_prefix("node")
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

/// An E810 needs a file that describes its pipeline, whoever drives it (DPDK's page of ice).
fn pipeline(tree: &Tree, subject: &Subject, address: &str) -> Option<Finding> {
    const TOPIC: &str = "DDP package";
    let read = |name: &str| tree.text(&format!("{DEVICES}/{address}/{name}"));
    let (vendor, device) = (read("vendor").ok()?, read("device").ok()?);
    if vendor != "0x8086" || !device.starts_with("0x159") {
        return None;
    }
    let folders = ["/lib/firmware/updates", "/lib/firmware"].into_iter();
    let files = folders.flat_map(|folder| {
        // Distributions compress firmware, and DPDK can read it so.
        ["ice.pkg", "ice.pkg.xz"].map(|name| format!("{folder}/intel/ice/ddp/{name}"))
    });
    if let Some(file) = files.into_iter().find(|file| tree.has(file)) {
        return Some(Finding::ok(TOPIC, file));
    }
    let seen =
        format!("{address} is an E810, and there is no ice.pkg below /lib/firmware/intel/ice/ddp");
    let change = [
        "install it from linux-firmware, or from Intel",
        "or do without, and without RSS and checksums: -a ADDRESS,safe-mode-support=1",
    ];
    Some(subject.amiss(TOPIC, seen, &change))
}

fn slot(tree: &Tree, address: &str) -> Finding {
    const TOPIC: &str = "PCIe link";
    let read = |name: &str| tree.text(&format!("{DEVICES}/{address}/{name}"));
    let (speed, width) = match (read("current_link_speed"), read("current_link_width")) {
        (Ok(speed), Ok(width)) => (speed, width),
        (Err(error), _) | (_, Err(error)) => {
            return Finding::unknown(
                TOPIC,
                format!("{error}: not a PCI Express device, or a virtual one"),
            );
        }
    };
    let now = format!("{address}: x{width} at {speed}");
    let (Ok(speed_max), Ok(width_max)) = (read("max_link_speed"), read("max_link_width")) else {
        return Finding::ok(TOPIC, now);
    };
    // An idle link may be slow to save power, a narrow one never becomes wider.
    if width != width_max || speed != speed_max {
        let seen = format!("{now}, of x{width_max} at {speed_max} that the card has");
        return Finding::advice(
            TOPIC,
            seen,
            &["use a slot with as many lanes, of that generation; check the firmware's setting"],
        );
    }
    Finding::ok(TOPIC, now)
}
