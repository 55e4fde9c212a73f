//! The TLS side of a client.

use std::sync::Arc;

use bytes::Bytes;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{TokenMemoryCache, TokenStore};
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, KeyLogFile, version};

use super::{Identity, TlsError, Trust, provider};

/// Servers of which sessions are kept.
const SESSIONS: usize = 256;

/// What the TLS side of a client is made of.
#[derive(Debug, Clone)]
pub struct ClientTls<'a> {
    /// Whom we believe.
    pub trust: &'a Trust,
    /// Who we are, for servers that ask.
    pub identity: Option<&'a Identity>,
    /// The protocols we offer, the preferred one first.
    pub alpns: Vec<Vec<u8>>,
    /// Whether 0-RTT may be used when a session is resumed. The application still has to ask for it
    /// ([`ConnectTarget::early_data`](crate::app::ConnectTarget::early_data)).
    pub early_data: bool,
}

/// Makes the settings of a client, with default transport settings. Clones share one store of sessions to resume,
/// and one of address validation tokens.
pub fn client_config(tls: ClientTls<'_>) -> Result<quinn_proto::ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(tls.trust.verifier()?);
    let mut config = match tls.identity {
        Some(identity) => {
            let resolver = SingleCertAndKey::from(identity.certified.clone());
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = tls.alpns;
    config.key_log = Arc::new(KeyLogFile::new());
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.enable_early_data = tls.early_data;
    let config = QuicClientConfig::try_from(config)?;
    let mut config = quinn_proto::ClientConfig::new(Arc::new(config));
    config.token_store(Arc::new(CopiedTokens::default()));
    Ok(config)
}

/// Address validation tokens for later connections (RFC 9000 §8.1.3). They are kept as copies: what quinn-proto hands
/// over is a slice of the packet that brought it, which would hold packet memory for as long as the token.
#[derive(Default)]
struct CopiedTokens(TokenMemoryCache);

impl TokenStore for CopiedTokens {
    fn insert(&self, server_name: &str, token: Bytes) {
        self.0.insert(server_name, Bytes::copy_from_slice(&token));
    }

    fn take(&self, server_name: &str) -> Option<Bytes> {
        self.0.take(server_name)
    }
}
