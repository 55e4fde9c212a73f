//! How YAML scalars become values: through [`FromStr`], whatever type YAML takes them for, and with the word `off`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::address::{Address, Fingerprint, Listen, Prefix, Remote};
use super::port::{DataRoom, Mbufs};
use super::units::{BitRate, Interval, Percent, Rate, Size};

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
    BitRate,
    Percent,
    Prefix,
    Address,
    Remote,
    Listen,
    Fingerprint,
    Mbufs,
    DataRoom
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
