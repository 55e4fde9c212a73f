//! Numbers for people: a few digits and a unit.

/// Bits a second with a decimal prefix: `9.41 Gbps`.
pub fn bits_per_second(rate: f64) -> String {
    format!("{}bps", decimal(rate))
}

/// Bytes with a binary prefix: `64.0 MiB`; below 1024 exactly.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while digits(value).1 >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(value).0, UNITS[unit])
}

/// A count with a decimal prefix: `812 k`, `1.23 M`; below 1000 as it is. The blank before the prefix is there even when
/// there is none, so that a unit can follow.
pub fn decimal(value: f64) -> String {
    const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut prefix = 0;
    while digits(value).1 >= 1000.0 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    if prefix == 0 && value.fract() == 0.0 {
        return format!("{value} ");
    }
    format!("{} {}", digits(value).0, PREFIXES[prefix])
}

/// A whole number with its thousands set apart: `1'234'567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\'');
        }
        text.push(digit);
    }
    text
}

/// Three digits where there are decimals, and the value they show.
fn digits(value: f64) -> (String, f64) {
    let decimals = match value.abs() {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let shown = text.parse().unwrap_or(value);
    (text, shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(bits_per_second(0.0), "0 bps");
        assert_eq!(bits_per_second(950.0), "950 bps");
        assert_eq!(bits_per_second(9_412_345_678.0), "9.41 Gbps");
        assert_eq!(bits_per_second(12_345_678_900.0), "12.3 Gbps");
        assert_eq!(bits_per_second(999_960.0), "1.00 Mbps");
        assert_eq!(bits_per_second(123_456_000_000.0), "123 Gbps");
    }

    #[test]
    fn byte_counts() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(bytes((1 << 30) - 1), "1.00 GiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts() {
        assert_eq!(decimal(7.0), "7 ");
        assert_eq!(decimal(0.5), "0.50 ");
        assert_eq!(decimal(812_345.0), "812 k");
        assert_eq!(decimal(999_600.0), "1.00 M");
        assert_eq!(decimal(1_234_567.0), "1.23 M");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1'234'567");
    }
}
