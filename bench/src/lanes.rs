//! Two lanes over a link: the engine's way of a packet from transport to driver and back, in one process.

use std::error::Error;
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::Instant;

use hugepages::{Mempool, MempoolConfig};
use poll::host::{Host, HostConfig, HostRole};
use poll::wire::Checksum;
use poll::{Eal, Lane, LaneConfig, LaneCounters, LinkEnd, PortConfig, Transport, TxPath, link};
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
    /// Mbufs of each port's pool; the engine plans [`MBUFS`]. Pools live as long as the process.
    pub mbufs: u32,
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
    let names = [format!("{name}l"), format!("{name}r")];
    let pools = [
        pool(eal, &names[0], settings)?,
        pool(eal, &names[1], settings)?,
    ];
    let configs = pools.map(|pool| PortConfig {
        mtu: settings.mtu,
        queues: 1,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        pool,
        rss_key: None,
    });
    let [left_end, right_end] = link(eal, [&names[0], &names[1]], [&configs[0], &configs[1]])?;
    Ok((
        lane(left_end, LEFT, pools, settings, left)?,
        lane(right_end, RIGHT, [pools[1], pools[0]], settings, right)?,
    ))
}

fn pool(eal: &Eal, name: &str, settings: LaneSettings) -> Result<Mempool, hugepages::PoolError> {
    let config = MempoolConfig {
        name: name.to_owned(),
        mbufs: settings.mbufs,
        cache: CACHE,
        data_room: HEADROOM
            + (settings.mtu + ETHERNET_VLAN)
                .max(DATA_ROOM_MIN)
                .next_multiple_of(64),
        numa_node: None,
    };
    Mempool::create(eal.up(), &config)
}

fn lane<T: Transport>(
    (port, mut queues): LinkEnd,
    address: SocketAddrV6,
    [pool, rx_pool]: [Mempool; 2],
    settings: LaneSettings,
    transport: T,
) -> Result<Lane<T>, Box<dyn Error>> {
    let host = Host::new(
        HostConfig {
            role: HostRole::Primary,
            mac: port.mac(),
            addresses: vec![(*address.ip(), 64)],
            gateway: None,
            accept_router_advertisements: false,
            mtu: settings.mtu,
            udp_ports: vec![address.port()],
            verify_checksums: settings.checksum == Checksum::Software,
            tx_checksum: settings.checksum,
            neighbours_max: 64,
            waiting_datagrams_max: 64,
            seed: 1,
        },
        Instant::now(),
    );
    let config = LaneConfig {
        pool,
        rx_pool,
        tx_path: settings.tx_path,
        rx_copybreak: settings.rx_copybreak,
        pool_low_mark: settings.mbufs as usize / 8,
        udp_payload_max: settings.mtu - IPV6_UDP_HEADERS,
        relay: None,
    };
    let queue = queues.pop().ok_or("the link has no queue")?;
    Ok(Lane::new(
        queue,
        host,
        transport,
        config,
        Arc::new(LaneCounters::default()),
    ))
}
