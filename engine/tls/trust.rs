//! Whom we believe: trust anchors from files, and verifiers that pin one certificate or believe anybody.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::identity::certificates;
use super::{Fingerprint, TlsError, provider};

/// Certificates of authorities that are believed.
#[derive(Debug, Clone)]
pub struct Anchors(pub(super) Arc<RootCertStore>);

impl Anchors {
    /// Reads trust anchors from PEM files.
    pub fn from_files(files: &[PathBuf]) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for file in files {
            for certificate in certificates(file)? {
                store
                    .add(certificate)
                    .map_err(|error| TlsError::BadCertificate {
                        file: file.clone(),
                        reason: error.to_string(),
                    })?;
            }
        }
        Ok(Self(Arc::new(store)))
    }

    /// Trust anchors in DER.
    ///
    /// # Errors
    /// One of them is no certificate.
    pub fn from_certificates<'a>(
        certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate.clone())?;
        }
        Ok(Self(Arc::new(store)))
    }
}

/// Whom a client believes to be the server it asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Trust {
    /// Who shows a certificate for the server's name that one of these authorities signed.
    Anchors(Anchors),
    /// Who shows this very certificate, in DER, whatever name and time it bears.
    Certificate(CertificateDer<'static>),
    /// Who shows the certificate with this fingerprint, whatever name and time it bears.
    Fingerprint(Fingerprint),
    /// Anybody. Protects against listeners, not against impostors: for tests only.
    Insecure,
}

impl Trust {
    /// The verifier that rustls asks.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let pinned = match self {
            Self::Anchors(anchors) => {
                let anchors = anchors.0.clone();
                return Ok(
                    WebPkiServerVerifier::builder_with_provider(anchors, provider()).build()?,
                );
            }
            Self::Certificate(certificate) => Some(Fingerprint::of(certificate)),
            Self::Fingerprint(fingerprint) => Some(*fingerprint),
            Self::Insecure => None,
        };
        let provider = provider();
        Ok(Arc::new(Pinned { pinned, provider }))
    }
}

/// Believes one certificate, or any. That the server owns its key is verified in both cases.
#[derive(Debug)]
struct Pinned {
    pinned: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(end_entity);
        match self.pinned {
            Some(pinned) if pinned != shown => {
                let error = OtherError(Arc::new(WrongFingerprint { pinned, shown }));
                Err(CertificateError::Other(error).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is {shown}, trusted is {pinned}")]
struct WrongFingerprint {
    pinned: Fingerprint,
    shown: Fingerprint,
}
