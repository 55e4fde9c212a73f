//! Random numbers that nobody can guess, from the operating system.

use rustls::crypto::GetRandomFailed;
use rustls::crypto::aws_lc_rs::default_provider;

/// So many random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], GetRandomFailed> {
    let mut bytes = [0; N];
    default_provider().secure_random.fill(&mut bytes)?;
    Ok(bytes)
}
