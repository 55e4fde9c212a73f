//! A keyed hash: for table positions an attacker cannot choose.

use std::hash::{BuildHasher, Hasher};
use std::net::Ipv6Addr;

use crate::random::Random;

/// A hash of addresses under a secret key. Good enough to spread keys an attacker may choose but not to guard secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedHash {
    keys: [u64; 2],
}

impl KeyedHash {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            keys: [random.next(), random.next()],
        }
    }

    /// Two rounds of a 64×64→128-bit multiplication whose halves are folded together.
    #[inline]
    pub(super) fn of(self, address: Ipv6Addr) -> u64 {
        let bits = address.to_bits();
        let mixed = fold(
            (bits >> 64) as u64 ^ self.keys[0],
            bits as u64 ^ self.keys[1],
        );
        fold(mixed ^ self.keys[1], self.keys[0] | 1)
    }

    /// A flow label for datagrams between two UDP ports of two hosts: the same for all of a flow, hard to guess, never
    /// 0 (RFC 6437 §3).
    #[inline]
    pub(super) fn flow_label(
        self,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        src_port: u16,
        dst_port: u16,
    ) -> u32 {
        let ports = u64::from(src_port) << 16 | u64::from(dst_port);
        let mixed = fold(self.of(src) ^ ports, self.of(dst).rotate_left(32));
        (mixed as u32 & 0x000f_ffff).max(1)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

impl BuildHasher for KeyedHash {
    type Hasher = AddressHasher;

    fn build_hasher(&self) -> AddressHasher {
        AddressHasher {
            hash: *self,
            state: 0,
        }
    }
}

/// The [`Hasher`] of [`KeyedHash`]: takes the sixteen bytes of an address.
#[derive(Debug)]
pub(super) struct AddressHasher {
    hash: KeyedHash,
    state: u64,
}

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(16) {
            let mut octets = [0; 16];
            for (to, from) in octets.iter_mut().zip(block) {
                *to = *from;
            }
            self.state ^= self.hash.of(octets.into());
        }
    }

    // An array hashes its length first; all keys have the same.
    fn write_usize(&mut self, _len: usize) {}
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_addresses_spread_over_a_small_table() {
        let hash = KeyedHash::new(&mut Random::new(7));
        let base = u128::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0));
        let slots: HashSet<u64> = (0..256).map(|i| hash.of((base + i).into()) & 255).collect();
        // 256 balls into 256 boxes hit about 162.
        assert!(slots.len() > 130, "{} slots", slots.len());
    }

    #[test]
    fn the_key_decides_and_the_map_uses_the_same_hash() {
        let a = KeyedHash::new(&mut Random::new(1));
        let b = KeyedHash::new(&mut Random::new(2));
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_ne!(a.of(address), b.of(address));
        assert_eq!(a.hash_one(address), a.of(address));
    }

    #[test]
    fn flow_labels_differ_by_port_and_fit_20_bits() {
        let hash = KeyedHash::new(&mut Random::new(3));
        let (x, y) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let labels: HashSet<u32> = (1..100).map(|p| hash.flow_label(x, y, p, 443)).collect();
        assert!(labels.len() > 95);
        assert!(labels.iter().all(|label| (1..1 << 20).contains(label)));
    }
}
