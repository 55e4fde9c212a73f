//! An IPv6 host on one Ethernet port, as a state machine: it is handed frames and the time, and asked for frames to
//! send. It reads no clock and touches no device.
//!
//! ```text
//! frame ── receive ──► Verdict::Udp       a datagram for the transport
//!                 ├──► Verdict::Consumed  neighbour discovery, echo: the host's own business
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
mod keyed;
mod neighbours;
mod outbox;
mod path_mtu;
mod routes;
mod timers;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::ops::Range;
use std::time::{Duration, Instant};

use addresses::Addresses;
use control::TokenBucket;
use keyed::{KeyedHash, Random};
use neighbours::{Neighbours, Resolution};
use outbox::{Frames, ParkOutcome, Waiting};
use path_mtu::PathMtus;
use routes::Routes;
use timers::Schedule;

pub use neighbours::{NeighbourInfo, Reachability};

use crate::transport::{Ecn, Path, Transmit};
use crate::wire::{
    ALL_NODES, Checksum, DropCounters, DropReason, ETHERNET_HEADER, HEADERS, IPV6_HEADER, MTU_MIN,
    MacAddr, Parsed, UDP_HEADER, UdpFrame, UdpHeaders, emit_udp_headers, parse,
};

/// Hop limit of sent datagrams.
const HOP_LIMIT: u8 = 64;
/// Remembered routes; a power of two.
const ROUTES: usize = 256;
/// Remembered senders; a power of two.
const HEARD: usize = 64;
/// How long a route is used, and a sender not looked up again.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What a host is and may use.
#[derive(Debug, Clone)]
pub struct HostConfig {
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
    /// The UDP ports that datagrams are received on.
    pub udp_ports: Vec<u16>,
    /// Verify UDP checksums in software; off when the device does, or when none are sent. ICMPv6 checksums are always
    /// verified.
    pub verify_checksums: bool,
    /// Who computes the UDP checksums of sent datagrams.
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
    /// The host dealt with it.
    Consumed,
    /// It is not for this host or not valid. The caller counts the reason.
    Dropped(DropReason),
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

/// What a host did, for people who look after it. Drops are in [`Host::drops`] and in what its functions return.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Neighbour solicitations sent, probes and duplicate address probes among them.
    pub solicitations_sent: u64,
    /// Neighbour advertisements sent.
    pub advertisements_sent: u64,
    /// Router solicitations sent.
    pub router_solicitations_sent: u64,
    /// Multicast listener reports sent.
    pub listener_reports_sent: u64,
    /// Echo replies sent.
    pub echo_replies_sent: u64,
    /// Datagrams that waited for a MAC address.
    pub parked: u64,
    /// Neighbours that did not answer.
    pub neighbours_failed: u64,
    /// Entries of the neighbour cache that were replaced for want of room.
    pub neighbours_evicted: u64,
    /// Router advertisements taken.
    pub router_advertisements: u64,
    /// Path MTUs lowered by Packet Too Big.
    pub path_mtu_lowered: u64,
    /// Destination Unreachable messages that quote a datagram of this host.
    pub destination_unreachable: u64,
    /// Addresses of this host that somebody else has, too.
    pub address_conflicts: u64,
}

/// An IPv6 host on one Ethernet port; see the [module](self).
#[derive(Debug)]
pub struct Host {
    mac: MacAddr,
    port_mtu: u16,
    /// MTU of the link: that of the port, or lower when a router says so.
    mtu: u16,
    udp_ports: Vec<u16>,
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
        let solicit_routers = config.accept_router_advertisements;
        let schedule = Schedule::new(now, solicit_routers, &mut random, &addresses);
        Self {
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
            multicast_generation: 0,
            hash,
            random,
            started: now,
            drops: DropCounters::new(),
            counters: HostCounters::default(),
        }
    }

    /// Takes a received frame.
    #[inline]
    pub fn receive(&mut self, now: Instant, frame: &[u8]) -> Verdict {
        // The UDP checksum is verified last: a frame that is not for this host is not worth the work.
        let taken = match parse(frame, false) {
            Ok(Parsed::Udp(udp)) => self.receive_udp(now, frame, udp),
            Ok(Parsed::Icmpv6(headers)) => self.receive_icmpv6(now, frame, &headers),
            Err(reason) => Err(reason),
        };
        taken.unwrap_or_else(Verdict::Dropped)
    }

    /// Finds out where a datagram of `udp_payload` bytes goes, from `source` or, without one, from the address that
    /// suits best.
    #[inline]
    pub fn route(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        source: Option<Ipv6Addr>,
        udp_payload: usize,
    ) -> Route {
        let position = self.hash.of(destination) as usize % ROUTES;
        let known = &self.remembered[position];
        if known.destination == destination
            && known.requested == source
            && known.epoch == self.epoch
            && now < known.until
        {
            if udp_payload > known.payload_max {
                return Route::Refused(DropReason::TxTooBig);
            }
            return Route::Ready {
                mac: known.mac,
                source: known.source,
            };
        }
        match self.look_up(now, destination, source, udp_payload, position) {
            Ok(route) => route,
            Err(reason) => Route::Refused(reason),
        }
    }

    /// Keeps a copy of a datagram until its next hop answers; [`poll_frame`](Self::poll_frame) sends it then.
    /// Of too many for one next hop, the oldest is dropped.
    ///
    /// # Errors
    /// The reason to count when there is no room, or no route any more.
    pub fn park(
        &mut self,
        now: Instant,
        transmit: &Transmit,
        source: Ipv6Addr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let destination = *transmit.destination.ip();
        let next_hop = self
            .routes
            .next_hop(destination)
            .ok_or(DropReason::TxNoRoute)?;
        let mac = self.resolve(now, next_hop)?.map(|(mac, _)| mac);
        match self.waiting.park(next_hop, transmit, source, mac, payload) {
            ParkOutcome::Parked => {}
            ParkOutcome::ReplacedOldest => self.drops.count(DropReason::TxNeighbourQueueFull),
            ParkOutcome::Full => return Err(DropReason::TxNeighbourQueueFull),
        }
        self.counters.parked += 1;
        Ok(())
    }

    /// Runs the timers that are due, then writes the next frame of the host's own to the start of `out` and returns its
    /// length. `out` holds at least 14 bytes more than the MTU; a frame that does not fit is dropped.
    #[inline]
    pub fn poll_frame(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.run_timers(now);
        if self.frames.is_empty() && !self.waiting.has_released() {
            return None;
        }
        self.pop_frame(out)
    }

    /// When [`poll_frame`](Self::poll_frame) has something to do next; an instant in the past when it has already.
    #[inline]
    pub fn timeout(&self) -> Option<Instant> {
        if !self.frames.is_empty() || self.waiting.has_released() {
            return Some(self.started);
        }
        match (self.neighbours.due(), self.schedule.due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Writes the headers of a datagram into the bytes in front of its `payload`, as [`route`](Self::route) said.
    #[inline]
    pub fn write_headers(
        &self,
        out: &mut [u8; HEADERS],
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
        payload: &[u8],
    ) {
        self.emit_headers(out, mac, source, transmit, payload, self.tx_checksum);
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

    #[inline]
    fn receive_udp(
        &mut self,
        now: Instant,
        frame: &[u8],
        udp: UdpFrame,
    ) -> Result<Verdict, DropReason> {
        // Datagrams to groups are of no use to QUIC, and unicast inside a multicast frame would let one frame make
        // every host on the link answer.
        if udp.dst_mac != self.mac {
            return Err(match udp.dst_mac.is_multicast() {
                true => DropReason::ForeignAddress,
                false => DropReason::ForeignMac,
            });
        }
        if !self.addresses.contains(udp.dst) {
            return Err(DropReason::ForeignAddress);
        }
        if !self.udp_ports.contains(&udp.dst_port) {
            return Err(DropReason::ForeignUdpPort);
        }
        if udp.payload.is_empty() {
            return Err(DropReason::EmptyDatagram);
        }
        if self.verify_checksums {
            udp.verify_checksum(frame)?;
        }
        self.hear(now, udp.src, udp.src_mac);
        Ok(Verdict::Udp {
            path: Path {
                remote: SocketAddrV6::new(udp.src, udp.src_port, 0, 0),
                local: udp.dst,
                local_udp_port: udp.dst_port,
            },
            ecn: udp.ecn,
            payload: udp.payload,
        })
    }

    /// Takes the sender of a datagram as a sign of life of the neighbour that it came from, at most once a second.
    #[inline]
    fn hear(&mut self, now: Instant, source: Ipv6Addr, mac: MacAddr) {
        let heard = &mut self.heard[self.hash.of(source) as usize % HEARD];
        if heard.source == source && heard.mac == mac && now < heard.until {
            return;
        }
        let until = now + REMEMBERED;
        *heard = Heard { source, mac, until };
        self.heard_from(now, source, mac);
    }

    fn heard_from(&mut self, now: Instant, source: Ipv6Addr, mac: MacAddr) {
        if mac.is_multicast() {
            return;
        }
        let mut by_router = false;
        for router in self.routes.routers() {
            if self.neighbours.mac_of(router) == Some(mac) {
                by_router |= router != source;
                self.neighbours.confirm(now, router, mac);
            }
        }
        // What a router passed on with a source address of this link was forged beyond it, and says nothing.
        if !by_router && self.routes.is_on_link(source) && self.neighbours.heard(now, source, mac) {
            self.resolved(source, mac);
        }
    }

    /// [`route`](Self::route) when nothing is remembered.
    #[inline(never)]
    fn look_up(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        requested: Option<Ipv6Addr>,
        udp_payload: usize,
        position: usize,
    ) -> Result<Route, DropReason> {
        if destination.is_loopback() || self.addresses.contains(destination) {
            return Err(DropReason::TxLoopback);
        }
        if destination.is_multicast() || destination.is_unspecified() {
            return Err(DropReason::TxNoRoute);
        }
        let next_hop = self
            .routes
            .next_hop(destination)
            .ok_or(DropReason::TxNoRoute)?;
        let source = match requested {
            Some(source) => Some(source).filter(|source| self.addresses.contains(*source)),
            None => self
                .addresses
                .select(now, destination, next_hop == destination),
        };
        let source = source.ok_or(DropReason::TxSourceAddress)?;
        let payload_max = usize::from(self.path_mtu(now, destination)) - IPV6_HEADER - UDP_HEADER;
        if udp_payload > payload_max {
            return Err(DropReason::TxTooBig);
        }
        let Some((mac, until)) = self.resolve(now, next_hop)? else {
            return Ok(Route::Waiting { source });
        };
        self.remembered[position % ROUTES] = Remembered {
            destination,
            requested,
            source,
            mac,
            payload_max,
            // Not for long: the neighbour cache wants to know which of its entries are in use.
            until: until.min(now + REMEMBERED),
            epoch: self.epoch,
        };
        Ok(Route::Ready { mac, source })
    }

    /// The MAC address of a next hop and until when to use it; none when it had to be asked for.
    fn resolve(
        &mut self,
        now: Instant,
        next_hop: Ipv6Addr,
    ) -> Result<Option<(MacAddr, Instant)>, DropReason> {
        let routes = &self.routes;
        let keep = |address| routes.is_router(address);
        match self.neighbours.resolve(now, next_hop, keep) {
            Resolution::Ready { mac, until } => Ok(Some((mac, until))),
            Resolution::Waiting { first } => {
                if first {
                    self.solicit(now, next_hop, None);
                }
                Ok(None)
            }
            Resolution::Full => Err(DropReason::TxNeighbourTableFull),
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

    #[inline(never)]
    fn pop_frame(&mut self, out: &mut [u8]) -> Option<usize> {
        while let Some(written) = self.frames.pop(out) {
            match written {
                Some(len) => return Some(len),
                None => self.drops.count(DropReason::TxTooBig),
            }
        }
        // `pop_released` lends a parked datagram, and writing it needs the rest of the host.
        let mut waiting = std::mem::replace(&mut self.waiting, Waiting::new(0));
        let mut written = None;
        while written.is_none() {
            let sent = waiting.pop_released(|parked, mac| {
                let len = HEADERS + parked.payload.len();
                let (headers, payload) = out.get_mut(..len)?.split_first_chunk_mut()?;
                payload.copy_from_slice(&parked.payload);
                // No device sees the offload flags of these few.
                let checksum = match self.tx_checksum {
                    Checksum::Skip => Checksum::Skip,
                    Checksum::Software | Checksum::PseudoHeader => Checksum::Software,
                };
                let (source, transmit) = (parked.source, &parked.transmit);
                self.emit_headers(headers, mac, source, transmit, payload, checksum);
                Some(len)
            });
            match sent {
                Some(Some(len)) => written = Some(len),
                Some(None) => self.drops.count(DropReason::TxTooBig),
                None => break,
            }
        }
        self.waiting = waiting;
        written
    }

    #[inline]
    fn emit_headers(
        &self,
        out: &mut [u8; HEADERS],
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
        payload: &[u8],
        checksum: Checksum,
    ) {
        let (dst, dst_port) = (*transmit.destination.ip(), transmit.destination.port());
        let src_port = transmit.source_udp_port;
        let headers = UdpHeaders {
            src_mac: self.mac,
            dst_mac: mac,
            src: source,
            dst,
            src_port,
            dst_port,
            ecn: transmit.ecn,
            hop_limit: HOP_LIMIT,
            flow_label: self.hash.flow_label(source, dst, src_port, dst_port),
        };
        emit_udp_headers(out, &headers, payload, checksum);
    }
}

/// Bytes that [`Host::poll_frame`] writes at most for an IP MTU.
pub const fn frame_len_max(mtu: u16) -> usize {
    ETHERNET_HEADER + mtu as usize
}

#[cfg(test)]
mod tests;
