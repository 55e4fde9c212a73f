//! `engine selftest`, and what a start does with a device that lies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Engine, Outcome, Turn};

const LIMIT: Duration = Duration::from_secs(60);

/// configs/emulated.yaml, with the first NIC cutting into fragments if asked to.
fn emulated(folder: &Path, lies: bool, offload: &str) -> std::path::PathBuf {
    let text = include_str!("../../configs/emulated.yaml");
    let text = match lies {
        true => text.replacen("# misbehaves:", "misbehaves:", 1),
        false => text.to_owned(),
    };
    let text = text.replacen(
        "link: right\n",
        &format!("link: right\n    offload: {{ {offload} }}\n"),
        1,
    );
    let path = folder.join("emulated.yaml");
    fs::write(&path, text).expect("the folder can be written to");
    path
}

fn selftest(config: &Path) -> Outcome {
    let mut command = Engine::command();
    // Frames that take several mbufs, so that there is something to scatter.
    command
        .args(["selftest", "--json", "--mtu", "9000", "--config"])
        .arg(config);
    Engine::spawn(command).wait(LIMIT)
}

fn verdict<'a>(report: &'a Value, port: &str, offload: &str) -> &'a str {
    let findings = report["findings"].as_array().expect("findings");
    let is_it = |f: &&Value| f["port"] == port && f["offload"] == offload;
    let found = findings
        .iter()
        .find(is_it)
        .expect("every offload is told of");
    found["verdict"].as_str().expect("a verdict")
}

#[test]
fn emulated_nics_keep_their_word_or_are_found_out() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = selftest(&emulated(folder.path(), false, ""));
    assert!(outcome.status.success(), "{outcome}");
    let report = outcome.report();
    for port in ["left", "right"] {
        for offload in [
            "frames",
            "tx_checksum",
            "rx_checksum",
            "udp_segmentation",
            "rss",
            "vlan_insert",
            "vlan_strip",
            "scatter",
            "hardware_pacing",
        ] {
            assert_eq!(verdict(&report, port, offload), "ok", "{report:#}");
        }
    }
    let outcome = selftest(&emulated(folder.path(), true, ""));
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    let report = outcome.report();
    assert_eq!(report["lies"], 1, "{report:#}");
    assert_eq!(verdict(&report, "left", "udp_segmentation"), "lies");
    assert_eq!(verdict(&report, "right", "udp_segmentation"), "ok");
}

#[test]
fn a_start_segments_does_without_or_refuses() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let run = |lies, offload: &str| {
        let mut command = Engine::command();
        command.args(["run", "--json", "--duration", "2s", "--config"]);
        command.arg(emulated(folder.path(), lies, offload));
        Engine::spawn(command).wait(LIMIT)
    };
    let honest = run(false, "udp_segmentation: hardware");
    assert!(honest.status.success(), "{honest}");
    let report = honest.report();
    let cut = |report: &Value| report["nics"]["left"]["tx_segmented"].as_u64().unwrap_or(0);
    assert!(cut(&report) > 10, "{report:#}");
    assert!(report["tx"]["segmented"].as_u64() > Some(10), "{report:#}");
    assert_eq!(report["mbufs"]["in_use_at_exit"], 0, "{report:#}");

    // What is sent to find out is all that is ever made fragments of.
    let liar = run(true, "udp_segmentation: auto");
    assert!(liar.status.success(), "{liar}");
    let report = liar.report();
    assert!(report["bytes_received"].as_u64() > Some(0), "{report:#}");
    assert_eq!(
        report["nics"]["left"]["tx_segmented"].as_u64().unwrap_or(0),
        0,
        "{report:#}"
    );
    assert!(liar.to_string().contains("IPv6 fragments"), "{liar}");

    let refused = run(true, "udp_segmentation: hardware");
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains("came out as: ") && text.contains("IPv6 fragments"),
        "{refused}"
    );
}

/// What is sent to find out has the size of what is sent later: two datagrams in an mbuf with room for two.
#[test]
fn a_small_turn_budget_is_no_lie_of_the_device() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = emulated(folder.path(), false, "udp_segmentation: hardware");
    let text = fs::read_to_string(&path).expect("it was written");
    fs::write(&path, format!("{text}\nlimits: {{ turn_budget: 2 }}\n")).expect("a file");
    let mut command = Engine::command();
    command.args(["run", "--json", "--duration", "1s", "--config"]);
    command.arg(path);
    let outcome = Engine::spawn(command).wait(LIMIT);
    assert!(outcome.status.success(), "{outcome}");
    let report = outcome.report();
    assert!(
        report["nics"]["left"]["tx_segmented"].as_u64() > Some(10),
        "{report:#}"
    );
}

#[test]
fn one_port_from_which_nothing_comes_back_fails() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let mut command = Engine::command();
    command.args(["-l", "0", "--no-huge", "-m", "256", "--no-pci"]);
    command.args(["--vdev=net_null0", "--", "selftest", "net_null0", "--json"]);
    let outcome = Engine::spawn(command).wait(LIMIT);
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert_eq!(
        verdict(&outcome.report(), "net_null0", "frames"),
        "no answer"
    );
}

#[test]
fn ports_that_do_not_belong_together_are_refused() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let refused = |arguments: &[&str]| {
        let mut command = Engine::command();
        command.args(arguments);
        let outcome = Engine::spawn(command).wait(LIMIT);
        assert_eq!(outcome.status.code(), Some(2), "{outcome}");
        outcome.to_string()
    };
    let half = refused(&["selftest", "--config", "configs/emulated.yaml", "left"]);
    assert!(
        half.contains("`left` is an end of a link: name `right`, too"),
        "{half}"
    );
    let none = refused(&["selftest"]);
    assert!(none.contains("which ports?"), "{none}");
}
