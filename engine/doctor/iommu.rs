//! What lets a program of user space drive a network card: an IOMMU, and the kernel's vfio.

use super::cards::{UIO, is_bifurcated, is_on_uio};
use super::finding::Finding;
use super::subject::Subject;
use super::tree::Tree;

const TOPIC: &str = "IOMMU";
const DEVICES: &str = "/sys/bus/pci/devices";
const GROUPS: &str = "/sys/kernel/iommu_groups";
const NOIOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let addresses = subject.cards.iter().map(|card| card.address.as_str());
    // Cards that stay with their kernel driver need neither.
    let (uio, vfio): (Vec<&str>, Vec<&str>) = addresses
        .filter(|address| !is_bifurcated(tree, address))
        .partition(|address| is_on_uio(tree, address));
    if uio.is_empty() && vfio.is_empty() {
        let why = match subject.cards.is_empty() {
            true => "no network card is to be driven",
            false => "the cards stay with their kernel driver",
        };
        return vec![Finding::ok(
            TOPIC,
            format!("not needed: {why}; {}", groups(tree)),
        )];
    }
    let mut findings: Vec<Finding> = uio
        .iter()
        .map(|address| physical(tree, subject, address))
        .collect();
    if !vfio.is_empty() {
        findings.extend([iommu(tree, subject), vfio_module(tree, subject)]);
        findings.extend(
            vfio.iter()
                .filter_map(|address| group(tree, subject, address)),
        );
    }
    findings
}

/// A card on uio writes to physical addresses, which an IOMMU that translates refuses.
fn physical(tree: &Tree, subject: &Subject, address: &str) -> Finding {
    let number = tree.link(&format!("{DEVICES}/{address}/iommu_group"));
    let kind = number.and_then(|number| tree.text(&format!("{GROUPS}/{number}/type")).ok());
    match kind {
        Some(kind) if kind != "identity" => subject.amiss(
            TOPIC,
            format!("{address} is on uio, whose physical addresses the IOMMU translates ({kind})"),
            &[
                &format!("sudo dpdk-devbind.py --bind=vfio-pci {address}"),
                "or the kernel argument iommu=pt",
            ],
        ),
        _ => Finding::ok(TOPIC, format!("{address} is on uio, which needs none")),
    }
}

fn groups(tree: &Tree) -> String {
    match tree.names(GROUPS).len() {
        0 => "none is active".to_owned(),
        count => format!("active, with {count} groups"),
    }
}

fn iommu(tree: &Tree, subject: &Subject) -> Finding {
    if !tree.names(GROUPS).is_empty() {
        return match tree.kernel_argument("iommu").as_deref() {
            Some("pt") => Finding::ok(
                TOPIC,
                format!("{}, pass-through for the kernel", groups(tree)),
            ),
            _ => Finding::advice(
                TOPIC,
                format!(
                    "{}; the kernel's own devices go through it, too",
                    groups(tree)
                ),
                &["kernel argument: iommu=pt"],
            ),
        };
    }
    if tree
        .text(NOIOMMU)
        .is_ok_and(|mode| mode == "Y" || mode == "1")
    {
        return Finding::advice(
            TOPIC,
            "none is active; vfio runs in its no-IOMMU mode, where a card can write to any memory",
            &[
                "switch VT-d or AMD-Vi on in the firmware; kernel arguments: intel_iommu=on iommu=pt (AMD: iommu=pt)",
            ],
        );
    }
    let firmware = "switch VT-d or AMD-Vi on in the firmware; kernel arguments: intel_iommu=on iommu=pt (AMD: iommu=pt)";
    let without = match tree.has("/sys/module/vfio") {
        true => format!("echo 1 | sudo tee {NOIOMMU}"),
        false => "sudo modprobe vfio enable_unsafe_noiommu_mode=1".to_owned(),
    };
    let without = format!("in a virtual machine without one: {without}");
    let change = [firmware, &without];
    let seen = "none is active, and vfio-pci takes no card without";
    subject.amiss(TOPIC, seen, &change)
}

fn vfio_module(tree: &Tree, subject: &Subject) -> Finding {
    const TOPIC: &str = "vfio";
    if tree.has("/sys/bus/pci/drivers/vfio-pci") {
        return Finding::ok(TOPIC, "vfio-pci is loaded");
    }
    if let Some(other) = UIO
        .iter()
        .find(|name| tree.has(&format!("/sys/bus/pci/drivers/{name}")))
    {
        let seen = format!("not loaded; {other} is, which needs root and no IOMMU");
        return Finding::advice(TOPIC, seen, &["sudo modprobe vfio-pci"]);
    }
    let change: &[&str] = match tree
        .kernel_arguments()
        .iter()
        .any(|word| word == "nomodule")
    {
        true => &["a kernel with vfio-pci built in: this one loads no modules (nomodule)"],
        false => &[
            "sudo modprobe vfio-pci; for every boot: echo vfio-pci | sudo tee /etc/modules-load.d/vfio-pci.conf",
        ],
    };
    let seen = "vfio-pci is not loaded";
    subject.amiss(TOPIC, seen, change)
}

/// vfio takes a group of devices as a whole.
fn group(tree: &Tree, subject: &Subject, address: &str) -> Option<Finding> {
    const TOPIC: &str = "IOMMU group";
    let number = tree.link(&format!("{DEVICES}/{address}/iommu_group"))?;
    let members = tree.names(&format!("{GROUPS}/{number}/devices"));
    let in_the_way: Vec<String> = members
        .into_iter()
        .filter(|member| member != address)
        .filter_map(|member| {
            let driver = tree.link(&format!("{DEVICES}/{member}/driver"))?;
            // Bridges may stay with theirs.
            let harmless = ["vfio-pci", "pcieport", "pci-stub"].contains(&driver.as_str());
            (!harmless).then(|| format!("{member} ({driver})"))
        })
        .collect();
    if in_the_way.is_empty() {
        return Some(Finding::ok(
            TOPIC,
            format!("{address} is in group {number}, and vfio can have all of it"),
        ));
    }
    let seen = format!(
        "{address} is in group {number} with {}: vfio takes all or none",
        in_the_way.join(", ")
    );
    let change = "unbind them from their drivers (dpdk-devbind.py -u ADDRESS), or put the card into another slot";
    Some(subject.amiss(TOPIC, seen, &[change]))
}
