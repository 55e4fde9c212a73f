//! What can be wrong with keys, certificates and TLS settings.

use thiserror::Error;

/// Why a TLS configuration cannot be made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Not a fingerprint.
    #[error("{0:?} is not a certificate fingerprint: write `sha256:` and 64 hexadecimal digits")]
    Fingerprint(String),
}
