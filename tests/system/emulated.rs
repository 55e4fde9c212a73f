//! Both ends in one engine, over emulated NICs: no device, no privileges.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Need, Turn};

/// How long a run of a few seconds may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable")
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// A configuration with emulated NICs and a shard for each queue of the left one, over which 2 MiB are asked for four
/// times, by as many connections.
fn write(folder: &Path, port: &str, left: &str, right: &str, queues: u32) -> PathBuf {
    let names: Vec<String> = (0..queues).map(|queue| format!("server{queue}")).collect();
    let shard = |(queue, name): (usize, &String)| {
        format!("  - {{ name: {name}, port: left, queue: {queue}, lcore: {queue} }}\n")
    };
    let shards: String = names.iter().enumerate().map(shard).collect();
    let servers = names.join(", ");
    let yaml = format!(
        "eal: [\"-l\", \"0-1\", \"--no-huge\", \"-m\", \"512\", \"--no-pci\"]
ports:
  - {{ name: left, link: right, {port}, addresses: [\"fd00:5701::1/64\"], emulated: {left} }}
  - {{ name: right, link: left, {port}, addresses: [\"fd00:5701::2/64\"], emulated: {right} }}
shards:
{shards}  - {{ name: client, port: right, lcore: 1 }}
identities:
  - {{ name: made-here, self_signed: [\"localhost\"] }}
listeners:
  - name: main
    shard: [{servers}]
    udp_port: 4433
    identity: made-here
    services: {{ perf: {{}} }}
clients:
  - name: load
    shard: client
    remote: \"[fd00:5701::1]:4433\"
    server_name: localhost
    trust: {{ identity: made-here }}
    connections: 4
    perf: {{ download: 2MiB, requests: 4 }}
run: {{ warmup: 0 }}
"
    );
    let path = folder.join("case.yaml");
    std::fs::write(&path, yaml).expect("the test folder is writable");
    path
}

/// Runs to the client's end, and sees that all came through.
fn run(config: &Path) -> Value {
    let report = Engine::run(config).wait(LONG).expect_clean();
    assert!(number(&report, "/bytes_received") >= 8 << 20, "{report:#}");
    report
}

#[test]
fn shipped_configuration_moves_bytes() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/emulated.yaml");
    let mut command = Engine::command();
    command.args(["run", "--config"]).arg(config);
    command.args(["--duration", "3s", "--json"]);
    let report = Engine::spawn(command).wait(LONG).expect_clean();
    assert!(number(&report, "/bytes_received") > 1 << 20, "{report:#}");
    // Each frame of one end is on the wire from it, and arrives at the other or is lost for a reason that is counted.
    let sent = number(&report, "/nics/left/tx_frames");
    let arrived = number(&report, "/nics/right/rx_frames");
    let lost = number(&report, "/nics/left/wire_lost") + number(&report, "/nics/right/rx_missed");
    assert!(sent > 1000 && arrived > 1000, "{report:#}");
    // At the end some may be on their way.
    assert!(
        (arrived + lost..arrived + lost + 2000).contains(&sent),
        "{report:#}"
    );
    assert_eq!(
        number(&report, "/nics/right/rx_checksum_bad"),
        0,
        "{report:#}"
    );
}

/// Losses, reordering, doubled frames and a small queue: everything arrives all the same.
#[test]
fn a_bad_wire_loses_nothing_for_good() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let wire = "{ wire: { rate: 500Mbps, queue: 100, delay: 2ms, jitter: 200us, loss: 0.5%, reorder: 0.5%, \
                duplicate: 0.5%, seed: 1 } }";
    let report = run(&write(folder.path(), "mtu: 1500", wire, wire, 1));
    for count in ["wire_lost", "wire_reordered", "wire_duplicated"] {
        assert!(
            number(&report, &format!("/nics/left/{count}")) > 0,
            "{report:#}"
        );
    }
    assert!(number(&report, "/quic/lost_packets") > 0, "{report:#}");
}

/// Two shards behind one emulated NIC: RSS is granted, read back and used.
#[test]
fn flows_spread_over_the_queues() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let config = write(folder.path(), "mtu: 1500", "{}", "{}", 2);
    let report = run(&config);
    assert_eq!(report["steering"]["left"], "rss", "{report:#}");
    assert_eq!(number(&report, "/connections/lost"), 0, "{report:#}");
    // A flow stays on the queue of its hash, and so do its connection's shard and its datagrams.
    assert_eq!(number(&report, "/rx/handed_over"), 0, "{report:#}");
}

/// Frames of 9000 bytes in mbufs of 2048, with a VLAN tag and a checksum that the NIC makes and takes off.
#[test]
fn jumbo_frames_cross_in_a_vlan() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let port = "mtu: 9000, data_room: 2176B, \
                offload: { tx_checksum: hardware, rx_checksum: hardware, vlan: { id: 100, tagging: hardware } }";
    let report = run(&write(folder.path(), port, "{}", "{}", 1));
    // Discovery ends within 20 bytes of the 8952 there are.
    assert!(number(&report, "/quic/mtu") > 8952 - 20, "{report:#}");
    let [left, right] = ["left", "right"].map(|port| &report["nics"][port]);
    assert!(number(right, "/rx_scattered") > 500, "{report:#}");
    assert!(number(right, "/rx_vlan_stripped") > 500, "{report:#}");
    assert_eq!(
        right["rx_vlan_stripped"], left["tx_vlan_inserted"],
        "{report:#}"
    );
}

/// A capture of a whole run, with checksums by the NIC where it is asked to: tshark finds each of them right.
#[test]
fn a_capture_of_a_run_opens_in_tshark() {
    let Some(_turn) = Turn::take(&[Need::Tshark]) else {
        return;
    };
    let folder = folder();
    let capture = folder.path().join("run.pcapng");
    let left = format!(
        "{{ capture: {}, wire: {{ rate: 1Gbps }} }}",
        capture.display()
    );
    let offload = "offload: { tx_checksum: hardware, rx_checksum: hardware }";
    let report = run(&write(folder.path(), offload, &left, "{}", 1));
    assert!(
        number(&report, "/nics/left/tx_checksums") > 1000,
        "{report:#}"
    );
    let output = Command::new("tshark")
        .arg("-r")
        .arg(&capture)
        .args(["-o", "udp.check_checksum:TRUE", "-d", "udp.port==4433,echo"])
        .args(["-Y", "frame.interface_id==1 and udp", "-T", "fields"])
        .args(["-e", "udp.checksum.status", "-e", "_ws.malformed"])
        .output()
        .expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert!(
        text.lines().count() > 5000,
        "{} frames",
        text.lines().count()
    );
    // Good, and not malformed.
    let wrong: Vec<&str> = text.lines().filter(|line| line.trim_end() != "1").collect();
    assert!(
        wrong.is_empty(),
        "{} of them: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}
