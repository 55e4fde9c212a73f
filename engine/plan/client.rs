//! Clients.

use std::net::SocketAddrV6;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::identity::{self, IdentityPlan};
use super::load::{self, Load};
use super::port::PortPlan;
use super::settings::LimitsPlan;
use super::shard::ShardPlan;
use super::transport::TransportPlan;
use super::{Checks, names};
use crate::config::{Client, Config, ConfigError, Source};

/// A load on a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClientPlan {
    /// Its name in the file.
    pub name: String,
    /// Address and UDP port of the server.
    pub remote: SocketAddrV6,
    /// The name the server's certificate must have; it is sent to the server.
    pub server_name: String,
    /// Why the server is believed.
    pub trust: TrustPlan,
    /// Index of the identity shown to servers that ask for one.
    pub identity: Option<usize>,
    /// Connections.
    pub connections: u32,
    /// Whether requests go out as 0-RTT data where a ticket allows it; the first connection is then made alone.
    pub early_data: bool,
    /// What is done.
    pub load: Load,
}

/// Why a server is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustPlan {
    /// Its certificate leads up to one of these PEM files, which exist.
    Anchors(Vec<PathBuf>),
    /// It shows the identity of this index.
    Identity(usize),
    /// Its certificate, in DER, has this SHA-256.
    Fingerprint(#[serde(serialize_with = "hex")] [u8; 32]),
    /// It is believed blindly.
    Insecure,
}

/// The parts of the plan that clients are compared with.
pub(super) struct Around<'a> {
    pub(super) ports: &'a [PortPlan],
    pub(super) identities: &'a [IdentityPlan],
    pub(super) limits: &'a LimitsPlan,
    pub(super) transport: &'a TransportPlan,
}

/// Adds each client to its shard.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    checks: &dyn Checks,
    around: &Around<'_>,
    shards: &mut [ShardPlan],
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let all = &config.clients;
    names::unique(
        source,
        "clients",
        all.iter().map(|client| client.name.as_str()),
    )?;
    for (index, client) in all.iter().enumerate() {
        let key = format!("clients[{index}].shard");
        let names = shards.iter().map(|shard| shard.name.as_str());
        let shard = names::find(source, &key, "shard", &client.shard, names)?;
        let port = &around.ports[shards[shard].port];
        let plan = one(source, checks, around, port, index, client)?;
        connections(source, around.limits, index, &plan, &shards[shard])?;
        if plan.trust == TrustPlan::Insecure {
            notes.push(format!(
                "the client `{}` believes any server (`insecure`); use it for tests only",
                plan.name
            ));
        }
        if plan.early_data && plan.connections == 1 {
            notes.push(format!(
                "the client `{}` has no use for `early_data`: its one connection has no ticket; give \
                 it more `connections`",
                plan.name
            ));
        }
        shards[shard].clients.push(plan);
    }
    Ok(())
}

fn one(
    source: &Source,
    checks: &dyn Checks,
    around: &Around<'_>,
    port: &PortPlan,
    index: usize,
    client: &Client,
) -> Result<ClientPlan, ConfigError> {
    let at = |key: &str| format!("clients[{index}].{key}");
    let identity = match &client.identity {
        None => None,
        Some(name) => {
            let all = around
                .identities
                .iter()
                .map(|identity| identity.name.as_str());
            Some(names::find(source, &at("identity"), "identity", name, all)?)
        }
    };
    let remote = client.remote.0;
    if port
        .addresses
        .iter()
        .any(|(address, _)| address == remote.ip())
    {
        let message = format!(
            "{} is an address of this client's own port `{}`; name the server's",
            remote.ip(),
            port.name
        );
        return Err(source.error(at("remote"), message));
    }
    if let Some(name) = &client.server_name {
        names::host(source, &at("server_name"), name)?;
    }
    Ok(ClientPlan {
        name: client.name.clone(),
        remote,
        server_name: client
            .server_name
            .clone()
            .unwrap_or_else(|| remote.ip().to_string()),
        trust: trust(source, checks, around.identities, index, client)?,
        identity,
        connections: client.connections.unwrap_or(1),
        early_data: client.early_data,
        load: load::plan(source, around.transport, port, index, client)?,
    })
}

fn connections(
    source: &Source,
    limits: &LimitsPlan,
    index: usize,
    client: &ClientPlan,
    shard: &ShardPlan,
) -> Result<(), ConfigError> {
    let key = format!("clients[{index}].connections");
    if client.connections == 0 {
        return Err(source.error(key, "0 does nothing; give 1 or more"));
    }
    let others = shard
        .clients
        .iter()
        .map(|client| u64::from(client.connections))
        .sum::<u64>();
    let all = others + u64::from(client.connections);
    if all <= u64::from(limits.connections) {
        return Ok(());
    }
    let message = format!(
        "the clients of the shard `{}` open {all} connections, and `limits.connections` is {}; \
         raise it",
        shard.name, limits.connections
    );
    Err(source.error(key, message))
}

fn trust(
    source: &Source,
    checks: &dyn Checks,
    identities: &[IdentityPlan],
    index: usize,
    client: &Client,
) -> Result<TrustPlan, ConfigError> {
    let key = format!("clients[{index}].trust");
    let given = &client.trust;
    match (
        &given.anchors,
        &given.identity,
        given.fingerprint,
        given.insecure,
    ) {
        (Some(files), None, None, None) => {
            let key = format!("{key}.anchors");
            identity::anchors(source, checks, &key, files).map(TrustPlan::Anchors)
        }
        (None, Some(name), None, None) => {
            let all = identities.iter().map(|identity| identity.name.as_str());
            let key = format!("{key}.identity");
            names::find(source, &key, "identity", name, all).map(TrustPlan::Identity)
        }
        (None, None, Some(fingerprint), None) => Ok(TrustPlan::Fingerprint(fingerprint.0)),
        (None, None, None, Some(true)) => Ok(TrustPlan::Insecure),
        _ => {
            let message = "give exactly one of `anchors`, `identity`, `fingerprint`, \
                           `insecure: true`";
            Err(source.error(key, message))
        }
    }
}

fn hex<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&fingerprint(bytes))
}

/// `sha256:` and hexadecimal digits.
pub(super) fn fingerprint(bytes: &[u8; 32]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
