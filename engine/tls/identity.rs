//! A certificate chain and its private key: from files, or made at start.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::x509::Certificate;
use super::{Fingerprint, TlsError, Trust, provider};

/// A certificate chain and its private key, known to belong together.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads a chain (own certificate first) and its key from PEM files, and checks that they can be used now: the
    /// certificate belongs to the key and is within its time.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(key.to_owned()),
            error => read_error(key, error),
        })?;
        for der in &chain {
            check(der, certificate, SystemTime::now())?;
        }
        let inconsistent = |error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            rustls::Error::InvalidCertificate(error) => TlsError::BadCertificate {
                file: certificate.to_owned(),
                reason: format!("{error:?}"),
            },
            error => TlsError::BadKey {
                file: key.to_owned(),
                reason: error.to_string(),
            },
        };
        Self::new(chain, private_key).map_err(inconsistent)
    }

    /// Makes a key (ECDSA P-256) and a certificate for `names`, signed by itself: for demonstrations and tests, or
    /// where the peer knows the [fingerprint](Self::fingerprint).
    ///
    /// ```
    /// let identity = stoq::Identity::self_signed(["localhost"])?;
    /// println!("{}", identity.fingerprint());
    /// # Ok::<(), stoq::tls::TlsError>(())
    /// ```
    ///
    /// # Errors
    /// A name is not one that a certificate can bear.
    pub fn self_signed<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, TlsError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(TlsError::SelfSigned)?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Ok(Self::new(vec![made.cert.into()], key)?)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        let fingerprint = Fingerprint::of(certified.end_entity_cert()?);
        Ok(Self {
            certified: Arc::new(certified),
            fingerprint,
        })
    }

    /// The chain, own certificate first, in DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The trust of a client that knows this very certificate beforehand, whatever names and time it bears.
    pub fn trust(&self) -> Trust {
        Trust::Certificate(self.certified.cert[0].clone())
    }

    /// SHA-256 of the own certificate: what a peer can pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let items = CertificateDer::pem_file_iter(file).map_err(|error| read_error(file, error))?;
    let chain: Vec<_> = items
        .collect::<Result<_, _>>()
        .map_err(|error| read_error(file, error))?;
    match chain.is_empty() {
        true => Err(TlsError::NoCertificate(file.to_owned())),
        false => Ok(chain),
    }
}

fn read_error(file: &Path, error: pem::Error) -> TlsError {
    let file = file.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { file, source },
        error => TlsError::Pem {
            file,
            reason: error.to_string(),
        },
    }
}

fn check(der: &[u8], file: &Path, now: SystemTime) -> Result<(), TlsError> {
    let file = file.to_owned();
    let Some(certificate) = Certificate::parse(der) else {
        let reason = "not an X.509 certificate".to_owned();
        return Err(TlsError::BadCertificate { file, reason });
    };
    if let Ok(ago) = now.duration_since(certificate.not_after) {
        let seconds = ago.as_secs();
        return Err(TlsError::Expired { file, seconds });
    }
    if let Ok(ahead) = certificate.not_before.duration_since(now)
        && !ahead.is_zero()
    {
        let seconds = ahead.as_secs();
        return Err(TlsError::NotYetValid { file, seconds });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
            }
        }

        fn write(&self, name: &str, contents: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, contents).unwrap();
            path
        }

        /// A certificate and key valid between two years.
        fn pair(&self, name: &str, from: i32, to: i32) -> (PathBuf, PathBuf) {
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().pem();
            (
                self.write(&format!("{name}.pem"), &certificate),
                self.write(&format!("{name}.key"), &key.serialize_pem()),
            )
        }
    }

    fn message(certificate: &Path, key: &Path) -> String {
        Identity::from_files(certificate, key)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn reads_a_pair_and_knows_its_fingerprint() {
        let files = Files::new();
        let (certificate, key) = files.pair("good", 2020, 2090);
        let identity = Identity::from_files(&certificate, &key).unwrap();
        assert_eq!(
            identity.fingerprint(),
            Fingerprint::of(&identity.chain()[0])
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let files = Files::new();
        let (certificate, key) = files.pair("one", 2020, 2090);
        let (other, other_key) = files.pair("two", 2020, 2090);
        let (expired, expired_key) = files.pair("old", 2001, 2002);
        let (early, early_key) = files.pair("new", 2089, 2090);
        let empty = files.write("empty", "");
        let absent = files.dir.path().join("absent");
        let pem = fs::read_to_string(&certificate).unwrap();
        let cut = files.write("cut", &pem[..pem.len() / 2]);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let garbage = files.write("garbage", garbage);

        let text = message(&other, &key);
        assert!(
            text.contains("two.pem") && text.contains("one.key"),
            "{text}"
        );
        assert!(text.contains("does not belong"), "{text}");
        assert!(message(&certificate, &other_key).contains("does not belong"));
        assert!(message(&expired, &expired_key).contains("old.pem expired"));
        assert!(message(&early, &early_key).contains("becomes valid in"));
        assert!(message(&empty, &key).contains("no certificate in"));
        assert!(message(&certificate, &empty).contains("no private key in"));
        assert!(message(&absent, &key).contains("cannot read"));
        assert!(message(&certificate, &absent).contains("cannot read"));
        assert!(message(&cut, &key).contains("not a PEM file"));
        assert!(message(&garbage, &key).contains("malformed certificate"));
    }

    #[test]
    fn the_last_second_counts() {
        let files = Files::new();
        let (certificate, _) = files.pair("edge", 2020, 2030);
        let der = &certificates(&certificate).unwrap()[0];
        let parsed = Certificate::parse(der).unwrap();
        let second = std::time::Duration::from_secs(1);
        assert!(check(der, &certificate, parsed.not_before).is_ok());
        assert!(check(der, &certificate, parsed.not_before - second).is_err());
        assert!(check(der, &certificate, parsed.not_after - second).is_ok());
        assert!(check(der, &certificate, parsed.not_after + second).is_err());
    }
}
