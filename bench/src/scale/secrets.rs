//! TLS for both stacks: the same suites in the same order, one pinned certificate, full handshakes counted.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn_proto::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, NamedGroup, PeerIncompatible,
    SignatureScheme, version,
};
use stoq::services::perf;
use stoq::tls::{ClientAuth, Identity, ServerTls, server_config};

use crate::settings::SERVER_NAME;

/// Tickets that the client keeps: more than handshakes are under way at a time.
const TICKETS_MAX: usize = 256;

/// An identity made now.
///
/// # Errors
/// No randomness.
pub fn identity() -> Result<Identity, Box<dyn Error>> {
    Ok(Identity::self_signed(&[SERVER_NAME.to_owned()])?)
}

/// Server settings with the engine's TLS, for the performance protocol; transport settings are still the default.
///
/// # Errors
/// The TLS configuration cannot be made.
pub fn server(identity: &Identity) -> Result<quinn_proto::ServerConfig, Box<dyn Error>> {
    Ok(server_config(ServerTls {
        identity,
        alpns: vec![perf::ALPN.to_vec()],
        client_auth: ClientAuth::None,
        early_data: false,
    })?)
}

/// Client settings that believe `certificate` alone, and resume sessions or never do. `full` counts handshakes in
/// which the server proved itself anew, that is, those that were not resumed.
///
/// # Errors
/// The TLS configuration cannot be made.
pub fn client(
    certificate: CertificateDer<'static>,
    resume: bool,
    full: Arc<AtomicU64>,
) -> Result<quinn_proto::ClientConfig, Box<dyn Error>> {
    // As the engine's own clients: AES-128 first.
    let provider = CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    };
    let config = QuicClientConfig::try_from(client_tls(provider, certificate, resume, full)?)?;
    Ok(quinn_proto::ClientConfig::new(Arc::new(config)))
}

/// The TLS settings of [`client`], with the cipher suites of `provider`.
///
/// # Errors
/// The provider has no suite of TLS 1.3.
pub fn client_tls(
    provider: CryptoProvider,
    certificate: CertificateDer<'static>,
    resume: bool,
    full: Arc<AtomicU64>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(provider);
    let verifier = Pinned {
        certificate,
        provider: Arc::clone(&provider),
        full,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![perf::ALPN.to_vec()];
    config.resumption = match resume {
        true => Resumption::store(Arc::new(Tickets::default())),
        false => Resumption::disabled(),
    };
    Ok(config)
}

/// The tickets of one server. rustls' own store keeps eight for each, and a burst of handshakes begins more at once.
#[derive(Debug, Default)]
struct Tickets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    // QUIC has no TLS 1.2.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.lock();
        if kept.tickets.len() == TICKETS_MAX {
            kept.tickets.pop_front();
        }
        kept.tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tickets.pop_back()
    }
}

/// Believes one certificate, and counts how often it is shown.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
    full: Arc<AtomicU64>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity != self.certificate {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.full.fetch_add(1, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
