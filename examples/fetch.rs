//! Fetches one file over HTTP/0.9 on QUIC (`hq-interop`) with the quinn crate on kernel sockets: an
//! independent client for a running engine.
//!
//! ```sh
//! cargo run --example fetch -- '[fd00:5701::1]:4433' /file.bin sha256:<fingerprint> > file.bin
//! ```
//!
//! The server is known by the fingerprint of its certificate, which the engine logs at start.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [remote, path, fingerprint] = arguments.as_slice() else {
        return Err("usage: fetch '[ADDRESS]:PORT' /PATH sha256:FINGERPRINT".into());
    };
    let remote: SocketAddr = remote.parse()?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Pinned {
        fingerprint: fingerprint.clone(),
        provider: provider.clone(),
    };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec!["hq-interop".into()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));

    let endpoint = quinn::Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())?;
    let connection = endpoint.connect_with(config, remote, "localhost")?.await?;
    let started = Instant::now();
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(format!("GET {path}\r\n").as_bytes()).await?;
    send.finish()?;

    let mut bytes = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        std::io::stdout().write_all(&chunk.bytes)?;
        bytes += chunk.bytes.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{bytes} bytes in {seconds:.2} s, {:.2} Gbit/s",
        bytes as f64 * 8e-9 / seconds
    );
    connection.close(0_u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}

/// Believes exactly one certificate, whatever its names and dates.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let hex: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if self.fingerprint == format!("sha256:{hex}") {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
