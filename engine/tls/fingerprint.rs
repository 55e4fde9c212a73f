//! SHA-256 fingerprints of certificates.

use std::fmt;
use std::str::FromStr;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::TlsError;

/// SHA-256 of a certificate in DER. Written and read as `sha256:` and 64 hexadecimal digits; colons between the
/// digits, as `openssl x509 -fingerprint` prints them, are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13();
        let mut digest = [0; 32];
        if let Some(suite) = suite {
            let hash = suite.common.hash_provider.hash(certificate);
            digest.copy_from_slice(hash.as_ref());
        }
        Self(digest)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        let invalid = || TlsError::Fingerprint(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let mut nibbles = digits.chars().filter(|&c| c != ':').map(|c| c.to_digit(16));
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let high = nibbles.next().flatten().ok_or_else(invalid)?;
            let low = nibbles.next().flatten().ok_or_else(invalid)?;
            *byte = (high << 4 | low) as u8;
        }
        match nibbles.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_known_input() {
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::of(b"abc").to_string(), expected);
    }

    #[test]
    fn reads_what_it_writes_and_what_openssl_writes() {
        let fingerprint = Fingerprint::of(b"x");
        assert_eq!(
            fingerprint.to_string().parse::<Fingerprint>().unwrap(),
            fingerprint
        );
        let colons: Vec<_> = fingerprint
            .0
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let text = format!("sha256:{}", colons.join(":"));
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn refuses_anything_else() {
        let good = Fingerprint::of(b"x").to_string();
        for bad in [
            "",
            "sha256:",
            &good[7..],
            &good[..70],
            &format!("{good}0"),
            "sha256:zz",
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
