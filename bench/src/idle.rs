//! Many connections at rest between two shards, under a virtual clock: what time-outs cost.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use poll::{Datagram, Ecn, Path, Transport};
use stoq::app::{Application, ConnectTarget, Connection, Context, NewApplication, from_fn};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardLimits};
use stoq::steering::ClientPorts;
use stoq::transport::TransportSettings;

use crate::memory::{LEFT, RIGHT};
use crate::settings::{ALPN, SERVER_NAME, Settings};
use crate::shards;

/// Connections begun at a time, well below what a shard admits at once.
const BATCH: usize = 64;
/// How often each client connection pings its server.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a datagram takes from one shard to the other.
const LATENCY: Duration = Duration::from_micros(10);
/// Turns of the virtual clock within which all connections have to be up.
const TURNS_MAX: usize = 1_000_000;

/// Two shards with connections that do nothing but keep themselves alive.
pub struct IdleConnections {
    now: Instant,
    client: Shard,
    server: Shard,
    buffer: Vec<u8>,
    to_client: VecDeque<Datagram>,
    to_server: VecDeque<Datagram>,
}

impl IdleConnections {
    /// Makes `count` connections and waits, in virtual time, until they are up and at rest.
    ///
    /// # Errors
    /// The shards refuse the settings, or not all connections come up.
    pub fn new(count: usize) -> Result<Self, Box<dyn Error>> {
        let now = Instant::now();
        let settings = Settings::new(1500)?;
        let transport = TransportSettings {
            keep_alive: Some(KEEP_ALIVE),
            ..Default::default()
        };
        let mut config = settings.client();
        config.transport_config(transport.build(settings.udp_payload_max())?);
        let target = ConnectTarget {
            remote: LEFT,
            streams: None,
            server_name: SERVER_NAME.to_owned(),
            config,
            early_data: false,
        };
        let limits = ShardLimits {
            connections: count,
            ..Default::default()
        };
        let shard = |listeners, clients: Vec<NewApplication>| {
            let config = ShardConfig {
                seed: Some(1),
                limits: limits.clone(),
                listeners,
                client_ports: ClientPorts::one(RIGHT.port()),
                clients,
                ..shards::config(settings.udp_payload_max())
            };
            Shard::new(config, now)
        };
        let service = ServiceConfig {
            alpn: ALPN.to_vec(),
            early_data: false,
            application: from_fn(|| Rest),
        };
        let listener = ListenerConfig {
            udp_port: LEFT.port(),
            streams: None,
            server: settings.server(),
            services: vec![service],
        };
        let dialer = Dialer {
            target,
            missing: count,
            dialing: 0,
            next: Some(now),
        };
        let mut idle = Self {
            now,
            client: shard(Vec::new(), vec![from_fn(|| dialer)])?,
            server: shard(vec![listener], Vec::new())?,
            buffer: Vec::with_capacity(usize::from(settings.udp_payload_max())),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
        };
        idle.settle(count)?;
        Ok(idle)
    }

    fn settle(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            let up = self.server.counters().handshakes.get() as usize == count;
            let rest = self
                .client
                .timeout()
                .is_none_or(|at| at > self.now + KEEP_ALIVE / 2);
            if up && rest && self.to_client.is_empty() && self.to_server.is_empty() {
                return Ok(());
            }
            self.step();
        }
        Err(format!(
            "of {count}, {} connections came up",
            self.server.counters().handshakes.get()
        ))
    }

    /// A turn of the client's worker in which nothing arrives and nothing is due. True when it sent something, which
    /// is not what it is for.
    pub fn empty_turn(&mut self) -> bool {
        self.buffer.clear();
        self.client.advance(self.now);
        self.client
            .transmit(self.now, &mut self.buffer, 1)
            .is_some()
            || self.client.timeout().is_some_and(|at| at <= self.now)
    }

    /// Moves the clock to what is due next on either side, and does it: a timer, or the delivery of a datagram.
    pub fn step(&mut self) {
        if self.to_client.is_empty() && self.to_server.is_empty() {
            let due = [self.client.timeout(), self.server.timeout()]
                .into_iter()
                .flatten()
                .min();
            self.now = due.map_or(self.now, |due| due.max(self.now));
        } else {
            self.now += LATENCY;
        }
        for datagram in self.to_client.drain(..) {
            self.client.receive(self.now, datagram);
        }
        for datagram in self.to_server.drain(..) {
            self.server.receive(self.now, datagram);
        }
        let (now, buffer) = (self.now, &mut self.buffer);
        let to_server = Path {
            remote: RIGHT,
            local: *LEFT.ip(),
            local_udp_port: LEFT.port(),
        };
        send(
            &mut self.client,
            now,
            buffer,
            to_server,
            &mut self.to_server,
        );
        let to_client = Path {
            remote: LEFT,
            local: *RIGHT.ip(),
            local_udp_port: RIGHT.port(),
        };
        send(
            &mut self.server,
            now,
            buffer,
            to_client,
            &mut self.to_client,
        );
    }

    /// Datagrams that the client has sent so far.
    pub fn sent(&self) -> u64 {
        self.client.counters().udp_sent.get()
    }
}

fn send(
    from: &mut Shard,
    now: Instant,
    buffer: &mut Vec<u8>,
    path: Path,
    to: &mut VecDeque<Datagram>,
) {
    from.advance(now);
    loop {
        buffer.clear();
        if from.transmit(now, buffer, 1).is_none() {
            // The worker asks after every turn; a shard takes it for the end of the turn.
            from.timeout();
            return;
        }
        let payload = BytesMut::from(&buffer[..]);
        to.push_back(Datagram {
            path,
            ecn: Ecn::NotEct,
            payload,
        });
    }
}

/// Opens connections in batches.
struct Dialer {
    target: ConnectTarget,
    missing: usize,
    dialing: usize,
    next: Option<Instant>,
}

impl Application for Dialer {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.dialing -= 1;
        if self.dialing == 0 && self.missing > 0 {
            self.next = Some(connection.now());
        }
    }

    fn timeout(&self) -> Option<Instant> {
        self.next
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.next = None;
        while self.missing > 0 && self.dialing < BATCH && shard.connect(&self.target).is_ok() {
            self.missing -= 1;
            self.dialing += 1;
        }
    }
}

/// Does nothing.
struct Rest;

impl Application for Rest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_at_rest_ping_once_an_interval() {
        let mut idle = IdleConnections::new(100).unwrap();
        assert!(!idle.empty_turn(), "nothing is due");
        let (start, before) = (idle.now, idle.sent());
        // Each connection's fifth ping is due within this time, its sixth is not.
        while idle.now < start + KEEP_ALIVE * 11 / 2 {
            idle.step();
        }
        let pings = (idle.sent() - before) as f64 / 100.0;
        assert!(
            (4.0..=6.0).contains(&pings),
            "{pings} datagrams a connection"
        );
    }
}
