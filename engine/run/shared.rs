//! What the shards of a process, and of a port, have in common: keys, connection IDs, UDP ports, what joins them.

use poll::Relay;
use rustls::crypto::ring::default_provider;
use thiserror::Error;

use crate::plan::{ConnectionIdsPlan, Plan, ShardPlan};
use crate::steering::{
    CidCodec, CidConfig, CidError, CidKey, ClientPorts, ClientPortsError, Steering, mesh,
};

/// Bytes of a host ID made at start.
const RANDOM_HOST_ID: usize = 4;

/// Why shards could not be joined.
#[derive(Debug, Error)]
pub enum SharedError {
    /// Connection IDs.
    #[error("connection IDs: {0}")]
    ConnectionIds(#[from] CidError),
    /// UDP ports for clients.
    #[error("port {port}: {source}")]
    ClientPorts {
        /// The port's name in the file.
        port: String,
        /// The reason.
        source: ClientPortsError,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    NoRandomness,
}

/// What is made once for all shards, and handed out to each.
pub(super) struct Shared {
    /// Makes stateless reset tokens.
    pub(super) reset_key: [u8; 32],
    /// One a shard, in the order of the plan; nothing for a shard with plain connection IDs.
    steering: Vec<Option<Steering>>,
    /// One a shard, in the order of the plan; nothing for a shard that is alone on its port.
    relays: Vec<Option<Relay>>,
    /// One a port, in the order of the plan.
    client_ports: Vec<ClientPorts>,
}

impl Shared {
    pub(super) fn new(plan: &Plan) -> Result<Self, SharedError> {
        let reset_key = match &plan.connection_ids.reset_key {
            Some(key) => key.0,
            None => random()?,
        };
        let codec = codec(&plan.connection_ids)?;
        let mut shared = Self {
            reset_key,
            steering: plan.shards.iter().map(|_| None).collect(),
            relays: plan.shards.iter().map(|_| None).collect(),
            client_ports: Vec::with_capacity(plan.ports.len()),
        };
        for port in 0..plan.ports.len() {
            shared.join(plan, port, &codec);
            shared.client_ports.push(client_ports(plan, port)?);
        }
        Ok(shared)
    }

    /// Joins the shards of a port, and their hosts.
    fn join(&mut self, plan: &Plan, port: usize, codec: &CidCodec) {
        let mut of_port: Vec<usize> = (0..plan.shards.len())
            .filter(|&shard| plan.shards[shard].port == port)
            .collect();
        let several = of_port.len() > 1;
        if several || plan.connection_ids.given {
            // The plan allows 256 shards, so that each has a number in connection IDs: its index.
            let numbers: Vec<u8> = of_port.iter().map(|&shard| shard as u8).collect();
            let ends = mesh(codec, &numbers, plan.limits.handover as usize);
            for (&shard, end) in of_port.iter().zip(ends) {
                self.steering[shard] = Some(end);
            }
        }
        if several {
            // The first relay is that of the primary host, which is on queue 0.
            of_port.sort_by_key(|&shard| plan.shards[shard].queue);
            for (&shard, relay) in of_port.iter().zip(poll::relay(of_port.len())) {
                self.relays[shard] = Some(relay);
            }
        }
    }

    /// Hands out a shard's way to the others, once.
    pub(super) fn take_steering(&mut self, shard: usize) -> Option<Steering> {
        self.steering[shard].take()
    }

    /// Hands out the way from a shard's host to the others of its port, once.
    pub(super) fn take_relay(&mut self, shard: usize) -> Option<Relay> {
        self.relays[shard].take()
    }

    /// The UDP ports of a shard's outgoing connections.
    pub(super) fn client_ports(&self, shard: &ShardPlan) -> ClientPorts {
        match shard.client_udp_port {
            0 => self.client_ports[shard.port].clone(),
            udp_port => ClientPorts::one(udp_port),
        }
    }

    /// The UDP ports that are in use on a port (a device), by any of its shards: what belongs to another shard is
    /// handed over to it.
    pub(super) fn udp_ports(&self, plan: &Plan, port: usize) -> Vec<u16> {
        let mut udp_ports = listeners(plan, port);
        for shard in plan.shards.iter().filter(|shard| shard.port == port) {
            if !shard.clients.is_empty() {
                udp_ports.extend(self.client_ports(shard).range);
            }
        }
        udp_ports.sort_unstable();
        udp_ports.dedup();
        udp_ports
    }
}

/// The UDP ports of the listeners of a port.
fn listeners(plan: &Plan, port: usize) -> Vec<u16> {
    let shards = plan.shards.iter().filter(|shard| shard.port == port);
    let listeners = shards.flat_map(|shard| &shard.listeners);
    listeners.map(|listener| listener.udp_port).collect()
}

/// The UDP ports of outgoing connections, the same for all shards of a port.
fn client_ports(plan: &Plan, port: usize) -> Result<ClientPorts, SharedError> {
    ClientPorts::random(&listeners(plan, port)).map_err(|source| SharedError::ClientPorts {
        port: plan.ports[port].name.clone(),
        source,
    })
}

fn codec(plan: &ConnectionIdsPlan) -> Result<CidCodec, SharedError> {
    let host_id = match &plan.host_id {
        Some(host_id) => host_id.clone(),
        None => random::<RANDOM_HOST_ID>()?.to_vec(),
    };
    let mut keys: Vec<CidKey> = plan
        .keys
        .iter()
        .map(|key| CidKey {
            rotation: key.rotation,
            key: key.key.0,
        })
        .collect();
    if keys.is_empty() {
        keys.push(CidKey {
            rotation: 0,
            key: random()?,
        });
    }
    Ok(CidCodec::new(&CidConfig { host_id, keys })?)
}

fn random<const N: usize>() -> Result<[u8; N], SharedError> {
    let mut bytes = [0; N];
    let random = default_provider().secure_random;
    random
        .fill(&mut bytes)
        .map_err(|_| SharedError::NoRandomness)?;
    Ok(bytes)
}
