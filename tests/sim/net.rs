//! The simulated network: shards joined by links that delay, lose, double and reorder what they carry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use poll::{Datagram, Ecn, Path, Transmit, Transport};
use stoq::app::{Application, ConnectTarget, NewApplication, from_fn};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardCounters, ShardLimits};
use stoq::steering::ClientPorts;
use stoq::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config};
use stoq::transport::TransportSettings;

use crate::flight::Flight;
pub use crate::flight::Wire;

/// Where servers listen.
pub const UDP_PORT: u16 = 4433;
/// The largest UDP payload of a link, as with an IP MTU of 1500.
pub const PAYLOAD_MAX: u16 = 1_452;
/// Bytes that quinn-proto may write into a buffer and take back.
const OVERSHOOT: usize = 1_024;
/// Frames that wait in a receive ring at most.
const RING: usize = 1_024;
/// Datagrams that a worker pulls in a turn.
const BURST: usize = 32;

/// What the network does to a datagram.
#[derive(Debug, Clone)]
pub struct Link {
    pub latency: Duration,
    /// Probabilities, 0 to 1.
    pub loss: f64,
    pub duplication: f64,
    /// Of a datagram to be held back by up to another latency.
    pub reordering: f64,
    /// Of a datagram to be marked as having met congestion, if its sender takes part in ECN.
    pub congestion: f64,
    /// Bytes a second that a node can send. What does not fit is not asked for, as with a full TX ring.
    pub rate: Option<u64>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            congestion: 0.0,
            rate: None,
        }
    }
}

/// Says which of several shards gets a datagram: counted in the order in which they came to their port.
pub type Queues = Box<dyn FnMut(&Wire, usize) -> usize>;

struct Node {
    shard: Shard,
    address: Ipv6Addr,
    free_at: Instant,
    /// Turns in which it sent though nothing had come to it: a timer woke it.
    sent_by_timer: u64,
}

/// Shards joined by one link.
pub struct Net {
    pub start: Instant,
    pub now: Instant,
    pub link: Link,
    /// The UDP port by which the others see node 1, when a NAT stands between.
    pub nat: Option<u16>,
    /// The UDP port that node 1 itself uses.
    behind_nat: u16,
    /// Everything that was sent, when asked for.
    pub tap: Option<Vec<Wire>>,
    /// How a port with several shards spreads what it receives: by flow, unless a test wants it otherwise.
    pub queues: Queues,
    /// Datagrams that a node's device takes in one buffer.
    pub segments_max: usize,
    /// Every transmit that a node's device got, with the time, when asked for.
    pub transmits: Option<Vec<(Instant, usize, Transmit)>>,
    /// The present turn is one that only a deadline of a node asked for.
    by_deadline: bool,
    /// The node whose device takes no frames.
    pub stalled: Option<usize>,
    /// The node whose lcore does not run. What arrives for it waits, as in a receive ring.
    pub away: Option<usize>,
    waiting: Vec<Wire>,
    nodes: Vec<Node>,
    flights: BinaryHeap<Reverse<Flight>>,
    serial: u64,
    random: Random,
}

impl Net {
    pub fn new(link: Link) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            link,
            nat: None,
            behind_nat: 0,
            tap: None,
            queues: Box::new(by_flow),
            segments_max: 1,
            transmits: None,
            by_deadline: false,
            stalled: None,
            away: None,
            waiting: Vec::new(),
            nodes: Vec::new(),
            flights: BinaryHeap::new(),
            serial: 0,
            random: Random(0x5709),
        }
    }

    /// Adds a shard; returns its index. Its address is [`address`] of that.
    pub fn add(&mut self, config: ShardConfig) -> usize {
        self.add_at(address(self.nodes.len()), config)
    }

    /// Adds a shard on another queue of the port that `node` is on; returns its index.
    pub fn join(&mut self, node: usize, config: ShardConfig) -> usize {
        self.add_at(self.nodes[node].address, config)
    }

    fn add_at(&mut self, address: Ipv6Addr, config: ShardConfig) -> usize {
        self.nodes.push(Node {
            shard: Shard::new(config, self.now).unwrap(),
            address,
            free_at: self.now,
            sent_by_timer: 0,
        });
        self.nodes.len() - 1
    }

    /// Puts a new shard in the place of a node's, as if its process had started again.
    pub fn replace(&mut self, node: usize, config: ShardConfig) {
        self.nodes[node].shard = Shard::new(config, self.now).unwrap();
    }

    pub fn shard(&mut self, node: usize) -> &mut Shard {
        &mut self.nodes[node].shard
    }

    pub fn counters(&self, node: usize) -> Arc<ShardCounters> {
        self.nodes[node].shard.counters().clone()
    }

    pub fn stop(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].shard.stop(now);
    }

    /// Turns in which a node sent because a timer woke it, and for nothing else.
    pub fn sent_by_timer(&self, node: usize) -> u64 {
        self.nodes[node].sent_by_timer
    }

    /// Hands a datagram to a node, now and past all faults.
    pub fn inject(&mut self, wire: Wire) {
        self.deliver(wire);
    }

    /// Runs until `done` says so; panics when that is not within `limit` of simulated time.
    #[track_caller]
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + limit;
        while !done(self) {
            assert!(
                self.now <= deadline,
                "not done after {limit:?} of simulated time"
            );
            if !self.turn() {
                assert!(done(self), "nothing left to happen, and not done");
            }
        }
    }

    /// Runs for a time.
    pub fn run_for(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.now < deadline {
            if !self.turn_before(Some(deadline)) {
                self.now = deadline;
            }
        }
    }

    /// Runs until nothing more happens for a second.
    pub fn settle(&mut self) {
        self.run_for(Duration::from_secs(1));
    }

    fn turn(&mut self) -> bool {
        self.turn_before(None)
    }

    /// One turn of every worker, then the clock moves to what happens next. False when nothing will happen.
    fn turn_before(&mut self, deadline: Option<Instant>) -> bool {
        while self
            .flights
            .peek()
            .is_some_and(|flight| flight.0.at <= self.now)
        {
            if let Some(Reverse(flight)) = self.flights.pop() {
                self.deliver(flight.wire);
            }
        }
        if self.away.is_none() {
            for wire in std::mem::take(&mut self.waiting) {
                self.deliver(wire);
            }
        }
        let mut next = self.flights.peek().map(|flight| flight.0.at);
        for index in 0..self.nodes.len() {
            if self.away == Some(index) {
                continue;
            }
            let full = self.pull(index);
            let node = &mut self.nodes[index];
            let mut at = node.shard.timeout();
            if full {
                at = at.max(Some(node.free_at));
            }
            next = next.into_iter().chain(at).min();
        }
        let flight = self.flights.peek().map(|flight| flight.0.at);
        let by_deadline =
            next.is_some_and(|at| at > self.now && flight.is_none_or(|flight| at < flight));
        self.by_deadline = by_deadline;
        next = next.into_iter().chain(flight).min();
        let next = match (next, deadline) {
            (None, _) => return false,
            (Some(next), None) => next,
            (Some(next), Some(deadline)) => next.min(deadline),
        };
        // A turn takes time, as everywhere: 1 µs.
        self.now = next.max(self.now + Duration::from_micros(1));
        true
    }

    /// A worker's turn; returns whether the node could not send all it had.
    fn pull(&mut self, index: usize) -> bool {
        if self.stalled == Some(index) {
            let node = &mut self.nodes[index];
            node.shard.advance(self.now);
            // The worker looks again before long.
            node.free_at = self.now + Duration::from_millis(1);
            return true;
        }
        let room = usize::from(PAYLOAD_MAX) * self.segments_max + OVERSHOOT;
        let mut buf = Vec::with_capacity(room);
        for nth in 0..BURST {
            let node = &mut self.nodes[index];
            if self.link.rate.is_some() && node.free_at > self.now {
                return true;
            }
            buf.clear();
            let transmit = node.shard.transmit(self.now, &mut buf, self.segments_max);
            let Some(transmit) = transmit else {
                return false;
            };
            assert_eq!((transmit.size, buf.capacity()), (buf.len(), room));
            assert!(!buf.is_empty() && transmit.datagram_size() <= usize::from(PAYLOAD_MAX));
            assert!(transmit.datagrams() <= self.segments_max);
            node.sent_by_timer += u64::from(nth == 0 && self.by_deadline);
            if let Some(transmits) = &mut self.transmits {
                transmits.push((self.now, index, transmit));
            }
            if let Some(rate) = self.link.rate {
                let time = Duration::from_secs_f64(buf.len() as f64 / rate as f64);
                node.free_at = node.free_at.max(self.now) + time;
            }
            let source = transmit.source.unwrap_or(node.address);
            for datagram in buf.chunks(transmit.datagram_size()) {
                let wire = Wire {
                    from: SocketAddrV6::new(source, transmit.source_udp_port, 0, 0),
                    to: transmit.destination,
                    ecn: transmit.ecn,
                    payload: datagram.to_vec(),
                };
                self.send(wire, transmit.departure);
            }
        }
        false
    }

    /// Sends a datagram, which leaves its node now or at its departure.
    fn send(&mut self, mut wire: Wire, departure: Option<Instant>) {
        if let Some(port) = self.nat
            && *wire.from.ip() == address(1)
        {
            self.behind_nat = wire.from.port();
            wire.from.set_port(port);
        }
        if wire.ecn == Ecn::Ect0 && self.random.chance(self.link.congestion) {
            wire.ecn = Ecn::Ce;
        }
        if let Some(tap) = &mut self.tap {
            tap.push(wire.clone());
        }
        if self.random.chance(self.link.loss) {
            return;
        }
        let copies = 1 + usize::from(self.random.chance(self.link.duplication));
        for _ in 0..copies {
            let mut at = departure.unwrap_or(self.now).max(self.now) + self.link.latency;
            if self.random.chance(self.link.reordering) {
                at += self.link.latency.mul_f64(self.random.unit());
            }
            self.serial += 1;
            let serial = self.serial;
            let wire = wire.clone();
            self.flights.push(Reverse(Flight { at, serial, wire }));
        }
    }

    fn deliver(&mut self, mut wire: Wire) {
        if *wire.to.ip() == address(1) && self.nat == Some(wire.to.port()) {
            wire.to.set_port(self.behind_nat);
        }
        let away = self.away.and_then(|away| self.nodes.get(away));
        if away.is_some_and(|node| node.address == *wire.to.ip()) {
            if self.waiting.len() < RING {
                self.waiting.push(wire);
            }
            return;
        }
        let here = |node: &&mut Node| node.address == *wire.to.ip();
        let mut shards: Vec<_> = self.nodes.iter_mut().filter(here).collect();
        let queue = match shards.len() {
            0 => return,
            1 => 0,
            queues => (self.queues)(&wire, queues),
        };
        let datagram = Datagram {
            path: Path {
                remote: wire.from,
                local: *wire.to.ip(),
                local_udp_port: wire.to.port(),
            },
            ecn: wire.ecn,
            payload: BytesMut::from(&wire.payload[..]),
        };
        shards[queue].shard.receive(self.now, datagram);
    }
}

/// One queue for what comes from one UDP port of one address.
fn by_flow(wire: &Wire, queues: usize) -> usize {
    let host = usize::from(wire.from.ip().segments()[7]);
    (host + usize::from(wire.from.port())) % queues
}

/// The address of a node that is alone on its port, or the first there.
pub fn address(node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, node as u16 + 1)
}

/// The listener of a node.
pub fn listener(node: usize) -> SocketAddrV6 {
    SocketAddrV6::new(address(node), UDP_PORT, 0, 0)
}

/// Every datagram that a shard received or took over went somewhere, and was counted there once.
#[track_caller]
pub fn assert_adds_up(counters: &ShardCounters) {
    let taken_in = counters.udp_received.get() + counters.taken_over.get();
    assert_eq!(counters.accounted(), taken_in, "{counters:?}");
}

/// A small generator (xorshift64*), so that faults repeat.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// An application that is made before its shard.
pub fn ready(application: impl Application + Send + 'static) -> NewApplication {
    from_fn(|| application)
}

/// What most tests start from.
pub struct Setup {
    pub identity: Identity,
    pub settings: TransportSettings,
    pub limits: ShardLimits,
    pub client_auth: ClientAuth,
    pub early_data: bool,
    /// Whether the nodes' devices send on time.
    pub paced_by_device: bool,
    pub drain_timeout: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            identity: Identity::self_signed(&["server.test".to_owned()]).unwrap(),
            settings: TransportSettings::default(),
            limits: ShardLimits::default(),
            client_auth: ClientAuth::None,
            early_data: false,
            paced_by_device: false,
            drain_timeout: Duration::from_secs(3),
        }
    }
}

impl Setup {
    /// A shard that serves one protocol.
    pub fn server(
        &self,
        alpn: &str,
        application: impl Application + Send + 'static,
    ) -> ShardConfig {
        self.services(vec![(alpn, self.early_data, ready(application))])
    }

    /// A shard that serves several protocols.
    pub fn services(&self, services: Vec<(&str, bool, NewApplication)>) -> ShardConfig {
        let alpns: Vec<_> = services.iter().map(|&(alpn, ..)| alpn).collect();
        let server = self.server_config(&alpns);
        let service = |(alpn, early_data, application): (&str, bool, NewApplication)| {
            let alpn = alpn.as_bytes().to_vec();
            ServiceConfig {
                alpn,
                early_data,
                application,
            }
        };
        ShardConfig {
            listeners: vec![ListenerConfig {
                udp_port: UDP_PORT,
                streams: None,
                server,
                services: services.into_iter().map(service).collect(),
            }],
            ..self.shard(1)
        }
    }

    /// What a listener is made of.
    pub fn server_config(&self, alpns: &[&str]) -> quinn_proto::ServerConfig {
        let mut server = server_config(ServerTls {
            identity: &self.identity,
            alpns: alpns.iter().map(|alpn| alpn.as_bytes().to_vec()).collect(),
            client_auth: self.client_auth.clone(),
            early_data: self.early_data,
        })
        .unwrap();
        server.transport_config(self.settings.build(PAYLOAD_MAX).unwrap());
        server
    }

    /// A shard of agents.
    pub fn agents(&self, agents: Vec<NewApplication>) -> ShardConfig {
        ShardConfig {
            agents,
            ..self.shard(3)
        }
    }

    /// A shard of clients.
    pub fn clients(&self, clients: Vec<NewApplication>) -> ShardConfig {
        ShardConfig {
            clients,
            ..self.shard(2)
        }
    }

    fn shard(&self, seed: u64) -> ShardConfig {
        ShardConfig {
            seed: Some(seed),
            limits: ShardLimits {
                streams: self.settings.streams(),
                ..self.limits.clone()
            },
            udp_payload_max: PAYLOAD_MAX,
            listeners: Vec::new(),
            client_ports: ClientPorts::one(50_000),
            clients: Vec::new(),
            agents: Vec::new(),
            steering: None,
            reset_key: [0x2a; 32],
            paced_by_device: self.paced_by_device,
            drain_timeout: self.drain_timeout,
            counters: Arc::default(),
        }
    }

    /// A way to node 0, where tests put their server.
    pub fn target(&self, alpn: &str) -> ConnectTarget {
        self.target_as(alpn, None)
    }

    /// A way to node 0 for a client that shows a certificate.
    pub fn target_as(&self, alpn: &str, identity: Option<&Identity>) -> ConnectTarget {
        let mut config = client_config(ClientTls {
            trust: &Trust::Fingerprint(self.identity.fingerprint()),
            identity,
            alpns: vec![alpn.as_bytes().to_vec()],
            early_data: self.early_data,
        })
        .unwrap();
        config.transport_config(self.settings.build(PAYLOAD_MAX).unwrap());
        ConnectTarget {
            remote: listener(0),
            streams: None,
            server_name: "server.test".to_owned(),
            config,
            early_data: self.early_data,
        }
    }
}
