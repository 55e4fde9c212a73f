//! Content whose every page differs, and its SHA-256.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

/// SHA-256 of a file or a stream.
#[derive(PartialEq, Eq, Clone)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a whole file.
    pub fn of_file(path: &Path) -> Self {
        let mut hasher = Hasher::default();
        let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        std::io::copy(&mut file, &mut hasher).expect("the file is readable");
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 in the making.
pub struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    /// Ends it.
    pub fn finish(self) -> Digest {
        Digest(
            self.0
                .finish()
                .as_ref()
                .try_into()
                .expect("SHA-256 has 32 bytes"),
        )
    }
}

impl Write for Hasher {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Blocks of up to 1 MiB that make up `size` bytes. Every 4 KiB page carries its number, so that
/// pages exchanged, doubled or left out change the hash.
pub fn blocks(size: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    })
    .take(BLOCK / 8)
    .flatten()
    .collect();
    (0..size.div_ceil(BLOCK as u64)).map(move |number| {
        let start = number * BLOCK as u64;
        let mut block = noise.clone();
        for (index, page) in block.chunks_exact_mut(PAGE).enumerate() {
            page[..8].copy_from_slice(&(start / PAGE as u64 + index as u64).to_be_bytes());
        }
        block.truncate((size - start).min(BLOCK as u64) as usize);
        block
    })
}

/// Writes a file of `size` bytes and returns its SHA-256.
pub fn write_file(path: &Path, size: u64) -> Digest {
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = Hasher::default();
    for block in blocks(size) {
        hasher.write_all(&block).expect("hashing does not fail");
        file.write_all(&block)
            .expect("there is room for the test's file");
    }
    hasher.finish()
}
