//! Lanes over a link: the engine's way of a packet from transport to driver and back, in one process.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Instant;

use hugepages::{Mempool, MempoolConfig};
use poll::host::{Host, HostConfig, HostRole, UdpPorts};
use poll::offload::OffloadConfig;
use poll::wire::Checksum;
use poll::{
    BURST_DEFAULT, Eal, Lane, LaneConfig, LaneCounters, LinkEnd, PortConfig, QueuePair, Transport,
    TxPath, link, relay,
};
use stoq::transport::IPV6_UDP_HEADERS;

use crate::memory::{LEFT, RIGHT};

/// Descriptors of each queue: the engine's default.
const DESCRIPTORS: u16 = 1024;
/// Mbufs that the engine plans for a port of a link with these descriptors.
pub const MBUFS: u32 = 7040;
/// Mbufs that an lcore may keep to itself.
const CACHE: u32 = 256;
/// Headroom that DPDK leaves in front of every received frame, bytes.
const HEADROOM: u16 = 128;
/// Ethernet header and a VLAN tag, bytes.
const ETHERNET_VLAN: u16 = 14 + 4;
/// Data room that drivers expect at least, without headroom, bytes.
const DATA_ROOM_MIN: u16 = 2048;
/// Shorter payloads are copied: the engine's default, bytes.
pub const COPYBREAK: usize = 256;

/// Arguments for an EAL without devices, huge pages or root, on `lcores`.
pub fn eal_arguments(lcores: &str) -> Vec<String> {
    let fixed = [
        "--no-huge",
        "-m",
        "512",
        "--no-pci",
        "--no-shconf",
        "--no-telemetry",
        "--log-level=4",
    ];
    ["-l", lcores]
        .into_iter()
        .chain(fixed)
        .map(str::to_owned)
        .collect()
}

/// How the lanes move packets.
#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// MTU of the link, bytes of IPv6 packet.
    pub mtu: u16,
    /// Where datagrams are written first.
    pub tx_path: TxPath,
    /// Who computes UDP checksums; with [`Checksum::Software`] they are verified, too.
    pub checksum: Checksum,
    /// Shorter received payloads are copied, bytes; the engine's default is [`COPYBREAK`].
    pub rx_copybreak: usize,
    /// Mbufs of each port's pool for each of its queues; the engine plans [`MBUFS`]. Pools live as long as the process.
    pub mbufs: u32,
}

/// One end of a link: a port with a queue for each transport.
pub struct LinkSide<T> {
    /// Address of the port.
    pub address: Ipv6Addr,
    /// Further addresses, each alone in its /64.
    pub more_addresses: Vec<Ipv6Addr>,
    /// Where everything goes that is not on the link.
    pub gateway: Option<Ipv6Addr>,
    /// The UDP ports that all transports of this end receive on.
    pub udp_ports: UdpPorts,
    /// A transport for each queue, and where its lane counts.
    pub transports: Vec<(T, Arc<LaneCounters>)>,
}

impl<T> LinkSide<T> {
    /// An end at `address` alone.
    pub fn new(address: SocketAddrV6, transports: Vec<(T, Arc<LaneCounters>)>) -> Self {
        Self {
            address: *address.ip(),
            more_addresses: Vec::new(),
            gateway: None,
            udp_ports: [address.port()].into_iter().collect(),
            transports,
        }
    }
}

/// A lane at [`LEFT`] and one at [`RIGHT`], joined by a link of their own.
///
/// # Errors
/// No memory for rings and pools, or names that are taken: `name` is to be unique in the process.
pub fn join<A: Transport, B: Transport>(
    eal: &Eal,
    name: &str,
    settings: LaneSettings,
    left: A,
    right: B,
) -> Result<(Lane<A>, Lane<B>), Box<dyn Error>> {
    let left = LinkSide::new(LEFT, vec![(left, Arc::default())]);
    let right = LinkSide::new(RIGHT, vec![(right, Arc::default())]);
    let (left, right) = join_sides(eal, name, settings, left, right)?;
    let only = "a link has a lane for each transport";
    let left = left.into_iter().next().ok_or(only)?;
    let right = right.into_iter().next().ok_or(only)?;
    Ok((left.lane(ready)?, right.lane(ready)?))
}

fn ready<T>(transport: T) -> Result<T, Infallible> {
    Ok(transport)
}

/// A lane before its transport is on it, which may have to be made on the lcore that drives it.
pub struct Seat<T> {
    queue: QueuePair,
    host: Host,
    transport: T,
    config: LaneConfig,
    counters: Arc<LaneCounters>,
}

impl<T> Seat<T> {
    /// The lane, with what `make` makes of the transport that was given.
    ///
    /// # Errors
    /// That of `make`.
    pub fn lane<U: Transport, E>(self, make: impl FnOnce(T) -> Result<U, E>) -> Result<Lane<U>, E> {
        let transport = make(self.transport)?;
        let Self { queue, host, .. } = self;
        Ok(Lane::new(
            queue,
            host,
            transport,
            self.config,
            self.counters,
        ))
    }
}

/// The lanes of both ends of a link, by queue.
pub type JoinedSeats<A, B> = (Vec<Seat<A>>, Vec<Seat<B>>);

/// Lanes of two ports that are joined by a link, queue by queue, with transports or what those are made of.
///
/// # Errors
/// As [`join`]; or the ends have different numbers of transports.
pub fn join_sides<A, B>(
    eal: &Eal,
    name: &str,
    settings: LaneSettings,
    left: LinkSide<A>,
    right: LinkSide<B>,
) -> Result<JoinedSeats<A, B>, Box<dyn Error>> {
    let names = [format!("{name}l"), format!("{name}r")];
    let queues = [left.transports.len() as u16, right.transports.len() as u16];
    let pools = [
        pool(eal, &names[0], settings, queues[0])?,
        pool(eal, &names[1], settings, queues[1])?,
    ];
    let config = |end: usize| PortConfig {
        mtu: settings.mtu,
        queues: queues[end],
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        pool: pools[end],
        tx_pool: pools[end],
        offload: OffloadConfig::default(),
        rss_key: None,
    };
    let configs = [config(0), config(1)];
    let [left_end, right_end] = link(eal, [&names[0], &names[1]], [&configs[0], &configs[1]])?;
    Ok((
        seats(left_end, left, pools, settings),
        seats(right_end, right, [pools[1], pools[0]], settings),
    ))
}

fn pool(
    eal: &Eal,
    name: &str,
    settings: LaneSettings,
    queues: u16,
) -> Result<Mempool, hugepages::PoolError> {
    let config = MempoolConfig {
        name: name.to_owned(),
        mbufs: settings.mbufs * u32::from(queues),
        cache: CACHE,
        data_room: HEADROOM
            + (settings.mtu + ETHERNET_VLAN)
                .max(DATA_ROOM_MIN)
                .next_multiple_of(64),
        numa_node: None,
    };
    Mempool::create(eal.up(), &config)
}

fn seats<T>(
    (port, queues): LinkEnd,
    side: LinkSide<T>,
    [pool, rx_pool]: [Mempool; 2],
    settings: LaneSettings,
) -> Vec<Seat<T>> {
    let addresses: Vec<_> = std::iter::once(side.address)
        .chain(side.more_addresses)
        .map(|address| (address, 64))
        .collect();
    let count = queues.len();
    // One queue needs nobody to pass on to.
    let relays = if count > 1 { relay(count) } else { Vec::new() };
    let mut relays = relays.into_iter();
    let ends = queues.into_iter().zip(side.transports).enumerate();
    ends.map(|(index, (queue, (transport, counters)))| {
        let host = HostConfig {
            role: match index {
                0 => HostRole::Primary,
                _ => HostRole::Secondary,
            },
            mac: port.mac(),
            addresses: addresses.clone(),
            gateway: side.gateway,
            accept_router_advertisements: false,
            mtu: settings.mtu,
            udp_ports: side.udp_ports.clone(),
            verify_checksums: settings.checksum == Checksum::Software,
            tx_checksum: settings.checksum,
            neighbours_max: 64,
            waiting_datagrams_max: 64,
            seed: 1 + index as u64,
        };
        let config = LaneConfig {
            pool,
            rx_pool,
            tx_path: settings.tx_path,
            rx_copybreak: settings.rx_copybreak,
            pool_low_mark: settings.mbufs as usize * count / 8,
            udp_payload_max: settings.mtu - IPV6_UDP_HEADERS,
            segments_max: 1,
            clock: None,
            burst: BURST_DEFAULT,
            relay: relays.next(),
        };
        Seat {
            queue,
            host: Host::new(host, Instant::now()),
            transport,
            config,
            counters,
        }
    })
    .collect()
}
