//! Addresses and fingerprints, as people write them: `fd00::1/64`, `[fd00::1]:4433`, `sha256:…`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// An IPv6 address with the length of its on-link prefix: `fd00:5701::1/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The host's address: global or unique local unicast.
    pub address: Ipv6Addr,
    /// Length of the prefix in bits, 1..=128.
    pub length: u8,
}

/// A unicast IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub Ipv6Addr);

/// A unicast IPv6 address with a UDP port: `[fd00:5701::1]:4433`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote(pub SocketAddrV6);

/// An address of this machine's kernel with a TCP port: `[::1]:9464`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

/// SHA-256 of a certificate in DER: `sha256:` and 64 hexadecimal digits; colons between bytes are fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, length)) = text.split_once('/') else {
            unicast(text)?;
            return Err(format!("`{text}` has no prefix length: write `{text}/64`"));
        };
        let address = unicast(address)?;
        let length = length
            .parse()
            .ok()
            .filter(|length| (1..=128).contains(length));
        let length =
            length.ok_or_else(|| format!("`{text}`: the prefix length must be 1..=128"))?;
        Ok(Self { address, length })
    }
}

impl Prefix {
    /// True when `address` lies in this prefix.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        let shift = 128 - u32::from(self.length);
        self.address.to_bits() >> shift == address.to_bits() >> shift
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.length))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        unicast(text).map(Self)
    }
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(SocketAddr::V6(remote)) if remote.port() == 0 => {
                Err(format!("`{text}`: the UDP port must be 1..=65535"))
            }
            Ok(SocketAddr::V6(remote)) => {
                unicast(&remote.ip().to_string())?;
                Ok(Self(remote))
            }
            Ok(SocketAddr::V4(_)) => Err(format!("`{text}` is IPv4; the engine speaks IPv6 only")),
            Err(_) => Err(format!(
                "`{text}` is not an IPv6 address with a UDP port such as [fd00:5701::1]:4433"
            )),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is not an address with a TCP port such as [::1]:9464"))
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not `sha256:` and 64 hexadecimal digits");
        let digits = text
            .strip_prefix("sha256:")
            .ok_or_else(wrong)?
            .replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// An address that a host may have and a datagram may be sent to.
fn unicast(text: &str) -> Result<Ipv6Addr, String> {
    let address = match text.parse() {
        Ok(IpAddr::V6(address)) => address,
        Ok(IpAddr::V4(_)) => {
            return Err(format!("`{text}` is IPv4; the engine speaks IPv6 only"));
        }
        Err(_) => return Err(format!("`{text}` is not an IPv6 address")),
    };
    let kind = match address {
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "the loopback address, which no port has",
        _ if address.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
        _ => return Ok(address),
    };
    Err(format!(
        "`{text}` is {kind}; a unicast IPv6 address is needed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: FromStr<Err = String> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err()
    }

    #[test]
    fn addresses() {
        let prefix: Prefix = "fd00:5701::1/64".parse().unwrap();
        assert_eq!(prefix.length, 64);
        assert!(prefix.contains("fd00:5701::ffff".parse().unwrap()));
        assert!(!prefix.contains("fd00:5702::1".parse().unwrap()));
        assert!(
            "fd00::1/128"
                .parse::<Prefix>()
                .unwrap()
                .contains("fd00::1".parse().unwrap())
        );
        assert_eq!(
            error::<Prefix>("fd00::1"),
            "`fd00::1` has no prefix length: write `fd00::1/64`"
        );
        assert_eq!(
            error::<Prefix>("10.0.0.1/8"),
            "`10.0.0.1` is IPv4; the engine speaks IPv6 only"
        );
        assert_eq!(
            error::<Prefix>("fd00::1/129"),
            "`fd00::1/129`: the prefix length must be 1..=128"
        );
        assert!(error::<Prefix>("ff02::1/64").contains("multicast"));
        assert!(error::<Address>("::1").contains("loopback"));
        assert!("[fd00::1]:4433".parse::<Remote>().is_ok());
        assert!(error::<Remote>("[fd00::1]:0").contains("1..=65535"));
        assert!(error::<Remote>("fd00::1").contains("such as [fd00:5701::1]:4433"));
        assert!(error::<Remote>("10.0.0.1:4433").contains("IPv6 only"));
        assert!("[::1]:9464".parse::<Listen>().is_ok());
        assert!("127.0.0.1:0".parse::<Listen>().is_ok());
        assert!(error::<Listen>("9464").contains("such as [::1]:9464"));
    }

    #[test]
    fn fingerprints() {
        let hex = "ab".repeat(32);
        assert_eq!(format!("sha256:{hex}").parse(), Ok(Fingerprint([0xab; 32])));
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(
            format!("sha256:{colons}").parse(),
            Ok(Fingerprint([0xab; 32]))
        );
        assert!(error::<Fingerprint>("sha256:abcd").contains("64 hexadecimal digits"));
        assert!(error::<Fingerprint>(&hex).contains("`sha256:`"));
    }
}
