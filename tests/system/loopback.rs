//! Both ends in one engine, over an in-process link: what runs on every machine, without privileges.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Turn};

/// How long a run of a few seconds may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable")
}

/// `configs/loopback.yaml`, as it ships, with EAL arguments in front of the command.
fn shipped(eal: &[&str]) -> Value {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/loopback.yaml");
    let mut command = Engine::command();
    command.args(eal).args(["run", "--config"]).arg(config);
    command.args(["--duration", "3s", "--json"]);
    Engine::spawn(command).wait(LONG).expect_clean()
}

fn number(report: &Value, path: &str) -> f64 {
    let value = report.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number at {path}: {report:#}"))
}

fn assert_moves_bytes_without_copies(report: &Value) {
    assert!(number(report, "/goodput_gbps") > 0.01, "{report:#}");
    assert!(number(report, "/elapsed_s") > 2.9, "{report:#}");
    let frames = number(report, "/rx/frames");
    // Acknowledgements are short and copied; there are far fewer of them.
    assert!(number(report, "/rx/zero_copy") > frames / 2.0, "{report:#}");
    // Over a link, datagrams are built in a warm buffer and then copied (`tx_path: auto`).
    assert!(number(report, "/tx/copied") > 1000.0, "{report:#}");
    assert_eq!(number(report, "/tx/in_place"), 0.0, "{report:#}");
    assert_eq!(number(report, "/connections/lost"), 0.0, "{report:#}");
    assert_eq!(number(report, "/connections/refused"), 0.0, "{report:#}");
}

#[test]
fn shipped_configuration_moves_bytes() {
    let Some(_turn) = Turn::take(&[]) else { return };
    assert_moves_bytes_without_copies(&shipped(&[]));
}

#[test]
fn shipped_configuration_takes_eal_arguments_of_the_command_line() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let arguments = ["-l", "0-1", "--no-huge", "-m", "600", "--no-pci", "--"];
    assert_moves_bytes_without_copies(&shipped(&arguments));
}

#[test]
fn a_profile_says_where_the_time_went() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/loopback.yaml");
    let mut command = Engine::command();
    command.args(["run", "--config"]).arg(config);
    command.args(["--duration", "2s", "--json", "--profile"]);
    let report = Engine::spawn(command).wait(LONG).expect_clean();
    let profile = &report["profile"];
    let stages = profile["all"]["stages"].as_array().expect("stages");
    let sum = |key: &str| -> f64 {
        let values = stages
            .iter()
            .map(|stage| stage[key].as_f64().expect("a number"));
        values.sum()
    };
    assert!((sum("percent") - 100.0).abs() < 0.1, "{profile:#}");
    // Every stage of a transfer over a link takes some time of a frame, and encryption more than the driver's ring.
    let stage = |name: &str| {
        let stage = stages.iter().find(|stage| stage["stage"] == name);
        let stage = stage.unwrap_or_else(|| panic!("no {name}: {profile:#}"));
        stage["ns_per_frame"].as_f64().expect("a number")
    };
    for name in [
        "rx",
        "parse",
        "bridge_rx",
        "shard_rx",
        "quinn_rx",
        "quinn_tx",
        "emit",
    ] {
        assert!(stage(name) > 0.0, "{name}: {profile:#}");
    }
    assert!(stage("quinn_tx") > stage("tx"), "{profile:#}");
    // One turn in 31 is timed; which ones move how many frames is chance.
    let timed = profile["all"]["rx_frames"].as_f64().expect("a count");
    let share = timed / number(&report, "/rx/frames");
    assert!(share > 0.001 && share < 0.5, "{share}: {profile:#}");
    assert!(
        number(&report, "/profile/overhead_percent") < 20.0,
        "{profile:#}"
    );
}

/// A configuration with a link, and what is special to a test.
struct Case<'a> {
    mtu: u16,
    tx_path: &'a str,
    transport: &'a str,
    client: &'a str,
}

impl Case<'_> {
    fn write(&self, folder: &Path) -> PathBuf {
        let Self {
            mtu,
            tx_path,
            transport,
            client,
        } = self;
        let yaml = format!(
            "eal: [\"-l\", \"0-1\", \"--no-huge\", \"-m\", \"512\", \"--no-pci\"]
ports:
  - {{ name: left, link: right, mtu: {mtu}, tx_path: {tx_path}, addresses: [\"fd00:5701::1/64\"] }}
  - {{ name: right, link: left, mtu: {mtu}, tx_path: {tx_path}, addresses: [\"fd00:5701::2/64\"] }}
shards:
  - {{ name: server, port: left, lcore: 0 }}
  - {{ name: client, port: right, lcore: 1 }}
identities:
  - {{ name: made-here, self_signed: [\"localhost\"] }}
transport: {transport}
listeners:
  - name: main
    shard: server
    udp_port: 4433
    identity: made-here
    services: {{ perf: {{ early_data: true }}, echo: {{}} }}
clients:
  - name: load
    shard: client
    remote: \"[fd00:5701::1]:4433\"
    server_name: localhost
    trust: {{ identity: made-here }}
    {client}
run: {{ warmup: 0 }}
"
        );
        let path = folder.join("case.yaml");
        std::fs::write(&path, yaml).expect("the test folder is writable");
        path
    }

    /// Runs until the client is done.
    fn run(&self) -> Value {
        let folder = folder();
        let report = Engine::run(&self.write(folder.path()))
            .wait(LONG)
            .expect_clean();
        assert_eq!(report["connections"]["lost"], 0, "{report:#}");
        report
    }
}

const CASE: Case<'_> = Case {
    mtu: 1500,
    tx_path: "auto",
    transport: "{}",
    client: "perf: { download: 64MiB, requests: 4 }",
};
const MIB: u64 = 1 << 20;
/// What both ends of that receive: four answers, and four requests of 8 bytes.
const CASE_BYTES: u64 = 4 * (64 * MIB + 8);

#[test]
fn jumbo_frames_are_used_in_full() {
    let Some(_turn) = Turn::take(&[]) else { return };
    for tx_path in ["scratch", "in_place"] {
        let report = Case {
            mtu: 9000,
            tx_path,
            ..CASE
        }
        .run();
        assert_eq!(report["bytes_received"], CASE_BYTES);
        // Without the headers of IPv6 and UDP.
        assert_eq!(report["quic"]["mtu"], 8952, "{report:#}");
        let (used, unused) = match tx_path {
            "in_place" => ("in_place", "copied"),
            _ => ("copied", "in_place"),
        };
        let count = |key: &str| report["tx"][key].as_u64().expect("a count");
        // Datagrams of some 8900 bytes, and what precedes and follows them.
        assert!(count(used) > CASE_BYTES / 9000, "{report:#}");
        assert!(count(unused) < count(used) / 100, "{report:#}");
    }
}

#[test]
fn every_congestion_controller_moves_bytes() {
    let Some(_turn) = Turn::take(&[]) else { return };
    for controller in ["cubic", "newreno", "bbr"] {
        let transport = format!("{{ congestion: {controller} }}");
        let report = Case {
            transport: &transport,
            ..CASE
        }
        .run();
        assert_eq!(report["bytes_received"], CASE_BYTES, "{controller}");
    }
}

#[test]
fn echo_datagrams_come_back_without_a_rate() {
    let Some(_turn) = Turn::take(&[]) else { return };
    for streams in ["", ", streams: 16"] {
        let client = format!("echo: {{ datagrams: true, size: 100B, requests: 5000{streams} }}");
        let report = Case {
            client: &client,
            ..CASE
        }
        .run();
        // Each is counted on its way there and back. An unreliable one may be lost, hardly here.
        let bytes = number(&report, "/bytes_received");
        assert!((900_000.0..=1_000_000.0).contains(&bytes), "{report:#}");
        assert!(number(&report, "/latency_us/p50") > 0.0, "{report:#}");
    }
}

#[test]
fn early_data_is_asked_for_and_nothing_is_missed() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let report = Case {
        client: "connections: 3\n    early_data: true\n    perf: { download: 1MiB, streams: 4 }",
        ..CASE
    }
    .run();
    assert_eq!(report["connections"]["opened"], 3, "{report:#}");
    assert_eq!(report["bytes_received"], 12 * (MIB + 8), "{report:#}");
}

#[test]
fn secrets_are_logged_where_sslkeylogfile_says() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let config = CASE.write(folder.path());
    let keys = folder.path().join("keys.log");
    let mut command = Engine::command();
    command.env("SSLKEYLOGFILE", &keys);
    command.args(["run", "--json", "--config"]).arg(config);
    Engine::spawn(command).wait(LONG).expect_clean();
    let text = std::fs::read_to_string(&keys).expect("the engine wrote it");
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET ",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET ",
        "CLIENT_TRAFFIC_SECRET_0 ",
        "SERVER_TRAFFIC_SECRET_0 ",
    ] {
        assert!(text.contains(label), "no {label}in {text}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/loopback.yaml");
    let output = Engine::command()
        .args(["check", "--config"])
        .arg(config)
        .stdout(writer)
        .output()
        .expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(log, "");
}
