//! What connection IDs are made of, and the key of stateless resets.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::{Config, ConfigError, ConnectionIds, Hex, Source};

/// Longest host id, bytes: with the shard's byte the server ID has 9, which leaves 7 to the nonce.
const HOST_ID_MAX: usize = 8;
/// Highest config rotation: 7 is reserved for connection IDs that name no server.
const ROTATION_MAX: u8 = 6;

/// What connection IDs are made of (draft-ietf-quic-load-balancers), and the key of stateless resets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionIdsPlan {
    /// Whether the file says anything about them. If not, shards that are alone on their port use plain random IDs.
    pub given: bool,
    /// This host's part of the server ID, 1 to 8 bytes; nothing: random at every start.
    #[serde(serialize_with = "hex")]
    pub host_id: Option<Vec<u8>>,
    /// The keys; the first makes IDs, all are read. None: a random one at every start.
    pub keys: Vec<CidKeyPlan>,
    /// Key of stateless reset tokens; nothing: random at every start.
    pub reset_key: Option<Secret<[u8; 32]>>,
}

/// A key of connection IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CidKeyPlan {
    /// Config rotation bits, 0..=6; no other key has them.
    pub rotation: u8,
    /// AES-128 key.
    pub key: Secret<[u8; 16]>,
}

/// What is not printed: neither [`Debug`] nor JSON show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<T>(pub T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given")
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("given")
    }
}

pub(super) fn plan(
    config: &Config,
    source: &Source,
    notes: &mut Vec<String>,
) -> Result<ConnectionIdsPlan, ConfigError> {
    let default = ConnectionIds::default();
    let given = config.connection_ids.as_ref().unwrap_or(&default);
    let plan = ConnectionIdsPlan {
        given: config.connection_ids.is_some(),
        host_id: host_id(source, given)?,
        keys: keys(source, given)?,
        reset_key: match &given.reset_key {
            None => None,
            Some(key) => Some(secret(source, "connection_ids.reset_key", key)?),
        },
    };
    let missing = match (plan.host_id.is_some(), !plan.keys.is_empty()) {
        (true, false) => Some(("keys", "host id")),
        (false, true) => Some(("host_id", "keys")),
        _ => None,
    };
    if let Some((missing, there)) = missing {
        notes.push(format!(
            "`connection_ids.{missing}` is random at every start, so a load balancer cannot use the {there} \
             that are given; give it too"
        ));
    }
    if plan.reset_key.is_some() && (plan.host_id.is_none() || plan.keys.is_empty()) {
        notes.push(
            "`connection_ids.reset_key` ends no connections of a process before this one, whose IDs cannot be read: \
             give `host_id` and `keys` too"
                .to_owned(),
        );
    }
    Ok(plan)
}

fn host_id(source: &Source, given: &ConnectionIds) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(Hex(bytes)) = &given.host_id else {
        return Ok(None);
    };
    if bytes.len() <= HOST_ID_MAX {
        return Ok(Some(bytes.clone()));
    }
    let message = format!(
        "{} bytes do not fit: a host id has 1 to {HOST_ID_MAX}, since shard and nonce share the 16 bytes of a \
         connection ID with it",
        bytes.len()
    );
    Err(source.error("connection_ids.host_id", message))
}

fn keys(source: &Source, given: &ConnectionIds) -> Result<Vec<CidKeyPlan>, ConfigError> {
    let Some(given) = &given.keys else {
        return Ok(Vec::new());
    };
    if given.is_empty() {
        let message =
            "the list is empty; give a key, or remove `keys` for a random one at every start";
        return Err(source.error("connection_ids.keys", message));
    }
    let mut keys: Vec<CidKeyPlan> = Vec::with_capacity(given.len());
    for (index, key) in given.iter().enumerate() {
        let at = |part: &str| format!("connection_ids.keys[{index}].{part}");
        let rotation = key.rotation;
        if rotation > ROTATION_MAX {
            let message = format!("{rotation} is out of range: 0..={ROTATION_MAX}");
            return Err(source.error(at("rotation"), message));
        }
        if let Some(other) = keys.iter().position(|other| other.rotation == rotation) {
            let message = format!(
                "connection_ids.keys[{other}] has rotation {rotation} already, and connection IDs tell their \
                 key by it; choose another"
            );
            return Err(source.error(at("rotation"), message));
        }
        let key = secret(source, &at("key"), &key.key)?;
        keys.push(CidKeyPlan { rotation, key });
    }
    Ok(keys)
}

/// A key of exactly `N` bytes.
fn secret<const N: usize>(
    source: &Source,
    key: &str,
    Hex(bytes): &Hex,
) -> Result<Secret<[u8; N]>, ConfigError> {
    <[u8; N]>::try_from(bytes.as_slice())
        .map(Secret)
        .map_err(|_| {
            let message = format!(
                "the key has {} bytes, not {N}: give {} hexadecimal digits (`openssl rand -hex {N}` makes them)",
                bytes.len(),
                2 * N
            );
            source.error(key, message)
        })
}

/// Bytes as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(digits).serialize(to)
}
