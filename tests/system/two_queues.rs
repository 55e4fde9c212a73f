//! Two shards on a port with two queues: over TAP, where the kernel chooses the queue as it likes and
//! the hand-over does the rest, and over a link.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::quinn::{Connection, ConnectionError, Endpoint};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Engine, Identity, Need, SERVER_PORT, TapLab, Turn, write_file};
use crate::quinn_peer::{self as quinn, ClientOptions};

const MIB: u64 = 1 << 20;
/// Connections, address changes, attempts of which each meets one of the two shards by chance: that
/// all of them meet the same is less likely than one in a million.
const MANY: usize = 24;

fn two_queues() -> Option<TapLab> {
    let mut lab = TapLab::with_two_queues()?;
    lab.serve();
    Some(lab)
}

/// An endpoint on a UDP port of its own, and with it a flow of its own.
fn endpoint(lab: &TapLab, config: &::quinn::ClientConfig) -> Endpoint {
    quinn::client(lab.socket(0), config.clone())
}

fn config(lab: &TapLab, alpn: &str) -> ::quinn::ClientConfig {
    quinn::client_config(&lab.pki, alpn, ClientOptions::default())
}

async fn connect(lab: &TapLab, endpoint: &Endpoint) -> Connection {
    let server = SocketAddr::from(lab.server_address());
    let connecting = endpoint.connect(server, "localhost");
    connecting
        .expect("valid arguments")
        .await
        .expect("handshake")
}

fn count(report: &Value, path: &str) -> u64 {
    let value = report.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no count at {path}: {report:#}"))
}

/// Datagrams that one shard handed to another arrived there, but for those that found it full.
fn assert_hand_over_adds_up(report: &Value) {
    assert_eq!(report["steering"]["tap"], "hand_over", "{report:#}");
    assert_eq!(
        count(report, "/rx/handed_over"),
        count(report, "/rx/taken_over"),
        "{report:#}"
    );
    assert_eq!(
        count(report, "/lcores/0/handed_over"),
        count(report, "/lcores/1/taken_over"),
        "{report:#}"
    );
}

#[test]
fn many_connections_are_served_by_both_shards() {
    let Some(mut lab) = TapLab::with_two_queues() else {
        return;
    };
    // As it ships, but for the certificate.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/tap-2queues.yaml");
    let shipped = std::fs::read_to_string(shipped).expect("it is in the repository");
    let made_here = "self_signed: [\"localhost\"]";
    assert!(shipped.contains(made_here));
    let Identity { certificate, key } = &lab.pki.server;
    let files = format!(
        "certificate: {}\n    key: {}",
        certificate.display(),
        key.display()
    );
    lab.start_whole(&shipped.replace(made_here, &files));
    quinn::run(async {
        let config = config(&lab, "echo");
        let mut echoes = tokio::task::JoinSet::new();
        for number in 0..MANY as u64 {
            let endpoint = endpoint(&lab, &config);
            let connection = connect(&lab, &endpoint).await;
            echoes.spawn(async move {
                let outcome = quinn::echo(&connection, 4 * MIB + number).await;
                connection.close(0_u32.into(), b"done");
                endpoint.wait_idle().await;
                outcome
            });
        }
        let outcomes = echoes.join_all().await;
        assert_eq!(outcomes.len(), MANY);
        assert!(outcomes.iter().all(|(sent, received)| sent == received));
    });
    let report = lab.stop().expect_clean();
    assert_eq!(report["connections"]["accepted"], MANY, "{report:#}");
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    for lcore in [0, 1] {
        // A connection's echo alone takes thousands of frames each way.
        for key in ["rx_frames", "tx_frames"] {
            let frames = count(&report, &format!("/lcores/{lcore}/{key}"));
            assert!(frames > 1000, "{report:#}");
        }
    }
    assert_hand_over_adds_up(&report);
}

#[test]
fn a_transfer_lives_through_changes_of_its_clients_address() {
    let Some(mut lab) = two_queues() else { return };
    let size = 32 * MIB;
    let digest = write_file(&lab.www().join("big.bin"), size);
    let downloads = quinn::run(async {
        let endpoint = endpoint(&lab, &config(&lab, "hq-interop"));
        let connection = connect(&lab, &endpoint).await;
        let moving = async {
            for _ in 0..MANY {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let elsewhere = lab.socket(0);
                endpoint.rebind(elsewhere).expect("a usable socket");
            }
        };
        tokio::pin!(moving);
        // One download after the other, for as long as the client moves about.
        let mut downloads = 0;
        let mut moved = false;
        while !moved {
            let download = quinn::hq_get(&connection, "/big.bin");
            tokio::pin!(download);
            let received = loop {
                tokio::select! {
                    received = &mut download => break received,
                    () = &mut moving, if !moved => moved = true,
                }
            };
            assert_eq!(received, (size, digest.clone()));
            downloads += 1;
        }
        connection.close(0_u32.into(), b"done");
        endpoint.wait_idle().await;
        downloads
    });
    let report = lab.stop().expect_clean();
    assert_eq!(report["connections"]["accepted"], 1, "{report:#}");
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    assert_eq!(
        count(&report, "/bytes_sent"),
        downloads * size,
        "{report:#}"
    );
    assert!(count(&report, "/rx/handed_over") > 0, "{report:#}");
    assert_hand_over_adds_up(&report);
}

#[test]
fn early_data_is_taken_by_whatever_shard_it_meets() {
    let Some(mut lab) = two_queues() else { return };
    let digest = write_file(&lab.www().join("small.bin"), 100_000);
    quinn::run(async {
        // Tickets are kept with the configuration, whatever endpoint connects.
        let config = config(&lab, "hq-interop");
        let first = endpoint(&lab, &config);
        let connection = connect(&lab, &first).await;
        let answer = quinn::hq_get(&connection, "/small.bin").await;
        assert_eq!(answer, (100_000, digest.clone()));
        connection.close(0_u32.into(), b"");
        first.wait_idle().await;
        for attempt in 0..MANY {
            let endpoint = endpoint(&lab, &config);
            let connecting = endpoint
                .connect(lab.server_address().into(), "localhost")
                .expect("valid arguments");
            let Ok((connection, accepted)) = connecting.into_0rtt() else {
                panic!("no ticket for attempt {attempt}")
            };
            let answer = quinn::hq_get(&connection, "/small.bin").await;
            assert_eq!(answer, (100_000, digest.clone()));
            assert!(accepted.await, "early data of attempt {attempt} was taken");
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
        }
    });
    let report = lab.stop().expect_clean();
    assert_eq!(report["connections"]["accepted"], MANY + 1, "{report:#}");
    for lcore in [0, 1] {
        // A flow's first packets meet the shard that then has the connection.
        let sent = count(&report, &format!("/lcores/{lcore}/tx_frames"));
        assert!(sent > 70, "a download on each shard; {report:#}");
    }
    assert_hand_over_adds_up(&report);
}

#[test]
fn both_shards_finish_what_is_open_before_they_end() {
    let Some(mut lab) = TapLab::with_two_queues() else {
        return;
    };
    lab.listen("    services: { echo: {} }\nrun: { drain_timeout: 10s }");
    quinn::run(async {
        let config = config(&lab, "echo");
        let mut echoes = tokio::task::JoinSet::new();
        for _ in 0..MANY {
            let endpoint = endpoint(&lab, &config);
            let connection = connect(&lab, &endpoint).await;
            echoes.spawn(async move { quinn::echo(&connection, 4 * MIB).await });
        }
        // Every stream has begun by then, and few have ended.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let engine = lab.take_engine();
        let stopping = tokio::task::spawn_blocking(move || engine.stop());
        let outcomes = echoes.join_all().await;
        assert!(outcomes.iter().all(|(sent, received)| sent == received));
        let report = stopping.await.expect("no panic").expect_clean();
        assert_eq!(report["connections"]["accepted"], MANY, "{report:#}");
        assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    });
}

/// Fixed keys for connection IDs and resets, as lines behind those of the listener.
const FIXED_KEYS: &str = "    services: { echo: {} }
connection_ids:
  host_id: \"0a01\"
  keys:
    - { rotation: 3, key: \"8f95f09245765f80256934e50c66207f\" }
  reset_key: \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"";

#[test]
fn an_engine_that_is_back_after_a_crash_resets_its_connections() {
    let Some(mut lab) = TapLab::with_two_queues() else {
        return;
    };
    lab.listen(FIXED_KEYS);
    quinn::run(async {
        let endpoint = endpoint(&lab, &config(&lab, "echo"));
        let connection = connect(&lab, &endpoint).await;
        let (sent, received) = quinn::echo(&connection, 1000).await;
        assert_eq!(sent, received);
        // Killed: nobody is told.
        drop(lab.take_engine());
        lab.listen(FIXED_KEYS);
        let (mut send, _receive) = connection.open_bi().await.expect("it does not know yet");
        send.write_all(b"is anybody there?")
            .await
            .expect("it does not know yet");
        // It would give up by itself after 30 seconds.
        let reason = tokio::time::timeout(Duration::from_secs(10), connection.closed());
        assert_eq!(reason.await.expect("in time"), ConnectionError::Reset);
        // The same socket gets on well with the new engine.
        let connection = connect(&lab, &endpoint).await;
        let (sent, received) = quinn::echo(&connection, 1000).await;
        assert_eq!(sent, received);
    });
    lab.stop().expect_clean();
}

#[test]
fn a_client_on_the_second_queue_finds_its_server() {
    let Some(mut lab) = TapLab::with_two_queues() else {
        return;
    };
    let socket = lab.socket(SERVER_PORT);
    let report = quinn::run(async {
        let server = quinn::server_config(&lab.pki, false);
        let server = tokio::spawn(quinn::serve(socket, server, lab.www()));
        lab.connect_from(
            "server-1",
            "    connections: 8
    perf: { upload: 1MiB, download: 4MiB, requests: 64 }",
        );
        let engine = lab.take_engine();
        let ended = tokio::task::spawn_blocking(move || engine.wait(Duration::from_secs(60)));
        let outcome = ended.await.expect("no panic");
        server.abort();
        outcome.expect_clean()
    });
    assert_eq!(report["connections"]["opened"], 8, "{report:#}");
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    assert_eq!(
        count(&report, "/bytes_received"),
        64 * 4 * MIB,
        "{report:#}"
    );
    assert!(count(&report, "/lcores/1/tx_frames") > 1000, "{report:#}");
    assert_hand_over_adds_up(&report);
}

#[test]
fn two_pairs_of_shards_share_a_link() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/loopback-2x2.yaml");
    let mut command = Engine::command();
    command.args(["run", "--config"]).arg(config);
    command.args(["--duration", "2s", "--json"]);
    let report = Engine::spawn(command)
        .wait(Duration::from_secs(60))
        .expect_clean();
    assert_eq!(report["connections"]["accepted"], 8, "{report:#}");
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    assert_eq!(report["steering"]["left"], "by_queue", "{report:#}");
    for lcore in 0..4 {
        let frames = count(&report, &format!("/lcores/{lcore}/rx_frames"));
        assert!(frames > 100, "{report:#}");
    }
    // Each client meets the shard of its own queue, from the first packet on.
    assert_eq!(count(&report, "/rx/handed_over"), 0, "{report:#}");
}

#[test]
fn a_device_with_receive_side_scaling_is_asked_for_it() {
    let Some(_turn) = Turn::take(&[Need::TwoCpus]) else {
        return;
    };
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let config = folder.path().join("engine.yaml");
    // The frames that net_null makes are no IPv6: what is of interest here is the control plane.
    let yaml = "eal: [\"-l\", \"0-1\", \"--no-huge\", \"-m\", \"256\", \"--no-pci\", \"--vdev=net_null0,size=64\"]
ports:
  - { name: nothing, device: net_null0, addresses: [\"fd00:5701::1/64\"] }
shards:
  - { name: first, port: nothing, queue: 0, lcore: 0 }
  - { name: second, port: nothing, queue: 1, lcore: 1 }
run: { warmup: 0, duration: 1s }
";
    std::fs::write(&config, yaml).expect("the test folder is writable");
    let outcome = Engine::run(&config).wait(Duration::from_secs(60));
    let report = outcome.expect_clean();
    assert_eq!(report["steering"]["nothing"], "rss", "{report:#}");
    // Both queues have the same share of the table that was read back.
    assert!(outcome.log.contains("shares=[64, 64]"), "{outcome}");
}
