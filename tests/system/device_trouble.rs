//! Trouble below and around a running engine: its link goes down or away, its peer dies, it is stopped and resumed, it
//! is told to end. What QUIC lets a connection survive, it survives; whatever happens, no mbuf is lost and the report is
//! complete.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Digest, Engine, Hasher, Namespace, Need, Outcome, Pki, TapLab, Turn, blocks, write_file,
};
use crate::quinn_peer::{self as quinn, ClientOptions};

/// Bytes of a transfer: more than what is on its way at any time, several times.
const SIZE: u64 = 128 << 20;
/// How long the engine or its link is gone.
const OUTAGE: Duration = Duration::from_millis(1500);
/// How long the engine may take to say what it has noticed.
const NOTICE: Duration = Duration::from_secs(10);

fn serving_lab(run: &str) -> Option<TapLab> {
    let mut lab = TapLab::new(&[])?;
    lab.serve_with(&format!("run: {{ {run} }}"));
    Some(lab)
}

fn endpoint(lab: &TapLab, alpn: &str) -> Endpoint {
    let config = quinn::client_config(&lab.pki, alpn, ClientOptions::default());
    quinn::client(lab.socket(0), config)
}

async fn try_connect(lab: &TapLab, endpoint: &Endpoint) -> Result<Connection, ConnectionError> {
    let connecting = endpoint.connect(lab.server_address().into(), "localhost");
    connecting.expect("valid arguments").await
}

async fn connect(lab: &TapLab, alpn: &str) -> Connection {
    let connection = try_connect(lab, &endpoint(lab, alpn)).await;
    connection.expect("handshake")
}

/// Sends content to the echo service; when a quarter of it is back there is `trouble`, and all of it must come back.
async fn echo_through(connection: &Connection, trouble: impl Future<Output = ()>) {
    let (mut send, mut receive) = connection.open_bi().await.expect("the connection lives");
    let upload = async move {
        let mut hasher = Hasher::default();
        for block in blocks(SIZE) {
            hasher.write_all(&block).expect("hashing does not fail");
            send.write_all(&block).await.expect("the engine reads");
        }
        send.finish().expect("not finished before");
        hasher.finish()
    };
    let download = async move {
        let (mut bytes, mut hasher) = (0, Hasher::default());
        let mut trouble = Some(trouble);
        while let Some(chunk) = receive.read_chunk(1 << 20, true).await.expect("no reset") {
            bytes += chunk.bytes.len() as u64;
            hasher
                .write_all(&chunk.bytes)
                .expect("hashing does not fail");
            if bytes >= SIZE / 4
                && let Some(trouble) = trouble.take()
            {
                trouble.await;
            }
        }
        assert!(trouble.is_none(), "there was trouble");
        (bytes, hasher.finish())
    };
    let (sent, (bytes, received)) = tokio::join!(upload, download);
    assert_eq!((bytes, received), (SIZE, sent));
}

/// Fails the test unless the engine served `accepted` connections, of which `lost` ended by no one's wish.
fn expect_connections(report: &Value, accepted: u64, lost: u64) {
    assert_eq!(report["connections"]["accepted"], accepted, "{report:#}");
    assert_eq!(report["connections"]["lost"], lost, "{report:#}");
}

/// Fails the test unless the device refused frames for a while.
fn expect_stalled(report: &Value) {
    assert!(report["tx"]["stalled"].as_u64() > Some(0), "{report:#}");
}

#[test]
fn transfer_survives_a_link_that_goes_down() {
    let Some(mut lab) = serving_lab("") else {
        return;
    };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        let flap = async {
            lab.link_down();
            lab.engine().wait_for_log("link is down", NOTICE);
            tokio::time::sleep(OUTAGE).await;
            lab.link_up();
        };
        echo_through(&connection, flap).await;
        lab.engine().wait_for_log("link is up again", NOTICE);
        connection.close(0_u32.into(), b"done");
    });
    let report = lab.stop().expect_clean();
    expect_connections(&report, 1, 0);
    expect_stalled(&report);
}

#[test]
fn transfer_survives_a_stopped_engine() {
    let Some(mut lab) = serving_lab("") else {
        return;
    };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        let stop = async {
            lab.engine().signal(Signal::STOP);
            tokio::time::sleep(OUTAGE).await;
            lab.engine().signal(Signal::CONT);
        };
        echo_through(&connection, stop).await;
        connection.close(0_u32.into(), b"done");
    });
    expect_connections(&lab.stop().expect_clean(), 1, 0);
}

#[test]
fn engine_outlives_its_interface() {
    let Some(mut lab) = serving_lab("drain_timeout: 1s") else {
        return;
    };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        quinn::echo(&connection, 1 << 20).await;
        // Something that the engine goes on sending.
        let (mut send, _receive) = connection.open_bi().await.expect("the connection lives");
        send.write_all(&[1; 1 << 20])
            .await
            .expect("the engine reads");
        lab.delete_link();
        tokio::time::sleep(OUTAGE).await;
    });
    let report = lab.stop().expect_clean();
    assert_eq!(report["connections"]["accepted"], 1, "{report:#}");
    assert!(
        report["bytes_received"].as_u64() >= Some(1 << 20),
        "{report:#}"
    );
    for part in ["rx", "tx", "mbufs", "quic", "lcores"] {
        assert!(!report[part].is_null(), "no {part}: {report:#}");
    }
}

#[test]
fn open_transfer_finishes_and_newcomers_are_refused_after_sigterm() {
    let Some(mut lab) = serving_lab("drain_timeout: 60s") else {
        return;
    };
    let digest = write_file(&lab.www().join("big.bin"), SIZE);
    quinn::run(async {
        let connection = connect(&lab, "hq-interop").await;
        let (mut send, mut receive) = connection.open_bi().await.expect("the connection lives");
        send.write_all(b"GET /big.bin\r\n")
            .await
            .expect("the engine reads");
        send.finish().expect("not finished before");
        let mut hasher = Hasher::default();
        let mut bytes = 0;
        while bytes < SIZE / 4 {
            let chunk = receive.read_chunk(1 << 20, true).await.expect("no reset");
            let chunk = chunk.expect("not the end");
            bytes += chunk.bytes.len() as u64;
            hasher
                .write_all(&chunk.bytes)
                .expect("hashing does not fail");
        }
        lab.engine().signal(Signal::TERM);
        lab.engine().wait_for_log("draining", NOTICE);
        // Shards are told after the log. Nothing is read meanwhile, so the transfer stays open.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let refusal = try_connect(&lab, &endpoint(&lab, "hq-interop")).await;
        let Err(ConnectionError::ConnectionClosed(close)) = refusal else {
            panic!("not refused: {refusal:?}")
        };
        assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
        while let Some(chunk) = receive.read_chunk(1 << 20, true).await.expect("no reset") {
            hasher
                .write_all(&chunk.bytes)
                .expect("hashing does not fail");
        }
        assert_eq!(hasher.finish(), digest);
        let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
            panic!("not closed by the engine")
        };
        assert_eq!(close.reason, "shutting down");
    });
    let report = lab.take_engine().wait(NOTICE).expect_clean();
    assert_eq!(report["bytes_sent"], SIZE, "{report:#}");
    expect_connections(&report, 1, 0);
    assert_eq!(report["connections"]["refused"], 1, "{report:#}");
}

#[test]
fn second_sigterm_ends_at_once() {
    // Far longer than the test waits.
    let Some(mut lab) = serving_lab("drain_timeout: 10m") else {
        return;
    };
    let outcome = quinn::run(async {
        let connection = connect(&lab, "echo").await;
        quinn::echo(&connection, 1 << 20).await;
        // A stream that does not end.
        let (mut send, _receive) = connection.open_bi().await.expect("the connection lives");
        send.write_all(b"and then").await.expect("the engine reads");
        tokio::time::sleep(Duration::from_millis(100)).await;
        lab.engine().signal(Signal::TERM);
        lab.engine().wait_for_log("draining", NOTICE);
        tokio::time::sleep(Duration::from_millis(300)).await;
        lab.engine().signal(Signal::TERM);
        lab.take_engine().wait(Duration::from_secs(15))
    });
    let report = outcome.expect_clean();
    assert_eq!(report["connections"]["accepted"], 1, "{report:#}");
    assert_eq!(report["bytes_received"], (1 << 20) + 8, "{report:#}");
}

/// A memif server that listens and memif clients that download a file from it, each an engine process.
struct Memif {
    folder: TempDir,
    pki: Pki,
    _turn: Turn,
}

impl Memif {
    fn new() -> Option<Self> {
        let turn = Turn::take(&[])?;
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
        let pki = Pki::new(folder.path());
        std::fs::create_dir(folder.path().join("www")).expect("the test folder is writable");
        Some(Self {
            folder,
            pki,
            _turn: turn,
        })
    }

    fn server(&self) -> Engine {
        let engine = self.start(
            "server",
            0,
            1,
            &format!(
                "identities:
  - {{ name: server, certificate: {}, key: {} }}
listeners:
  - {{ name: main, shard: work, udp_port: 4433, identity: server, services: {{ hq-interop: {{ root: {} }} }} }}
transport: {{ idle_timeout: 3s }}
",
                self.pki.server.certificate.display(),
                self.pki.server.key.display(),
                self.folder.path().join("www").display()
            ),
        );
        engine.wait_until_ready();
        engine
    }

    fn client(&self, output: &Path) -> Engine {
        self.start(
            "client",
            1,
            2,
            &format!(
                "clients:
  - name: download
    shard: work
    remote: \"[fd00:5701::1]:4433\"
    server_name: localhost
    trust: {{ anchors: [{}] }}
    hq: {{ paths: [\"/big.bin\"], output: {} }}
",
                self.pki.anchor.display(),
                output.display()
            ),
        )
    }

    /// Starts an engine with one end of the memif pair and one shard named `work`.
    fn start(&self, role: &str, lcore: u32, host: u32, yaml: &str) -> Engine {
        let socket = self.folder.path().join("memif.sock");
        let vdev = format!(
            "net_memif0,role={role},socket={},socket-abstract=no",
            socket.display()
        );
        let head = format!(
            "eal: [\"-l\", \"{lcore}\", \"--no-huge\", \"-m\", \"256\", \"--no-pci\", \"--no-shconf\", \"--vdev={vdev}\"]
ports:
  - {{ name: wire, device: net_memif0, addresses: [\"fd00:5701::{host}/64\"], link_up_timeout: 100ms }}
shards:
  - {{ name: work, port: wire, queue: 0, lcore: {lcore}, idle: adaptive }}
"
        );
        let path = self.folder.path().join(format!("{role}.yaml"));
        std::fs::write(&path, head + yaml).expect("the test folder is writable");
        Engine::run(&path)
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Waits until something of the file has been written; fails the test when that takes too long.
fn wait_for_bytes(folder: &Path, least: u64) {
    let written = || {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| file.metadata().ok());
        sizes.map(|data| data.len()).sum::<u64>() >= least
    };
    for _ in 0..2000 {
        if written() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no download in {}", folder.display());
}

#[test]
fn memif_peer_dies_and_its_successor_is_served() {
    let Some(memif) = Memif::new() else { return };
    let digest = write_file(&memif.folder.path().join("www/big.bin"), 4 * SIZE);
    let server = memif.server();

    let (first, second) = (memif.output("first"), memif.output("second"));
    let client = memif.client(&first);
    wait_for_bytes(&first, SIZE / 4);
    // Killed, in the middle of its transfer.
    drop(client);

    let client: Outcome = memif.client(&second).wait(Duration::from_secs(120));
    client.expect_clean();
    assert_eq!(Digest::of_file(&second.join("big.bin")), digest);
    // The first connection ends by its idle time-out, if it has not yet.
    std::thread::sleep(2 * OUTAGE);
    let report = server.stop().expect_clean();
    assert_eq!(report["connections"]["accepted"], 2, "{report:#}");
    // memif forgets what is in its rings when a peer leaves: the close of the second may be among it.
    let lost = report["connections"]["lost"].as_u64();
    assert!(matches!(lost, Some(1 | 2)), "{report:#}");
}

#[test]
fn transfer_survives_a_peer_that_takes_no_frames_for_a_while() {
    let Some(memif) = Memif::new() else { return };
    let digest = write_file(&memif.folder.path().join("www/big.bin"), 4 * SIZE);
    let server = memif.server();
    let output = memif.output("downloads");
    let client = memif.client(&output);
    wait_for_bytes(&output, SIZE / 4);
    // Nobody empties the server's transmit ring.
    client.signal(Signal::STOP);
    std::thread::sleep(OUTAGE);
    client.signal(Signal::CONT);
    client.wait(Duration::from_secs(120)).expect_clean();
    assert_eq!(Digest::of_file(&output.join("big.bin")), digest);
    let report = server.stop().expect_clean();
    expect_connections(&report, 1, 0);
    expect_stalled(&report);
}

#[test]
fn engine_outlives_an_af_packet_interface() {
    let Some(_turn) = Turn::take(&[Need::Root, Need::Ip]) else {
        return;
    };
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let namespace = Namespace::new();
    namespace.ip(&[
        "link", "add", "left", "type", "veth", "peer", "name", "right",
    ]);
    for interface in ["left", "right"] {
        namespace.ip(&["link", "set", interface, "up"]);
    }
    let config = folder.path().join("engine.yaml");
    // The gateway does not exist: the engine goes on asking for it.
    let yaml = "eal: [\"-l\", \"0\", \"--no-huge\", \"-m\", \"256\", \"--no-pci\", \"--no-shconf\", \"--vdev=net_af_packet0,iface=left\"]
ports:
  - { name: wire, device: net_af_packet0, addresses: [\"fd00:5701::1/64\"], link_up_timeout: 100ms }
shards:
  - { name: work, port: wire, queue: 0, lcore: 0, idle: adaptive }
clients:
  - name: work
    shard: work
    remote: \"[fd00:5701::2]:4433\"
    trust: { insecure: true }
    perf: { download: 1MiB }
run: { exit_when_clients_finish: false, drain_timeout: 1s }
";
    std::fs::write(&config, yaml).expect("the test folder is writable");
    let engine = namespace.inside(|| Engine::run(&config));
    engine.wait_until_ready();
    namespace.ip(&["link", "delete", "left"]);
    // The driver does not notice; the engine goes on with what it is given.
    std::thread::sleep(OUTAGE);
    engine.stop().expect_clean();
}
