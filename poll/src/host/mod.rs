//! An IPv6 host on one Ethernet port, as a state machine: it is handed frames and the time, and asked for frames to
//! send. It reads no clock and touches no device.
//!
//! ```text
//! frame ── receive ──► Verdict::Udp       a datagram for the transport
//!                 ├──► Verdict::Consumed  neighbour discovery, echo: the host's own business
//!                 ├──► Verdict::Shared    the same, and other hosts of the port are to see the frame
//!                 └──► Verdict::Dropped   with the reason to count
//!
//! datagram ── route ──► Route::Ready      write_headers, then to the device
//!                  ├──► Route::Waiting    park: a copy waits until the neighbour answers
//!                  └──► Route::Refused    with the reason to count
//!
//! poll_frame ──► the host's own frames, and parked datagrams whose neighbour answered
//! timeout ─────► when poll_frame has something to do next
//! ```
//!
//! A port has a host on each of its queues, and a device gives what is no UDP to one of the queues. All hosts of a port
//! have the same addresses and are to see the same ICMPv6: what one of them answers with [`Verdict::Shared`], the
//! [others](Host::receive_relayed) are handed, too. One of them, the [primary](HostRole), speaks for the port; the others
//! only ask for neighbours of their own. Addresses, routes, MTUs and conflicts are so the same on all; the neighbour cache
//! of each holds whom it talks to. Unreachable destinations only count, where they arrive.
//!
//! [`Host::poll_frame`] also runs the timers: call it in every turn, until it returns `None`. When nothing is due that
//! is a comparison or two.
//!
//! What it does follows RFC 4861 (neighbour discovery), RFC 4862 (addresses from router advertisements, EUI-64
//! interface identifiers), RFC 3810 (multicast listener reports), RFC 4443 (echo) and RFC 8201 (path MTU), with these
//! limits: addresses are used while they are still probed for duplicates, and after a conflict, which is only reported;
//! redirects and the hop limit, reachable time and retransmission time of router advertisements are ignored; listener
//! reports are of version 2 only; no ICMPv6 error is ever sent. Every table and queue is bounded.

mod addresses;
mod control;
mod counters;
mod keyed;
mod neighbours;
mod outbox;
mod path_mtu;
mod receive;
mod routes;
mod send;
mod timers;
mod udp_ports;

use std::net::Ipv6Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use addresses::Addresses;
use control::TokenBucket;
use keyed::KeyedHash;
use neighbours::Neighbours;
use outbox::{Frames, Waiting};
use path_mtu::PathMtus;
use routes::Routes;
use timers::Schedule;

pub use counters::HostCounters;
pub use neighbours::{NeighbourInfo, Reachability};
pub use udp_ports::UdpPorts;

use crate::deadline::earlier;
use crate::random::Random;
use crate::transport::{Ecn, Path};
use crate::wire::{
    ALL_NODES, Checksum, DropCounters, DropReason, ETHERNET_HEADER, MTU_MIN, MacAddr,
};

/// Hop limit of sent datagrams.
const HOP_LIMIT: u8 = 64;
/// Remembered routes; a power of two.
const ROUTES: usize = 256;
/// Remembered senders; a power of two.
const HEARD: usize = 64;
/// How long a route is used, and a sender not looked up again.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Which of the hosts of a port this one is. Each queue of a port has its own; all have the same addresses and learn the
/// same, but only one of them speaks for the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostRole {
    /// It answers solicitations and echo requests, probes for duplicate addresses, solicits routers and reports
    /// multicast groups. A port with one queue has only this one.
    #[default]
    Primary,
    /// It learns, and asks for its own neighbours, but never speaks for the port.
    Secondary,
}

/// What a host is and may use.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Which of the hosts of its port it is.
    pub role: HostRole,
    /// MAC address of the port.
    pub mac: MacAddr,
    /// Addresses with their prefix lengths in bits; each prefix is on the link. The link-local address made from `mac`
    /// comes on top.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// Router for destinations that are not on the link; goes before advertised ones.
    pub gateway: Option<Ipv6Addr>,
    /// Take addresses, prefixes, routers and the MTU from router advertisements.
    pub accept_router_advertisements: bool,
    /// Largest IPv6 packet the port carries, bytes; taken as 1280 when it is less.
    pub mtu: u16,
    /// The UDP ports that datagrams are received on, the same set for all hosts of a port.
    pub udp_ports: UdpPorts,
    /// Verify UDP checksums, in software unless the device has [said](Host::receive_checked) what it thinks of one; off
    /// where none are sent. ICMPv6 checksums are always verified.
    pub verify_checksums: bool,
    /// Who computes the UDP checksums of sent datagrams: what is in force on the port. Those of datagrams that waited for
    /// their neighbour are computed here, if by anybody.
    pub tx_checksum: Checksum,
    /// Entries of the neighbour cache; 1 at least.
    pub neighbours_max: usize,
    /// Datagrams that may wait for MAC addresses, over all neighbours.
    pub waiting_datagrams_max: usize,
    /// Seed of hash keys and jitter: secret and different on every start, except in tests.
    pub seed: u64,
}

/// What became of a received frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A datagram for the transport.
    Udp {
        /// From where, to where.
        path: Path,
        /// ECN bits.
        ecn: Ecn,
        /// Where in the frame the payload lies; never empty.
        payload: Range<usize>,
    },
    /// The host dealt with it, and it concerns no other host of the port.
    Consumed,
    /// The host dealt with it as far as it could, and other hosts of the port are to [see it](Host::receive_relayed), too.
    Shared(Audience),
    /// It is not for this host or not valid. The caller counts the reason.
    Dropped(DropReason),
}

/// Which other hosts of the port a frame concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All of them: there is something to learn from it.
    All,
    /// The primary: there is something to answer.
    Primary,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To this MAC address now.
    Ready {
        /// MAC address of the next hop.
        mac: MacAddr,
        /// The address to send from.
        source: Ipv6Addr,
    },
    /// The next hop was asked for its MAC address: [park](Host::park) the datagram.
    Waiting {
        /// The address to send from.
        source: Ipv6Addr,
    },
    /// Nowhere. The caller counts the reason.
    Refused(DropReason),
}

/// An IPv6 host on one Ethernet port; see the [module](self).
#[derive(Debug)]
pub struct Host {
    role: HostRole,
    mac: MacAddr,
    port_mtu: u16,
    /// MTU of the link: that of the port, or lower when a router says so.
    mtu: u16,
    udp_ports: UdpPorts,
    verify_checksums: bool,
    tx_checksum: Checksum,
    accept_router_advertisements: bool,

    addresses: Addresses,
    routes: Routes,
    neighbours: Neighbours,
    path_mtus: PathMtus,

    /// Results of [`route`](Self::route), at the position that the destination's hash says.
    remembered: Box<[Remembered; ROUTES]>,
    /// Counts changes that make the remembered routes worthless.
    epoch: u64,
    /// Senders that were looked up a short time ago.
    heard: Box<[Heard; HEARD]>,

    frames: Frames,
    waiting: Waiting,
    schedule: Schedule,
    echo_budget: TokenBucket,
    error_budget: TokenBucket,
    multicast_generation: u64,

    hash: KeyedHash,
    random: Random,
    /// An instant that is always past: the deadline of what can be done at once.
    started: Instant,
    drops: DropCounters,
    counters: HostCounters,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    destination: Ipv6Addr,
    /// The source address that was asked for.
    requested: Option<Ipv6Addr>,
    source: Ipv6Addr,
    mac: MacAddr,
    payload_max: usize,
    until: Instant,
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    source: Ipv6Addr,
    mac: MacAddr,
    until: Instant,
}

impl Host {
    /// A host that begins its life at `now`.
    pub fn new(config: HostConfig, now: Instant) -> Self {
        let mut random = Random::new(config.seed);
        let hash = KeyedHash::new(&mut random);
        let mtu = config.mtu.max(MTU_MIN);
        let probe_delay = || timers::start_jitter(&mut random);
        let addresses = Addresses::new(config.mac, &config.addresses, now, probe_delay);
        let remembered = Remembered {
            destination: Ipv6Addr::UNSPECIFIED,
            requested: None,
            source: Ipv6Addr::UNSPECIFIED,
            mac: MacAddr::default(),
            payload_max: 0,
            until: now,
            epoch: 0,
        };
        let heard = Heard {
            source: Ipv6Addr::UNSPECIFIED,
            mac: MacAddr::default(),
            until: now,
        };
        let schedule = match config.role {
            HostRole::Primary => {
                let solicit_routers = config.accept_router_advertisements;
                Schedule::new(now, solicit_routers, &mut random, &addresses)
            }
            HostRole::Secondary => Schedule::silent(&addresses),
        };
        Self {
            role: config.role,
            mac: config.mac,
            port_mtu: mtu,
            mtu,
            udp_ports: config.udp_ports,
            verify_checksums: config.verify_checksums,
            tx_checksum: config.tx_checksum,
            accept_router_advertisements: config.accept_router_advertisements,
            routes: Routes::new(&config.addresses, config.gateway),
            neighbours: Neighbours::new(config.neighbours_max.max(1), hash, random.next()),
            path_mtus: PathMtus::new(hash),
            addresses,
            remembered: Box::new([remembered; ROUTES]),
            epoch: 1,
            heard: Box::new([heard; HEARD]),
            frames: Frames::default(),
            waiting: Waiting::new(config.waiting_datagrams_max),
            schedule,
            echo_budget: TokenBucket::new(now),
            error_budget: TokenBucket::new(now),
            multicast_generation: 0,
            hash,
            random,
            started: now,
            drops: DropCounters::new(),
            counters: HostCounters::default(),
        }
    }

    /// When [`poll_frame`](Self::poll_frame) has something to do next; an instant in the past when it has already.
    #[inline]
    pub fn timeout(&self) -> Option<Instant> {
        if !self.frames.is_empty() || self.waiting.has_released() {
            return Some(self.started);
        }
        earlier(self.neighbours.due(), self.schedule.due())
    }

    /// The multicast MAC addresses to receive: for the device's filter.
    pub fn multicast_macs(&self) -> Vec<MacAddr> {
        let groups = self.addresses.groups().iter().copied();
        let mut macs: Vec<_> = [ALL_NODES]
            .into_iter()
            .chain(groups)
            .map(MacAddr::of_multicast)
            .collect();
        macs.sort_unstable();
        macs.dedup();
        macs
    }

    /// Changes whenever [`multicast_macs`](Self::multicast_macs) may have changed.
    pub fn multicast_generation(&self) -> u64 {
        self.multicast_generation
    }

    /// Who computes the UDP checksums of sent datagrams.
    pub fn tx_checksum(&self) -> Checksum {
        self.tx_checksum
    }

    /// Which of the hosts of its port it is.
    pub fn role(&self) -> HostRole {
        self.role
    }

    /// How many entries the neighbour cache has.
    pub fn neighbour_count(&self) -> usize {
        self.neighbours.len()
    }

    /// The addresses with their prefix lengths: given, link-local, advertised.
    pub fn addresses(&self) -> impl Iterator<Item = (Ipv6Addr, u8)> {
        self.addresses.iter()
    }

    /// Addresses of this host that somebody else on the link has, too.
    pub fn address_conflicts(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.conflicts()
    }

    /// The given gateway and the advertised routers.
    pub fn routers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.routes.routers()
    }

    /// The neighbour cache as it stands at `now`.
    pub fn neighbours(&self, now: Instant) -> impl Iterator<Item = NeighbourInfo> {
        self.neighbours.iter(now)
    }

    /// Largest IPv6 packet on the link, bytes: the port's, or less when a router said so.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Drops inside the host: datagrams and frames it had taken over. What [`receive`](Self::receive),
    /// [`route`](Self::route) and [`park`](Self::park) return is counted by the caller and is not in here.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// What the host did.
    pub fn counters(&self) -> HostCounters {
        HostCounters {
            neighbours_evicted: self.neighbours.evicted,
            ..self.counters
        }
    }

    /// A neighbour's MAC address became known or changed.
    fn resolved(&mut self, address: Ipv6Addr, mac: MacAddr) {
        self.waiting.release(address, mac);
        self.forget_routes();
    }

    fn forget_routes(&mut self) {
        self.epoch += 1;
    }

    /// Largest IPv6 packet to `destination`, bytes: 1280 at least.
    fn path_mtu(&self, now: Instant, destination: Ipv6Addr) -> u16 {
        let path = self.path_mtus.of(now, destination);
        path.map_or(self.mtu, |mtu| mtu.min(self.mtu))
    }
}

/// Bytes that [`Host::poll_frame`] writes at most for an IP MTU.
pub const fn frame_len_max(mtu: u16) -> usize {
    ETHERNET_HEADER + mtu as usize
}

#[cfg(test)]
mod tests;
