//! `engine doctor` on the machine that tests run on: its word against what can be seen in another way.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Namespace, Need, Turn};

const SOON: Duration = Duration::from_secs(10);

fn command(config: Option<&Path>) -> Command {
    let mut command = Engine::command();
    command.args(["doctor", "--json"]);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command
}

/// What the doctor says, having checked that its exit code says whether there is a problem.
fn doctor(command: Command) -> Value {
    let outcome = Engine::spawn(command).wait(SOON);
    let diagnosis = outcome.report();
    let problems = diagnosis["problems"].as_u64().expect("a count");
    assert_eq!(
        outcome.status.code(),
        Some(i32::from(problems > 0)),
        "{outcome}"
    );
    diagnosis
}

fn of<'a>(diagnosis: &'a Value, topic: &str) -> &'a Value {
    let findings = diagnosis["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["topic"] == topic);
    found.unwrap_or_else(|| panic!("nothing about {topic}: {diagnosis:#}"))
}

#[test]
fn the_machine_as_such() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let diagnosis = doctor(command(None));
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let swaps = text("/proc/swaps").lines().count();
    let expected = if swaps > 1 { "advice" } else { "ok" };
    assert_eq!(of(&diagnosis, "swap")["verdict"], expected);
    let guest = text("/proc/cpuinfo").contains(" hypervisor");
    let expected = if guest { "advice" } else { "ok" };
    assert_eq!(of(&diagnosis, "hypervisor")["verdict"], expected);
    // Nothing was asked of the machine, so nothing can be missing for it.
    assert_eq!(diagnosis["problems"], 0, "{diagnosis:#}");
}

#[test]
fn a_link_runs_anywhere_and_a_card_that_is_not_there_does_not() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let link = doctor(command(Some(&configs.join("loopback.yaml"))));
    assert_eq!(link["problems"], 0, "{link:#}");
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    std::fs::create_dir(folder.path().join("www")).expect("writable"); // What the file serves.
    // No bus has so many devices.
    let nic = std::fs::read_to_string(configs.join("nic.yaml")).expect("a configuration");
    let config = folder.path().join("nic.yaml");
    std::fs::write(&config, nic.replace("0000:3b:00.0", "0000:ff:1f.7")).expect("writable");
    let nic = doctor(command(Some(&config)));
    let card = of(&nic, "network card");
    assert_eq!(card["verdict"], "problem", "{nic:#}");
    let seen = card["seen"].as_str().expect("a text");
    assert!(seen.contains("0000:ff:1f.7 is not there"), "{seen}");
}

#[test]
fn an_interface_with_too_small_an_mtu_is_a_problem_until_it_is_changed() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Ip]) else {
        return;
    };
    let namespace = Namespace::new();
    let ip = |line: &str| namespace.ip(&line.split(' ').collect::<Vec<_>>());
    ip("link add stoq-a mtu 1400 type veth peer name stoq-b");
    ip("link set stoq-a up");
    ip("link set stoq-b up");
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let config = configs.join("af_packet.yaml");
    let before = doctor(namespace.with_sysfs(&command(Some(&config))));
    assert_eq!(of(&before, "link")["verdict"], "ok", "{before:#}");
    let mtu = of(&before, "MTU");
    assert_eq!(mtu["verdict"], "problem", "{before:#}");
    assert_eq!(mtu["change"][0], "sudo ip link set dev stoq-a mtu 1500");
    ip("link set dev stoq-a mtu 1500");
    let after = doctor(namespace.with_sysfs(&command(Some(&config))));
    assert_eq!(of(&after, "MTU")["verdict"], "ok", "{after:#}");
}
