//! DPDK: the release that runs, and its drivers.

use std::collections::BTreeSet;

use super::cards::dpdk_driver;
use super::finding::Finding;
use super::subject::Subject;
use super::tree::Tree;

/// Where distributions put libraries.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib/x86_64-linux-gnu",
    "/usr/local/lib64",
];

pub(super) fn findings(tree: &Tree, subject: &Subject, version: &str) -> Vec<Finding> {
    let drivers = drivers(tree);
    // rte_version begins with the name.
    let mut findings = vec![Finding::ok("DPDK", version.trim_start_matches("DPDK "))];
    findings.push(installed(&drivers));
    findings.extend(missing(tree, subject, &drivers));
    findings
}

/// Names of the network drivers that are installed as plug-ins, without `librte_`.
fn drivers(tree: &Tree) -> BTreeSet<String> {
    let folders = LIBRARIES.iter().flat_map(|library| {
        let folder = format!("{library}/dpdk");
        let plug_ins = tree
            .names(&folder)
            .into_iter()
            .filter(|name| name.starts_with("pmds-"));
        plug_ins
            .map(move |name| format!("{folder}/{name}"))
            .collect::<Vec<_>>()
    });
    let files = folders.flat_map(|folder| tree.names(&folder));
    files
        .filter_map(|file| {
            let (name, _) = file.strip_prefix("librte_")?.split_once(".so")?;
            name.starts_with("net_").then(|| name.to_owned())
        })
        .collect()
}

fn installed(drivers: &BTreeSet<String>) -> Finding {
    const TOPIC: &str = "DPDK drivers";
    match drivers.len() {
        0 => Finding::unknown(
            TOPIC,
            format!(
                "no plug-ins below {}; `engine ports` shows what EAL finds",
                LIBRARIES[0]
            ),
        ),
        count => Finding::ok(
            TOPIC,
            format!("{count} network drivers installed as plug-ins"),
        ),
    }
}

/// A finding for each driver that is needed and not there.
fn missing(tree: &Tree, subject: &Subject, drivers: &BTreeSet<String>) -> Vec<Finding> {
    if drivers.is_empty() {
        return Vec::new();
    }
    let cards = subject
        .cards
        .iter()
        .filter_map(|card| dpdk_driver(tree, &card.address));
    let cards = cards.map(|name| format!("net_{name}"));
    // The engine is linked with this one.
    let vdevs = subject
        .vdevs
        .iter()
        .filter(|name| *name != "net_ring")
        .cloned();
    let needed: BTreeSet<String> = cards.chain(vdevs).collect();
    let absent = needed.into_iter().filter(|name| !drivers.contains(name));
    let finding = |name: String| {
        let change = format!("sudo apt-get install 'librte-{}*'", name.replace('_', "-"));
        let seen = format!("{name} is not installed");
        subject.amiss("DPDK drivers", seen, &[&change])
    };
    absent.map(finding).collect()
}
