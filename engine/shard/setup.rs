//! What has to be right, and random, before a shard can start.

use std::sync::Arc;

use quinn_proto::EndpointConfig;
use rustls::crypto::ring::default_provider;

use super::config::{ServiceConfig, ShardConfig, ShardError, ShardLimits};

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
    let mut udp_ports = Vec::new();
    if !config.clients.is_empty() && config.client_udp_port != 0 {
        udp_ports.push(config.client_udp_port);
    }
    for listener in &config.listeners {
        let udp_port = listener.udp_port;
        if udp_port == 0 {
            return Err(ShardError::UdpPortZero);
        }
        if udp_ports.contains(&udp_port) {
            return Err(ShardError::UdpPortTwice(udp_port));
        }
        udp_ports.push(udp_port);
        if listener.services.is_empty() {
            return Err(ShardError::NoService(udp_port));
        }
        let mut alpns = Vec::new();
        for ServiceConfig { alpn, .. } in &listener.services {
            if alpns.contains(&alpn) {
                let alpn = String::from_utf8_lossy(alpn).into_owned();
                return Err(ShardError::AlpnTwice { udp_port, alpn });
            }
            alpns.push(alpn);
        }
    }
    Ok(())
}

/// An endpoint of quinn-proto; one that has no `server` settings only connects.
pub(super) fn endpoint(
    udp_payload_max: u16,
    server: Option<quinn_proto::ServerConfig>,
    randomness: &mut Randomness,
) -> Result<quinn_proto::Endpoint, ShardError> {
    let mut config = EndpointConfig::default();
    let checked = config.max_udp_payload_size(udp_payload_max);
    checked.map_err(|_| ShardError::UdpPayload(udp_payload_max))?;
    config.rng_seed(Some(randomness.seed()?));
    // The port never fragments, so MTU discovery may probe.
    let allow_mtu_discovery = true;
    Ok(quinn_proto::Endpoint::new(
        Arc::new(config),
        server.map(Arc::new),
        allow_mtu_discovery,
        None,
    ))
}

/// Seeds: from the operating system, or from a number when a simulation is to repeat.
pub(super) struct Randomness {
    seeded: Option<u64>,
}

impl Randomness {
    pub(super) fn new(seeded: Option<u64>) -> Self {
        Self { seeded }
    }

    fn seed(&mut self) -> Result<[u8; 32], ShardError> {
        let mut seed = [0; 32];
        match &mut self.seeded {
            // quinn-proto spreads what it is given through ChaCha; distinct is enough.
            Some(next) => {
                seed[..8].copy_from_slice(&next.to_le_bytes());
                *next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
            }
            None => {
                let random = default_provider().secure_random;
                random
                    .fill(&mut seed)
                    .map_err(|_| ShardError::NoRandomness)?;
            }
        }
        Ok(seed)
    }

    /// A dynamic port (RFC 6335 §6) that is not in `taken`.
    pub(super) fn udp_port(&mut self, taken: &[u16]) -> Result<u16, ShardError> {
        loop {
            let seed = self.seed()?;
            let udp_port = 49_152 + u16::from_le_bytes([seed[0], seed[1]]) % 16_384;
            if !taken.contains(&udp_port) {
                return Ok(udp_port);
            }
        }
    }
}
