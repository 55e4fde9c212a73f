//! The Internet checksum (RFC 1071).

use std::net::Ipv6Addr;

/// A running ones' complement sum.
///
/// It is kept in the byte order of memory and of the machine: the sum of byte-swapped words is the byte-swapped sum
/// (RFC 1071 §2), so only the result is turned round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum over no bytes.
    pub const fn new() -> Self {
        Self(0)
    }

    /// The sum of the pseudo-header that UDP and ICMPv6 checksums start with (RFC 8200 §8.1). `len` is the length of
    /// the upper-layer header and data in bytes.
    #[inline]
    pub fn of_pseudo_header(src: Ipv6Addr, dst: Ipv6Addr, len: u16, protocol: u8) -> Self {
        let mut sum = Self(0);
        sum.add_words(&src.octets());
        sum.add_words(&dst.octets());
        sum.add_u16(len);
        sum.add_u16(u16::from(protocol));
        sum
    }

    /// Adds `bytes`. Of several pieces, all but the last must have an even length; an odd last byte is padded with 0.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        // Eight independent 64-bit lanes over 32-bit words: the compiler turns this into vector adds on every target,
        // and no carry can be lost below 16 GiB.
        let mut lanes = [0_u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        self.0 += lanes.iter().sum::<u64>();
        self.add_words(rest);
    }

    /// Adds a 16-bit number that is sent in network byte order.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        self.0 += u64::from(value.to_be());
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum to send: the complement of the sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// True when the sum covers a correct checksum.
    #[inline]
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }

    #[inline]
    fn add_words(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        self.0 += u64::from(u32::from_ne_bytes(last));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn fast(bytes: &[u8]) -> u16 {
        let mut sum = Sum::new();
        sum.add(bytes);
        sum.fold()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fast(&bytes), 0xddf2);
    }

    #[test]
    fn every_short_length_and_all_ones() {
        let bytes: Vec<u8> = (0..200).map(|i| (i * 37 + 11) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(fast(&bytes[..len]), naive(&bytes[..len]), "length {len}");
        }
        assert_eq!(fast(&[0xff; 65_535]), naive(&[0xff; 65_535]));
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2100), cut in 0_usize..2100) {
            prop_assert_eq!(fast(&bytes), naive(&bytes));
            let (a, b) = bytes.split_at((cut & !1).min(bytes.len() & !1));
            let mut sum = Sum::new();
            sum.add(a);
            sum.add(b);
            prop_assert_eq!(sum.fold(), naive(&bytes));
        }

        #[test]
        fn pseudo_header_is_its_bytes(src: u128, dst: u128, len: u16, protocol: u8) {
            let mut bytes = Vec::new();
            bytes.extend(src.to_be_bytes());
            bytes.extend(dst.to_be_bytes());
            bytes.extend(u32::from(len).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            let sum = Sum::of_pseudo_header(src.into(), dst.into(), len, protocol);
            prop_assert_eq!(sum.fold(), naive(&bytes));
        }
    }
}
