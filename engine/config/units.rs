//! Numbers with units, as people write them: `16MiB`, `500ms`, `100/s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Bytes: a whole number with `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, or a bare number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time: a whole number with `ns`, `us`, `ms`, `s` or `m`, or a bare `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

/// Events a second: a whole number from 1 to 1 000 000 000, with `/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// Bits a second: a whole number from 1 with `bps`, `kbps`, `Mbps` or `Gbps` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(pub u64);

/// A share, 0% to 100%, with up to four decimals. Kept in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Percent(pub u32);

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

impl Rate {
    /// One event a nanosecond: what clocks tell apart.
    const MAX: u64 = 1_000_000_000;
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a rate such as 100/s")?;
        match unit {
            "/s" if (1..=Self::MAX).contains(&number) => Ok(Self(number)),
            "/s" => Err(format!("`{text}`: a rate is 1/s to {}/s", Self::MAX)),
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

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a bit rate such as 10Gbps")?;
        let factor: u64 = match unit {
            "bps" => 1,
            "kbps" => 1_000,
            "Mbps" => 1_000_000,
            "Gbps" => 1_000_000_000,
            "" => return Err(format!("`{text}` has no unit: write `{text}Mbps`")),
            _ => return Err(wrong_unit(text, unit, "bps, kbps, Mbps or Gbps")),
        };
        match number.checked_mul(factor) {
            Some(0) => Err(format!("`{text}`: nothing would ever be sent")),
            Some(rate) => Ok(Self(rate)),
            None => Err(format!("`{text}` is too large")),
        }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [
            (1_000_000_000, "Gbps"),
            (1_000_000, "Mbps"),
            (1_000, "kbps"),
        ];
        match UNITS
            .iter()
            .find(|(factor, _)| self.0.is_multiple_of(*factor))
        {
            Some((factor, unit)) => f.pad(&format!("{}{unit}", self.0 / factor)),
            None => f.pad(&format!("{}bps", self.0)),
        }
    }
}

impl Percent {
    /// Millionths in a hundredth.
    const SCALE: u32 = 10_000;

    /// As a number from 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a percentage such as 0.1%");
        let Some(number) = text.strip_suffix('%') else {
            return match text {
                "0" => Ok(Self(0)),
                _ => Err(wrong()),
            };
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || number.ends_with('.') {
            return Err(wrong());
        }
        if decimals.len() > 4 {
            return Err(format!("`{text}`: four decimals are the most"));
        }
        let parts: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
        whole
            .parse::<u32>()
            .ok()
            .and_then(|whole| whole.checked_mul(Self::SCALE)?.checked_add(parts))
            .filter(|parts| *parts <= 100 * Self::SCALE)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is more than 100%"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / Self::SCALE, self.0 % Self::SCALE);
        let text = format!("{whole}.{parts:04}");
        f.pad(&format!(
            "{}%",
            text.trim_end_matches('0').trim_end_matches('.')
        ))
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
        assert_eq!("1000000000/s".parse(), Ok(Rate(1_000_000_000)));
        for text in ["0/s", "1000000001/s"] {
            let expected = format!("`{text}`: a rate is 1/s to 1000000000/s");
            assert_eq!(error::<Rate>(text), expected);
        }
    }

    #[test]
    fn bit_rates() {
        assert_eq!("10Gbps".parse(), Ok(BitRate(10_000_000_000)));
        assert_eq!("64 kbps".parse(), Ok(BitRate(64_000)));
        assert_eq!(error::<BitRate>("10"), "`10` has no unit: write `10Mbps`");
        assert_eq!(
            error::<BitRate>("1Gbit"),
            "`1Gbit`: unknown unit `Gbit`; use bps, kbps, Mbps or Gbps"
        );
        assert_eq!(
            error::<BitRate>("0Mbps"),
            "`0Mbps`: nothing would ever be sent"
        );
    }

    #[test]
    fn percentages() {
        assert_eq!("0".parse(), Ok(Percent(0)));
        assert_eq!("0.1%".parse(), Ok(Percent(1_000)));
        assert_eq!("100%".parse(), Ok(Percent(1_000_000)));
        assert_eq!("12.0001%".parse(), Ok(Percent(120_001)));
        for text in ["0.1", "%", ".5%", "5.%", "-1%", "1e1%", "x"] {
            let expected = format!("`{text}` is not a percentage such as 0.1%");
            assert_eq!(error::<Percent>(text), expected);
        }
        assert_eq!(
            error::<Percent>("100.0001%"),
            "`100.0001%` is more than 100%"
        );
        assert_eq!(
            error::<Percent>("1.00001%"),
            "`1.00001%`: four decimals are the most"
        );
        assert_eq!(Percent(1_000).share(), 0.001);
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for rate in [1, 64_000, 2_500_000_000, 10_000_000_000, 1_234_567] {
            assert_eq!(BitRate(rate).to_string().parse(), Ok(BitRate(rate)));
        }
        for parts in [0, 1, 1_000, 55_500, 1_000_000] {
            assert_eq!(Percent(parts).to_string().parse(), Ok(Percent(parts)));
        }
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
}
