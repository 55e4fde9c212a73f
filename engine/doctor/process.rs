//! What this process may do.

use super::cards;
use super::finding::Finding;
use super::subject::Subject;
use super::tree::Tree;

/// Numbers of capabilities (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let status = match tree.text("/proc/self/status") {
        Ok(status) => status,
        Err(error) => return vec![Finding::unknown("permissions", error)],
    };
    let held = capabilities(&status).unwrap_or(0);
    vec![
        permissions(tree, subject, held),
        locked_memory(tree, subject, held),
    ]
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn holds(held: u64, capability: u32) -> bool {
    held & (1 << capability) != 0
}

/// What a subject needs beyond what everybody has, and what for.
fn needs(tree: &Tree, subject: &Subject) -> Vec<(&'static str, u32, &'static str)> {
    let mut needs = Vec::new();
    let uses = |driver: &str| subject.vdevs.iter().any(|name| name == driver);
    if uses("net_tap") {
        needs.push(("cap_net_admin", CAP_NET_ADMIN, "TAP"));
    }
    if uses("net_af_packet") || uses("net_af_xdp") {
        needs.push(("cap_net_raw", CAP_NET_RAW, "packet sockets"));
    }
    if uses("net_af_xdp") {
        needs.push(("cap_net_admin", CAP_NET_ADMIN, "AF_XDP"));
        needs.push(("cap_bpf", CAP_BPF, "AF_XDP"));
    }
    let driver = |name: &str| {
        let bound = |address: &str| tree.link(&format!("/sys/bus/pci/devices/{address}/driver"));
        let mut cards = subject.cards.iter();
        cards.any(|card| bound(&card.address).is_some_and(|driver| driver.starts_with(name)))
    };
    if driver("mlx5") || driver("mlx4") {
        needs.push(("cap_net_raw", CAP_NET_RAW, "flows on a Mellanox card"));
    }
    if driver("igb_uio") || driver("uio") {
        needs.push((
            "cap_sys_admin",
            CAP_SYS_ADMIN,
            "physical addresses, for uio",
        ));
    }
    needs
}

fn permissions(tree: &Tree, subject: &Subject, held: u64) -> Finding {
    const TOPIC: &str = "permissions";
    let needs = needs(tree, subject);
    let missing: Vec<_> = needs
        .iter()
        .filter(|(_, number, _)| !holds(held, *number))
        .collect();
    if !missing.is_empty() {
        let texts: Vec<String> = missing
            .iter()
            .map(|(name, _, what)| format!("{name} ({what})"))
            .collect();
        let names: Vec<&str> = missing.iter().map(|(name, ..)| *name).collect();
        let seen = format!("this process lacks {}", texts.join(", "));
        let change = format!(
            "run the engine as root, or: sudo setcap {}+ep engine",
            names.join(",")
        );
        return subject.amiss(TOPIC, seen, &[&change]);
    }
    match (needs.is_empty(), holds(held, CAP_SYS_ADMIN)) {
        (_, true) => Finding::ok(TOPIC, "all that is needed (CAP_SYS_ADMIN is held)"),
        (true, false) if subject.planned => Finding::ok(
            TOPIC,
            "none beyond a user's are needed, if vfio's files are yours",
        ),
        (true, false) => Finding::ok(
            TOPIC,
            "those of a user: enough for links, memif, and cards whose /dev/vfio files are yours",
        ),
        (false, false) => Finding::ok(TOPIC, "all that is needed"),
    }
}

/// vfio and verbs pin what cards may write to, and count it as locked. uio pins nothing.
fn locked_memory(tree: &Tree, subject: &Subject, held: u64) -> Finding {
    const TOPIC: &str = "locked memory";
    let limits = match tree.text("/proc/self/limits") {
        Ok(limits) => limits,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let limit = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("not told");
    let text = match limit.parse::<u64>() {
        Ok(bytes) => hugepages::machine::ByteSize(bytes).to_string(),
        Err(_) => limit.to_owned(),
    };
    if holds(held, CAP_IPC_LOCK) {
        return Finding::ok(
            TOPIC,
            format!("limit {text}, which does not bind this process (CAP_IPC_LOCK)"),
        );
    }
    let enough = match (limit.parse::<u64>(), subject.huge) {
        (Ok(limit), Some(need)) => limit >= need.bytes,
        (Ok(_), None) => false,
        (Err(_), _) => true,
    };
    let pinned = subject
        .cards
        .iter()
        .any(|card| !cards::is_on_uio(tree, &card.address));
    match enough || !pinned {
        true => Finding::ok(TOPIC, format!("limit {text}")),
        false => {
            let change = [
                "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit, or memlock in /etc/security/limits.conf",
            ];
            let seen = format!("limit {text}: too little to pin what the cards write to");
            subject.amiss(TOPIC, seen, &change)
        }
    }
}
