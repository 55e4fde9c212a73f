//! The quinn crate over TAP: first as the client of the engine, then as its server.

use std::time::Duration;

use ::quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode, VarInt};
use serde_json::Value;

use crate::harness::{Digest, Engine, Identity, Need, SERVER_PORT, TapLab, write_file};
use crate::quinn_peer::{self as quinn, ClientOptions};

const GIB: u64 = 1 << 30;
const NOTHING_ELSE: &[Need] = &[];

/// An engine that serves, and clients for it.
fn serving_lab() -> Option<TapLab> {
    let mut lab = TapLab::new(NOTHING_ELSE)?;
    lab.serve();
    Some(lab)
}

fn endpoint(lab: &TapLab, alpn: &str, identity: Option<&Identity>) -> Endpoint {
    let config = quinn::client_config(&lab.pki, alpn, ClientOptions { identity });
    quinn::client(lab.socket(0), config)
}

async fn connect(lab: &TapLab, alpn: &str) -> Connection {
    try_connect(lab, alpn, None).await.expect("handshake")
}

async fn try_connect(
    lab: &TapLab,
    alpn: &str,
    identity: Option<&Identity>,
) -> Result<Connection, ConnectionError> {
    let endpoint = endpoint(lab, alpn, identity);
    endpoint
        .connect(lab.server_address().into(), "localhost")
        .expect("valid arguments")
        .await
}

#[test]
fn perf_uploads_and_downloads_1_gib() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "perf").await;
        assert_eq!(quinn::perf(&connection, 0, GIB).await, GIB, "download");
        assert_eq!(
            quinn::perf(&connection, GIB, 4096).await,
            4096,
            "answer to the upload"
        );
        assert_eq!(quinn::perf(&connection, 0, 0).await, 0, "empty both ways");
        connection.close(0_u32.into(), b"done");
    });
    let report = lab.stop().expect_clean();
    assert_eq!(
        report["bytes_received"].as_u64(),
        Some(GIB + 3 * 8),
        "eight bytes a request"
    );
    assert_eq!(report["bytes_sent"].as_u64(), Some(GIB + 4096));
    assert_eq!(report["connections"]["accepted"], 1);
    assert_eq!(report["connections"]["lost"], 0);
}

#[test]
fn hq_downloads_1_gib_with_equal_hash() {
    let Some(mut lab) = serving_lab() else { return };
    let digest = write_file(&lab.www().join("big.bin"), GIB);
    quinn::run(async {
        let connection = connect(&lab, "hq-interop").await;
        assert_eq!(quinn::hq_get(&connection, "/big.bin").await, (GIB, digest));
    });
    lab.stop().expect_clean();
}

#[test]
fn echo_returns_1_gib_with_equal_hash() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        let (sent, received) = quinn::echo(&connection, GIB).await;
        assert_eq!(sent, received);
    });
    lab.stop().expect_clean();
}

#[test]
fn a_thousand_streams_share_a_connection() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        let mut streams = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let connection = connection.clone();
            streams.spawn(async move { quinn::echo(&connection, 10_000 + number).await });
        }
        let outcomes = streams.join_all().await;
        assert_eq!(outcomes.len(), 1000);
        assert!(outcomes.iter().all(|(sent, received)| sent == received));
    });
    lab.stop().expect_clean();
}

#[test]
fn a_thousand_small_files_share_a_connection() {
    let Some(mut lab) = serving_lab() else { return };
    let size = |number: u64| number * 37;
    let digests: Vec<_> = (0..1000)
        .map(|number| write_file(&lab.www().join(format!("{number}.bin")), size(number)))
        .collect();
    quinn::run(async {
        let connection = connect(&lab, "hq-interop").await;
        let mut files = tokio::task::JoinSet::new();
        for (number, digest) in digests.into_iter().enumerate() {
            let connection = connection.clone();
            files.spawn(async move {
                let answer = quinn::hq_get(&connection, &format!("/{number}.bin")).await;
                assert_eq!(answer, (size(number as u64), digest));
            });
        }
        assert_eq!(files.join_all().await.len(), 1000);
    });
    lab.stop().expect_clean();
}

#[test]
fn unreliable_datagrams_are_echoed() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        let largest = connection
            .max_datagram_size()
            .expect("the engine takes datagrams");
        for round in 0..100_usize {
            // A few at a time: nothing on this way may be full, so that none is lost.
            let bodies: Vec<_> = (0..8)
                .map(|n| vec![n as u8; 1 + (round * 997 + n * 131) % largest])
                .collect();
            for body in &bodies {
                connection
                    .send_datagram(body.clone().into())
                    .expect("not too large");
            }
            for body in &bodies {
                let answer =
                    tokio::time::timeout(Duration::from_secs(2), connection.read_datagram());
                assert_eq!(
                    answer.await.expect("in time").expect("no close"),
                    body,
                    "round {round}"
                );
            }
        }
    });
    lab.stop().expect_clean();
}

#[test]
fn second_connection_sends_early_data() {
    let Some(mut lab) = serving_lab() else { return };
    let digest = write_file(&lab.www().join("small.bin"), 100_000);
    quinn::run(async {
        let endpoint = endpoint(&lab, "hq-interop", None);
        let connecting = || {
            endpoint
                .connect(lab.server_address().into(), "localhost")
                .expect("valid arguments")
        };
        let first = connecting().await.expect("handshake");
        assert_eq!(
            quinn::hq_get(&first, "/small.bin").await,
            (100_000, digest.clone())
        );
        first.close(0_u32.into(), b"");

        let Ok((second, accepted)) = connecting().into_0rtt() else {
            panic!("no ticket came")
        };
        assert_eq!(
            quinn::hq_get(&second, "/small.bin").await,
            (100_000, digest)
        );
        assert!(accepted.await, "the engine took the early data");
    });
    lab.stop().expect_clean();
}

/// Whether a second connection's early data is accepted; what it echoes must be right either way.
async fn early_echo_is_accepted(lab: &TapLab) -> bool {
    let endpoint = endpoint(lab, "echo", None);
    let connecting = || {
        endpoint
            .connect(lab.server_address().into(), "localhost")
            .expect("valid arguments")
    };
    let first = connecting().await.expect("handshake");
    quinn::echo(&first, 1000).await;
    first.close(0_u32.into(), b"");

    // Without a ticket that allows it, or with early data refused: both are a refusal.
    let (second, accepted) = match connecting().into_0rtt() {
        Ok((second, accepted)) => (second, Some(accepted)),
        Err(connecting) => (connecting.await.expect("handshake"), None),
    };
    let accepted = match accepted {
        Some(accepted) => accepted.await,
        None => false,
    };
    let (sent, received) = quinn::echo(&second, 1000).await;
    assert_eq!(sent, received);
    accepted
}

#[test]
fn early_data_is_refused_where_no_service_allows_it() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    lab.listen("    services: { echo: {} }");
    assert!(!quinn::run(early_echo_is_accepted(&lab)));
    lab.stop().expect_clean();
}

#[test]
fn early_data_beside_a_service_that_allows_it_is_harmless() {
    // TLS accepts early data for a listener as a whole. The engine lets a service that does not
    // allow it see such data only after the handshake, when it can be no replay.
    let Some(mut lab) = serving_lab() else { return };
    assert!(quinn::run(early_echo_is_accepted(&lab)));
    lab.stop().expect_clean();
}

#[test]
fn keys_are_updated_in_the_middle_of_streams() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        for _ in 0..5 {
            let stream = quinn::echo(&connection, 20_000_000);
            let update = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                connection.force_key_update();
            };
            let ((sent, received), ()) = tokio::join!(stream, update);
            assert_eq!(sent, received);
        }
    });
    lab.stop().expect_clean();
}

#[test]
fn closing_engine_says_why() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let connection = connect(&lab, "echo").await;
        quinn::echo(&connection, 1000).await;
        let engine = lab.take_engine();
        let stopping = tokio::task::spawn_blocking(move || engine.stop().expect_clean());
        let end = connection.closed().await;
        let ConnectionError::ApplicationClosed(close) = end else {
            panic!("closed by {end}")
        };
        assert_eq!(close.reason, "shutting down");
        stopping.await.expect("no panic");
    });
}

#[test]
fn closing_client_is_understood_and_no_loss() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let endpoint = endpoint(&lab, "echo", None);
        let connecting = endpoint.connect(lab.server_address().into(), "localhost");
        let connection = connecting
            .expect("valid arguments")
            .await
            .expect("handshake");
        quinn::echo(&connection, 1000).await;
        connection.close(VarInt::from_u32(42), b"had enough");
        endpoint.wait_idle().await;
    });
    let outcome = lab.stop();
    let report = outcome.expect_clean();
    assert_eq!(report["connections"]["accepted"], 1);
    assert_eq!(report["connections"]["lost"], 0);
    if Engine::tells_ends() {
        assert!(outcome.log.contains("had enough"), "{outcome}");
    }
}

#[test]
fn unknown_application_protocol_is_refused() {
    let Some(mut lab) = serving_lab() else { return };
    quinn::run(async {
        let end = try_connect(&lab, "h3", None)
            .await
            .expect_err("no such service");
        let ConnectionError::ConnectionClosed(close) = end else {
            panic!("closed by {end}")
        };
        // RFC 9001 §8.1: the TLS alert no_application_protocol, 120.
        assert_eq!(close.error_code, TransportErrorCode::crypto(120));
    });
    lab.stop().expect_clean();
}

/// An engine that asks clients for certificates.
fn asking_lab(client_auth: &str) -> Option<TapLab> {
    let mut lab = TapLab::new(NOTHING_ELSE)?;
    let anchor = lab.pki.anchor.display();
    let lines = format!("    client_auth: {client_auth}\n    trust: {{ anchors: [{anchor}] }}");
    lab.serve_with(&lines);
    Some(lab)
}

/// Whether a client with this identity gets its bytes echoed.
async fn is_served(lab: &TapLab, identity: Option<&Identity>) -> bool {
    // A client's handshake ends before the server has seen the certificate: what tells is whether
    // the connection lasts.
    let Ok(connection) = try_connect(lab, "echo", identity).await else {
        return false;
    };
    let Ok((mut send, mut receive)) = connection.open_bi().await else {
        return false;
    };
    let sent = send.write_all(b"hello").await.is_ok() && send.finish().is_ok();
    sent && receive
        .read_to_end(100)
        .await
        .is_ok_and(|answer| answer == b"hello")
}

#[test]
fn required_client_certificate_is_verified() {
    let Some(mut lab) = asking_lab("required") else {
        return;
    };
    quinn::run(async {
        assert!(
            is_served(&lab, Some(&lab.pki.client)).await,
            "signed by the authority"
        );
        assert!(!is_served(&lab, None).await, "no certificate");
        assert!(
            !is_served(&lab, Some(&lab.pki.stranger)).await,
            "signed by nobody we trust"
        );
        assert!(!is_served(&lab, Some(&lab.pki.expired)).await, "expired");
    });
    lab.stop().expect_clean();
}

#[test]
fn optional_client_certificate_is_verified_when_given() {
    let Some(mut lab) = asking_lab("optional") else {
        return;
    };
    quinn::run(async {
        assert!(
            is_served(&lab, Some(&lab.pki.client)).await,
            "signed by the authority"
        );
        assert!(is_served(&lab, None).await, "no certificate");
        assert!(
            !is_served(&lab, Some(&lab.pki.stranger)).await,
            "signed by nobody we trust"
        );
    });
    lab.stop().expect_clean();
}

/// Runs the engine as a client that does `work` against a quinn server until it ends by itself.
fn run_against_quinn(lab: &mut TapLab, client_auth: bool, work: &str) -> crate::harness::Outcome {
    let config = quinn::server_config(&lab.pki, client_auth);
    let (socket, www) = (lab.socket(SERVER_PORT), lab.www());
    lab.connect(work);
    let engine = lab.take_engine();
    quinn::run(async {
        tokio::spawn(quinn::serve(socket, config, www));
        let wait = tokio::task::spawn_blocking(move || engine.wait(Duration::from_secs(100)));
        wait.await.expect("no panic")
    })
}

#[test]
fn engine_downloads_1_gib_with_equal_hash() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let digest = write_file(&lab.www().join("big.bin"), GIB);
    let output = lab.folder().join("downloads");
    let work = format!(
        "    hq: {{ paths: [\"/big.bin\"], output: {} }}",
        output.display()
    );
    let report = run_against_quinn(&mut lab, false, &work).expect_clean();
    assert_eq!(Digest::of_file(&output.join("big.bin")), digest);
    assert_eq!(report["bytes_received"].as_u64(), Some(GIB));
    assert_eq!(report["connections"]["opened"], 1);
}

#[test]
fn engine_runs_perf_against_quinn() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let work = "    connections: 2
    perf: { streams: 4, upload: 32MiB, download: 32MiB, requests: 8 }";
    let report = run_against_quinn(&mut lab, false, work).expect_clean();
    assert_eq!(
        report["bytes_received"].as_u64(),
        Some(8 * (32 << 20)),
        "{report:#}"
    );
    assert_eq!(report["connections"]["opened"], 2);
    assert_eq!(report["connections"]["lost"], 0);
}

#[test]
fn engine_measures_echo_latency() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let work = "    echo: { streams: 1, size: 64B, rate: 1000/s, duration: 2s }";
    let report = run_against_quinn(&mut lab, false, work).expect_clean();
    let latency = |name: &str| report["latency_us"][name].as_f64().expect("a latency");
    assert!(
        latency("p50") > 0.0 && latency("p50") <= latency("p99"),
        "{report:#}"
    );
    assert!(latency("p99") <= latency("max"), "{report:#}");
}

#[test]
fn engine_presents_its_certificate() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let digest = write_file(&lab.www().join("small.bin"), 10_000);
    let output = lab.folder().join("downloads");
    let Identity { certificate, key } = &lab.pki.client;
    let work = format!(
        "    identity: me
    hq: {{ paths: [\"/small.bin\"], output: {} }}
identities:
  - {{ name: me, certificate: {}, key: {} }}",
        output.display(),
        certificate.display(),
        key.display()
    );
    run_against_quinn(&mut lab, true, &work).expect_clean();
    assert_eq!(Digest::of_file(&output.join("small.bin")), digest);
}

/// The engine must end by itself, with exit code 1 and a message that contains `text`.
fn assert_fails(outcome: &crate::harness::Outcome, text: &str) {
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert!(outcome.log.contains(text), "no {text:?}: {outcome}");
    let report: Value = outcome.report();
    assert_eq!(
        report["mbufs"]["in_use_at_exit"], 0,
        "mbufs leaked; {outcome}"
    );
}

#[test]
fn engine_without_certificate_is_denied() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let work = "    perf: { download: 1MiB }";
    assert_fails(&run_against_quinn(&mut lab, true, work), "certificate");
}

#[test]
fn engine_refuses_a_server_it_does_not_trust() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    // The server then presents a certificate that its clients' authority did not sign.
    std::mem::swap(&mut lab.pki.server, &mut lab.pki.stranger);
    let work = "    perf: { download: 1MiB }";
    assert_fails(&run_against_quinn(&mut lab, false, work), "certificate");
}

#[test]
fn engine_names_a_file_the_server_does_not_have() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let output = lab.folder().join("downloads");
    let work = format!(
        "    hq: {{ paths: [\"/missing.bin\"], output: {} }}",
        output.display()
    );
    assert_fails(&run_against_quinn(&mut lab, false, &work), "/missing.bin");
    let left = std::fs::read_dir(&output).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no partial file");
}

#[test]
fn engine_reports_why_the_server_closed() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    let config = quinn::server_config(&lab.pki, false);
    let socket = lab.socket(SERVER_PORT);
    lab.connect("    perf: { download: 1GiB, repeat: true }");
    let engine = lab.take_engine();
    let outcome = quinn::run(async {
        let runtime = std::sync::Arc::new(::quinn::TokioRuntime);
        let endpoint = Endpoint::new(Default::default(), Some(config), socket, runtime);
        let endpoint = endpoint.expect("the socket is usable");
        let incoming = endpoint.accept().await.expect("the engine connects");
        let connection = incoming.await.expect("handshake");
        connection
            .accept_bi()
            .await
            .expect("the engine asks for something");
        connection.close(VarInt::from_u32(99), b"closing for the night");
        endpoint.wait_idle().await;
        let wait = tokio::task::spawn_blocking(move || engine.wait(Duration::from_secs(30)));
        wait.await.expect("no panic")
    });
    assert_fails(&outcome, "closing for the night");
}

#[test]
fn engine_gives_up_on_a_silent_server() {
    let Some(mut lab) = TapLab::new(NOTHING_ELSE) else {
        return;
    };
    // Bound, so that nothing answers: neither QUIC nor ICMPv6.
    let _silent = lab.socket(SERVER_PORT);
    lab.connect("    perf: { download: 1MiB }\ntransport: { idle_timeout: 2s }");
    let outcome = lab.take_engine().wait(Duration::from_secs(20));
    assert_fails(&outcome, "timed out");
}
