//! The TLS side of a listener.

use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoClientAuth, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{KeyLogFile, ServerConfig, version};

use super::{Anchors, Identity, TlsError, provider};

/// Sessions that can be resumed with 0-RTT, for each listener.
const SESSIONS: usize = 4_096;

/// What a server asks of its clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate signed by one of these authorities, or none.
    Optional(Anchors),
    /// A certificate signed by one of these authorities.
    Required(Anchors),
}

/// What the TLS side of a listener is made of.
#[derive(Debug, Clone)]
pub struct ServerTls<'a> {
    /// Who we are.
    pub identity: &'a Identity,
    /// The protocols of the listener's services. A client that offers none of them is refused.
    pub alpns: Vec<Vec<u8>>,
    /// What clients have to show.
    pub client_auth: ClientAuth,
    /// Whether 0-RTT data is accepted. The shard withholds it from services that do not take it.
    pub early_data: bool,
}

/// Makes the settings of a listener, with default transport settings.
///
/// Sessions can be resumed: by sealed tickets, which need no memory here; with `early_data`, by tickets that name a
/// session kept here and work once, which is what keeps 0-RTT data from being replayed (RFC 8446 §8.1).
pub fn server_config(tls: ServerTls<'_>) -> Result<quinn_proto::ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?;
    let verifier = match tls.client_auth {
        ClientAuth::None => Arc::new(NoClientAuth),
        ClientAuth::Optional(Anchors(anchors)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(anchors, provider());
            verifier.allow_unauthenticated().build()?
        }
        ClientAuth::Required(Anchors(anchors)) => {
            WebPkiClientVerifier::builder_with_provider(anchors, provider()).build()?
        }
    };
    let identity = SingleCertAndKey::from(tls.identity.certified.clone());
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = tls.alpns;
    config.key_log = Arc::new(KeyLogFile::new());
    match tls.early_data {
        true => {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            // The one value that QUIC allows besides 0 (RFC 9001 §4.6.1).
            config.max_early_data_size = u32::MAX;
        }
        false => config.ticketer = Ticketer::new()?,
    }
    let config = QuicServerConfig::try_from(config)?;
    Ok(quinn_proto::ServerConfig::with_crypto(Arc::new(config)))
}
