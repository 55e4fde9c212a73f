//! The hash by which a browser is told to believe a key.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::server::ParsedCertificate;
use stoq::Identity;

use super::Result;

/// SHA-256, in Base64, of the public key in a certificate (SubjectPublicKeyInfo, RFC 5280 §4.1): what Chromium takes
/// as `--ignore-certificate-errors-spki-list`.
pub fn hash(identity: &Identity) -> Result<String> {
    let certificate = ParsedCertificate::try_from(&identity.chain()[0])?;
    let key = certificate.subject_public_key_info();
    Ok(base64(digest(&SHA256, &key).as_ref()))
}

/// Three bytes become four characters, and what is missing of the last three `=` (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| {
            bits << 8 | usize::from(*three.get(i).unwrap_or(&0))
        });
        let length = three.len();
        [18, 12, 6, 0]
            .into_iter()
            .enumerate()
            .map(move |(i, shift)| {
                if i > length {
                    '='
                } else {
                    char::from(ALPHABET[bits >> shift & 63])
                }
            })
    };
    bytes.chunks(3).flat_map(group).collect()
}
