//! DPDK devices other than TAP: the endless `net_null`, and two engine processes joined by
//! `net_memif` or by `net_af_packet` over a veth pair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Digest, Engine, Namespace, Need, Pki, Turn, write_file};

const GIB: u64 = 1 << 30;
/// For transfers that show how frames look, and not that they keep coming.
const SHORT: u64 = 64 << 20;
/// By how much the engine's memory may grow over seconds of frames that are all dropped, in KiB.
const GROWN_MAX_KIB: u64 = 1024;

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable")
}

#[test]
fn null_device_floods_and_memory_stays() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let config = write_server(folder.path(), "net_null0", "net_null0");

    let engine = Engine::run(&config);
    engine.wait_until_ready();
    std::thread::sleep(Duration::from_secs(2));
    let early = resident_kib(engine.id());
    std::thread::sleep(Duration::from_secs(8));
    let late = resident_kib(engine.id());
    let report = engine.stop().expect_clean();

    assert!(
        late <= early + GROWN_MAX_KIB,
        "memory grew from {early} to {late} KiB"
    );
    let frames = report["rx"]["frames"].as_u64().expect("a count");
    let drops = report["rx"]["dropped"]
        .as_object()
        .expect("counts by reason");
    let dropped: u64 = drops.values().filter_map(Value::as_u64).sum();
    assert!(frames > 1_000_000, "{report:#}");
    assert_eq!(
        dropped, frames,
        "every frame is a drop with a reason: {report:#}"
    );
}

#[test]
fn ports_are_listed_with_what_they_offer() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let mut command = Engine::command();
    command.args([
        "-l",
        "0",
        "--no-huge",
        "-m",
        "64",
        "--no-pci",
        "--no-shconf",
    ]);
    command.args(["--vdev=net_null0", "--", "ports", "--json"]);
    let outcome = Engine::spawn(command).wait(Duration::from_secs(30));
    assert!(outcome.status.success(), "{outcome}");
    let port = &outcome.report()["ports"][0];
    assert_eq!(port["device"], "net_null0", "{port:#}");
    assert_eq!(port["driver"], "net_null", "{port:#}");
    assert_eq!(port["rss"]["table"], 128, "{port:#}");
    assert_eq!(port["rss"]["steering"], "rss", "{port:#}");
    let offloads = port["offloads"].as_array().expect("one entry an offload");
    let rss = offloads.iter().find(|entry| entry["offload"] == "rss");
    assert_eq!(
        rss.expect("it is listed")["granted"],
        "hardware",
        "{port:#}"
    );
    assert_eq!(offloads[0]["reason"], "not offered", "{port:#}");
}

#[test]
fn memif_joins_two_engines_for_1_gib() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let socket = folder.path().join("memif.sock");
    let vdev = |role: &str| {
        format!(
            "net_memif0,role={role},socket={},socket-abstract=no",
            socket.display()
        )
    };
    let pair = Pair {
        folder: folder.path(),
        devices: [vdev("server"), vdev("client")],
        keys: ["", ""],
        bytes: GIB,
    };
    pair.transfer("net_memif0", |start| start());
}

#[test]
fn killed_memif_server_starts_again() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let socket = folder.path().join("memif.sock");
    let vdev = format!(
        "net_memif0,role=server,socket={},socket-abstract=no",
        socket.display()
    );
    let config = write_server(folder.path(), "net_memif0", &vdev);
    let engine = Engine::run(&config);
    engine.wait_until_ready();
    drop(engine);
    assert!(socket.exists(), "the driver had no chance to remove it");
    let engine = Engine::run(&config);
    engine.wait_until_ready();
    engine.stop().expect_clean();
}

#[test]
fn af_packet_joins_two_engines_over_veth_for_1_gib() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Ip]) else {
        return;
    };
    let folder = folder();
    let namespace = Namespace::new();
    namespace.ip(&[
        "link", "add", "left", "type", "veth", "peer", "name", "right",
    ]);
    for interface in ["left", "right"] {
        namespace.ip(&["link", "set", interface, "up"]);
    }
    let vdev = |interface: &str| format!("net_af_packet0,iface={interface}");
    let pair = Pair {
        folder: folder.path(),
        devices: [vdev("left"), vdev("right")],
        keys: ["", ""],
        bytes: GIB,
    };
    pair.transfer("net_af_packet0", |start| namespace.inside(start));
}

/// Frames of 9000 bytes, received whole by the server, and by the client in pieces of 2048.
#[test]
fn jumbo_frames_cross_memif() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let folder = folder();
    let socket = folder.path().join("memif.sock");
    // The driver garbles frames that take several of its own buffers, hence `bsize`.
    let vdev = |role: &str| {
        format!(
            "net_memif0,role={role},bsize=9216,socket={},socket-abstract=no",
            socket.display()
        )
    };
    let pair = Pair {
        folder: folder.path(),
        devices: [vdev("server"), vdev("client")],
        keys: ["mtu: 9000,", "mtu: 9000, data_room: 2176B,"],
        bytes: SHORT,
    };
    let [server, client] = pair.transfer("net_memif0", |start| start());
    // Probing stops some bytes short of 8952 at times.
    assert!(server["quic"]["mtu"].as_u64() > Some(8800), "{server:#}");
    assert_eq!(
        client["rx"]["dropped"]["chained"],
        Value::Null,
        "{client:#}"
    );
    let (frames, copied) = (&client["rx"]["frames"], &client["rx"]["copied"]);
    assert!(frames.as_u64() < Some(SHORT / 4000), "{client:#}");
    assert!(copied.as_u64() > Some(SHORT / 9000), "{client:#}");
}

/// The server tags by itself, the client has its driver do it.
#[test]
fn af_packet_joins_two_engines_in_a_vlan() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Ip]) else {
        return;
    };
    let folder = folder();
    let namespace = Namespace::new();
    namespace.ip(&[
        "link", "add", "left", "type", "veth", "peer", "name", "right",
    ]);
    for interface in ["left", "right"] {
        namespace.ip(&["link", "set", interface, "up"]);
    }
    let vdev = |interface: &str| format!("net_af_packet0,iface={interface}");
    let pair = Pair {
        folder: folder.path(),
        devices: [vdev("left"), vdev("right")],
        keys: [
            "offload: { vlan: { id: 100, tagging: software } },",
            "offload: { vlan: { id: 100, tagging: hardware } },",
        ],
        bytes: SHORT,
    };
    let reports = pair.transfer("net_af_packet0", |start| namespace.inside(start));
    for report in reports {
        // The kernel at either end of the pair is in no VLAN, and its own packets are not ours.
        let dropped = &report["rx"]["dropped"];
        assert_eq!(dropped["other_vlan"], Value::Null, "{report:#}");
        assert_eq!(dropped["vlan"], Value::Null, "{report:#}");
    }
}

#[test]
fn shipped_null_configuration_counts_drops() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let mut command = Engine::command();
    command.args(["run", "--json", "--duration", "2s", "--config"]);
    command.arg(shipped("null.yaml"));
    let engine = Engine::spawn(command);
    let report = engine.wait(Duration::from_secs(60)).expect_clean();
    assert!(report["rx"]["frames"].as_u64() > Some(1000), "{report:#}");
}

#[test]
fn shipped_memif_configurations_transfer_a_file() {
    let Some(_turn) = Turn::take(&[]) else { return };
    shipped_pair("memif-server.yaml", "memif-client.yaml", |start| start());
}

#[test]
fn shipped_af_packet_configurations_transfer_a_file() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Ip]) else {
        return;
    };
    let namespace = Namespace::new();
    namespace.ip(&[
        "link", "add", "stoq-a", "type", "veth", "peer", "name", "stoq-b",
    ]);
    for interface in ["stoq-a", "stoq-b"] {
        namespace.ip(&["link", "set", interface, "up"]);
    }
    shipped_pair("af_packet.yaml", "af_packet-client.yaml", |start| {
        namespace.inside(start)
    });
}

/// Runs a server and a client of `configs/`, as they ship: the client downloads `configs/www/hello.txt`.
fn shipped_pair(
    server: &str,
    client: &str,
    inside: impl Fn(&mut (dyn FnMut() -> Engine + Send)) -> Engine,
) {
    // Where the client's configuration says.
    let copy = shipped("../target/downloads/hello.txt");
    let _ = std::fs::remove_file(&copy);
    let server = inside(&mut || Engine::run(&shipped(server)));
    server.wait_until_ready();
    let client = inside(&mut || Engine::run(&shipped(client)));
    client.wait(Duration::from_secs(60)).expect_clean();
    server.stop().expect_clean();
    let original = std::fs::read(shipped("www/hello.txt")).expect("it ships");
    assert_eq!(std::fs::read(&copy).expect("it was downloaded"), original);
}

/// A file of the configurations that ship.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("configs")
        .join(name)
}

/// Two engines on two lcores, one serving a file and one that downloads it.
struct Pair<'a> {
    folder: &'a Path,
    /// `--vdev` arguments of server and client.
    devices: [String; 2],
    /// More keys of their ports, each with a comma behind it.
    keys: [&'a str; 2],
    /// Size of the file.
    bytes: u64,
}

impl Pair<'_> {
    /// Transfers a file and compares hashes; returns the reports of server and client. `inside` is where the engines are
    /// started.
    fn transfer(
        &self,
        device: &str,
        inside: impl Fn(&mut (dyn FnMut() -> Engine + Send)) -> Engine,
    ) -> [Value; 2] {
        let pki = Pki::new(self.folder);
        let output = self.folder.join("downloads");
        std::fs::create_dir(self.folder.join("www")).expect("the test folder is writable");
        let digest = write_file(&self.folder.join("www/big.bin"), self.bytes);

        let server_yaml = format!(
            "identities:
  - {{ name: server, certificate: {}, key: {} }}
listeners:
  - name: main
    shard: work
    udp_port: 4433
    identity: server
    services:
      hq-interop: {{ root: {} }}
",
            pki.server.certificate.display(),
            pki.server.key.display(),
            self.folder.join("www").display()
        );
        let client_yaml = format!(
            "clients:
  - name: download
    shard: work
    remote: \"[fd00:5701::1]:4433\"
    server_name: localhost
    trust: {{ anchors: [{}] }}
    hq: {{ paths: [\"/big.bin\"], output: {} }}
",
            pki.anchor.display(),
            output.display()
        );
        let [server_keys, client_keys] = self.keys;
        let server = head(0, device, &self.devices[0], "fd00:5701::1", server_keys) + &server_yaml;
        let client = head(1, device, &self.devices[1], "fd00:5701::2", client_keys) + &client_yaml;
        let server = self.write("server.yaml", &server);
        let client = self.write("client.yaml", &client);

        // The server first: a memif client connects once, when its port starts, and never again.
        let server = inside(&mut || Engine::run(&server));
        server.wait_until_ready();
        let client = inside(&mut || Engine::run(&client));
        let client = client.wait(Duration::from_secs(120)).expect_clean();
        let server = server.stop().expect_clean();

        assert_eq!(Digest::of_file(&output.join("big.bin")), digest);
        assert_eq!(client["bytes_received"], self.bytes);
        assert_eq!(server["bytes_sent"], self.bytes);
        for report in [&client, &server] {
            assert_eq!(report["connections"]["lost"], 0, "{report:#}");
        }
        [server, client]
    }

    fn write(&self, name: &str, yaml: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, yaml).expect("the test folder is writable");
        path
    }
}

/// Writes the configuration of an engine that serves echo on one device; returns its path.
fn write_server(folder: &Path, device: &str, vdev: &str) -> PathBuf {
    let path = folder.join("server.yaml");
    let yaml = format!(
        "{}\
identities:
  - {{ name: made-here, self_signed: [\"localhost\"] }}
listeners:
  - {{ name: main, shard: work, udp_port: 4433, identity: made-here, services: {{ echo: {{}} }} }}
",
        head(0, device, vdev, "fd00:5701::1", "")
    );
    std::fs::write(&path, yaml).expect("the test folder is writable");
    path
}

/// The YAML of one engine on one lcore with one virtual device, whose port has more `keys`, and one shard named `work`.
fn head(lcore: u32, device: &str, vdev: &str, address: &str, keys: &str) -> String {
    format!(
        "eal: [\"-l\", \"{lcore}\", \"--no-huge\", \"-m\", \"256\", \"--no-pci\", \"--no-shconf\", \"--vdev={vdev}\"]
ports:
  - {{ name: wire, device: {device}, addresses: [\"{address}/64\"], {keys} link_up_timeout: 100ms }}
shards:
  - {{ name: work, port: wire, queue: 0, lcore: {lcore}, idle: adaptive }}
"
    )
}

/// Resident memory of a process in KiB.
fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the engine runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("Linux says it");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB")
}
