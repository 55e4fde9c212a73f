//! What the shards of a process, and of a port, have in common: keys, connection IDs, UDP ports, what joins them.

use aws_lc_rs::hmac;
use poll::Relay;
use poll::host::UdpPorts;
use thiserror::Error;

use crate::plan::{ConnectionIdsPlan, Plan, PortPlan, ShardPlan};
use crate::random;
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
    /// What the ports' keys of stateless reset tokens are made from.
    reset_key: hmac::Key,
    /// One a shard, in the order of the plan; nothing for a shard with plain connection IDs.
    steering: Vec<Option<Steering>>,
    /// One a shard, in the order of the plan; nothing for a shard that is alone on its port.
    relays: Vec<Option<Relay>>,
    /// One a port, in the order of the plan.
    client_ports: Vec<ClientPorts>,
    /// One set a port, in the order of the plan. Its hosts have it, too.
    udp_ports: Vec<UdpPorts>,
}

impl Shared {
    /// `served` as in [`Prepared`](super::Prepared::new).
    pub(super) fn new(plan: &Plan, served: &dyn Fn(&str) -> Vec<u16>) -> Result<Self, SharedError> {
        let reset_key = match &plan.connection_ids.reset_key {
            Some(key) => key.0,
            None => random()?,
        };
        let codec = codec(&plan.connection_ids)?;
        let mut shared = Self {
            reset_key: hmac::Key::new(hmac::HMAC_SHA256, &reset_key),
            steering: plan.shards.iter().map(|_| None).collect(),
            relays: plan.shards.iter().map(|_| None).collect(),
            client_ports: Vec::with_capacity(plan.ports.len()),
            udp_ports: Vec::with_capacity(plan.ports.len()),
        };
        for port in 0..plan.ports.len() {
            shared.join(plan, port, &codec);
            shared.client_ports.push(client_ports(plan, port, served)?);
            let udp_ports = shared.udp_ports_at_start(plan, port);
            shared.udp_ports.push(udp_ports);
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

    /// The key of stateless reset tokens of the shards on a port, which stays the same while the file does.
    ///
    /// Each port has its own: connection IDs lead to the other shards of a port, but to none of another one, which would
    /// answer them with a reset (RFC 9000 §21.11).
    pub(super) fn reset_key(&self, port: &PortPlan) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.reset_key, port.name.as_bytes()).as_ref());
        key
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

    /// The UDP ports that are open on a port (a device). Whoever keeps a clone can open more while the hosts run.
    pub(super) fn udp_ports(&self, port: usize) -> &UdpPorts {
        &self.udp_ports[port]
    }

    /// The UDP ports that are in use on a port, by any of its shards: what belongs to another shard is handed over to
    /// it.
    fn udp_ports_at_start(&self, plan: &Plan, port: usize) -> UdpPorts {
        let mut udp_ports = listeners(plan, port);
        for shard in plan.shards.iter().filter(|shard| shard.port == port) {
            if !shard.clients.is_empty() {
                udp_ports.extend(self.client_ports(shard).range);
            }
        }
        udp_ports.into_iter().collect()
    }
}

/// The UDP ports of the listeners of a port.
fn listeners(plan: &Plan, port: usize) -> Vec<u16> {
    let shards = plan.shards.iter().filter(|shard| shard.port == port);
    let listeners = shards.flat_map(|shard| &shard.listeners);
    listeners.map(|listener| listener.udp_port).collect()
}

/// The UDP ports of outgoing connections, the same for all shards of a port.
fn client_ports(
    plan: &Plan,
    port: usize,
    served: &dyn Fn(&str) -> Vec<u16>,
) -> Result<ClientPorts, SharedError> {
    let mut taken = listeners(plan, port);
    taken.extend(served(&plan.ports[port].name));
    ClientPorts::random(&taken).map_err(|source| SharedError::ClientPorts {
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
    random::bytes().map_err(|_| SharedError::NoRandomness)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::plan::Given;
    use crate::run::TlsChecks;

    /// Four shards on a link with two queues, and one alone on a device. Queues are not in the order of the shards.
    const YAML: &str = r#"
eal: ["-l", "0-1", "--no-huge", "--vdev=net_null0", "-m", "512"]
ports:
  - { name: left, link: right, addresses: ["fd00::1/64"] }
  - { name: right, link: left, addresses: ["fd00::2/64"] }
  - { name: alone, device: net_null0 }
shards:
  - { name: server-1, port: left, queue: 1, lcore: 1 }
  - { name: server-0, port: left, queue: 0, lcore: 0 }
  - { name: alone, port: alone, lcore: 0 }
  - { name: client-0, port: right, queue: 0, lcore: 1, client_udp_port: 50000 }
  - { name: client-1, port: right, queue: 1, lcore: 0 }
identities: [{ name: own, self_signed: ["localhost"] }]
listeners:
  - { name: one, shard: [server-0, server-1], udp_port: 4433, identity: own, services: { perf: {} } }
  - { name: two, shard: server-1, udp_port: 50001, identity: own, services: { perf: {} } }
clients:
  - { name: a, shard: client-0, remote: "[fd00::1]:4433", trust: { insecure: true }, perf: {} }
  - { name: b, shard: client-1, remote: "[fd00::1]:4433", trust: { insecure: true }, perf: {} }
"#;

    fn plan(more: &str) -> Plan {
        let text = format!("{YAML}{more}");
        let (config, source) = Config::parse(Path::new("x.yaml"), text).unwrap();
        Plan::new(&config, &source, &Given::default(), &TlsChecks).unwrap()
    }

    #[test]
    fn shards_of_a_port_are_joined_and_one_that_is_alone_is_not() {
        let plan = plan("");
        let mut shared = Shared::new(&plan, &|_| Vec::new()).unwrap();
        for shard in [0, 1, 3, 4] {
            let steering = shared.take_steering(shard).unwrap();
            assert_eq!(usize::from(steering.shard()), shard, "named by its index");
            assert!(shared.take_steering(shard).is_none(), "handed out once");
            assert!(shared.take_relay(shard).is_some());
        }
        assert!(shared.take_steering(2).is_none());
        assert!(shared.take_relay(2).is_none());
    }

    #[test]
    fn given_connection_ids_are_for_all_shards() {
        let plan = plan(
            "connection_ids: { host_id: 0a, keys: [{ rotation: 5, key: 8f95f09245765f80256934e50c66207f }] }\n",
        );
        let mut shared = Shared::new(&plan, &|_| Vec::new()).unwrap();
        let alone = shared.take_steering(2).unwrap();
        let server = shared.take_steering(0).unwrap();
        let cid = alone.codec().encode(2, 7);
        assert_eq!(cid[0] >> 5, 5, "the rotation of the given key");
        assert_eq!(server.codec().decode(&cid), Some(2), "one codec for all");
        assert!(shared.take_relay(2).is_none());
    }

    #[test]
    fn keys_are_given_or_random() {
        let given = plan(&format!(
            "connection_ids: {{ reset_key: {} }}\n",
            "5a".repeat(32)
        ));
        let random = plan("");
        let key = |plan: &Plan, port: usize| {
            Shared::new(plan, &|_| Vec::new())
                .unwrap()
                .reset_key(&plan.ports[port])
        };
        assert_eq!(key(&given, 0), key(&given, 0));
        assert_ne!(key(&given, 0), key(&given, 1), "each port has its own");
        assert_ne!(key(&random, 0), key(&random, 0));
    }

    #[test]
    fn a_port_is_open_for_the_udp_ports_of_all_its_shards() {
        let plan = plan("");
        let shared = Shared::new(&plan, &|_| Vec::new()).unwrap();
        let open = |port| -> Vec<u16> {
            let udp_ports = shared.udp_ports(port);
            let open = |&udp_port: &u16| udp_ports.contains(udp_port);
            (0..=u16::MAX).filter(open).collect()
        };
        assert_eq!(open(0), [4433, 50_001]);
        assert!(open(2).is_empty());
        assert_eq!(shared.client_ports(&plan.shards[3]).range, 50_000..=50_000);
        let range = shared.client_ports(&plan.shards[4]).range;
        assert_eq!(range.clone().count(), 256);
        let open = open(1);
        assert!(open.contains(&50_000) && range.clone().all(|udp_port| open.contains(&udp_port)));
        // Once, should the block happen to hold the given one.
        assert_eq!(open.len(), 256 + usize::from(!range.contains(&50_000)));
    }
}
