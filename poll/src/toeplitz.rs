//! The Toeplitz hash, computed as a network card does for receive side scaling.

use std::net::{Ipv6Addr, SocketAddrV6};

/// Bytes of an address pair and a port pair: what is hashed.
const INPUT: usize = 16 + 16 + 2 + 2;

/// The hash of a UDP datagram over IPv6 from `src` to `dst`, as the device that receives it computes it with `key`.
///
/// The input is source address, destination address, source port, destination port, each in network byte order
/// ("RSS hashing types" of the NDIS documentation, `NDIS_HASH_IPV6` with ports). Its 36 bytes use the first 40 bytes of
/// the key; a longer key's rest changes nothing, and bytes that a shorter key lacks count as zero.
pub fn toeplitz(key: &[u8], src: SocketAddrV6, dst: SocketAddrV6) -> u32 {
    let mut input = [0; INPUT];
    input[..16].copy_from_slice(&src.ip().octets());
    input[16..32].copy_from_slice(&dst.ip().octets());
    input[32..34].copy_from_slice(&src.port().to_be_bytes());
    input[34..].copy_from_slice(&dst.port().to_be_bytes());
    hash(key, &input)
}

/// The hash over addresses alone (`NDIS_HASH_IPV6`), which devices use for what is no UDP.
pub(crate) fn toeplitz_addresses(key: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> u32 {
    hash(key, [src.octets(), dst.octets()].as_flattened())
}

/// For every bit of the input that is set, 32 bits of the key, from the same place on, are added without carry.
fn hash(key: &[u8], input: &[u8]) -> u32 {
    let mut key = key.iter().copied().chain(std::iter::repeat(0));
    // The first 32 bits of the key are in the upper half, the next byte follows: eight shifts use it up.
    let mut window = key
        .by_ref()
        .take(4)
        .fold(0_u64, |window, byte| window << 8 | u64::from(byte))
        << 32;
    let mut hash = 0;
    for (byte, next) in input.iter().zip(key) {
        window |= u64::from(next) << 24;
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                hash ^= (window >> 32) as u32;
            }
            window <<= 1;
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the verification suite.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    /// "Verifying the RSS hash calculation" of the NDIS documentation: source, destination, hash of the addresses,
    /// hash of addresses and ports.
    const VECTORS: [(&str, &str, u32, u32); 3] = [
        (
            "[3ffe:2501:200:1fff::7]:2794",
            "[3ffe:2501:200:3::1]:1766",
            0x2cc1_8cd5,
            0x4020_7d3d,
        ),
        (
            "[3ffe:501:8::260:97ff:fe40:efab]:14230",
            "[ff02::1]:4739",
            0x0f0c_461c,
            0xdde5_1bbf,
        ),
        (
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            "[fe80::200:f8ff:fe21:67cf]:38024",
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn address(text: &str) -> SocketAddrV6 {
        text.parse().expect("an address of the suite")
    }

    #[test]
    fn verification_vectors() {
        for (src, dst, addresses, with_ports) in VECTORS {
            let (src, dst) = (address(src), address(dst));
            assert_eq!(toeplitz(&KEY, src, dst), with_ports, "{src} -> {dst}");
            let of_addresses = toeplitz_addresses(&KEY, *src.ip(), *dst.ip());
            assert_eq!(of_addresses, addresses, "{src} -> {dst}");
        }
    }

    #[test]
    fn keys_of_other_lengths() {
        let (src, dst) = (address(VECTORS[0].0), address(VECTORS[0].1));
        let longer = [&KEY[..], &[0xff; 12]].concat();
        assert_eq!(toeplitz(&longer, src, dst), VECTORS[0].3);
        let mut zeroed = KEY;
        zeroed[20..].fill(0);
        assert_eq!(toeplitz(&KEY[..20], src, dst), toeplitz(&zeroed, src, dst));
        assert_eq!(toeplitz(&[], src, dst), 0);
    }

    #[test]
    fn the_hash_is_linear() {
        // A property of the construction, true for any key: the hash of a sum is the sum of the hashes.
        let base = address("[fd00::1]:0");
        let dst = address("[fd00::2]:4433");
        let with = |udp_port| {
            let mut src = base;
            src.set_port(udp_port);
            toeplitz(&KEY, src, dst)
        };
        assert_eq!(
            with(0x5a5a) ^ with(0),
            (with(0x5000) ^ with(0)) ^ (with(0x0a5a) ^ with(0))
        );
        assert_ne!(with(1), with(2));
    }
}
