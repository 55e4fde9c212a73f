//! Certificates made for one test: an authority, and leaves signed by it or not.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::KERNEL_ADDRESS;

/// A certificate chain and its key, as files.
pub struct Identity {
    /// PEM file of the chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// The certificates of one test.
pub struct Pki {
    /// PEM file of the authority, to be trusted.
    pub anchor: PathBuf,
    /// For `localhost` and `KERNEL_ADDRESS`, signed by the authority.
    pub server: Identity,
    /// For `client`, signed by the authority.
    pub client: Identity,
    /// For `localhost`, signed by itself: nobody trusts it.
    pub stranger: Identity,
    /// For `localhost`, signed by the authority, out of date since 2021.
    pub expired: Identity,
}

impl Pki {
    /// Makes all of them in a folder.
    pub fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, new_key()).expect("valid parameters");
        let anchor = folder.join("anchor.pem");
        std::fs::write(&anchor, authority.pem()).expect("the test folder is writable");

        let signed = |names: &[&str], file: &str, years: std::ops::Range<i32>| {
            let key = new_key();
            let params = leaf(names, years);
            let certificate = params
                .signed_by(&key, &authority)
                .expect("valid parameters");
            Identity::write(folder, file, &certificate.pem(), &key)
        };
        let address = KERNEL_ADDRESS.to_string();
        let server = signed(&["localhost", &address], "server", 2020..2120);
        let client = signed(&["client"], "client", 2020..2120);
        let expired = signed(&["localhost"], "expired", 2020..2021);

        let key = new_key();
        let certificate = leaf(&["localhost"], 2020..2120)
            .self_signed(&key)
            .expect("valid");
        let stranger = Identity::write(folder, "stranger", &certificate.pem(), &key);
        Self {
            anchor,
            server,
            client,
            stranger,
            expired,
        }
    }
}

impl Identity {
    fn write(folder: &Path, file: &str, chain: &str, key: &KeyPair) -> Self {
        let certificate = folder.join(format!("{file}.pem"));
        let key_file = folder.join(format!("{file}.key"));
        std::fs::write(&certificate, chain).expect("the test folder is writable");
        std::fs::write(&key_file, key.serialize_pem()).expect("the test folder is writable");
        Self {
            certificate,
            key: key_file,
        }
    }

    /// The chain, as rustls takes it.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_file_iter(&self.certificate).expect("readable");
        certificates
            .collect::<Result<_, _>>()
            .expect("PEM written by this module")
    }

    /// The key, as rustls takes it.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).expect("PEM written by this module")
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("AWS-LC makes P-256 keys")
}

/// The first of the names is the common name, too.
fn leaf(names: &[&str], years: std::ops::Range<i32>) -> CertificateParams {
    let all: Vec<String> = names.iter().copied().map(Into::into).collect();
    let mut params = CertificateParams::new(all).expect("DNS names and addresses");
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    params
}
