//! Ports: devices and links.

use std::net::Ipv6Addr;
use std::time::Duration;

use poll::{BURST, BURST_DEFAULT};
use serde::Serialize;

use super::connection_ids::Secret;
use super::eal::Arguments;
use super::nic::{self, NicPlan};
use super::offload::{self, OffloadPlan};
use super::pool::PoolPlan;
use super::steering::SteeringPlan;
use super::{names, seconds, steering};
use crate::config::{Config, ConfigError, Port, Source, TxPath, suggest};

/// IPv6 and UDP headers in front of a UDP payload, bytes.
const HEADERS: u16 = 40 + 8;
const MTU_DEFAULT: u16 = 1500;
const MTU_MIN: u16 = 1280;
const MTU_MAX: u16 = 9600;
const QUEUES_MAX: u16 = 16;
const DESCRIPTORS_DEFAULT: u16 = 1024;
const DESCRIPTORS_MIN: u16 = 64;
const DESCRIPTORS_MAX: u16 = 32768;
const LINK_UP_TIMEOUT: Duration = Duration::from_secs(5);
const RX_COPYBREAK: u64 = 256;

/// A port.
#[derive(Debug, Clone, Serialize)]
pub struct PortPlan {
    /// Its name in the file.
    pub name: String,
    /// Device or link.
    pub kind: PortKind,
    /// IP MTU in bytes.
    pub mtu: u16,
    /// Largest UDP payload in bytes: the MTU without IPv6 and UDP headers.
    pub udp_payload_max: u16,
    /// Queue pairs; each has exactly one shard.
    pub queues: u16,
    /// How a datagram finds its shard.
    pub steering: SteeringPlan,
    /// Key of receive-side scaling, 40 or 52 bytes; nothing: a random one at every start.
    pub rss_key: Option<Secret<Vec<u8>>>,
    /// Descriptors of a receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue.
    pub tx_descriptors: u16,
    /// Static addresses with the length of their prefix.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// Static default gateway.
    pub gateway: Option<Ipv6Addr>,
    /// Whether router advertisements are heeded.
    pub router_advertisements: bool,
    /// What is asked of the device.
    pub offload: OffloadPlan,
    /// Where a datagram is built.
    pub tx_path: TxPathPlan,
    /// Frames received, and frames sent, at a time.
    pub burst: u16,
    /// Received UDP payloads shorter than this many bytes are copied out of their mbuf.
    pub rx_copybreak: u16,
    /// How long to wait at start for the link to come up.
    #[serde(rename = "link_up_timeout_s", serialize_with = "seconds::one")]
    pub link_up_timeout: Duration,
    /// Its packet memory: what is received, and what is sent unless it has a pool of its own.
    pub pool: PoolPlan,
    /// Where frames to send are built, where they do not fit the mbufs of `pool`.
    pub tx_pool: Option<PoolPlan>,
    /// Datagrams that one mbuf of it holds for the device to segment, should it do so.
    pub segments: u16,
}

impl PortPlan {
    /// Bytes of its packet memory.
    pub fn pool_bytes(&self) -> u64 {
        self.pool.bytes + self.tx_pool.map_or(0, |pool| pool.bytes)
    }
}

/// What a port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortKind {
    /// A device, by the name EAL knows it by.
    Device(String),
    /// One end of an in-process link.
    Link {
        /// Index of the port at the other end.
        peer: usize,
    },
    /// One end of an in-process link with emulated NICs.
    Emulated {
        /// Index of the port at the other end.
        peer: usize,
        /// The NIC at this end.
        nic: Box<NicPlan>,
    },
}

/// Where a datagram is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TxPathPlan {
    /// In the mbuf.
    InPlace,
    /// In a warm buffer, then copied to the mbuf. Over a link the mbuf is cold: the other lcore wrote to it last.
    Scratch,
}

/// Plans all ports; their pools follow when the shards are known.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    eal: &Arguments<'_>,
) -> Result<Vec<PortPlan>, ConfigError> {
    if config.ports.is_empty() {
        return Err(source.error("ports", "there is no port; give at least one"));
    }
    names::unique(
        source,
        "ports",
        config.ports.iter().map(|port| port.name.as_str()),
    )?;
    unique_addresses(config, source)?;
    let mut ports = Vec::with_capacity(config.ports.len());
    for index in 0..config.ports.len() {
        ports.push(one(config, source, eal, index)?);
    }
    offload::links(config, source, &ports)?;
    Ok(ports)
}

fn one(
    config: &Config,
    source: &Source,
    eal: &Arguments<'_>,
    index: usize,
) -> Result<PortPlan, ConfigError> {
    let port = &config.ports[index];
    let at = |key: &str| format!("ports[{index}].{key}");
    let mtu = port.mtu.unwrap_or(MTU_DEFAULT);
    if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
        let message = format!("{mtu} is out of range: an IPv6 MTU here is {MTU_MIN}..={MTU_MAX}");
        return Err(source.error(at("mtu"), message));
    }
    names::port(source, &at("name"), &port.name)?;
    let kind = kind(config, source, eal, index)?;
    let is_link = matches!(kind, PortKind::Link { .. });
    let in_process = is_link && port.emulated.is_none();
    let tx_path = match port.tx_path {
        TxPath::Auto if is_link => TxPathPlan::Scratch,
        TxPath::Auto | TxPath::InPlace => TxPathPlan::InPlace,
        TxPath::Scratch => TxPathPlan::Scratch,
    };
    let copybreak = config
        .memory
        .rx_copybreak
        .map_or(RX_COPYBREAK, |size| size.0);
    let queues = queues(config, source, index)?;
    Ok(PortPlan {
        name: port.name.clone(),
        mtu,
        udp_payload_max: mtu - HEADERS,
        queues,
        steering: SteeringPlan::of(&kind, queues),
        rss_key: steering::rss_key(config, source, index, &kind)?.map(Secret),
        kind,
        rx_descriptors: descriptors(source, at("rx_descriptors"), port.rx_descriptors)?,
        tx_descriptors: descriptors(source, at("tx_descriptors"), port.tx_descriptors)?,
        addresses: port
            .addresses
            .iter()
            .map(|prefix| (prefix.address, prefix.length))
            .collect(),
        gateway: gateway(source, at("gateway"), port)?,
        router_advertisements: port.router_advertisements,
        offload: offload::plan(
            source,
            &format!("ports[{index}]"),
            &port.offload,
            in_process,
        )?,
        tx_path,
        burst: burst(source, at("burst"), port.burst)?,
        // Above any MTU everything is copied, however much above.
        rx_copybreak: u16::try_from(copybreak).unwrap_or(u16::MAX),
        link_up_timeout: port
            .link_up_timeout
            .map_or(LINK_UP_TIMEOUT, |limit| limit.0),
        pool: PoolPlan::default(),
        tx_pool: None,
        segments: 1,
    })
}

fn kind(
    config: &Config,
    source: &Source,
    eal: &Arguments<'_>,
    index: usize,
) -> Result<PortKind, ConfigError> {
    let port = &config.ports[index];
    let at = |key: &str| format!("ports[{index}].{key}");
    match (&port.device, &port.link) {
        (Some(_), None) if port.emulated.is_some() => {
            let message =
                "only the ends of a link have emulated NICs; remove this key, or `device`";
            Err(source.error(at("emulated"), message))
        }
        (Some(device), None) => {
            if let Some(other) = config.ports[..index]
                .iter()
                .find(|p| p.device == port.device)
            {
                let message = format!(
                    "the port `{}` has the device `{device}` already; choose another",
                    other.name
                );
                return Err(source.error(at("device"), message));
            }
            match eal.device_problem(device) {
                Some(problem) => Err(source.error(at("device"), problem)),
                None => Ok(PortKind::Device(device.clone())),
            }
        }
        (None, Some(peer)) => link(config, source, index, peer),
        (Some(_), Some(_)) => {
            let message = "a port is a device or an end of a link; remove `device` or `link`";
            Err(source.error(at("link"), message))
        }
        (None, None) => {
            let message = format!(
                "the port `{}` has no device: give `device` (a PCI address, or a name made by \
                 `--vdev`) or `link` (the port at the other end)",
                port.name
            );
            Err(source.error(format!("ports[{index}]"), message))
        }
    }
}

fn link(
    config: &Config,
    source: &Source,
    index: usize,
    peer: &str,
) -> Result<PortKind, ConfigError> {
    let port = &config.ports[index];
    let key = format!("ports[{index}].link");
    let all = config.ports.iter().map(|port| port.name.as_str());
    let other = names::find(source, &key, "port", peer, all)?;
    if other == index {
        return Err(source.error(key, "a link needs two ports; name another one"));
    }
    if config.ports[other].link.as_deref() != Some(port.name.as_str()) {
        let message = format!(
            "the port `{peer}` is not linked back; give it `link: {}`",
            port.name
        );
        return Err(source.error(key, message));
    }
    let mtu = |port: &Port| port.mtu.unwrap_or(MTU_DEFAULT);
    let (own, peers) = (mtu(port), mtu(&config.ports[other]));
    if own != peers {
        let message = format!("{own}, but {peers} on `{peer}` at the other end; make them equal");
        return Err(source.error(format!("ports[{index}].mtu"), message));
    }
    let nic = nic::plan(config, source, index, other, own)?;
    Ok(match nic {
        Some(nic) => PortKind::Emulated {
            peer: other,
            nic: Box::new(nic),
        },
        None => PortKind::Link { peer: other },
    })
}

/// Queue pairs: as many as shards use. A queue without a shard would take frames that nobody polls.
fn queues(config: &Config, source: &Source, index: usize) -> Result<u16, ConfigError> {
    let port = &config.ports[index];
    let at_queues = || format!("ports[{index}].queues");
    let used = || config.shards.iter().filter(|shard| shard.port == port.name);
    let queues = match port.queues {
        Some(queues) if !(1..=QUEUES_MAX).contains(&queues) => {
            let message = format!("{queues} is out of range: a port has 1..={QUEUES_MAX} queues");
            return Err(source.error(at_queues(), message));
        }
        Some(queues) => queues,
        None => match used().map(|shard| shard.queue).max() {
            Some(last) => last.saturating_add(1),
            None => {
                let near = config.shards.iter().position(|shard| {
                    suggest::nearest(&shard.port, [port.name.as_str()]).is_some()
                });
                // A misspelt name in `shards` explains it; it is reported there.
                if near.is_some() {
                    return Ok(1);
                }
                let message = format!(
                    "no shard drives the port `{}`; add one or remove the port",
                    port.name
                );
                return Err(source.error(format!("ports[{index}]"), message));
            }
        },
    };
    // A queue past the last is the mistake of the shard that names it, and is reported there.
    match (0..queues.min(QUEUES_MAX)).find(|&queue| !used().any(|shard| shard.queue == queue)) {
        None => Ok(queues),
        Some(queue) => {
            let message = format!(
                "no shard drives queue {queue} of the port `{}`; add one, or lower the number of \
                 queues",
                port.name
            );
            Err(source.error(at_queues(), message))
        }
    }
}

fn descriptors(source: &Source, key: String, count: Option<u16>) -> Result<u16, ConfigError> {
    let count = count.unwrap_or(DESCRIPTORS_DEFAULT);
    let in_range = (DESCRIPTORS_MIN..=DESCRIPTORS_MAX).contains(&count);
    if in_range && count.is_power_of_two() {
        return Ok(count);
    }
    let message = format!(
        "{count} does not do: give a power of two from {DESCRIPTORS_MIN} to {DESCRIPTORS_MAX}"
    );
    Err(source.error(key, message))
}

fn burst(source: &Source, key: String, burst: Option<u16>) -> Result<u16, ConfigError> {
    let burst = burst.unwrap_or(BURST_DEFAULT as u16);
    if (1..=BURST as u16).contains(&burst) {
        return Ok(burst);
    }
    let message = format!("{burst} is out of range: give 1..={BURST} frames");
    Err(source.error(key, message))
}

fn gateway(source: &Source, key: String, port: &Port) -> Result<Option<Ipv6Addr>, ConfigError> {
    let Some(gateway) = port.gateway.map(|gateway| gateway.0) else {
        return Ok(None);
    };
    if port
        .addresses
        .iter()
        .any(|prefix| prefix.address == gateway)
    {
        return Err(source.error(key, format!("{gateway} is an address of the port itself")));
    }
    let on_link = gateway.is_unicast_link_local()
        || port.addresses.iter().any(|prefix| prefix.contains(gateway));
    if on_link {
        return Ok(Some(gateway));
    }
    let message = format!(
        "{gateway} lies in no prefix of the port's addresses, so it cannot be reached; give a \
         link-local address, or add the prefix to `addresses`"
    );
    Err(source.error(key, message))
}

fn unique_addresses(config: &Config, source: &Source) -> Result<(), ConfigError> {
    let mut seen: Vec<(Ipv6Addr, &str)> = Vec::new();
    for (index, port) in config.ports.iter().enumerate() {
        for (number, prefix) in port.addresses.iter().enumerate() {
            if let Some((_, other)) = seen.iter().find(|(address, _)| *address == prefix.address) {
                let key = format!("ports[{index}].addresses[{number}]");
                let message = format!("{} is an address of `{other}` already", prefix.address);
                return Err(source.error(key, message));
            }
            seen.push((prefix.address, &port.name));
        }
    }
    Ok(())
}
