//! aioquic over TAP: first as the client of the engine, then as its server.
//!
//! A stack in Python moves some 200 to 300 Mbit/s, and less as a sender: it serves 256 MiB where
//! the engine serves 1 GiB.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Aioquic, Digest, ENGINE_ADDRESS, Engine, Need, Outcome, SERVER_PORT, TapLab, write_file,
};

const GIB: u64 = 1 << 30;
/// Bytes that aioquic serves.
const SERVED: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(150);

/// An engine that serves.
fn serving_lab() -> Option<TapLab> {
    let mut lab = TapLab::new(&[Need::Aioquic])?;
    lab.serve();
    Some(lab)
}

/// Runs the aioquic client on the kernel's side.
fn run(lab: &TapLab, arguments: &[&str]) -> Value {
    let (pki, host) = (&lab.pki, ENGINE_ADDRESS.to_string());
    let client = Aioquic {
        pki,
        host,
        port: SERVER_PORT,
    };
    lab.inside(|| client.run(arguments))
}

#[test]
fn hq_downloads_1_gib_with_equal_hash() {
    let Some(mut lab) = serving_lab() else { return };
    let digest = write_file(&lab.www().join("big.bin"), GIB);
    let answer = run(&lab, &["hq", "/big.bin"]);
    assert_eq!(answer["bytes"], GIB);
    assert_eq!(answer["files"][0]["sha256"], digest.to_string());
    lab.stop().expect_clean();
}

#[test]
fn perf_uploads_1_gib() {
    let Some(mut lab) = serving_lab() else { return };
    let answer = run(
        &lab,
        &["perf", "--upload", &GIB.to_string(), "--download", "1000"],
    );
    assert_eq!(answer["bytes"], 1000);
    let report = lab.stop().expect_clean();
    assert_eq!(report["bytes_received"], GIB + 8);
}

#[test]
fn a_thousand_streams_share_a_connection() {
    let Some(mut lab) = serving_lab() else { return };
    let answer = run(&lab, &["echo", "--streams", "1000", "--size", "2000"]);
    assert_eq!(answer["streams"], 1000);
    assert_eq!(answer["bytes"], 2_000_000);
    lab.stop().expect_clean();
}

#[test]
fn unreliable_datagrams_are_echoed() {
    let Some(mut lab) = serving_lab() else { return };
    let answer = run(&lab, &["datagrams", "--count", "200", "--size", "1100"]);
    assert_eq!(answer["echoed"], 200);
    lab.stop().expect_clean();
}

#[test]
fn second_connection_sends_early_data() {
    let Some(mut lab) = serving_lab() else { return };
    let digest = write_file(&lab.www().join("small.bin"), 100_000);
    let answer = run(&lab, &["zero-rtt", "/small.bin"]);
    assert_eq!(answer["sha256"], digest.to_string());
    assert_eq!(answer["resumed"], true);
    assert_eq!(answer["early_data_accepted"], true);
    lab.stop().expect_clean();
}

#[test]
fn keys_are_updated() {
    let Some(mut lab) = serving_lab() else { return };
    assert_eq!(run(&lab, &["key-update", "--count", "10"])["updates"], 10);
    lab.stop().expect_clean();
}

#[test]
fn closing_client_is_understood_and_no_loss() {
    let Some(mut lab) = serving_lab() else { return };
    run(&lab, &["close", "--code", "42", "--reason", "had enough"]);
    let outcome = lab.stop();
    let report = outcome.expect_clean();
    assert_eq!(report["connections"]["accepted"], 1);
    assert_eq!(report["connections"]["lost"], 0);
    if Engine::tells_ends() {
        assert!(outcome.log.contains("had enough"), "{outcome}");
    }
}

#[test]
fn closing_engine_says_why() {
    let Some(mut lab) = serving_lab() else { return };
    let (pki, host) = (&lab.pki, ENGINE_ADDRESS.to_string());
    let client = Aioquic {
        pki,
        host,
        port: SERVER_PORT,
    }
    .client(&["wait-closed"]);
    let client = lab.inside(|| Engine::spawn(client));
    client.wait_for_log("connected", Duration::from_secs(10));
    lab.stop().expect_clean();
    let end = client.wait(Duration::from_secs(10)).report();
    assert_eq!(end["by_application"], true, "{end}");
    assert_eq!(end["reason"], "shutting down", "{end}");
}

#[test]
fn unknown_version_is_negotiated() {
    let Some(mut lab) = serving_lab() else { return };
    let answer = run(&lab, &["versions"]);
    let offered = answer["offered"].as_array().expect("a list of versions");
    assert!(offered.contains(&1.into()), "QUIC v1 among {offered:?}");
    assert_eq!(answer["echoed"], "negotiated");
    lab.stop().expect_clean();
}

#[test]
fn required_client_certificate_is_verified() {
    let Some(mut lab) = TapLab::new(&[Need::Aioquic]) else {
        return;
    };
    let anchor = lab.pki.anchor.display();
    let lines = format!("    client_auth: required\n    trust: {{ anchors: [{anchor}] }}");
    lab.serve_with(&lines);
    let path = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (path(&lab.pki.client.certificate), path(&lab.pki.client.key));
    let answer = run(
        &lab,
        &["--certificate", &certificate, "--key", &key, "echo"],
    );
    assert_eq!(answer["streams"], 1);

    let client = Aioquic {
        pki: &lab.pki,
        host: ENGINE_ADDRESS.to_string(),
        port: SERVER_PORT,
    };
    let denied = lab.inside(|| client.client(&["echo"]).output().expect("python starts"));
    assert!(
        !denied.status.success(),
        "a client without a certificate was served"
    );
    lab.stop().expect_clean();
}

/// Runs the engine as a client that does `work` against an aioquic server until it ends by itself.
fn run_against_aioquic(lab: &mut TapLab, arguments: &[&str], work: &str) -> (Outcome, Outcome) {
    let aioquic = Aioquic {
        pki: &lab.pki,
        host: "::".into(),
        port: SERVER_PORT,
    };
    let server = lab.inside(|| aioquic.serve(&lab.www(), arguments));
    lab.connect(work);
    let engine = lab.take_engine().wait(PATIENCE);
    (engine, server.stop())
}

#[test]
fn engine_downloads_256_mib_with_equal_hash() {
    let Some(mut lab) = TapLab::new(&[Need::Aioquic]) else {
        return;
    };
    let digest = write_file(&lab.www().join("big.bin"), SERVED);
    let output = lab.folder().join("downloads");
    let work = format!(
        "    hq: {{ paths: [\"/big.bin\"], output: {} }}",
        output.display()
    );
    let (engine, server) = run_against_aioquic(&mut lab, &[], &work);
    let report = engine.expect_clean();
    assert_eq!(report["bytes_received"], SERVED);
    assert_eq!(Digest::of_file(&output.join("big.bin")), digest);
    assert!(
        server.output.contains(r#""event": "closed", "code": 0"#),
        "{server}"
    );
}

#[test]
fn engine_runs_perf_against_aioquic() {
    let Some(mut lab) = TapLab::new(&[Need::Aioquic]) else {
        return;
    };
    let work = "    perf: { streams: 2, upload: 4MiB, download: 4MiB, requests: 6 }";
    let (engine, _) = run_against_aioquic(&mut lab, &[], work);
    let report = engine.expect_clean();
    assert_eq!(report["bytes_received"], 6 * (4 << 20), "{report:#}");
}

#[test]
fn engine_measures_echo_latency() {
    let Some(mut lab) = TapLab::new(&[Need::Aioquic]) else {
        return;
    };
    for kind in ["datagrams: false", "datagrams: true"] {
        let work = format!("    echo: {{ size: 64B, rate: 100/s, duration: 2s, {kind} }}");
        let (engine, _) = run_against_aioquic(&mut lab, &[], &work);
        let report = engine.expect_clean();
        let p50 = report["latency_us"]["p50"].as_f64().expect("a latency");
        assert!(p50 > 0.0, "{report:#}");
    }
}

#[test]
fn engine_reports_why_the_server_closed() {
    let Some(mut lab) = TapLab::new(&[Need::Aioquic]) else {
        return;
    };
    let work = "    perf: { download: 1MiB, repeat: true }";
    let (engine, _) = run_against_aioquic(&mut lab, &["--close-after", "5"], work);
    assert_eq!(engine.status.code(), Some(1), "{engine}");
    assert!(engine.log.contains("closed by the server"), "{engine}");
    assert_eq!(engine.report()["mbufs"]["in_use_at_exit"], 0, "{engine}");
}
