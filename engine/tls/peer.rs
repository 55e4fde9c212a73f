//! Who the peer is, from its verified certificate chain.

use std::any::Any;

use rustls::pki_types::CertificateDer;

use super::Fingerprint;
use super::x509::Certificate;

/// A peer's identity: the certificate chain that it proved to own, and that was verified as the configuration asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    names: Vec<String>,
}

impl PeerIdentity {
    /// From what quinn-proto's TLS session says; `None` when there is no certificate.
    pub(crate) fn from_session(identity: Box<dyn Any>) -> Option<Self> {
        let chain = *identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let leaf = chain.first()?;
        let fingerprint = Fingerprint::of(leaf);
        let names = Certificate::parse(leaf)
            .map(|certificate| certificate.names)
            .unwrap_or_default();
        Some(Self {
            chain,
            fingerprint,
            names,
        })
    }

    /// The chain as the peer sent it, its own certificate first, in DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// SHA-256 of the peer's own certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The subject alternative names (DNS names, IP addresses, URIs, mail addresses), else the common name. Names
    /// that are not valid UTF-8 are left out.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}
