//! What streams carry: bytes that depend on the stream and on the place in it, so that nothing can be taken for another.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::random::Random;

/// A prime, so that no step of a power of two comes back to the same place.
const PERIOD: usize = 65_521;

static TABLE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = Random::new(0x7ab1e);
    (0..PERIOD).map(|_| (random.next() >> 56) as u8).collect()
});

fn place(tag: u64, offset: u64) -> usize {
    let start = Random::new(tag).next() % PERIOD as u64;
    ((start + offset) % PERIOD as u64) as usize
}

/// The bytes of stream `tag` from `offset` on: `max` of them or fewer, but at least one if `max` is not 0.
pub fn piece(tag: u64, offset: u64, max: u64) -> Bytes {
    let start = place(tag, offset);
    let end = PERIOD.min(start + max.min(PERIOD as u64) as usize);
    TABLE.slice(start..end)
}

/// Whether `data` is what stream `tag` carries at `offset`.
pub fn is(tag: u64, mut offset: u64, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let expected = piece(tag, offset, data.len() as u64);
        let (head, tail) = data.split_at(expected.len());
        if head != expected {
            return false;
        }
        offset += head.len() as u64;
        data = tail;
    }
    true
}
