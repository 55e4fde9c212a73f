//! Links and MTUs, where the kernel sees them.

use std::collections::BTreeSet;

use super::cards::interfaces;
use super::finding::Finding;
use super::subject::{Card, Interface, Subject};
use super::tree::Tree;

/// MTU that every Ethernet card takes.
const MTU_ALWAYS: u16 = 1500;

/// The link of a card.
pub(super) fn of_card(tree: &Tree, subject: &Subject, card: &Card) -> Vec<Finding> {
    let Card { address, mtu, .. } = card;
    let names = interfaces(tree, address);
    let mut findings: Vec<Finding> = names.iter().map(|name| link(tree, subject, name)).collect();
    if findings.is_empty() {
        let why = format!(
            "{address} has no interface in the kernel, so its driver alone knows: `engine run` logs it"
        );
        findings.push(Finding::unknown("link", why));
    }
    // DPDK's driver sets the MTU, so that of the kernel's interface does not matter.
    if let Some(mtu) = mtu.filter(|&mtu| mtu > MTU_ALWAYS) {
        let why = format!(
            "{address} shall have {mtu}: its driver knows whether it can, and `engine ports` tells"
        );
        findings.push(Finding::unknown("MTU", why));
    }
    findings
}

/// Links and MTUs of the kernel's interfaces that virtual devices sit on.
pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let of = |interface: &Interface| {
        if !tree.has(&format!("/sys/class/net/{}", interface.name)) {
            if in_this_namespace(tree, &interface.name) {
                let why = format!(
                    "{} is there, but /sys shows the interfaces of another network namespace (ip netns exec mends that)",
                    interface.name
                );
                return vec![Finding::unknown("link", why)];
            }
            let seen = format!(
                "there is no interface {} in this network namespace",
                interface.name
            );
            return vec![Finding::problem(
                "link",
                seen,
                &["ip -brief link   # then `iface=` in the configuration"],
            )];
        }
        vec![link(tree, subject, &interface.name), mtu(tree, interface)]
    };
    let mut findings: Vec<Finding> = subject.interfaces.iter().flat_map(of).collect();
    let uses_tap = subject.vdevs.iter().any(|driver| driver == "net_tap");
    if uses_tap && !tree.has("/dev/net/tun") {
        let seen = "/dev/net/tun is not there, and TAP interfaces are made with it";
        findings.push(Finding::problem("TAP", seen, &["sudo modprobe tun"]));
    }
    findings
}

fn link(tree: &Tree, subject: &Subject, name: &str) -> Finding {
    const TOPIC: &str = "link";
    let folder = format!("/sys/class/net/{name}");
    let state = match tree.text(&format!("{folder}/operstate")) {
        Ok(state) => state,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    // An interface that is down has no carrier that could be read.
    let carrier = tree.text(&format!("{folder}/carrier"));
    let speed = tree
        .number::<i64>(&format!("{folder}/speed"))
        .filter(|&speed| speed > 0);
    let speed = speed.map_or("speed not told".to_owned(), |mbps| format!("{mbps} Mbit/s"));
    match (state.as_str(), carrier.as_deref()) {
        (_, Ok("1")) => Finding::ok(TOPIC, format!("{name} is up, {speed}")),
        (_, Ok(_)) => {
            let seen = format!("{name} has no carrier");
            subject.amiss(
                TOPIC,
                seen,
                &["check cable, transceiver, and the port of the switch"],
            )
        }
        (state, Err(_)) => {
            let seen = format!("{name} is {state}");
            subject.amiss(TOPIC, seen, &[&format!("sudo ip link set dev {name} up")])
        }
    }
}

fn mtu(tree: &Tree, interface: &Interface) -> Finding {
    const TOPIC: &str = "MTU";
    let Interface { name, mtu } = interface;
    match tree
        .text(&format!("/sys/class/net/{name}/mtu"))
        .map(|text| text.parse::<u32>())
    {
        Ok(Ok(has)) if has < u32::from(*mtu) => Finding::problem(
            TOPIC,
            format!("{name} has {has}, its port {mtu}: longer frames are lost"),
            &[&format!("sudo ip link set dev {name} mtu {mtu}")],
        ),
        Ok(Ok(has)) => Finding::ok(TOPIC, format!("{name} has {has}, its port {mtu}")),
        Ok(Err(_)) => Finding::unknown(TOPIC, format!("the MTU of {name} is no number")),
        Err(error) => Finding::unknown(TOPIC, error),
    }
}

/// Whether this process could use an interface, whatever `/sys` shows.
fn in_this_namespace(tree: &Tree, name: &str) -> bool {
    let text = tree.text("/proc/net/dev").unwrap_or_default();
    let mut names = text.lines().filter_map(|line| line.split_once(':'));
    names.any(|(found, _)| found.trim() == name)
}

/// Interfaces that a default route of this network namespace uses.
pub(super) fn default_interfaces(tree: &Tree) -> BTreeSet<String> {
    let v4 = tree.text("/proc/net/route").unwrap_or_default();
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, destination) = (words.next()?, words.next()?);
        (destination == "00000000").then(|| name.to_owned())
    });
    let v6 = tree.text("/proc/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (prefix, name) = (words.get(1)?, words.last()?);
        let anywhere = words.first()?.bytes().all(|byte| byte == b'0');
        // The kernel has an unreachable default route on the loopback interface.
        (anywhere && *prefix == "00" && *name != "lo").then(|| (*name).to_owned())
    });
    v4.chain(v6).collect()
}
