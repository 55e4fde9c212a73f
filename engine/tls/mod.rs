//! TLS 1.3 for QUIC through rustls, with AWS-LC as its cryptography.
//!
//! An [`Identity`] is who we are, [`Trust`] is whom a client believes, [`ClientAuth`] is what a server asks of its
//! clients, and [`PeerIdentity`] is what came of it. When the environment variable `SSLKEYLOGFILE` names a file, the
//! secrets of every connection are appended to it, for Wireshark.

mod client;
mod error;
mod fingerprint;
mod identity;
mod peer;
mod server;
mod trust;
mod x509;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};

pub use client::{ClientTls, client_config};
pub use error::TlsError;
pub use fingerprint::Fingerprint;
pub use identity::Identity;
pub use peer::PeerIdentity;
pub use server::{ClientAuth, ServerTls, server_config};
pub use trust::{Anchors, Trust};

/// The cryptography, named explicitly so that no process-wide default is needed.
///
/// Clients offer AES-128 first: QUIC needs it for Initial packets anyway, and its ten rounds against the fourteen of
/// AES-256 are felt where every packet passes it. Servers follow the client's order, which knows its hardware.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    })
}
