//! Offloads as lanes use them, on emulated NICs that do what hardware does: a frame that was not prepared arrives broken.
//! One process, one EAL: one test.

mod common;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{OURS, Probe, STRANGER, THEIRS, UDP_PORT, datagram, eal};
use hugepages::{Burst, Mbuf, Mempool, MempoolConfig, PacketAlloc};
use poll::host::{Host, HostConfig, HostRole};
use poll::offload::{Mode, OffloadConfig, RxChecksum, Vlan};
use poll::wire::icmpv6::{Icmpv6Headers, Message, emit};
use poll::wire::{DropReason, MacAddr, VLAN_TAG, insert_tag};
use poll::{
    BURST_DEFAULT, Eal, Emulation, Lane, LaneConfig, LaneStats, NicConfig, NicStats, Port,
    PortConfig, QueuePair, TxPath, emulated,
};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

/// Time that a turn takes.
const TURN: Duration = Duration::from_millis(1);
/// Room of the mbufs that are received into, headroom included, and of those that frames are built in.
const RX_ROOM: u16 = 128 + 2048;
const TX_ROOM: u16 = 128 + 9024;

#[test]
fn offloads_on_emulated_nics() {
    let eal = eal();
    let pools = [("rx", RX_ROOM), ("tx", TX_ROOM)].map(|(name, data_room)| {
        let config = MempoolConfig {
            name: format!("offload_{name}"),
            mbufs: 1023,
            cache: 0,
            data_room,
            numa_node: None,
        };
        Mempool::create(eal.up(), &config).expect("a pool")
    });
    checksums(&eal, pools);
    a_wrong_checksum_is_found_by_the_device(&eal, pools);
    vlans(&eal, pools);
    frames_of_other_vlans(&eal, pools);
    jumbo_frames_in_pieces(&eal, pools);
    for pool in pools {
        assert_eq!(pool.in_use(), 0, "{pool:?}");
    }
}

/// Every way to compute a checksum understands every way to verify one.
fn checksums(eal: &Eal, pools: Pools) {
    let ways = [Mode::Hardware, Mode::Software];
    for (tx, rx) in ways.iter().flat_map(|tx| ways.map(|rx| (*tx, rx))) {
        let offload = OffloadConfig {
            tx_checksum: tx,
            rx_checksum: rx,
            ..OffloadConfig::default()
        };
        let mut pair = Pair::new(eal, pools, 1500, [offload; 2]);
        // The first waits for its neighbour, and carries a sum of the engine's own.
        pair.exchange(&[1]);
        pair.exchange(&[2, 63, 1000, 1451, 1452]);
        let (by_device, all) = (pair.nic(0).tx_checksums, pair.nic(1).rx_checksum_good);
        assert_eq!(
            by_device,
            if tx == Mode::Hardware { 5 } else { 0 },
            "{tx} {rx}"
        );
        assert_eq!(all, if rx == Mode::Hardware { 6 } else { 0 }, "{tx} {rx}");
    }
}

fn a_wrong_checksum_is_found_by_the_device(eal: &Eal, pools: Pools) {
    let mut pair = Pair::with_wire(eal, pools, OffloadConfig::default());
    let mut frame = datagram(pair.mac(1), b"hello");
    pair.inject(&frame);
    frame[60] ^= 1;
    pair.inject(&frame);
    assert_eq!(pair.nic(1).rx_checksum_bad, 1);
    assert_eq!(pair.lane().drops.of(DropReason::BadUdpChecksum), 1);
    assert_eq!(pair.received(), [b"hello"]);
}

/// Datagrams, neighbour discovery and echo inside a VLAN, whoever tags.
fn vlans(eal: &Eal, pools: Pools) {
    let ways = [Mode::Hardware, Mode::Software];
    for (one, other) in ways.iter().flat_map(|one| ways.map(|other| (*one, other))) {
        let offload = |mode| OffloadConfig {
            vlan: Some(Vlan { id: 100, mode }),
            ..OffloadConfig::default()
        };
        let mut pair = Pair::new(eal, pools, 1500, [offload(one), offload(other)]);
        pair.exchange(&[1, 1000, 1452, 1452]);
        for (end, mode) in [(0, one), (1, other)] {
            let nic = pair.nic(end);
            let tagged = nic.tx_vlan_inserted == nic.tx_frames;
            assert_eq!(tagged, mode == Mode::Hardware, "{one} {other}: {nic:?}");
            let stats = pair.ends[end].lane.as_ref().expect("a lane").0.stats();
            assert!(stats.rx_icmpv6 > 0, "{stats:?}");
            assert_eq!(stats.drops.of(DropReason::Untagged), 0);
        }
    }
}

/// A port takes frames of its own VLAN alone, and names what else came.
fn frames_of_other_vlans(eal: &Eal, pools: Pools) {
    for mode in [Some(Mode::Hardware), Some(Mode::Software), None] {
        let offload = OffloadConfig {
            vlan: mode.map(|mode| Vlan { id: 100, mode }),
            ..OffloadConfig::default()
        };
        let mut pair = Pair::with_wire(eal, pools, offload);
        let plain = datagram(pair.mac(1), b"plain");
        pair.inject(&plain);
        // VLANs 0 (a priority alone), 100 and 7, with priority 5.
        for vlan in [0, 100, 7] {
            pair.inject(&tagged(&plain, 0xa000 | vlan));
        }
        pair.inject(&tagged(&tagged(&plain, 100), 100));
        let drops = pair.lane().drops;
        let counted = [
            DropReason::Vlan,
            DropReason::Untagged,
            DropReason::OtherVlan,
        ]
        .map(|reason| drops.of(reason));
        let (received, expected) = match mode {
            // The second tag of the last one is no VLAN of ours.
            Some(_) => (1, [1, 2, 1]),
            None => (2, [3, 0, 0]),
        };
        assert_eq!(counted, expected, "{mode:?}");
        assert_eq!(pair.received().len(), received, "{mode:?}");
    }
}

/// 9000 bytes on the wire, 2048 in an mbuf.
fn jumbo_frames_in_pieces(eal: &Eal, pools: Pools) {
    let vlan = Vlan {
        id: 100,
        mode: Mode::Software,
    };
    let software = OffloadConfig {
        rx_checksum: Mode::Software,
        vlan: Some(vlan),
        ..OffloadConfig::default()
    };
    let plain = OffloadConfig::default();
    for offload in [plain, software] {
        let mut pair = Pair::new(eal, pools, 9000, [offload; 2]);
        assert!(pair.ends[0].port.offloads().scatter);
        pair.exchange(&[1, 1500, 1985, 1986, 1987, 4096, 8951, 8952]);
        for end in &pair.ends {
            let stats = end.lane.as_ref().expect("a lane").0.stats();
            assert_eq!(stats.drops.of(DropReason::Chained), 0);
            assert_eq!(stats.rx_zero_copy + stats.rx_copied, 8);
        }
    }

    let mut pair = Pair::with_wire_of(eal, pools, 9000, plain);
    pair.inject(&ping(pair.mac(1), &payload(8900)));
    assert_eq!(pair.lane().host.echo_replies_sent, 1);
    // The NIC lets a frame with a tag in, which is longer than the MTU allows without one.
    let long = datagram(pair.mac(1), &payload(8952 + VLAN_TAG));
    pair.inject(&long);
    assert_eq!(pair.lane().drops.of(DropReason::Chained), 1);
}

/// What is received into, and what frames are built in.
type Pools = [Mempool; 2];

/// Two emulated NICs with a host behind each, or with the bare end of a cable in place of the first one.
struct Pair {
    ends: [End; 2],
    emulation: Emulation,
    now: Instant,
}

struct End {
    port: Port,
    lane: Option<(Lane<Probe>, Probe)>,
    bare: Vec<QueuePair>,
}

impl Pair {
    fn new(eal: &Eal, pools: Pools, mtu: u16, offloads: [OffloadConfig; 2]) -> Self {
        Self::open(eal, pools, mtu, offloads, [true, true])
    }

    /// The first end is bare.
    fn with_wire(eal: &Eal, pools: Pools, offload: OffloadConfig) -> Self {
        Self::with_wire_of(eal, pools, 1500, offload)
    }

    fn with_wire_of(eal: &Eal, pools: Pools, mtu: u16, offload: OffloadConfig) -> Self {
        let offloads = [OffloadConfig::default(), offload];
        Self::open(eal, pools, mtu, offloads, [false, true])
    }

    fn open(
        eal: &Eal,
        [pool, tx_pool]: Pools,
        mtu: u16,
        offloads: [OffloadConfig; 2],
        [first, second]: [bool; 2],
    ) -> Self {
        let configs = offloads.map(|offload| PortConfig {
            mtu,
            queues: 1,
            rx_descriptors: 64,
            tx_descriptors: 64,
            pool,
            tx_pool,
            rss_key: None,
            offload,
        });
        let nics = [NicConfig::default(), NicConfig::default()];
        // DPDK keeps the names of ports that were closed.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let names = ["left", "right"].map(|name| format!("{name}{number}"));
        let names = [names[0].as_str(), names[1].as_str()];
        let opened = emulated(eal, names, [&configs[0], &configs[1]], nics);
        let ([left, right], emulation) = opened.expect("two emulated NICs");
        let now = emulation.clock().epoch();
        Self {
            ends: [
                End::new(left, first.then_some(OURS), now),
                End::new(
                    right,
                    second.then_some(if first { THEIRS } else { OURS }),
                    now,
                ),
            ],
            emulation,
            now,
        }
    }

    fn turn(&mut self) {
        self.now += TURN;
        for end in &mut self.ends {
            match &mut end.lane {
                Some((lane, _)) => {
                    lane.turn(self.now);
                    lane.timeout(self.now);
                }
                None => drain(&mut end.bare),
            }
        }
        while self.emulation.step(self.now) > 0 {}
    }

    /// Sends datagrams of these lengths from the first host to the second, then back, and checks what arrives.
    fn exchange(&mut self, lengths: &[usize]) {
        let payloads: Vec<Vec<u8>> = lengths.iter().map(|len| payload(*len)).collect();
        for (from, to, destination) in [(0, 1, THEIRS), (1, 0, OURS)] {
            for payload in &payloads {
                self.probe(from).send(destination, payload);
            }
            for _ in 0..50 {
                self.turn();
            }
            let received = self.probe(to).received();
            let arrived = received.iter().map(|(_, bytes)| &bytes[..]);
            assert!(
                arrived.eq(payloads.iter().map(|payload| &payload[..])),
                "{} of {lengths:?} came from {from}: {:?}",
                received.len(),
                self.ends[to].port.offloads()
            );
            let nic = self.nic(from);
            assert_eq!(
                [
                    nic.tx_not_granted,
                    nic.tx_bad_request,
                    nic.tx_bad_segmentation,
                    nic.tx_fast_free_broken
                ],
                [0; 4]
            );
        }
    }

    /// Sends a frame from the bare end.
    fn inject(&mut self, frame: &[u8]) {
        let end = &mut self.ends[0];
        let mut mbuf = Mbuf::alloc(end.port.tx_pool()).expect("an mbuf");
        let room = mbuf.append(frame.len()).expect("the frame fits");
        room.copy_from_slice(frame);
        let mut burst = Burst::new();
        burst.push(mbuf).expect("an empty burst has room");
        assert_eq!(end.bare[0].tx.tx_burst(&mut burst), 1);
        self.turn();
        self.turn();
        self.turn();
    }

    fn probe(&self, end: usize) -> &Probe {
        &self.ends[end].lane.as_ref().expect("a lane").1
    }

    /// What the second host received.
    fn received(&self) -> Vec<Vec<u8>> {
        let received = self.probe(1).received();
        received.iter().map(|(_, bytes)| bytes.to_vec()).collect()
    }

    /// Counters of the second host's lane.
    fn lane(&self) -> LaneStats {
        self.ends[1].lane.as_ref().expect("a lane").0.stats()
    }

    fn mac(&self, end: usize) -> MacAddr {
        self.ends[end].port.mac()
    }

    fn nic(&self, end: usize) -> NicStats {
        self.emulation.stats()[end]
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // A frame that stayed in a ring would be missed in its pool.
        for _ in 0..8 {
            self.turn();
        }
    }
}

impl End {
    fn new(
        (port, mut queues): (Port, Vec<QueuePair>),
        host: Option<Ipv6Addr>,
        now: Instant,
    ) -> Self {
        let lane = host.and_then(|address| Some((address, queues.pop()?)));
        let lane = lane.map(|(address, queue)| {
            let probe = Probe::default();
            let host = Host::new(host_config(&port, address), now);
            let config = lane_config(&port);
            let lane = Lane::new(queue, host, probe.clone(), config, Arc::default());
            (lane, probe)
        });
        Self {
            port,
            lane,
            bare: queues,
        }
    }
}

/// As the engine makes it of what is in force.
fn host_config(port: &Port, address: Ipv6Addr) -> HostConfig {
    let offloads = port.offloads();
    HostConfig {
        role: HostRole::Primary,
        mac: port.mac(),
        addresses: vec![(address, 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: port.mtu(),
        udp_ports: [UDP_PORT].into_iter().collect(),
        verify_checksums: offloads.rx_checksum != RxChecksum::Skip,
        tx_checksum: offloads.tx_checksum,
        neighbours_max: 16,
        waiting_datagrams_max: 64,
        seed: 1,
    }
}

fn lane_config(port: &Port) -> LaneConfig {
    LaneConfig {
        pool: port.tx_pool(),
        rx_pool: port.pool(),
        tx_path: TxPath::InPlace,
        rx_copybreak: 256,
        pool_low_mark: 0,
        udp_payload_max: port.mtu() - 48,
        segments_max: 1,
        clock: None,
        burst: BURST_DEFAULT,
        relay: None,
    }
}

fn drain(queues: &mut [QueuePair]) {
    for queue in queues {
        let mut burst = Burst::new();
        while queue.rx.rx_burst(&mut burst) > 0 {
            burst.clear();
        }
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + len) as u8).collect()
}

/// An echo request of [`THEIRS`] at [`STRANGER`] for [`OURS`].
fn ping(dst_mac: MacAddr, data: &[u8]) -> Vec<u8> {
    let headers = Icmpv6Headers {
        src_mac: STRANGER,
        dst_mac,
        src: THEIRS,
        dst: OURS,
        hop_limit: 64,
    };
    let mut frame = Vec::new();
    let id = [1, 2, 3, 4];
    emit(&mut frame, &headers, &Message::EchoRequest { id, data });
    frame
}

fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let mut tagged = [&[0; VLAN_TAG][..], frame].concat();
    insert_tag(&mut tagged, tci);
    tagged
}
