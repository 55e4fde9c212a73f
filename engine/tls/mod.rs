//! TLS 1.3 for QUIC through rustls, with *ring* as its cryptography.

mod error;
mod fingerprint;
mod peer;
mod x509;

pub use error::TlsError;
pub use fingerprint::Fingerprint;
pub use peer::PeerIdentity;
