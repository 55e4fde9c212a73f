//! Two emulated NICs, bare: frames go in and come out as bytes with what their mbufs say.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dpdk_sys::{RTE_MBUF_F_TX_IPV6, RTE_MBUF_F_TX_UDP_CKSUM, RTE_MBUF_F_TX_UDP_SEG};
use hugepages::{Burst, Mbuf, Mempool, MempoolConfig, TxOffload};
use poll::offload::OffloadConfig;
use poll::wire::{
    Checksum, DropReason, HEADERS, MacAddr, Parsed, Sum, UdpHeaders, emit_udp_headers, parse,
};
use poll::{
    Eal, Ecn, Emulation, NicConfig, NicStats, Port, PortConfig, PortError, QueuePair, emulated,
};

use crate::common::{OURS, STRANGER, THEIRS, UDP_PORT};

/// How the two NICs are set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub queues: u16,
    pub mtu: u16,
    /// Room of the mbufs that frames are sent in, bytes; those that are received into have the usual 2048.
    pub tx_room: u16,
    pub descriptors: u16,
    pub offload: OffloadConfig,
    pub nics: [NicConfig; 2],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            queues: 1,
            mtu: 1500,
            tx_room: 2048,
            descriptors: 256,
            offload: OffloadConfig::default(),
            nics: [NicConfig::default(), NicConfig::default()],
        }
    }
}

/// Two emulated NICs.
pub struct Rig {
    ends: [End; 2],
    emulation: Emulation,
    now: Instant,
}

struct End {
    port: Port,
    queues: Vec<QueuePair>,
    pool: Mempool,
    tx_pool: Mempool,
}

/// A received frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub queue: usize,
    pub bytes: Vec<u8>,
    pub flags: u64,
    pub vlan_tci: u16,
    pub rss_hash: u32,
    pub segments: u16,
}

impl Rig {
    pub fn new(eal: &Eal, setup: Setup) -> Self {
        Self::try_new(eal, setup).expect("two emulated NICs")
    }

    pub fn try_new(eal: &Eal, setup: Setup) -> Result<Self, PortError> {
        let pools = [0, 1].map(|end| {
            (
                pool(eal, end, 255, 2048),
                pool(eal, end, 127, setup.tx_room),
            )
        });
        let configs = pools.map(|(pool, tx_pool)| PortConfig {
            mtu: setup.mtu,
            queues: setup.queues,
            rx_descriptors: setup.descriptors,
            tx_descriptors: setup.descriptors,
            pool,
            tx_pool,
            rss_key: None,
            offload: setup.offload,
        });
        let names = [unique("nic"), unique("nic")];
        let (ends, emulation) = emulated(
            eal,
            [&names[0], &names[1]],
            [&configs[0], &configs[1]],
            setup.nics,
        )?;
        let [first, second] = ends;
        let end = |(port, queues), (pool, tx_pool)| End {
            port,
            queues,
            pool,
            tx_pool,
        };
        Ok(Self {
            ends: [end(first, pools[0]), end(second, pools[1])],
            now: emulation.clock().epoch(),
            emulation,
        })
    }

    pub fn port(&self, end: usize) -> &Port {
        &self.ends[end].port
    }

    pub fn emulation(&mut self) -> &mut Emulation {
        &mut self.emulation
    }

    pub fn stats(&self, end: usize) -> NicStats {
        let [first, second] = self.emulation.stats();
        [first, second][end]
    }

    /// When the clock shows 0.
    pub fn start(&self) -> Instant {
        self.emulation.clock().epoch()
    }

    pub fn set_time(&mut self, us: u64) {
        self.now = self.start() + micros(us);
    }

    pub fn skip(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.emulation.timeout()
    }

    /// Steps until nothing moves.
    pub fn step(&mut self) {
        while self.emulation.step(self.now) > 0 {}
    }

    /// An mbuf that an end may send.
    pub fn mbuf(&self, end: usize, bytes: &[u8]) -> Mbuf {
        let mut mbuf = Mbuf::alloc(self.ends[end].tx_pool).expect("an mbuf");
        mbuf.append(bytes.len())
            .expect("the frame fits")
            .copy_from_slice(bytes);
        mbuf
    }

    pub fn send(&mut self, end: usize, queue: usize, bytes: &[u8], offload: TxOffload) {
        self.send_mbuf(end, queue, bytes, |mbuf| mbuf.set_tx(offload));
    }

    pub fn send_mbuf(
        &mut self,
        end: usize,
        queue: usize,
        bytes: &[u8],
        set: impl FnOnce(&mut Mbuf),
    ) {
        let mut mbuf = self.mbuf(end, bytes);
        set(&mut mbuf);
        self.send_as_is(end, queue, mbuf);
    }

    pub fn send_as_is(&mut self, end: usize, queue: usize, mbuf: Mbuf) {
        let taken = self.offer(end, queue, vec![mbuf]);
        assert_eq!(taken, 1, "the transmit queue has room");
        self.step();
    }

    /// Returns how many the transmit queue took; the others are dropped.
    pub fn offer(&mut self, end: usize, queue: usize, mbufs: Vec<Mbuf>) -> usize {
        let mut burst = Burst::new();
        for mbuf in mbufs {
            burst.push(mbuf).expect("a burst has room");
        }
        self.ends[end].queues[queue].tx.tx_burst(&mut burst)
    }

    /// The pools of an end that frames are received into, and sent from.
    pub fn pools(&self, end: usize) -> [Mempool; 2] {
        [self.ends[end].pool, self.ends[end].tx_pool]
    }

    pub fn send_without_step(&mut self, end: usize, queue: usize, bytes: &[u8]) {
        let mut burst = Burst::new();
        let _ = burst.push(self.mbuf(end, bytes));
        self.ends[end].queues[queue].tx.tx_burst(&mut burst);
    }

    /// Everything that has arrived at an end.
    pub fn receive(&mut self, end: usize) -> Vec<Received> {
        self.step();
        let mut frames = Vec::new();
        let id = self.ends[end].port.info().id.0;
        for (queue, pair) in self.ends[end].queues.iter_mut().enumerate() {
            let mut burst = Burst::new();
            while pair.rx.rx_burst(&mut burst) > 0 {
                while let Some(mbuf) = burst.pop() {
                    assert_eq!(mbuf.port(), id);
                    frames.push(Received {
                        queue,
                        bytes: mbuf.segments().collect::<Vec<_>>().concat(),
                        flags: mbuf.flags(),
                        vlan_tci: mbuf.vlan_tci(),
                        rss_hash: mbuf.rss_hash(),
                        segments: mbuf.segment_count(),
                    });
                }
            }
        }
        frames
    }

    /// Frames that an end has sent whose mbufs are back in their pool.
    pub fn sent_back(&self, end: usize) -> u64 {
        self.stats(end).tx_mbufs - u64::from(self.ends[end].tx_pool.in_use())
    }

    /// Takes all mbufs of an end, so that it can receive nothing.
    pub fn empty_pool(&self, end: usize) -> Vec<Mbuf> {
        std::iter::from_fn(|| Mbuf::alloc(self.ends[end].pool)).collect()
    }

    /// mbufs that are out.
    pub fn in_use(&self) -> u32 {
        let pools = self.ends.iter().flat_map(|end| [end.pool, end.tx_pool]);
        pools.map(Mempool::in_use).sum()
    }

    /// Takes everything apart; every mbuf has to be home then.
    pub fn end(self) {
        let pools = self.ends.each_ref().map(|end| [end.pool, end.tx_pool]);
        drop((self.emulation, self.ends));
        for pool in pools.as_flattened() {
            assert_eq!(pool.in_use(), 0, "{pool:?}");
        }
    }
}

/// A pool of an end, by its room. Tests run one after the other and share them: a process may have 64.
fn pool(eal: &Eal, end: usize, mbufs: u32, room: u16) -> Mempool {
    static POOLS: Mutex<BTreeMap<(usize, u32, u16), Mempool>> = Mutex::new(BTreeMap::new());
    let create = || {
        let config = MempoolConfig {
            name: unique("pool"),
            mbufs,
            cache: 0,
            data_room: 128 + room,
            numa_node: None,
        };
        Mempool::create(eal.up(), &config).expect("a pool")
    };
    let mut pools = POOLS.lock().expect("no test has panicked");
    *pools.entry((end, mbufs, room)).or_insert_with(create)
}

fn unique(stem: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{stem}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub fn payload(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index * 7 + index / 256) as u8)
        .collect()
}

/// A datagram of [`THEIRS`] for [`OURS`], with its checksum field as said.
pub fn datagram(payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let headers = UdpHeaders {
        src_mac: STRANGER,
        dst_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        src: THEIRS,
        dst: OURS,
        src_port: UDP_PORT,
        dst_port: UDP_PORT,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, &headers, payload, checksum);
    [&head[..], payload].concat()
}

/// A datagram to be cut up: its field holds the sum of the pseudo-header without the length.
pub fn large(payload: &[u8]) -> Vec<u8> {
    let mut frame = datagram(payload, Checksum::Skip);
    let sum = Sum::of_pseudo_header(THEIRS, OURS, 0, 17).fold();
    frame[60..62].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Asks for the checksum of a [`datagram`].
pub fn checksum() -> TxOffload {
    TxOffload {
        flags: RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM,
        l2_len: 14,
        l3_len: 40,
        ..TxOffload::default()
    }
}

/// Asks for segments of a [`large`] datagram.
pub fn segmentation(size: u16) -> TxOffload {
    let checksum = checksum();
    TxOffload {
        flags: checksum.flags | RTE_MBUF_F_TX_UDP_SEG,
        l4_len: 8,
        tso_segsz: size,
        ..checksum
    }
}

/// The payload of a frame that is a datagram with the right checksum.
pub fn verified(frame: &[u8]) -> Result<Vec<u8>, DropReason> {
    match parse(frame, true)? {
        Parsed::Udp(udp) => Ok(frame[udp.payload].to_vec()),
        Parsed::Icmpv6(_) => Err(DropReason::OtherProtocol),
    }
}
