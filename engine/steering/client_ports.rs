//! The UDP ports of outgoing connections, chosen so that answers arrive on the queue of their shard.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::ops::RangeInclusive;

use poll::toeplitz;
use thiserror::Error;

use crate::random;

/// The UDP ports that outgoing connections take turns with.
///
/// All shards of a port (DPDK device) may have the same range: connection IDs tell apart what arrives there, and what
/// arrives on the wrong shard is handed over. Where the device is known to hash flows onto queues, a connection takes
/// a UDP port whose answers hash to the queue of its shard, so that nothing needs to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPorts {
    /// The UDP ports, without 0 and without those of listeners. A wider range makes it more certain that one of them
    /// leads to the right queue.
    pub range: RangeInclusive<u16>,
    /// How the device hashes; `None` where it does not, or nobody knows: then connections take any port of the range.
    pub rss: Option<RssQueue>,
}

/// How a device spreads received frames over its queues, and which queue is the shard's: as read back from the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssQueue {
    /// The Toeplitz key, at least 40 bytes.
    pub key: Vec<u8>,
    /// The redirection table: the queue for each remainder of the hash.
    pub table: Vec<u16>,
    /// The queue of the shard.
    pub queue: u16,
    /// The addresses that connections may go out from: those that were given to the port in the configuration, since
    /// advertised ones come and go. A connection keeps to the one closest to its peer (RFC 6724 §5, rule 8). Without
    /// any, and to link-local peers, connections go out from whatever address the host chooses, and any UDP port.
    pub addresses: Vec<Ipv6Addr>,
}

/// No UDP ports for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientPortsError {
    /// Each block of the dynamic range has a taken port in it.
    #[error("the listeners leave no block of 256 dynamic UDP ports free: set `client_udp_port`")]
    AllTaken,
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    NoRandomness,
}

/// Ports in a block that [`ClientPorts::random`] chooses.
const BLOCK: u16 = 256;
/// The dynamic range (RFC 6335 §6) has this many of them.
const BLOCKS: u16 = (u16::MAX - FIRST) / BLOCK + 1;
/// The first dynamic port.
const FIRST: u16 = 49_152;

impl ClientPorts {
    /// One UDP port for all connections.
    pub fn one(udp_port: u16) -> Self {
        Self {
            range: udp_port..=udp_port,
            rss: None,
        }
    }

    /// 256 UDP ports of the dynamic range (RFC 6335 §6), chosen at random, none of them in `taken`.
    pub fn random(taken: &[u16]) -> Result<Self, ClientPortsError> {
        let [start] = random::bytes().map_err(|_| ClientPortsError::NoRandomness)?;
        let blocks = (0..BLOCKS).map(|n| (u16::from(start) + n) % BLOCKS);
        let mut ranges = blocks.map(|block| {
            let first = FIRST + block * BLOCK;
            first..=first + (BLOCK - 1)
        });
        let range = ranges.find(|range| !taken.iter().any(|udp_port| range.contains(udp_port)));
        let range = range.ok_or(ClientPortsError::AllTaken)?;
        Ok(Self { range, rss: None })
    }
}

/// Takes the ports of a shard in turns.
#[derive(Debug)]
pub(crate) struct PortChoice {
    ports: ClientPorts,
    /// The next one to try, counted from the first of the range.
    next: u32,
}

impl PortChoice {
    /// Begins somewhere in the range.
    pub(crate) fn new(ports: ClientPorts, start: u128) -> Self {
        let mut choice = Self { ports, next: 0 };
        choice.next = (start % u128::from(choice.count())) as u32;
        choice
    }

    /// The UDP port for a connection to `remote`, and the address to send from if the choice depends on it.
    ///
    /// Looks at each port of the range once at most; if none leads to the queue, it is the next in turn.
    pub(crate) fn choose(&mut self, remote: SocketAddrV6) -> (u16, Option<Ipv6Addr>) {
        let count = self.count();
        let (first, next) = (u32::from(*self.ports.range.start()), self.next);
        let udp_port = |tries: u32| (first + (next + tries) % count) as u16;
        let rss = self.ports.rss.as_ref();
        let source = rss.and_then(|rss| rss.source(*remote.ip()));
        let fits = rss.zip(source).and_then(|(rss, source)| {
            let leads_here = |tries: &u32| {
                let local = SocketAddrV6::new(source, udp_port(*tries), 0, 0);
                rss.queue_of(remote, local) == Some(rss.queue)
            };
            (0..count).find(leads_here)
        });
        let tries = fits.unwrap_or(0);
        self.next = (next + tries + 1) % count;
        (udp_port(tries), source)
    }

    fn count(&self) -> u32 {
        let range = &self.ports.range;
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        (last + 1).saturating_sub(first).max(1)
    }
}

impl RssQueue {
    /// The address to connect to `remote` from.
    fn source(&self, remote: Ipv6Addr) -> Option<Ipv6Addr> {
        if remote.is_unicast_link_local() {
            return None;
        }
        let common = |address: &Ipv6Addr| (address.to_bits() ^ remote.to_bits()).leading_zeros();
        let addresses = self.addresses.iter().copied();
        addresses
            .filter(|address| !address.is_unicast_link_local())
            .max_by_key(common)
    }

    /// The queue that gets what `remote` sends to `local`. `None` without a table.
    fn queue_of(&self, remote: SocketAddrV6, local: SocketAddrV6) -> Option<u16> {
        let hash = toeplitz(&self.key, remote, local) as usize;
        let entry = hash.checked_rem(self.table.len())?;
        self.table.get(entry).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn remote(host: u16, udp_port: u16) -> SocketAddrV6 {
        SocketAddrV6::new(
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host),
            udp_port,
            0,
            0,
        )
    }

    fn rss(queues: u16, queue: u16) -> RssQueue {
        RssQueue {
            key: (0..40).map(|n: u8| n.wrapping_mul(37) ^ 0x6d).collect(),
            table: (0..128).map(|entry| entry % queues).collect(),
            queue,
            addresses: ["fe80::1", "fd00::1", "2001:db8:1::1"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
        }
    }

    fn choice(rss: Option<RssQueue>) -> PortChoice {
        let range = 50_000..=50_255;
        PortChoice::new(ClientPorts { range, rss }, 1_000)
    }

    #[test]
    fn answers_hash_to_the_queue_of_the_shard() {
        for queue in 0..4 {
            let rss = rss(4, queue);
            let mut choice = choice(Some(rss.clone()));
            let mut seen = HashSet::new();
            for host in 0..200 {
                let to = remote(host, 443);
                let (udp_port, address) = choice.choose(to);
                assert!(choice.ports.range.contains(&udp_port));
                // Of the three, the one closest to the peer.
                assert_eq!(address, Some(rss.addresses[2]));
                let local = SocketAddrV6::new(rss.addresses[2], udp_port, 0, 0);
                let entry = toeplitz(&rss.key, to, local) as usize % rss.table.len();
                assert_eq!(rss.table[entry], queue);
                seen.insert(udp_port);
            }
            assert!(seen.len() > 50, "only {} ports are used", seen.len());
        }
    }

    #[test]
    fn without_a_hash_ports_take_turns() {
        let mut choice = choice(None);
        let all: HashSet<_> = (0..256).map(|_| choice.choose(remote(1, 443))).collect();
        assert_eq!(all.len(), 256);
        assert!(all.iter().all(
            |&(udp_port, address)| choice.ports.range.contains(&udp_port) && address.is_none()
        ));
    }

    #[test]
    fn a_queue_that_no_port_leads_to_and_a_link_local_peer_get_any() {
        let mut nowhere = choice(Some(rss(4, 9)));
        let (udp_port, _) = nowhere.choose(remote(1, 443));
        assert!(nowhere.ports.range.contains(&udp_port));
        let mut empty = choice(Some(RssQueue {
            table: Vec::new(),
            ..rss(4, 0)
        }));
        assert!(empty.choose(remote(1, 443)).0 >= 50_000);
        let mut local = choice(Some(rss(4, 0)));
        let link_local = SocketAddrV6::new("fe80::2".parse().unwrap(), 443, 0, 0);
        assert_eq!(local.choose(link_local).1, None);
        let mut unaddressed = choice(Some(RssQueue {
            addresses: vec!["fe80::1".parse().unwrap()],
            ..rss(4, 0)
        }));
        assert_eq!(unaddressed.choose(remote(1, 443)).1, None);
    }

    #[test]
    fn the_whole_range_of_ports_can_be_used() {
        let range = 1..=u16::MAX;
        let mut choice = PortChoice::new(ClientPorts { range, rss: None }, u128::MAX);
        let all: HashSet<_> = (0..65_535)
            .map(|_| choice.choose(remote(1, 443)).0)
            .collect();
        assert_eq!(all.len(), 65_535);
        assert!(!all.contains(&0));
    }

    #[test]
    fn a_random_range_keeps_off_the_listeners() {
        for _ in 0..100 {
            let ports = ClientPorts::random(&[4433, 49_152, 60_000]).unwrap();
            assert_eq!(ports.range.clone().count(), 256);
            assert!(*ports.range.start() >= 49_152 && !ports.range.contains(&60_000));
            assert!(!ports.range.contains(&49_152));
        }
        let everywhere: Vec<_> = (0..64).map(|block| 49_152 + block * 256 + 255).collect();
        assert_eq!(
            ClientPorts::random(&everywhere),
            Err(ClientPortsError::AllTaken)
        );
        assert!(
            ClientPorts::random(&everywhere[1..])
                .unwrap()
                .range
                .contains(&49_152)
        );
    }
}
