//! What has to be right, and random, before a shard can start.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn_proto::EndpointConfig;

use super::config::{ShardConfig, ShardError, ShardLimits};
use super::gate::Gate;
use crate::random;
use crate::steering::{CidCodec, CidGenerator};

/// Whether `config` makes sense.
pub(super) fn check(config: &ShardConfig) -> Result<(), ShardError> {
    if !(1200..=65_527).contains(&config.udp_payload_max) {
        return Err(ShardError::UdpPayload(config.udp_payload_max));
    }
    let ShardLimits {
        connections,
        incoming,
        retry_above: _,    // 0 asks every client to prove its address
        incoming_bytes: _, // 0 buffers nothing, and nothing has to be
        handshakes_per_prefix,
        strangers,
        stateless,
        streams: _, // 0 permits none
        turn_budget,
        responses,
    } = config.limits;
    let rate = |rate: Option<u32>| rate.map_or(1, |rate| rate as usize);
    let bounds = [
        ("connections", connections),
        ("incoming", incoming),
        ("handshakes_per_prefix", rate(handshakes_per_prefix)),
        ("strangers", rate(strangers)),
        ("stateless", rate(stateless)),
        ("turn_budget", usize::from(turn_budget)),
        ("responses", responses),
    ];
    if let Some((name, _)) = bounds.into_iter().find(|&(_, bound)| bound == 0) {
        return Err(ShardError::ZeroLimit(name));
    }
    let range = &config.client_ports.range;
    if config.connects() && (range.is_empty() || range.contains(&0)) {
        return Err(ShardError::ClientPorts(*range.start(), *range.end()));
    }
    let mut udp_ports = Vec::new();
    for listener in &config.listeners {
        let udp_port = listener.udp_port;
        let of_clients = config.connects() && range.contains(&udp_port);
        let taken = of_clients || udp_ports.contains(&udp_port);
        let alpns = listener.services.iter().map(|service| &service.alpn[..]);
        check_listener(udp_port, taken, alpns)?;
        udp_ports.push(udp_port);
    }
    Ok(())
}

/// Whether a listener makes sense. `taken`: its UDP port is another listener's or the clients'.
pub(super) fn check_listener<'a>(
    udp_port: u16,
    taken: bool,
    services: impl Iterator<Item = &'a [u8]>,
) -> Result<(), ShardError> {
    if udp_port == 0 {
        return Err(ShardError::UdpPortZero);
    }
    if taken {
        return Err(ShardError::UdpPortTwice(udp_port));
    }
    let mut alpns = Vec::new();
    for alpn in services {
        if alpns.contains(&alpn) {
            let alpn = String::from_utf8_lossy(alpn).into_owned();
            return Err(ShardError::AlpnTwice { udp_port, alpn });
        }
        alpns.push(alpn);
    }
    match alpns.is_empty() {
        true => Err(ShardError::NoService(udp_port)),
        false => Ok(()),
    }
}

/// Makes the endpoints of a shard: all of them with the same kind of connection IDs, each with a reset key of its own.
pub(super) struct Endpoints {
    udp_payload_max: u16,
    /// What the endpoints' reset keys are made from.
    reset_key: hmac::Key,
    /// What makes connection IDs, and the shard that they name.
    ids: Option<(CidCodec, u8)>,
    incoming: usize,
    incoming_bytes: u64,
    reset_interval: Duration,
    pub(super) randomness: Randomness,
}

impl Endpoints {
    pub(super) fn new(config: &ShardConfig) -> Self {
        let steering = config.steering.as_ref();
        Self {
            udp_payload_max: config.udp_payload_max,
            reset_key: hmac::Key::new(hmac::HMAC_SHA256, &config.reset_key),
            ids: steering.map(|steering| (steering.codec().clone(), steering.shard())),
            incoming: config.limits.incoming,
            incoming_bytes: config.limits.incoming_bytes,
            reset_interval: Gate::reset_interval(&config.limits),
            randomness: Randomness::new(config.seed),
        }
    }

    /// An endpoint of quinn-proto: a listener's with its UDP port and settings, or the clients', which only connects.
    ///
    /// Whoever sees a connection ID may show it to another endpoint, which knows no such connection and answers with a
    /// stateless reset. That must not hold a token that the connection's peer believes (RFC 9000 §21.11), so the key
    /// goes by the UDP port.
    pub(super) fn make(
        &mut self,
        listener: Option<(u16, quinn_proto::ServerConfig)>,
    ) -> Result<quinn_proto::Endpoint, ShardError> {
        // No listener has UDP port 0. Clients have one key, whatever ports they take: it outlives a restart.
        let udp_port = listener.as_ref().map_or(0, |&(udp_port, _)| udp_port);
        let reset_key = hmac::sign(&self.reset_key, &udp_port.to_be_bytes());
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_key.as_ref());
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        let checked = config.max_udp_payload_size(self.udp_payload_max);
        checked.map_err(|_| ShardError::UdpPayload(self.udp_payload_max))?;
        config.rng_seed(Some(self.randomness.seed()?));
        config.min_reset_interval(self.reset_interval);
        let server = listener.map(|(_, server)| self.server(server));
        if let Some((codec, shard)) = &self.ids {
            let (codec, shard) = (codec.clone(), *shard);
            let start = self.randomness.number()?;
            config.cid_generator(move || Box::new(CidGenerator::new(codec.clone(), shard, start)));
        }
        // The port never fragments, so MTU discovery may probe.
        let allow_mtu_discovery = true;
        Ok(quinn_proto::Endpoint::new(
            Arc::new(config),
            server,
            allow_mtu_discovery,
            None,
        ))
    }

    /// The settings of a listener, with the bounds of the shard.
    pub(super) fn server(
        &self,
        mut server: quinn_proto::ServerConfig,
    ) -> Arc<quinn_proto::ServerConfig> {
        server.max_incoming(self.incoming);
        server.incoming_buffer_size(self.incoming_bytes);
        server.incoming_buffer_size_total(self.incoming_bytes);
        Arc::new(server)
    }
}

/// Seeds: from the operating system, or from a number when a simulation is to repeat.
pub(super) struct Randomness {
    seeded: Option<u64>,
}

impl Randomness {
    fn new(seeded: Option<u64>) -> Self {
        Self { seeded }
    }

    fn seed(&mut self) -> Result<[u8; 32], ShardError> {
        match &mut self.seeded {
            // quinn-proto spreads what it is given through ChaCha; distinct is enough.
            Some(next) => {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&next.to_le_bytes());
                *next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
                Ok(seed)
            }
            None => random::bytes().map_err(|_| ShardError::NoRandomness),
        }
    }

    /// A random number.
    pub(super) fn number(&mut self) -> Result<u128, ShardError> {
        let mut number = [0; 16];
        number.copy_from_slice(&self.seed()?[..16]);
        Ok(u128::from_le_bytes(number))
    }
}
