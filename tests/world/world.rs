//! A world: hosts with shards, the network between them, and a clock that only it moves.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use poll::{Datagram, Path, Transport, toeplitz};
use stoq::clients::ClientHandle;
use stoq::shard::Shard;
use stoq::steering::CidCodec;

use crate::buffers;
use crate::genesis::Clock;
use crate::ledger::Book;
use crate::network::{Network, UDP_PORT, Wire, is_stranger};
use crate::random::Random;
use crate::scenario::{Event, Scenario};
use crate::strangers;
use crate::trace::Trace;

/// Datagrams that a worker takes or pulls in a turn.
const BURST: usize = 32;
/// Bytes in the buffer lent for a datagram to send: an mbuf's data room without headroom. quinn-proto may write beyond
/// the datagram's size before it cuts it, so there must be more than the largest one needs.
const TX_ROOM: usize = 2_048;
/// How long a turn takes.
const TURN: Duration = Duration::from_micros(2);
/// How often a worker looks again whether its device takes frames.
const STALLED_TURN: Duration = Duration::from_millis(1);
/// How many turns a world may take, all shards together.
const TURNS_MAX: u64 = 3_000_000;
/// How often a shard may ask for the next turn at once and then have nothing to do.
const IDLE_TURNS_MAX: u32 = 200;

/// A shard and the worker that drives it.
pub struct Node {
    pub shard: Shard,
    /// Index of its host.
    pub host: usize,
    ring: VecDeque<Datagram>,
    /// When the worker's next turn is.
    wake: Option<Instant>,
    /// When its device takes the next datagram.
    free_at: Instant,
    stalled_until: Instant,
    asleep_until: Instant,
    /// Datagrams handed to the shard, and built by it.
    pub received: u64,
    pub sent: u64,
    idle_turns: u32,
}

/// A port with one or more shards: node indices, and how its device hashes.
pub struct Host {
    pub address: Ipv6Addr,
    pub nodes: std::ops::Range<usize>,
    pub rss_key: Vec<u8>,
    pub rss_table: Vec<u16>,
}

pub struct World {
    pub scenario: Scenario,
    pub random: Random,
    pub start: Instant,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub book: Book,
    /// The connection IDs of the servers.
    pub codec: CidCodec,
    /// The engine's own clients, and the requests that each is to make.
    pub handles: Vec<(ClientHandle, u64)>,
    /// Connections that the checking clients are to open.
    pub planned: usize,
    /// What tokens read.
    pub clock: Clock,
    pub trace: Trace,
    events: VecDeque<(Duration, Event)>,
    /// Bytes from strangers, and to them.
    pub strangers: BTreeMap<SocketAddrV6, (u64, u64)>,
    turns: u64,
    pub stopped: bool,
    /// A client host changed its address.
    pub rebound: bool,
}

impl World {
    /// An empty world.
    pub fn new(scenario: Scenario, random: Random, start: Instant, codec: CidCodec) -> Self {
        Self {
            network: Network::new(scenario.faults.clone(), scenario.path_payload_max),
            book: Book::new(scenario.rules()),
            events: scenario.events.iter().copied().collect(),
            scenario,
            random,
            start,
            now: start,
            hosts: Vec::new(),
            nodes: Vec::new(),
            codec,
            handles: Vec::new(),
            planned: 0,
            clock: Clock::default(),
            trace: Trace::new(start),
            strangers: BTreeMap::new(),
            turns: 0,
            stopped: false,
            rebound: false,
        }
    }

    /// Adds a host with the shards of its port.
    pub fn add(&mut self, host: Host, shards: Vec<Shard>) {
        let index = self.hosts.len();
        self.hosts.push(host);
        for shard in shards {
            self.nodes.push(Node {
                shard,
                host: index,
                ring: VecDeque::new(),
                wake: Some(self.start),
                free_at: self.start,
                stalled_until: self.start,
                asleep_until: self.start,
                received: 0,
                sent: 0,
                idle_turns: 0,
            });
        }
    }

    /// Runs until `done`; false when that is not within `limit`, or nothing more happens before.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let deadline = self.now + limit;
        while !done(self) {
            let Some(next) = self.next() else {
                return done(self);
            };
            if next > deadline || self.turns > TURNS_MAX {
                return false;
            }
            self.now = self.now.max(next);
            self.clock.set(self.now - self.start);
            self.happen();
            while let Some(wire) = self.network.arrived(self.now) {
                self.deliver(wire);
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].wake.is_some_and(|at| at <= self.now) {
                    self.turn(index);
                }
            }
        }
        true
    }

    /// Nothing is on its way or waits, and no shard holds a connection.
    pub fn is_at_rest(&self) -> bool {
        let at_rest = |node: &Node| {
            let counters = node.shard.counters();
            node.ring.is_empty() && counters.connections_current.get() == 0 && node.wake.is_none()
        };
        self.network.next().is_none() && self.nodes.iter().all(at_rest)
    }

    pub fn stop(&mut self, host: usize) {
        for index in self.hosts[host].nodes.clone() {
            self.nodes[index].shard.stop(self.now);
            self.nodes[index].wake = Some(self.now);
        }
    }

    /// What is still to happen by plan does not any more, and what is broken is whole again.
    pub fn calm(&mut self) {
        self.events.clear();
        self.network.down = false;
    }

    pub fn too_many_turns(&self) -> bool {
        self.turns > TURNS_MAX
    }

    fn next(&self) -> Option<Instant> {
        let event = self.events.front().map(|&(at, _)| self.start + at);
        let wakes = self.nodes.iter().filter_map(|node| node.wake);
        wakes.chain(event).chain(self.network.next()).min()
    }

    /// Makes happen what is due.
    fn happen(&mut self) {
        while let Some(&(at, event)) = self.events.front()
            && self.start + at <= self.now
        {
            self.events.pop_front();
            self.trace
                .note(self.now, "event", &[at.as_nanos() as u64], || {
                    format!("{event:?}")
                });
            match event {
                Event::LinkDown => self.network.down = true,
                Event::LinkUp => self.network.down = false,
                Event::TxStalls(node, time) => self.nodes[node].stalled_until = self.now + time,
                Event::Sleeps(node, time) => self.nodes[node].asleep_until = self.now + time,
                Event::Rebinds { host, address } => self.rebind(host + 1, address),
                Event::Narrows(payload_max) => self.network.payload_max = payload_max,
                Event::RotatesKeys => {
                    let rotation = self.random.below(3) as u8;
                    let known = self.codec.rotate(rotation);
                    known.expect("keys of all rotations from 0 to 2");
                }
                Event::Stranger => {
                    let listener = SocketAddrV6::new(self.hosts[0].address, UDP_PORT, 0, 0);
                    let wire = strangers::make(&mut self.random, listener, &self.codec);
                    self.network.carry(&mut self.random, self.now, wire);
                }
                Event::Stops => {
                    self.stopped = true;
                    self.stop(0);
                }
            }
        }
    }

    /// A handshake need not survive a change of address (RFC 9000 §9).
    fn rebind(&mut self, host: usize, address: bool) {
        self.rebound = true;
        let inside = self.hosts[host].address;
        self.network.rebind(&mut self.random, inside, address);
        for record in self.book.lock().opened.values_mut() {
            record.excused |= !record.heard;
        }
    }

    /// Puts a datagram where its receiver's device would.
    fn deliver(&mut self, wire: Wire) {
        let Some(host) = self.hosts.iter().find(|host| host.address == *wire.to.ip()) else {
            return;
        };
        let shards = host.nodes.len();
        let hash = toeplitz(&host.rss_key, wire.from, wire.to) as usize;
        let mut queue = usize::from(host.rss_table[hash % host.rss_table.len()]);
        if shards > 1 && self.random.chance(self.scenario.faults.misplacement) {
            queue = self.random.below(shards);
        }
        let index = host.nodes.start + queue;
        let node = &mut self.nodes[index];
        if node.ring.len() >= self.scenario.ring {
            return;
        }
        if is_stranger(wire.from) {
            self.strangers.entry(wire.from).or_default().0 += wire.payload.len() as u64;
        }
        self.trace.wire(self.now, "arrives at", index, &wire);
        node.ring.push_back(Datagram {
            path: Path {
                remote: wire.from,
                local: *wire.to.ip(),
                local_udp_port: wire.to.port(),
            },
            ecn: wire.ecn,
            payload: buffers::payload(&wire.payload),
        });
        node.wake = Some(node.wake.map_or(self.now, |at| at.min(self.now)));
    }

    /// A turn of a worker's loop.
    fn turn(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.asleep_until > now {
            node.wake = Some(node.asleep_until);
            return;
        }
        self.turns += 1;
        let handed_over = node.shard.counters().handed_over.get();
        let burst = node.ring.len().min(BURST);
        for datagram in node.ring.drain(..burst) {
            node.received += 1;
            node.shard.receive(now, datagram);
        }
        node.shard.advance(now);
        let (sent, full) = self.pull(index);
        let node = &mut self.nodes[index];
        let timeout = node.shard.timeout();
        let at_once = timeout.is_some_and(|at| at <= now);
        let stalled = node.stalled_until > now;
        node.wake = match full {
            _ if !node.ring.is_empty() => Some(now + TURN),
            false => timeout.map(|at| at.max(now + TURN)),
            true if stalled => Some(now + STALLED_TURN),
            true => Some(node.free_at.max(now + TURN)),
        };
        match at_once && !full && sent == 0 && burst == 0 {
            true => node.idle_turns += 1,
            false => node.idle_turns = 0,
        }
        if node.idle_turns == IDLE_TURNS_MAX {
            let what = format!("shard {index} asks for turns and does nothing in them");
            self.book.lock().violate(what);
        }
        // The others look into their inboxes within a moment.
        let node = &self.nodes[index];
        if node.shard.counters().handed_over.get() != handed_over {
            for other in self.hosts[node.host].nodes.clone() {
                let soon = now + TURN * self.random.between(1, 10) as u32;
                let wake = &mut self.nodes[other].wake;
                *wake = Some(wake.map_or(soon, |at| at.min(soon)));
            }
        }
    }

    /// Takes from a shard what its device has room for; returns how many datagrams that was, and whether there may be
    /// more.
    fn pull(&mut self, index: usize) -> (usize, bool) {
        let mut buf = Vec::with_capacity(TX_ROOM);
        for sent in 0..BURST {
            let node = &mut self.nodes[index];
            if node.free_at.max(node.stalled_until) > self.now {
                return (sent, true);
            }
            buf.clear();
            let memory = (buf.as_ptr(), buf.capacity());
            let Some(transmit) = node.shard.transmit(self.now, &mut buf, 1) else {
                return (sent, false);
            };
            node.sent += 1;
            let time = buf.len() as f64 / self.scenario.faults.rate as f64;
            node.free_at = self.now + Duration::from_secs_f64(time);
            let max = usize::from(self.scenario.payload_max);
            let whole = transmit.size == buf.len() && (1..=max).contains(&buf.len());
            if !whole || (buf.as_ptr(), buf.capacity()) != memory {
                let room = (memory.1, buf.capacity());
                let what = format!(
                    "shard {index}: {transmit:?}, {} bytes in {room:?}",
                    buf.len()
                );
                self.book.lock().violate(what);
            }
            let host = &self.hosts[node.host];
            let source = transmit.source.unwrap_or(host.address);
            if source != host.address {
                let what = format!("shard {index} sends from {source}, not an address of it");
                self.book.lock().violate(what);
            }
            let wire = Wire {
                from: SocketAddrV6::new(source, transmit.source_udp_port, 0, 0),
                to: transmit.destination,
                ecn: transmit.ecn,
                payload: buf.clone(),
            };
            if is_stranger(wire.to) {
                self.strangers.entry(wire.to).or_default().1 += wire.payload.len() as u64;
            }
            self.trace.wire(self.now, "sent by", index, &wire);
            self.network.send(&mut self.random, self.now, wire);
        }
        (BURST, true)
    }
}
