//! Huge pages, and what else the kernel does with memory.

use std::collections::BTreeMap;

use hugepages::machine::{ByteSize, Machine, Need, Node, Shortfall};

use super::finding::Finding;
use super::subject::Subject;
use super::tree::Tree;

/// From this much on, pages of 1 GiB are worth reserving: 2 MiB pages of it are more than a TLB holds.
const GIB: u64 = 1 << 30;

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let machine = Machine::read_from(tree.root());
    let mut findings = vec![huge_pages(tree, subject, &machine)];
    if subject.huge.is_some() && !subject.in_memory {
        findings.push(mounts(&machine));
    }
    findings.push(transparent(tree));
    findings.push(swap(tree));
    findings.extend(numa_balancing(tree, &machine));
    findings
}

fn huge_pages(tree: &Tree, subject: &Subject, machine: &Machine) -> Finding {
    const TOPIC: &str = "huge pages";
    let seen: Vec<String> = machine.nodes.iter().map(node).collect();
    let seen = seen.join("; ");
    let Some(need) = subject.huge else {
        if subject.planned && subject.cards.is_empty() {
            return Finding::ok(TOPIC, format!("{seen}; the configuration runs without"));
        }
        if subject.planned {
            let change = [
                "leave --no-huge out of `eal:`; `engine doctor` says then how many pages to reserve",
            ];
            let seen = format!("{seen}; the configuration runs a network card without");
            return Finding::advice(TOPIC, seen, &change);
        }
        return match machine.free_huge(None) {
            0 => Finding::advice(
                TOPIC,
                format!("{seen}: none is free"),
                &[
                    "echo 1024 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages   # 2 GiB; \
                     `--config FILE` says how many it needs",
                ],
            ),
            _ => Finding::ok(TOPIC, seen),
        };
    };
    let needed = ByteSize(need.bytes);
    if let Some(shortfall) = machine.shortfall(need) {
        let seen = format!("{seen}; {needed} are needed");
        return Finding::problem(TOPIC, seen, &[&shortfall.remedy.to_string()]);
    }
    let seen = format!("{seen}; {needed} are needed");
    if let Some(shortfall) = on_nodes(tree, subject, machine).filter(|_| !machine.mounts.is_empty())
    {
        return Finding::problem(TOPIC, seen, &[&shortfall.to_string()]);
    }
    let small_only = machine
        .nodes
        .iter()
        .flat_map(|node| &node.pages)
        .all(|pages| pages.page_size < GIB || pages.total == 0);
    if need.bytes >= GIB && small_only && has_flag(tree, "pdpe1gb") {
        let count = need.bytes.div_ceil(GIB);
        let change =
            format!("kernel arguments: default_hugepagesz=1G hugepagesz=1G hugepages={count}");
        return Finding::advice(
            TOPIC,
            format!("{seen}; pages of 1 GiB cost fewer TLB misses"),
            &[&change],
        );
    }
    Finding::ok(TOPIC, seen)
}

/// What is missing on the node of a card, where there are several.
fn on_nodes(tree: &Tree, subject: &Subject, machine: &Machine) -> Option<Shortfall> {
    if machine.nodes.len() < 2 {
        return None;
    }
    let mut needs = BTreeMap::<u32, u64>::new();
    for card in &subject.cards {
        let file = format!("/sys/bus/pci/devices/{}/numa_node", card.address);
        // The firmware may not know, and says -1 then.
        if let Some(node) = tree.number::<u32>(&file) {
            *needs.entry(node).or_default() += card.pool;
        }
    }
    needs.into_iter().find_map(|(node, bytes)| {
        machine.shortfall(Need {
            numa_node: Some(node),
            bytes,
        })
    })
}

fn node(node: &Node) -> String {
    let pages: Vec<String> = node
        .pages
        .iter()
        .map(|pages| {
            format!(
                "{} of {} of {} free",
                pages.free,
                pages.total,
                ByteSize(pages.page_size)
            )
        })
        .collect();
    match pages.is_empty() {
        true => format!("node {}: this kernel offers none", node.id),
        false => format!("node {}: {}", node.id, pages.join(", ")),
    }
}

fn mounts(machine: &Machine) -> Finding {
    const TOPIC: &str = "hugetlbfs";
    let mounts: Vec<String> = machine
        .mounts
        .iter()
        .map(|mount| format!("{} ({})", mount.path.display(), ByteSize(mount.page_size)))
        .collect();
    match mounts.is_empty() {
        true => Finding::problem(
            TOPIC,
            "not mounted, and EAL keeps its pages there",
            &[
                "sudo mkdir -p /dev/hugepages && sudo mount -t hugetlbfs nodev /dev/hugepages",
                "or add --in-memory to `eal:`",
            ],
        ),
        false => Finding::ok(TOPIC, format!("mounted at {}", mounts.join(", "))),
    }
}

fn transparent(tree: &Tree) -> Finding {
    const TOPIC: &str = "transparent huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let text = match tree.text(FILE) {
        Ok(text) => text,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    // `always [madvise] never`
    let chosen = text.split(['[', ']']).nth(1).unwrap_or(&text);
    match chosen {
        "always" => Finding::advice(
            TOPIC,
            "always: the kernel merges pages of any process, and stops it meanwhile",
            &["echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"],
        ),
        chosen => Finding::ok(TOPIC, chosen),
    }
}

fn swap(tree: &Tree) -> Finding {
    const TOPIC: &str = "swap";
    match tree.text("/proc/swaps") {
        Ok(text) if text.lines().count() > 1 => Finding::advice(
            TOPIC,
            format!("in use: {}", swaps(&text)),
            &[
                "sudo swapoff -a   # connections are on the heap, and an lcore that waits for a disk serves nobody",
            ],
        ),
        Ok(_) => Finding::ok(TOPIC, "none"),
        Err(error) => Finding::unknown(TOPIC, error),
    }
}

fn swaps(text: &str) -> String {
    let names = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    names.collect::<Vec<_>>().join(", ")
}

/// Where there is but one node, nothing is moved between nodes.
fn numa_balancing(tree: &Tree, machine: &Machine) -> Option<Finding> {
    const TOPIC: &str = "NUMA balancing";
    if machine.nodes.len() < 2 {
        return None;
    }
    Some(match tree.text("/proc/sys/kernel/numa_balancing") {
        Ok(text) if text == "0" => Finding::ok(TOPIC, "off"),
        Ok(_) => Finding::advice(
            TOPIC,
            "on: pages are unmapped now and then to see who uses them",
            &["sudo sysctl -w kernel.numa_balancing=0"],
        ),
        Err(error) => Finding::unknown(TOPIC, error),
    })
}

/// Whether `/proc/cpuinfo` lists a flag.
pub(super) fn has_flag(tree: &Tree, flag: &str) -> bool {
    let text = tree.text("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}
