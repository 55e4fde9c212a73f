//! `bench/bare-metal` between two network namespaces: that it measures, not how fast.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Need, Turn};

#[test]
fn two_hosts_are_measured_and_reported() {
    let needs = [Need::Root, Need::Ip, Need::TwoCpus, Need::Python];
    let Some(_turn) = Turn::take(&needs) else {
        return;
    };
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let names = ["a", "b"].map(|end| format!("stoq-bm-{}-{end}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/bare-metal");
    let output = Command::new(script)
        .arg("--local")
        .args(&names)
        .args(["--cases", "bulk-1452,request-sleeping,handshakes,bulk-8952"])
        .args(["--rounds", "2", "--seconds", "0.5"])
        .arg("--engine")
        .arg(Engine::binary())
        .arg("--out")
        .arg(folder.path())
        .output()
        .expect("the script starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");

    let text = std::fs::read_to_string(folder.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["machines"][0]["name"], names[0].as_str());
    let cells = report["cells"].as_array().expect("cells");
    for (cell, case) in cells
        .iter()
        .zip(["bulk-1452", "request-sleeping", "handshakes"])
    {
        assert_eq!(cell["case"], case, "{report:#}");
        assert_eq!(cell["failures"], Value::Array(Vec::new()), "{report:#}");
        let samples = cell["figures"][0]["samples"].as_array().expect("samples");
        assert_eq!(samples.len(), 2, "one a round: {report:#}");
        let positive = |sample: &Value| sample.as_f64().is_some_and(|sample| sample > 0.0);
        assert!(samples.iter().all(positive), "{report:#}");
    }
    // Packet sockets have no jumbo frames here, which is said and not passed over.
    assert_eq!(cells.len(), 3);
    let left_out = report["not_measured"][0].as_str().expect("a text");
    assert!(left_out.starts_with("bulk-8952"), "{left_out}");
    for file in [
        "1-bulk-1452-server.json",
        "2-bulk-1452-client.json",
        "doctor-client.json",
    ] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    // Nothing is left behind.
    let namespaces = Command::new("ip").args(["netns", "list"]).output();
    let namespaces = String::from_utf8(namespaces.expect("ip runs").stdout).expect("names");
    assert!(!namespaces.contains("stoq-bm-"), "{namespaces}");
}
