//! The peers against each other on the loopback interface: when one of these fails, the fault is
//! not the engine's. They need no root.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Aioquic, Digest, Need, Pki, Turn, write_file};
use crate::quinn_peer::{self as quinn, ClientOptions};

const ECHOED: u64 = 8 << 20;

fn loopback() -> UdpSocket {
    UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0)).expect("loopback is up")
}

/// A folder with certificates and `content.bin`.
fn folder(size: u64) -> (TempDir, Pki, Digest) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let pki = Pki::new(folder.path());
    let digest = write_file(&folder.path().join("content.bin"), size);
    (folder, pki, digest)
}

#[test]
fn quinn_client_and_quinn_server_agree() {
    let Some(_turn) = Turn::take(&[]) else { return };
    let (folder, pki, digest) = folder(10_000_001);
    let server = loopback();
    let address = server.local_addr().expect("bound");
    quinn::run(async {
        let config = quinn::server_config(&pki, false);
        tokio::spawn(quinn::serve(server, config, folder.path().to_owned()));
        let connect = async |alpn| {
            let config = quinn::client_config(&pki, alpn, ClientOptions::default());
            let endpoint = quinn::client(loopback(), config);
            endpoint
                .connect(address, "localhost")
                .expect("valid")
                .await
                .expect("handshake")
        };
        let connection = connect("hq-interop").await;
        assert_eq!(
            quinn::hq_get(&connection, "/content.bin").await,
            (10_000_001, digest)
        );
        let connection = connect("echo").await;
        let (sent, received) = quinn::echo(&connection, ECHOED).await;
        assert_eq!(sent, received);
        let connection = connect("perf").await;
        assert_eq!(
            quinn::perf(&connection, 3_000_000, 5_000_000).await,
            5_000_000
        );
    });
}

#[test]
fn aioquic_client_and_quinn_server_agree() {
    let Some(_turn) = Turn::take(&[Need::Aioquic]) else {
        return;
    };
    let (folder, pki, digest) = folder(5_000_001);
    let server = loopback();
    let port = server.local_addr().expect("bound").port();
    quinn::run(async {
        let config = quinn::server_config(&pki, false);
        tokio::spawn(quinn::serve(server, config, folder.path().to_owned()));
        tokio::task::spawn_blocking(move || {
            let client = Aioquic {
                pki: &pki,
                host: "::1".into(),
                port,
            };
            check_aioquic(&client, &digest);
        })
        .await
        .expect("no panic");
    });
}

#[test]
fn aioquic_client_and_aioquic_server_agree() {
    let Some(_turn) = Turn::take(&[Need::Aioquic]) else {
        return;
    };
    let (folder, pki, digest) = folder(5_000_001);
    let port = loopback().local_addr().expect("bound").port();
    let aioquic = Aioquic {
        pki: &pki,
        host: "::1".into(),
        port,
    };
    let server = aioquic.serve(folder.path(), &[]);
    check_aioquic(&aioquic, &digest);
    let outcome = server.stop();
    let ends = outcome
        .output
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON lines"));
    let reasons: Vec<Value> = ends
        .filter(|e: &Value| e["event"] == "closed")
        .map(|mut e| e["reason"].take())
        .collect();
    assert!(
        reasons.contains(&"closed by the client".into()),
        "{outcome}"
    );
}

/// Every command of the aioquic client.
fn check_aioquic(client: &Aioquic<'_>, digest: &Digest) {
    let download = client.run(&["hq", "/content.bin"]);
    assert_eq!(download["files"][0]["sha256"], digest.to_string());
    let upload = client.run(&["perf", "--upload", "2000000", "--download", "100"]);
    assert_eq!(upload["bytes"], 100);
    assert_eq!(client.run(&["echo", "--streams", "500"])["streams"], 500);
    assert_eq!(client.run(&["datagrams", "--count", "20"])["echoed"], 20);
    let early = client.run(&["zero-rtt", "/content.bin"]);
    assert_eq!(early["early_data_accepted"], true);
    assert_eq!(client.run(&["key-update"])["updates"], 5);
    assert_eq!(client.run(&["versions"])["echoed"], "negotiated");
    client.run(&["close"]);
}
