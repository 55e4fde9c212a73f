//! The network of a world: what becomes of a datagram between two hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use poll::Ecn;

use crate::flight::Flight;
pub use crate::flight::Wire;
use crate::random::Random;
use crate::scenario::Faults;

/// Where servers listen.
pub const UDP_PORT: u16 = 4433;
/// Datagrams that strangers remember, to send them again.
const REMEMBERED: usize = 16;

/// How the world outside sees a host of clients.
#[derive(Debug)]
struct Nat {
    /// The host's own address.
    inside: Ipv6Addr,
    outside: Ipv6Addr,
    /// Its UDP ports are seen as if combined with this.
    mask: u16,
    /// UDP ports as seen from outside, and the host's own.
    known: BTreeMap<u16, u16>,
}

pub struct Network {
    pub faults: Faults,
    pub down: bool,
    /// The largest UDP payload that gets through.
    pub payload_max: u16,
    nats: Vec<Nat>,
    flights: BinaryHeap<Reverse<Flight>>,
    serial: u64,
    remembered: VecDeque<Wire>,
}

impl Network {
    pub fn new(faults: Faults, payload_max: u16) -> Self {
        Self {
            faults,
            down: false,
            payload_max,
            nats: Vec::new(),
            flights: BinaryHeap::new(),
            serial: 0,
            remembered: VecDeque::new(),
        }
    }

    /// Puts a NAT before a host.
    pub fn hide(&mut self, host: Ipv6Addr) {
        self.nats.push(Nat {
            inside: host,
            outside: host,
            mask: 0,
            known: BTreeMap::new(),
        });
    }

    /// The NAT before a host forgets, and begins again with other UDP ports, and another address if `address`.
    pub fn rebind(&mut self, random: &mut Random, host: Ipv6Addr, address: bool) {
        let Some(nat) = self.nats.iter_mut().find(|nat| nat.inside == host) else {
            return;
        };
        nat.known.clear();
        nat.mask = random.between(1, 0x3fff) as u16;
        if address {
            let mut segments = nat.outside.segments();
            segments[6] += 1;
            nat.outside = segments.into();
        }
    }

    /// When the next datagram arrives.
    pub fn next(&self) -> Option<Instant> {
        self.flights.peek().map(|flight| flight.0.at)
    }

    /// The next datagram that has arrived, as the receiving host sees it.
    pub fn arrived(&mut self, now: Instant) -> Option<Wire> {
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse(Flight { mut wire, .. })) = self.flights.pop() else {
                break;
            };
            let outside = self.nats.iter().find(|nat| nat.outside == *wire.to.ip());
            if let Some(nat) = outside {
                // Nobody behind the NAT has sent from there: it is not let in.
                let Some(&udp_port) = nat.known.get(&wire.to.port()) else {
                    continue;
                };
                wire.to = SocketAddrV6::new(nat.inside, udp_port, 0, 0);
            } else if self.nats.iter().any(|nat| nat.inside == *wire.to.ip()) {
                continue; // An address that the host is not seen under any more.
            }
            return Some(wire);
        }
        None
    }

    /// Takes a datagram from a host.
    pub fn send(&mut self, random: &mut Random, now: Instant, mut wire: Wire) {
        let nat = self
            .nats
            .iter_mut()
            .find(|nat| nat.inside == *wire.from.ip());
        if let Some(nat) = nat {
            let udp_port = wire.from.port() ^ nat.mask;
            nat.known.insert(udp_port, wire.from.port());
            wire.from = SocketAddrV6::new(nat.outside, udp_port, 0, 0);
        }
        if random.chance(self.faults.replay) {
            if self.remembered.len() == REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back(wire.clone());
            let stranger = stranger(random, REPLAYING);
            let chosen = random.below(self.remembered.len());
            if let Some(old) = self.remembered.get(chosen).cloned() {
                self.carry(
                    random,
                    now,
                    Wire {
                        from: stranger,
                        ..old
                    },
                );
            }
        }
        self.carry(random, now, wire);
    }

    /// Carries a datagram, or does not.
    pub fn carry(&mut self, random: &mut Random, now: Instant, mut wire: Wire) {
        let faults = self.faults.clone();
        if self.down
            || wire.payload.len() > usize::from(self.payload_max)
            || random.chance(faults.loss)
        {
            return;
        }
        if wire.ecn == Ecn::Ect0 && random.chance(faults.congestion) {
            wire.ecn = Ecn::Ce;
        }
        for _ in 0..1 + usize::from(random.chance(faults.duplication)) {
            let mut wire = wire.clone();
            if random.chance(faults.corruption) {
                for _ in 0..random.between(1, 4) {
                    let at = random.below(wire.payload.len());
                    wire.payload[at] ^= random.between(1, 255) as u8;
                }
            }
            let mut at = now + faults.latency;
            if !faults.jitter.is_zero() {
                at += faults.jitter.mul_f64(random.unit());
            }
            if random.chance(faults.reordering) {
                at += faults.latency.mul_f64(5.0 * random.unit());
            }
            self.serial += 1;
            let serial = self.serial;
            self.flights.push(Reverse(Flight { at, serial, wire }));
        }
    }
}

/// Strangers that make things up, and those that send again what they saw.
pub const INVENTING: u16 = 0xbad;
pub const REPLAYING: u16 = 0xbad2;

/// An address that belongs to none of the hosts.
pub fn stranger(random: &mut Random, kind: u16) -> SocketAddrV6 {
    let host = random.between(1, 8) as u16;
    let address = Ipv6Addr::new(0xfd00, kind, 0, 0, 0, 0, 0, host);
    SocketAddrV6::new(address, 1_000 + random.below(4) as u16, 0, 0)
}

/// True for the addresses of [`stranger`].
pub fn is_stranger(address: SocketAddrV6) -> bool {
    address.ip().segments()[1] != 0
}
