//! The quinn crate as client and server: kernel sockets, tokio, and the same quinn-proto version,
//! driven by code that shares nothing with the engine.

use std::io::Write;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use quinn::{TransportConfig, VarInt};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, version::TLS13};

use crate::harness::{Digest, Hasher, Identity, Pki, blocks};

/// Bytes read at a time.
const READ_MAX: usize = 1 << 20;
/// Flow-control windows in bytes, as wide as the engine's.
const WINDOW: u32 = 16 << 20;
/// The longest that one exchange may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a future on this thread; fails the test when it takes longer than two minutes.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("the exchange ends in time")
    })
}

/// What a client wants beside the usual.
#[derive(Default)]
pub struct ClientOptions<'a> {
    /// Presented when the server asks for a certificate.
    pub identity: Option<&'a Identity>,
}

/// A client configuration for one ALPN that trusts the PKI's authority and may send early data.
pub fn client_config(pki: &Pki, alpn: &str, options: ClientOptions<'_>) -> quinn::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("AWS-LC does TLS 1.3")
        .with_root_certificates(anchors(pki));
    let mut tls = match options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain(), identity.private_key())
            .expect("chain and key match"),
    };
    tls.alpn_protocols = vec![alpn.into()];
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).expect("the provider has QUIC's initial suite");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config
}

/// A client endpoint on a socket of the peer's choice. Call it inside `run`.
pub fn client(socket: UdpSocket, config: quinn::ClientConfig) -> Endpoint {
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    );
    let mut endpoint = endpoint.expect("the socket is usable");
    endpoint.set_default_client_config(config);
    endpoint
}

/// A server configuration with the engine's services.
pub fn server_config(pki: &Pki, client_auth: bool) -> quinn::ServerConfig {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("AWS-LC does TLS 1.3");
    let builder = if client_auth {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(anchors(pki).into(), provider()).build();
        builder.with_client_cert_verifier(verifier.expect("there is an anchor"))
    } else {
        builder.with_no_client_auth()
    };
    let mut tls = builder
        .with_single_cert(pki.server.chain(), pki.server.private_key())
        .expect("chain and key match");
    tls.alpn_protocols = vec!["perf".into(), "hq-interop".into(), "echo".into()];
    tls.max_early_data_size = u32::MAX;
    let crypto = QuicServerConfig::try_from(tls).expect("the provider has QUIC's initial suite");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    config
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn anchors(pki: &Pki) -> RootCertStore {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = RootCertStore::empty();
    let anchor = CertificateDer::from_pem_file(&pki.anchor).expect("PEM made for this test");
    roots.add(anchor).expect("a valid authority");
    roots
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .receive_window(WINDOW.into())
        .stream_receive_window(WINDOW.into());
    transport
        .send_window(WINDOW.into())
        .max_concurrent_bidi_streams(1024_u32.into());
    Arc::new(transport)
}

/// `GET path` by HTTP/0.9 on a stream of its own.
pub async fn hq_get(connection: &Connection, path: &str) -> (u64, Digest) {
    let (mut send, mut receive) = connection.open_bi().await.expect("the connection lives");
    send.write_all(format!("GET {path}\r\n").as_bytes())
        .await
        .expect("the server reads");
    send.finish().expect("not finished before");
    receive_all(&mut receive).await
}

/// One exchange of the perf protocol; returns the bytes received.
pub async fn perf(connection: &Connection, upload: u64, download: u64) -> u64 {
    let (mut send, mut receive) = connection.open_bi().await.expect("the connection lives");
    let upload = async move {
        send.write_all(&download.to_be_bytes())
            .await
            .expect("the server reads");
        let block = vec![0x5a; READ_MAX];
        let mut left = upload;
        while left > 0 {
            let size = left.min(block.len() as u64);
            send.write_all(&block[..size as usize])
                .await
                .expect("the server reads");
            left -= size;
        }
        send.finish().expect("not finished before");
        // The upload counts once all of it has arrived.
        send.stopped().await.expect("the connection lives");
    };
    let ((), (received, _)) = tokio::join!(upload, receive_all(&mut receive));
    received
}

/// Sends content of `size` bytes to an echo service and returns the hashes of what went and came.
pub async fn echo(connection: &Connection, size: u64) -> (Digest, Digest) {
    let (mut send, mut receive) = connection.open_bi().await.expect("the connection lives");
    let upload = async move {
        let mut hasher = Hasher::default();
        for block in blocks(size) {
            hasher.write_all(&block).expect("hashing does not fail");
            send.write_all(&block).await.expect("the server reads");
        }
        send.finish().expect("not finished before");
        hasher.finish()
    };
    let (sent, (bytes, received)) = tokio::join!(upload, receive_all(&mut receive));
    assert_eq!(bytes, size, "echoed bytes");
    (sent, received)
}

async fn receive_all(receive: &mut RecvStream) -> (u64, Digest) {
    let (mut bytes, mut hasher) = (0, Hasher::default());
    while let Some(chunk) = receive.read_chunk(READ_MAX, true).await.expect("no reset") {
        bytes += chunk.bytes.len() as u64;
        hasher
            .write_all(&chunk.bytes)
            .expect("hashing does not fail");
    }
    (bytes, hasher.finish())
}

/// A server with the engine's services, for as long as it is polled.
pub async fn serve(socket: UdpSocket, config: quinn::ServerConfig, root: PathBuf) {
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime);
    let endpoint = endpoint.expect("the socket is usable");
    while let Some(incoming) = endpoint.accept().await {
        let root = root.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            serve_connection(connection, root).await;
        });
    }
}

/// Serves one connection until it ends.
pub async fn serve_connection(connection: Connection, root: PathBuf) {
    let data = connection.handshake_data().expect("the handshake is over");
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .expect("rustls below");
    let alpn = data.protocol.expect("an ALPN was agreed on");
    if alpn == b"echo" {
        let connection = connection.clone();
        tokio::spawn(async move {
            while let Ok(datagram) = connection.read_datagram().await {
                connection
                    .send_datagram(datagram)
                    .expect("as large as it came");
            }
        });
    }
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (alpn, root) = (alpn.clone(), root.clone());
        tokio::spawn(async move {
            match alpn.as_slice() {
                b"echo" => serve_echo(send, receive).await,
                b"perf" => serve_perf(send, receive).await,
                _ => serve_hq(send, receive, root).await,
            }
        });
    }
}

// A peer that goes away in the middle of a stream ends that stream's task and nothing else, hence
// the early returns.

async fn serve_echo(mut send: SendStream, mut receive: RecvStream) {
    while let Ok(Some(chunk)) = receive.read_chunk(READ_MAX, true).await {
        if send.write_chunk(chunk.bytes).await.is_err() {
            return;
        }
    }
    let _ = send.finish();
}

async fn serve_perf(mut send: SendStream, mut receive: RecvStream) {
    let mut size = [0; 8];
    if receive.read_exact(&mut size).await.is_err() {
        return;
    }
    while let Ok(Some(_)) = receive.read_chunk(READ_MAX, true).await {}
    let block = vec![0xa5; READ_MAX];
    let mut left = u64::from_be_bytes(size);
    while left > 0 {
        let size = left.min(block.len() as u64);
        if send.write_all(&block[..size as usize]).await.is_err() {
            return;
        }
        left -= size;
    }
    let _ = send.finish();
}

async fn serve_hq(mut send: SendStream, mut receive: RecvStream, root: PathBuf) {
    let Ok(request) = receive.read_to_end(4096).await else {
        return;
    };
    let request = String::from_utf8_lossy(&request);
    let path = request
        .trim()
        .strip_prefix("GET /")
        .filter(|path| !path.contains(".."));
    let content = path.and_then(|path| std::fs::read(root.join(path)).ok());
    let Some(content) = content else {
        let _ = send.reset(VarInt::from_u32(0x10c));
        return;
    };
    if send.write_all(&content).await.is_ok() {
        let _ = send.finish();
    }
}
