//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(
    /// The six bytes in the order they are sent.
    pub [u8; 6],
);

impl MacAddr {
    /// True for multicast and broadcast: the lowest bit of the first byte.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address that frames to the multicast address `group` carry: 33:33 and its last 32 bits (RFC 2464 §7).
    pub const fn of_multicast(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }

    /// The modified EUI-64 interface identifier: ff:fe in the middle, universal/local bit inverted (RFC 4291
    /// appendix A).
    pub const fn interface_id(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The link-local address made from this address: fe80::/64 and the [interface identifier](Self::interface_id).
    pub fn link_local(self) -> Ipv6Addr {
        self.address_in(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0))
    }

    /// The upper 64 bits of `prefix` followed by the [interface identifier](Self::interface_id) (RFC 4862 §5.5.3).
    pub fn address_in(self, prefix: Ipv6Addr) -> Ipv6Addr {
        let [p0, p1, p2, p3, p4, p5, p6, p7, ..] = prefix.octets();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.interface_id();
        Ipv6Addr::from([
            p0, p1, p2, p3, p4, p5, p6, p7, i0, i1, i2, i3, i4, i5, i6, i7,
        ])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a MAC address: write six two-digit hexadecimal bytes, such as 02:00:00:00:00:01"
)]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Six two-digit hexadecimal bytes separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(error)?;
            // from_str_radix accepts a sign, which is no part of an address.
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x02, 0x1b, 0x21, 0xab, 0xcd, 0xef]);

    #[test]
    fn text_goes_both_ways() {
        assert_eq!(MAC.to_string(), "02:1b:21:ab:cd:ef");
        assert_eq!("02:1b:21:ab:cd:ef".parse(), Ok(MAC));
        assert_eq!("02-1B-21-AB-CD-EF".parse(), Ok(MAC));
    }

    #[test]
    fn wrong_text_is_refused_with_the_text_in_the_message() {
        for text in [
            "",
            "02:1b",
            "02:1b:21:ab:cd:ef:00",
            "02:1b:21:ab:cd:+f",
            "2:1b:21:ab:cd:ef",
            "02:1b:21:ab:cd:eg",
        ] {
            let error = text.parse::<MacAddr>().unwrap_err();
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn multicast_maps_to_33_33() {
        let group: Ipv6Addr = "ff02::1:ffab:cdef".parse().unwrap();
        let mac = MacAddr::of_multicast(group);
        assert_eq!(mac.to_string(), "33:33:ff:ab:cd:ef");
        assert!(mac.is_multicast());
        assert!(!MAC.is_multicast());
    }

    #[test]
    fn link_local_is_modified_eui64() {
        let expected: Ipv6Addr = "fe80::1b:21ff:feab:cdef".parse().unwrap();
        assert_eq!(MAC.link_local(), expected);
        let universal = MacAddr([0x00, 0x1b, 0x21, 0xab, 0xcd, 0xef]);
        let expected: Ipv6Addr = "2001:db8:1:2:21b:21ff:feab:cdef".parse().unwrap();
        let prefix = "2001:db8:1:2::".parse().unwrap();
        assert_eq!(universal.address_in(prefix), expected);
    }
}
