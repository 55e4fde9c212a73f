//! What can be wrong with keys, certificates and TLS settings.

use std::path::PathBuf;

use thiserror::Error;

/// Why a TLS configuration cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not a fingerprint.
    #[error("{0:?} is not a certificate fingerprint: write `sha256:` and 64 hexadecimal digits")]
    Fingerprint(String),
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not PEM.
    #[error("{} is not a PEM file: {reason}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A PEM file without a certificate.
    #[error("no certificate in {}: it needs a section `BEGIN CERTIFICATE`", .0.display())]
    NoCertificate(PathBuf),
    /// A PEM file without a private key.
    #[error("no private key in {}: it needs a section `BEGIN PRIVATE KEY` (PKCS#8), `EC` or `RSA PRIVATE KEY`", .0.display())]
    NoKey(PathBuf),
    /// A certificate that is not X.509 as RFC 5280 has it.
    #[error("malformed certificate in {}: {reason}", file.display())]
    BadCertificate {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A private key that cannot be used.
    #[error("unusable private key in {}: {reason}; ECDSA (P-256, P-384), Ed25519 and RSA keys work", file.display())]
    BadKey {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A certificate for another key.
    #[error("the certificate in {} does not belong to the private key in {}: give the pair that was made together", certificate.display(), key.display())]
    KeyMismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the private key.
        key: PathBuf,
    },
    /// A certificate whose time has passed.
    #[error("the certificate in {} expired {} ago: renew it", file.display(), age(*.seconds))]
    Expired {
        /// The file.
        file: PathBuf,
        /// How long ago, in seconds.
        seconds: u64,
    },
    /// A certificate whose time has not come.
    #[error("the certificate in {} becomes valid in {}: check the machine's clock", file.display(), age(*.seconds))]
    NotYetValid {
        /// The file.
        file: PathBuf,
        /// How far ahead, in seconds.
        seconds: u64,
    },
    /// No self-signed certificate can be made for these names.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(rcgen::Error),
    /// No verifier can be made from the trust anchors.
    #[error("cannot verify clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// rustls refuses the settings.
    #[error("TLS settings: {0}")]
    Rustls(#[from] rustls::Error),
    /// No cipher suite for QUIC's Initial packets.
    #[error("TLS settings: {0}")]
    NoInitialSuite(#[from] quinn_proto::crypto::rustls::NoInitialCipherSuite),
}

/// A length of time in the unit a person would use.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
