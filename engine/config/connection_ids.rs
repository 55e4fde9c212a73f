//! `connection_ids:`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// How connection IDs name host and shard to load balancers of ours, and to nobody else
/// (draft-ietf-quic-load-balancers).
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionIds {
    /// This host's part of the server ID, 1 to 8 bytes in hexadecimal; default: random at every start.
    pub host_id: Option<Hex>,
    /// Keys: the first makes connection IDs, all are read; default: a random one at every start.
    pub keys: Option<Vec<CidKey>>,
    /// Key of stateless reset tokens, 32 bytes in hexadecimal; default: random at every start.
    pub reset_key: Option<Hex>,
}

/// A key of connection IDs.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CidKey {
    /// Config rotation bits, 0..=6: the connection ID tells by them which key it was made with.
    pub rotation: u8,
    /// AES-128 key, 16 bytes in hexadecimal.
    pub key: Hex,
}

/// Bytes in hexadecimal digits, two a byte. It may be a secret, so neither [`Debug`] nor errors show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Digits may be all decimal, so whatever YAML takes them for, they are text: `0010` is two bytes.
        deserializer.deserialize_str(HexVisitor)
    }
}

struct HexVisitor;

impl Visitor<'_> for HexVisitor {
    type Value = Hex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hexadecimal digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex, E> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| match *pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes
            .filter(|bytes| !bytes.is_empty())
            .map(Hex)
            .ok_or_else(|| {
                E::custom(
                    "these are not bytes in hexadecimal: give two of 0-9, a-f for each, in quotes",
                )
            })
    }
}
