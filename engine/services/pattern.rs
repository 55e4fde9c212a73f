//! Bytes to fill requests and responses with, without copying or allocating.

use std::sync::LazyLock;

use bytes::Bytes;

/// Size of the pattern, and so of the largest piece, in bytes.
///
/// quinn-proto searches a stream's send buffer piece by piece for each packet, which asks for large pieces; and it
/// gives back send window only when a whole piece is acknowledged, which asks for pieces much smaller than the window.
pub(crate) const PIECE: usize = 256 * 1024;

static PATTERN: LazyLock<&'static [u8]> = LazyLock::new(|| {
    let bytes: Vec<u8> = (0..PIECE).map(byte_at).collect();
    Vec::leak(bytes)
});

/// The byte at an offset below [`PIECE`]. 251 is prime, so that no shift by a power of two goes unnoticed.
fn byte_at(offset: usize) -> u8 {
    (offset % 251) as u8
}

/// What to send at `offset` of a stream on which `left` bytes are still to be sent: a slice of static memory, empty
/// only if `left` is 0.
pub(crate) fn piece(offset: u64, left: u64) -> Bytes {
    let start = (offset % PIECE as u64) as usize;
    let end = left.saturating_add(start as u64).min(PIECE as u64) as usize;
    Bytes::from_static(PATTERN.get(start..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_continue_each_other_and_are_not_copies() {
        let whole = piece(0, u64::MAX);
        assert_eq!(whole.len(), PIECE);
        assert_eq!(piece(PIECE as u64, 1).as_ptr(), whole.as_ptr());
        let middle = piece(1000, 50);
        assert_eq!(middle.as_ptr(), whole[1000..].as_ptr());
        assert_eq!(middle.len(), 50);
        assert_eq!(piece((1 << 40) + 7, u64::MAX).len(), PIECE - 7);
        assert!(piece(5, 0).is_empty());
    }
}
