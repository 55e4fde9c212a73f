//! Values with units, as people write them: `16MiB`, `500ms`, `100/s`, `off`, `fd00::1/64`.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::port::Mbufs;

/// Bytes: a whole number with `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, or a bare number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time: a whole number with `ns`, `us`, `ms`, `s` or `m`, or a bare `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

/// Events a second: a whole number, 1 or more, with `/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

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

/// SHA-256 of a certificate in DER: `sha256:` and 64 hexadecimal digits; colons between bytes are fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A value that can be switched off with the word `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrOff<T> {
    /// The word `off`.
    Off,
    /// The value.
    On(T),
}

impl<T> OrOff<T> {
    /// The value, unless it is off.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a size such as 64MiB")?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "KB" | "K" | "k" => return Err(wrong_unit(text, unit, "kB (1000) or KiB (1024)")),
            "M" | "mb" | "Mb" => return Err(wrong_unit(text, unit, "MB (1000^2) or MiB (1024^2)")),
            "G" | "gb" | "Gb" => return Err(wrong_unit(text, unit, "GB (1000^3) or GiB (1024^3)")),
            _ => return Err(wrong_unit(text, unit, "B, kB, MB, GB, KiB, MiB or GiB")),
        };
        number
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 6] = [
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "kB"),
        ];
        match UNITS
            .iter()
            .find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor))
        {
            Some((factor, unit)) => f.pad(&format!("{}{unit}", self.0 / factor)),
            None => f.pad(&format!("{}B", self.0)),
        }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a duration such as 500ms")?;
        let nanos: u64 = match unit {
            "" if number == 0 => 1,
            "" => {
                return Err(format!(
                    "`{text}` has no unit: write `{text}s` or `{text}ms`"
                ));
            }
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            _ => return Err(wrong_unit(text, unit, "ns, us, ms, s or m")),
        };
        let nanos = number
            .checked_mul(nanos)
            .ok_or_else(|| format!("`{text}` is too long"))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] = [
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
        ];
        let nanos = self.0.as_nanos();
        match UNITS
            .iter()
            .find(|(factor, _)| nanos.is_multiple_of(*factor))
        {
            Some(_) if nanos == 0 => f.pad("0s"),
            Some((factor, unit)) => f.pad(&format!("{}{unit}", nanos / factor)),
            None => f.pad(&format!("{nanos}ns")),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a rate such as 100/s")?;
        match unit {
            "/s" if number > 0 => Ok(Self(number)),
            "/s" => Err(format!("`{text}`: the rate must be 1/s or more")),
            "" => Err(format!("`{text}` has no unit: write `{text}/s`")),
            _ => Err(wrong_unit(text, unit, "/s")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", self.0))
    }
}

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

/// A whole number and what follows it, blanks between them ignored.
fn split<'a>(text: &'a str, expected: &str) -> Result<(u64, &'a str), String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(format!("`{text}` is not {expected}"));
    }
    if unit.starts_with('.') {
        return Err(format!(
            "`{text}` is not a whole number: use a smaller unit"
        ));
    }
    let number = number
        .parse()
        .map_err(|_| format!("`{text}` is too large"))?;
    Ok((number, unit.trim()))
}

fn wrong_unit(text: &str, unit: &str, units: &str) -> String {
    format!("`{text}`: unknown unit `{unit}`; use {units}")
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

/// Reads a scalar, of whatever type YAML takes it for, through [`FromStr`].
struct Scalar<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        // YAML 1.1 reads `off` as a boolean; here it is the word of `OrOff`, which this key does not take.
        let text = if value { "true" } else { "off" };
        self.visit_str(text)
    }
}

macro_rules! deserialize_from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Scalar(PhantomData))
            }
        }
    )*};
}

deserialize_from_text!(
    Size,
    Interval,
    Rate,
    Prefix,
    Address,
    Remote,
    Fingerprint,
    Mbufs
);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrOffVisitor(PhantomData))
    }
}

struct OrOffVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrOffVisitor<T> {
    type Value = OrOff<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or `off`")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<OrOff<T>, E> {
        if value {
            Err(E::custom("give a value or `off`"))
        } else {
            Ok(OrOff::Off)
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OrOff<T>, E> {
        if text == "off" {
            return Ok(OrOff::Off);
        }
        T::deserialize(de::value::StrDeserializer::new(text)).map(OrOff::On)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<OrOff<T>, E> {
        T::deserialize(de::value::U64Deserializer::new(number)).map(OrOff::On)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<OrOff<T>, E> {
        T::deserialize(de::value::I64Deserializer::new(number)).map(OrOff::On)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<OrOff<T>, E> {
        T::deserialize(de::value::F64Deserializer::new(number)).map(OrOff::On)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrOff<T>, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(OrOff::On)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: FromStr<Err = String> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err()
    }

    #[test]
    fn sizes() {
        assert_eq!("0".parse(), Ok(Size(0)));
        assert_eq!("64B".parse(), Ok(Size(64)));
        assert_eq!("3 kB".parse(), Ok(Size(3_000)));
        assert_eq!("16MiB".parse(), Ok(Size(16 << 20)));
        assert_eq!("2GB".parse(), Ok(Size(2_000_000_000)));
        assert_eq!(
            error::<Size>("16KB"),
            "`16KB`: unknown unit `KB`; use kB (1000) or KiB (1024)"
        );
        assert_eq!(
            error::<Size>("5s"),
            "`5s`: unknown unit `s`; use B, kB, MB, GB, KiB, MiB or GiB"
        );
        assert_eq!(
            error::<Size>("1.5MiB"),
            "`1.5MiB` is not a whole number: use a smaller unit"
        );
        assert_eq!(error::<Size>("big"), "`big` is not a size such as 64MiB");
        assert_eq!(error::<Size>("-1"), "`-1` is not a size such as 64MiB");
        assert_eq!(
            error::<Size>("99999999999GiB"),
            "`99999999999GiB` is too large"
        );
    }

    #[test]
    fn durations() {
        assert_eq!("0".parse(), Ok(Interval(Duration::ZERO)));
        assert_eq!("250us".parse(), Ok(Interval(Duration::from_micros(250))));
        assert_eq!("30s".parse(), Ok(Interval(Duration::from_secs(30))));
        assert_eq!("2m".parse(), Ok(Interval(Duration::from_secs(120))));
        assert_eq!(
            error::<Interval>("30"),
            "`30` has no unit: write `30s` or `30ms`"
        );
        assert_eq!(
            error::<Interval>("3 sec"),
            "`3 sec`: unknown unit `sec`; use ns, us, ms, s or m"
        );
    }

    #[test]
    fn rates() {
        assert_eq!("100/s".parse(), Ok(Rate(100)));
        assert_eq!(error::<Rate>("100"), "`100` has no unit: write `100/s`");
        assert_eq!(error::<Rate>("100/m"), "`100/m`: unknown unit `/m`; use /s");
        assert_eq!(error::<Rate>("0/s"), "`0/s`: the rate must be 1/s or more");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for size in [
            0,
            1,
            1_000,
            1_024,
            65_536,
            3_000_000,
            16 << 20,
            4 << 30,
            12_345,
        ] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        for nanos in [0, 1, 1_500, 5_000_000, 30_000_000_000, 120_000_000_000] {
            let interval = Interval(Duration::from_nanos(nanos));
            assert_eq!(interval.to_string().parse(), Ok(interval));
        }
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
