//! Listeners and their services.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::identity::{self, IdentityPlan};
use super::port::PortPlan;
use super::shard::ShardPlan;
use super::steering::SteeringPlan;
use super::{Checks, names};
use crate::config::{ClientAuth, Config, ConfigError, Listener, Services, Source};

/// A UDP port on which connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerPlan {
    /// Its name in the file.
    pub name: String,
    /// The UDP port; on this port (device or link) no other listener has it.
    pub udp_port: u16,
    /// Index of the identity it shows.
    pub identity: usize,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuthPlan,
    /// What is served: one or more.
    pub services: Vec<ServicePlan>,
}

/// Whether clients show a certificate, and what it must lead up to (PEM files, which exist).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthPlan {
    /// They are not asked.
    None,
    /// They are asked; one that is shown must lead up to these.
    Optional(Vec<PathBuf>),
    /// They must show one that leads up to these.
    Required(Vec<PathBuf>),
}

/// A service. `early_data`: whether it takes 0-RTT data, which can be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServicePlan {
    /// The QUIC performance protocol.
    Perf {
        /// Whether it takes 0-RTT data.
        early_data: bool,
    },
    /// HTTP/0.9 from a folder.
    HqInterop {
        /// The folder, which exists.
        root: PathBuf,
        /// Whether it takes 0-RTT data.
        early_data: bool,
    },
    /// Streams and unreliable datagrams sent back.
    Echo {
        /// Whether it takes 0-RTT data.
        early_data: bool,
    },
}

impl ServicePlan {
    /// The protocol's ALPN identifier.
    pub fn alpn(&self) -> &'static str {
        match self {
            Self::Perf { .. } => "perf",
            Self::HqInterop { .. } => "hq-interop",
            Self::Echo { .. } => "echo",
        }
    }

    /// Whether it takes 0-RTT data.
    pub fn early_data(&self) -> bool {
        match *self {
            Self::Perf { early_data }
            | Self::HqInterop { early_data, .. }
            | Self::Echo { early_data } => early_data,
        }
    }
}

/// Adds each listener to its shards.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    checks: &dyn Checks,
    identities: &[IdentityPlan],
    ports: &[PortPlan],
    shards: &mut [ShardPlan],
) -> Result<(), ConfigError> {
    let all = &config.listeners;
    names::unique(
        source,
        "listeners",
        all.iter().map(|listener| listener.name.as_str()),
    )?;
    for (index, listener) in all.iter().enumerate() {
        let on = on(source, index, listener, shards)?;
        let Some(port) = on.first().map(|&shard| shards[shard].port) else {
            continue;
        };
        on_all(source, index, &on, &ports[port], shards)?;
        udp_port(source, index, listener, shards, port)?;
        let plan = one(source, checks, identities, index, listener)?;
        for &shard in &on {
            shards[shard].listeners.push(plan.clone());
        }
    }
    Ok(())
}

fn one(
    source: &Source,
    checks: &dyn Checks,
    identities: &[IdentityPlan],
    index: usize,
    listener: &Listener,
) -> Result<ListenerPlan, ConfigError> {
    let at = |key: &str| format!("listeners[{index}].{key}");
    let all = identities.iter().map(|identity| identity.name.as_str());
    Ok(ListenerPlan {
        name: listener.name.clone(),
        udp_port: listener.udp_port,
        identity: names::find(source, &at("identity"), "identity", &listener.identity, all)?,
        client_auth: client_auth(source, checks, index, listener)?,
        services: services(source, at("services"), &listener.services)?,
    })
}

/// The shards of a listener: one or more, all of one port.
fn on(
    source: &Source,
    index: usize,
    listener: &Listener,
    shards: &[ShardPlan],
) -> Result<Vec<usize>, ConfigError> {
    let key = format!("listeners[{index}].shard");
    let mut on: Vec<usize> = Vec::new();
    for (number, name) in listener.shard.names.iter().enumerate() {
        let key = if listener.shard.is_list {
            format!("{key}[{number}]")
        } else {
            key.clone()
        };
        let all = shards.iter().map(|shard| shard.name.as_str());
        let shard = names::find(source, &key, "shard", name, all)?;
        if on.contains(&shard) {
            return Err(source.error(key, format!("the shard `{name}` is listed twice")));
        }
        if on
            .first()
            .is_some_and(|&first| shards[first].port != shards[shard].port)
        {
            let message = format!(
                "the shard `{name}` is on another port than `{}`; make a listener for each port",
                listener.shard.names[0]
            );
            return Err(source.error(key, message));
        }
        on.push(shard);
    }
    if on.is_empty() {
        return Err(source.error(key, "the list is empty; name a shard"));
    }
    Ok(on)
}

/// A device gives a new connection to any of its shards, so a listener on some of them would lose the others' share for
/// good: a client that tries again has the same addresses, and lands there again. The other end of a link chooses the
/// queue, and with it the shard.
fn on_all(
    source: &Source,
    index: usize,
    on: &[usize],
    port: &PortPlan,
    shards: &[ShardPlan],
) -> Result<(), ConfigError> {
    if port.steering != SteeringPlan::RssElseHandOver {
        return Ok(());
    }
    let of_port = |shard: &ShardPlan| on.iter().any(|&on| shards[on].port == shard.port);
    let all: Vec<&str> = shards
        .iter()
        .filter(|shard| of_port(shard))
        .map(|shard| shard.name.as_str())
        .collect();
    if on.len() == all.len() {
        return Ok(());
    }
    let message = format!(
        "new connections may arrive on any shard of the port `{}`; list them all: [{}]",
        port.name,
        all.join(", ")
    );
    Err(source.error(format!("listeners[{index}].shard"), message))
}

fn udp_port(
    source: &Source,
    index: usize,
    listener: &Listener,
    shards: &[ShardPlan],
    port: usize,
) -> Result<(), ConfigError> {
    let key = format!("listeners[{index}].udp_port");
    if listener.udp_port == 0 {
        return Err(source.error(key, "0 is no UDP port; choose one of 1..=65535"));
    }
    let of_port = || shards.iter().filter(|shard| shard.port == port);
    let same = |other: &&ListenerPlan| other.udp_port == listener.udp_port;
    if let Some(other) = of_port().flat_map(|shard| &shard.listeners).find(same) {
        let message = format!(
            "the listener `{}` has UDP port {} of the same port already; choose another",
            other.name, listener.udp_port
        );
        return Err(source.error(key, message));
    }
    if let Some(shard) = of_port().find(|shard| shard.client_udp_port == listener.udp_port) {
        let message = format!(
            "the clients of the shard `{}` send from UDP port {}; choose another",
            shard.name, listener.udp_port
        );
        return Err(source.error(key, message));
    }
    Ok(())
}

fn client_auth(
    source: &Source,
    checks: &dyn Checks,
    index: usize,
    listener: &Listener,
) -> Result<ClientAuthPlan, ConfigError> {
    let at = |key: &str| format!("listeners[{index}].{key}");
    match (listener.client_auth, &listener.trust) {
        (ClientAuth::None, None) => Ok(ClientAuthPlan::None),
        (ClientAuth::None, Some(_)) => {
            let message = "clients are not asked for certificates; set `client_auth` to `optional` \
                           or `required`, or remove `trust`";
            Err(source.error(at("trust"), message))
        }
        (_, None) => {
            let message = "say what clients' certificates must lead up to: add \
                           `trust: { anchors: [ca.pem] }`";
            Err(source.error(at("client_auth"), message))
        }
        (auth, Some(trust)) => {
            let anchors = identity::anchors(source, checks, &at("trust.anchors"), &trust.anchors)?;
            Ok(match auth {
                ClientAuth::Required => ClientAuthPlan::Required(anchors),
                _ => ClientAuthPlan::Optional(anchors),
            })
        }
    }
}

fn services(
    source: &Source,
    key: String,
    given: &Services,
) -> Result<Vec<ServicePlan>, ConfigError> {
    let mut services = Vec::new();
    if let Some(perf) = &given.perf {
        services.push(ServicePlan::Perf {
            early_data: perf.early_data,
        });
    }
    if let Some(hq) = &given.hq_interop {
        let root = folder(source, &format!("{key}.hq-interop.root"), &hq.root)?;
        services.push(ServicePlan::HqInterop {
            root,
            early_data: hq.early_data,
        });
    }
    if let Some(echo) = &given.echo {
        services.push(ServicePlan::Echo {
            early_data: echo.early_data,
        });
    }
    if services.is_empty() {
        let message = "nothing is served; give `perf`, `hq-interop` or `echo`";
        return Err(source.error(key, message));
    }
    Ok(services)
}

fn folder(source: &Source, key: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    let path = source.resolve(path);
    let problem = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Ok(path),
        Ok(_) => "it is no folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(source.error(key, format!("cannot serve {}: {problem}", path.display())))
}

/// The listener's address for humans: `[::]:4433`, any address of its port.
pub(super) fn any_address(udp_port: u16) -> String {
    format!("[{}]:{udp_port}", Ipv6Addr::UNSPECIFIED)
}
