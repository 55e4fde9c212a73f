//! The few fields of an X.509 certificate (RFC 5280) that the engine looks at by itself: how long it is valid and whom
//! it names. Signatures and chains are verified by rustls, never here.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Subject alternative names, else the subject's common name.
    pub(crate) names: Vec<String>,
}

/// DER tags (X.690 §8) met on the way.
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// Context-specific, constructed: the version, and the extensions.
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
    /// Context-specific, primitive: kinds of GeneralName (RFC 5280 §4.2.1.6).
    pub(super) const MAIL: u8 = 0x81;
    pub(super) const DNS: u8 = 0x82;
    pub(super) const URI: u8 = 0x86;
    pub(super) const IP_ADDRESS: u8 = 0x87;
}

/// 2.5.29.17, subjectAltName.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

impl Certificate {
    /// Reads a certificate in DER; `None` when it is malformed as far as it is looked at.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let mut fields = Der(Der(Der(der).expect(tag::SEQUENCE)?).expect(tag::SEQUENCE)?);
        fields.optional(tag::VERSION);
        fields.next()?; // serialNumber
        fields.expect(tag::SEQUENCE)?; // signature
        fields.expect(tag::SEQUENCE)?; // issuer
        let mut validity = Der(fields.expect(tag::SEQUENCE)?);
        let not_before = validity.time()?;
        let not_after = validity.time()?;
        let subject = fields.expect(tag::SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, value)) = fields.next() {
            if tag == tag::EXTENSIONS {
                names = alternative_names(value).unwrap_or_default();
            }
        }
        if names.is_empty() {
            names.extend(common_name(subject));
        }
        Some(Self {
            not_before,
            not_after,
            names,
        })
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).expect(tag::SEQUENCE)?);
    while let Some((_, extension)) = extensions.next() {
        let mut extension = Der(extension);
        let id = extension.expect(tag::OID)?;
        extension.optional(tag::BOOLEAN); // critical
        let value = extension.expect(tag::OCTET_STRING)?;
        if id == SUBJECT_ALT_NAME {
            let mut list = Der(Der(value).expect(tag::SEQUENCE)?);
            let names = std::iter::from_fn(|| list.next());
            return Some(
                names
                    .filter_map(|(tag, value)| general_name(tag, value))
                    .collect(),
            );
        }
    }
    None
}

fn general_name(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        tag::DNS | tag::URI | tag::MAIL => Some(std::str::from_utf8(value).ok()?.to_owned()),
        tag::IP_ADDRESS => match value.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).to_string()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut names = Der(subject);
    let mut found = None;
    while let Some(set) = names.optional(tag::SET) {
        let mut attribute = Der(Der(set).expect(tag::SEQUENCE)?);
        if attribute.expect(tag::OID)? == COMMON_NAME {
            let (_, value) = attribute.next()?;
            found = Some(std::str::from_utf8(value).ok()?.to_owned());
        }
    }
    found
}

/// A run of DER elements, read from the front.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Long form; four bytes of length are more than any certificate needs.
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (
                    len.iter()
                        .fold(0, |len, &byte| len << 8 | usize::from(byte)),
                    rest,
                )
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The contents of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|&(found, _)| found == tag)
            .map(|(_, value)| value)
    }

    /// The contents of the next element if it has this tag; otherwise it stays.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.0.first() == Some(&tag) {
            true => self.next().map(|(_, value)| value),
            false => None,
        }
    }

    /// UTCTime or GeneralizedTime, in the only forms that RFC 5280 §4.1.2.5 allows.
    fn time(&mut self) -> Option<SystemTime> {
        let (tag, value) = self.next()?;
        let digits = value.strip_suffix(b"Z")?;
        let (year, rest) = match (tag, digits.len()) {
            (tag::UTC_TIME, 12) => {
                let (year, rest) = digits.split_at(2);
                let year = number(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            (tag::GENERALIZED_TIME, 14) => {
                let (year, rest) = digits.split_at(4);
                (number(year)?, rest)
            }
            _ => return None,
        };
        let mut fields = rest.chunks(2).map(number);
        let mut field = || fields.next().flatten();
        let (month, day) = (field()?, field()?);
        let (hour, minute, second) = (field()?, field()?, field()?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_since_epoch(year, month, day);
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
        match u64::try_from(seconds) {
            Ok(after) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(after)),
            Err(_) => {
                SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs()))
            }
        }
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of a year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
        assert_eq!(days_since_epoch(2000, 2, 29), 11_016);
        assert_eq!(days_since_epoch(2000, 3, 1), 11_017);
        assert_eq!(days_since_epoch(2100, 3, 1), 47_541);
        assert_eq!(days_since_epoch(1969, 12, 31), -1);
        let seconds = |text: &str, tag| {
            let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
            let time = Der(&der).time()?;
            time.duration_since(SystemTime::UNIX_EPOCH)
                .ok()
                .map(|since| since.as_secs())
        };
        assert_eq!(seconds("700101000001Z", tag::UTC_TIME), Some(1));
        assert_eq!(
            seconds("20010909014640Z", tag::GENERALIZED_TIME),
            Some(1_000_000_000)
        );
        assert_eq!(seconds("20011309014640Z", tag::GENERALIZED_TIME), None);
        assert_eq!(seconds("2001090901464Z", tag::GENERALIZED_TIME), None);
        assert_eq!(seconds("010909014640+", tag::UTC_TIME), None);
    }

    fn made(params: rcgen::CertificateParams) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn reads_validity_and_names() {
        let names = ["localhost".into(), "fd00::1".into(), "stoq.test".into()];
        let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 3);
        params.not_after = rcgen::date_time_ymd(2061, 5, 6);
        let certificate = Certificate::parse(&made(params.clone())).unwrap();
        assert_eq!(certificate.names, names);
        assert_eq!(certificate.not_before, SystemTime::from(params.not_before));
        assert_eq!(certificate.not_after, SystemTime::from(params.not_after));
    }

    #[test]
    fn falls_back_to_the_common_name() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a client");
        assert_eq!(
            Certificate::parse(&made(params)).unwrap().names,
            ["a client"]
        );
    }

    #[test]
    fn any_cut_or_flip_is_survived() {
        let der = made(rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap());
        for end in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..end]), None);
        }
        for position in 0..der.len() {
            for bit in 0..8 {
                let mut der = der.clone();
                der[position] ^= 1 << bit;
                let _ = Certificate::parse(&der); // Must not panic.
            }
        }
    }
}
