//! `identities:` and `listeners:`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::present;

/// A certificate chain with its private key: from files, or made at start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// How the rest of the file calls it.
    pub name: String,
    /// Names a certificate is made for at start; its fingerprint is logged. Excludes the files.
    pub self_signed: Option<Vec<String>>,
    /// Certificate chain, PEM, leaf first.
    pub certificate: Option<PathBuf>,
    /// Private key of the leaf, PEM.
    pub key: Option<PathBuf>,
}

/// A UDP port on which connections are accepted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// How messages call it.
    pub name: String,
    /// The shard, or several shards of one port, it runs on.
    pub shard: OneOrMore,
    /// UDP port, 1..=65535.
    pub udp_port: u16,
    /// Name of the identity it shows.
    pub identity: String,
    /// Whether clients must show a certificate; default `none`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// What clients' certificates must lead up to; required unless `client_auth` is `none`.
    pub trust: Option<Anchors>,
    /// What is served, by ALPN protocol.
    pub services: Services,
}

/// A name, or a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore {
    /// The names in order.
    pub names: Vec<String>,
    /// True when they were written as a list.
    pub is_list: bool,
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

struct OneOrMoreVisitor;

impl<'de> serde::de::Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore {
            names: vec![name.to_owned()],
            is_list: false,
        })
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = items.next_element()? {
            names.push(name);
        }
        Ok(OneOrMore {
            names,
            is_list: true,
        })
    }
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is shown must be good.
    Optional,
    /// They must.
    Required,
}

/// Certificates that a peer's certificate must lead up to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// PEM files.
    pub anchors: Vec<PathBuf>,
}

/// The services of a listener, by ALPN protocol.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Services {
    /// The QUIC performance protocol.
    #[serde(deserialize_with = "present")]
    pub perf: Option<PerfService>,
    /// HTTP/0.9 from a folder.
    #[serde(deserialize_with = "present")]
    pub hq_interop: Option<HqService>,
    /// Streams and unreliable datagrams sent back.
    #[serde(deserialize_with = "present")]
    pub echo: Option<EchoService>,
}

/// `perf`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerfService {
    /// Whether requests are taken from 0-RTT data, which can be replayed; default false.
    #[serde(default)]
    pub early_data: bool,
}

/// `hq-interop`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HqService {
    /// The folder that is served.
    pub root: PathBuf,
    /// Whether requests are taken from 0-RTT data, which can be replayed; default false.
    #[serde(default)]
    pub early_data: bool,
}

/// `echo`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EchoService {
    /// Whether streams and datagrams are taken from 0-RTT data, which can be replayed; default false.
    #[serde(default)]
    pub early_data: bool,
}
