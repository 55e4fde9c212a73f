//! Packet memory: pool sizes by formula, and whether it all fits.

use hugepages::{PoolNeeds, pool_memory, pool_size};
use poll::offload::{Mode, SEGMENTS_MAX};
use serde::Serialize;

use super::eal::Arguments;
use super::port::{PortKind, PortPlan};
use super::settings::LimitsPlan;
use super::shard::ShardPlan;
use super::transport::TransportPlan;
use super::worst_case::{self, WorstCase};
use crate::config::{Config, ConfigError, DataRoom, Mbufs, NicOffload, Size, Source};
use crate::transport::IPV6_UDP_HEADERS;

/// mbufs that an lcore keeps at hand.
const CACHE: u32 = 256;
/// Received datagrams that applications may hold at once.
const HELD_SLICES: u32 = 4096;
/// Free bytes in front of a frame (DPDK's `RTE_PKTMBUF_HEADROOM`).
const HEADROOM: u16 = 128;
/// Ethernet header and a VLAN tag.
const ETHERNET: u16 = 14 + 4;
/// Data room that drivers expect at least (DPDK's `RTE_MBUF_DEFAULT_DATAROOM`), without headroom.
const DATA_ROOM_MIN: u16 = 2048;
/// The least data room that may be given, bytes, headroom included: a frame of the least MTU in a few mbufs.
const DATA_ROOM_GIVEN_MIN: u16 = HEADROOM + 512;
/// The largest one, bytes: an mbuf counts its room in 16 bits.
const DATA_ROOM_MAX: u16 = u16::MAX;
/// Room behind several datagrams, bytes: quinn-proto writes an acknowledgement (64 ranges of 16 bytes at most) before it sees
/// that the packet has no room for it, and takes it back.
const OVERSHOOT: u16 = 1024;
/// Data rooms are whole cache lines, bytes.
const ROUNDED_TO: u16 = 64;
/// What EAL, its rings and its device data take besides the pools, roughly.
pub(crate) const EAL_OVERHEAD: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// The mempool of a port, on its NUMA node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolPlan {
    /// mbufs, by [`hugepages::pool_size`]: enough for full receive and transmit rings of all queues, the bursts and
    /// caches of every lcore that touches them, what is being handed over, and what applications hold. On a link, the
    /// peer's lcores count too: they receive these mbufs.
    pub mbufs: u32,
    /// With fewer free mbufs, what a queue of the port receives is copied and its mbuf given back at once, so that
    /// applications which hold on to slices cannot starve the device.
    pub low_mark: u32,
    /// mbufs that an lcore keeps at hand.
    pub cache: u32,
    /// Bytes of an mbuf, headroom included: as given, or headroom 128, a frame of the MTU with a VLAN tag, rounded up to
    /// 64; at least 128 + 2048.
    pub data_room: u16,
    /// Bytes of the whole pool.
    pub bytes: u64,
}

impl PoolPlan {
    /// Whether a whole frame of the MTU fits an mbuf.
    pub fn holds_frames(&self, mtu: u16) -> bool {
        self.data_room >= HEADROOM + ETHERNET + mtu
    }
}

/// Memory that a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Bytes of all pools.
    pub pools: u64,
    /// Bytes that EAL's arguments grant, where they say.
    pub granted: Option<u64>,
    /// The most bytes on the heap that the limits allow.
    pub worst_case: WorstCase,
}

/// Gives each port its pool.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    limits: &LimitsPlan,
    ports: &mut [PortPlan],
    shards: &[ShardPlan],
) -> Result<(), ConfigError> {
    for index in 0..ports.len() {
        let lcores = lcores(ports, shards, index);
        let pools = Pools {
            config,
            source,
            index,
            port: &ports[index],
            lcores,
        };
        let data_room = pools.data_room()?;
        let pool = pools.main(limits, data_room)?;
        let segments = pools.segments(limits);
        let tx_pool = pools.transmit(data_room, segments);
        ports[index].pool = pool;
        ports[index].tx_pool = tx_pool;
        ports[index].segments = segments;
    }
    Ok(())
}

/// Lcores that take mbufs from the pool of a port, or give them back.
fn lcores(ports: &[PortPlan], shards: &[ShardPlan], index: usize) -> u32 {
    let peer = match ports[index].kind {
        // The model of a NIC runs on an lcore of one of the ends.
        PortKind::Link { peer } | PortKind::Emulated { peer, .. } => Some(peer),
        PortKind::Device(_) => None,
    };
    let touches = |shard: &&ShardPlan| shard.port == index || Some(shard.port) == peer;
    let mut lcores: Vec<u32> = shards
        .iter()
        .filter(touches)
        .map(|shard| shard.lcore)
        .collect();
    lcores.sort_unstable();
    lcores.dedup();
    lcores.len() as u32
}

/// A port whose pools are to be planned.
struct Pools<'a> {
    config: &'a Config,
    source: &'a Source,
    index: usize,
    port: &'a PortPlan,
    lcores: u32,
}

impl Pools<'_> {
    fn main(&self, limits: &LimitsPlan, data_room: u16) -> Result<PoolPlan, ConfigError> {
        let port = self.port;
        let held = self.config.memory.held_slices.unwrap_or(HELD_SLICES);
        // A datagram that is handed over stays in its mbuf. The queues of a link's two ends are as many.
        let handover = match port.queues {
            1 => 0,
            queues => u32::from(queues) * limits.handover,
        };
        let needs = PoolNeeds {
            rx_descriptors: u32::from(port.queues) * u32::from(port.rx_descriptors),
            held: held.saturating_add(handover),
            ..self.sent()
        };
        let mbufs = match self.config.memory.mbufs {
            Mbufs::Auto => pool_size(needs),
            Mbufs::Count(mbufs) => {
                let least = pool_size(PoolNeeds { held: 0, ..needs });
                if mbufs < least {
                    let message = format!(
                        "{mbufs} is too few: the rings, bursts and caches of the port `{}` alone take \
                         {least}; use `auto`, or at least {least}",
                        port.name
                    );
                    return Err(self.source.error("memory.mbufs", message));
                }
                mbufs
            }
        };
        Ok(PoolPlan {
            mbufs,
            low_mark: self.low_mark(mbufs)?,
            cache: CACHE,
            data_room,
            bytes: pool_memory(mbufs, data_room),
        })
    }

    /// A pool of its own for what is sent, where it does not fit what is received into: frames of the MTU, or as many
    /// datagrams as the device is to cut out of an mbuf. Nothing of it is held by applications, so nothing is kept back.
    fn transmit(&self, rx_data_room: u16, segments: u16) -> Option<PoolPlan> {
        let data_room = segments_room(self.port, segments);
        if rx_data_room >= data_room {
            return None;
        }
        let mbufs = pool_size(self.sent());
        Some(PoolPlan {
            mbufs,
            low_mark: 0,
            cache: CACHE,
            data_room,
            bytes: pool_memory(mbufs, data_room),
        })
    }

    /// Datagrams that may be sent in one mbuf, if the device segments: a connection's turn, as far as it fits. 1 where it
    /// is known that it does not; what the device offers shows at the start.
    fn segments(&self, limits: &LimitsPlan) -> u16 {
        let offload = &self.port.offload.0;
        let may = match (&self.port.kind, offload.udp_segmentation) {
            (PortKind::Link { .. }, _) | (_, Mode::Off | Mode::Software) => false,
            (_, Mode::Hardware) => true,
            (PortKind::Emulated { nic, .. }, Mode::Auto) => {
                nic.offloads.contains(&NicOffload::UdpSegmentation)
            }
            // No virtual device is trusted with it unasked.
            (PortKind::Device(name), Mode::Auto) => !name.starts_with("net_"),
        };
        if !may {
            return 1;
        }
        // What is left of the largest room when it is rounded, too.
        let payloads = DATA_ROOM_MAX - ROUNDED_TO - segments_room(self.port, 0);
        let most = payloads / self.port.udp_payload_max;
        limits.turn_budget.min(SEGMENTS_MAX).min(most).max(1)
    }

    /// Where mbufs are on their way out.
    fn sent(&self) -> PoolNeeds {
        PoolNeeds {
            rx_descriptors: 0,
            tx_descriptors: u32::from(self.port.queues) * u32::from(self.port.tx_descriptors),
            lcores: self.lcores,
            burst: u32::from(self.port.burst),
            cache: CACHE,
            held: 0,
        }
    }

    /// By default what a receive ring and some bursts of each lane take.
    fn low_mark(&self, mbufs: u32) -> Result<u32, ConfigError> {
        let port = self.port;
        let least = u32::from(port.queues) * u32::from(port.burst);
        match self.config.memory.low_mark {
            Mbufs::Auto => Ok(u32::from(port.rx_descriptors) + 4 * least),
            Mbufs::Count(mark) if (least..mbufs).contains(&mark) => Ok(mark),
            Mbufs::Count(mark) => {
                let message = format!(
                    "{mark} is out of range: the pool of the port `{}` has {mbufs} mbufs, and a burst of \
                     each queue takes {least}; use `auto`, or {least} to {}",
                    port.name,
                    mbufs - 1
                );
                Err(self.source.error("memory.low_mark", message))
            }
        }
    }

    /// Of the mbufs that are received into.
    fn data_room(&self) -> Result<u16, ConfigError> {
        let whole = data_room(self.port.mtu);
        let DataRoom::Size(Size(bytes)) = self.config.ports[self.index].data_room else {
            return Ok(whole);
        };
        let key = format!("ports[{}].data_room", self.index);
        let config = &self.config.ports[self.index];
        if config.link.is_some() && config.emulated.is_none() && bytes < u64::from(whole) {
            let message = format!(
                "{bytes} B is too little: what crosses a link stays in one mbuf, and a frame of the MTU takes {whole} B"
            );
            return Err(self.source.error(key, message));
        }
        let range = DATA_ROOM_GIVEN_MIN..=DATA_ROOM_MAX;
        match u16::try_from(bytes) {
            Ok(bytes) if range.contains(&bytes) => Ok(bytes),
            _ => {
                let message = format!(
                    "{bytes} B is out of range: give {} B..={} B, {HEADROOM} B of headroom included, or `auto`",
                    range.start(),
                    range.end()
                );
                Err(self.source.error(key, message))
            }
        }
    }
}

/// Room for headroom and a whole frame.
fn data_room(mtu: u16) -> u16 {
    let frame = mtu + ETHERNET;
    HEADROOM + frame.max(DATA_ROOM_MIN).next_multiple_of(ROUNDED_TO)
}

/// Room for headroom and `segments` datagrams behind the headers of one, but a whole frame at least.
fn segments_room(port: &PortPlan, segments: u16) -> u16 {
    if segments == 1 {
        return data_room(port.mtu);
    }
    let headers = ETHERNET + IPV6_UDP_HEADERS;
    (HEADROOM + headers + segments * port.udp_payload_max + OVERSHOOT).next_multiple_of(ROUNDED_TO)
}

/// Adds it all up, and compares with what EAL's arguments grant.
pub(super) fn memory(
    eal: &Arguments<'_>,
    ports: &[PortPlan],
    shards: &[ShardPlan],
    limits: &LimitsPlan,
    transport: &TransportPlan,
) -> Result<MemoryPlan, ConfigError> {
    let pools = ports.iter().map(PortPlan::pool_bytes).sum::<u64>();
    let needed = pools + EAL_OVERHEAD;
    if let Some(granted) = eal.memory().filter(|&granted| granted < needed) {
        let each: Vec<String> = ports
            .iter()
            .map(|port| format!("{} {} MiB", port.name, port.pool_bytes().div_ceil(MIB)))
            .collect();
        return Err(eal.memory_error(format!(
            "too little memory: EAL is given {} MiB, and the packet pools ({}) with EAL's own \
             data need {} MiB; give `-m {}`, or lower `memory.held_slices` or the descriptors",
            granted / MIB,
            each.join(", "),
            needed.div_ceil(MIB),
            needed.div_ceil(64 * MIB) * 64,
        )));
    }
    Ok(MemoryPlan {
        pools,
        granted: eal.memory(),
        worst_case: worst_case::plan(ports, shards, limits, transport),
    })
}

#[cfg(test)]
mod tests {
    use super::data_room;

    #[test]
    fn a_data_room_holds_headroom_and_frame() {
        assert_eq!(data_room(1280), 128 + 2048);
        assert_eq!(data_room(1500), 128 + 2048);
        assert_eq!(data_room(9000), 128 + 9024);
        for mtu in 1280..=9600 {
            assert!(data_room(mtu) >= 128 + 14 + 4 + mtu);
            assert_eq!(data_room(mtu) % 64, 0);
        }
    }
}
