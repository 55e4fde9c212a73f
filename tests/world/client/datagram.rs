//! Unreliable datagrams: each has a name and bytes that follow from it.

use bytes::Bytes;

use crate::ledger::{Book, Way};
use crate::pattern;

/// The name of a datagram, apart from those of streams.
pub fn name(number: u32, attempt: u16, index: u16) -> u64 {
    crate::ledger::tag(number, attempt, index) | 1 << 63
}

pub fn make(name: u64, len: u64) -> Bytes {
    let mut bytes = name.to_be_bytes().to_vec();
    bytes.extend_from_slice(&pattern::piece(name, 0, len));
    Bytes::from(bytes)
}

/// Writes down that one came.
pub fn check(book: &Book, bytes: &[u8], way: Way) {
    let mut ledger = book.lock();
    match bytes.split_first_chunk::<8>() {
        Some((name, rest)) if pattern::is(u64::from_be_bytes(*name), 0, rest) => {
            ledger.datagram(u64::from_be_bytes(*name), way);
        }
        _ => ledger.violate(format!("a datagram of {} bytes is not ours", bytes.len())),
    }
}
