//! Lanes over emulated NICs: several datagrams in one mbuf, and frames that leave on time. One process, one EAL: one test.

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{OURS, THEIRS, UDP_PORT};
use hugepages::{Mbuf, Mempool, MempoolConfig, PacketAlloc};
use poll::offload::{Mode, OffloadConfig, PacingClock};
use poll::wire::DropReason;
use poll::{
    BURST_DEFAULT, Datagram, Eal, Ecn, Emulation, Lane, LaneConfig, LaneStats, NicConfig, Port,
    PortConfig, Transmit, Transport, TxPath, emulated,
};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

/// The largest datagram of an MTU of 1500.
const PAYLOAD: usize = 1452;
/// Datagrams of a full mbuf.
const SEGMENTS: usize = 8;

#[test]
fn lanes_use_what_the_device_offers() {
    let eal = common::eal();
    let mut pools = Pools::new(&eal);
    for path in [TxPath::InPlace, TxPath::Scratch] {
        datagrams_in_one_mbuf_arrive_one_by_one(&eal, &mut pools, path);
    }
    what_waits_for_its_neighbour_is_cut_in_software(&eal, &mut pools);
    more_than_was_allowed_is_refused(&eal, &mut pools);
    another_buffer_than_was_lent_is_refused(&eal, &mut pools);
    one_datagram_is_not_segmented(&eal, &mut pools);
    frames_leave_at_their_departure(&eal, &mut pools);
    eal.cleanup()
        .expect("every port is closed, every mbuf at home");
}

/// Pools of both ends, which all tests share.
struct Pools {
    rx: [Mempool; 2],
    tx: [Mempool; 2],
    links: u32,
}

impl Pools {
    fn new(eal: &Eal) -> Self {
        let pool = |name: &str, mbufs, data_room| {
            let config = MempoolConfig {
                name: name.to_owned(),
                mbufs,
                cache: 0,
                data_room,
                numa_node: None,
            };
            Mempool::create(eal.up(), &config).expect("a pool")
        };
        let room = (SEGMENTS * PAYLOAD + 256) as u16;
        Self {
            rx: ["rx0", "rx1"].map(|name| pool(name, 2047, 2176)),
            tx: ["tx0", "tx1"].map(|name| pool(name, 511, room)),
            links: 0,
        }
    }
}

/// A transport that sends what it is told to, and keeps what it receives.
#[derive(Clone, Default)]
struct Probe(Rc<RefCell<Script>>);

#[derive(Default)]
struct Script {
    /// Payloads, with the size of their datagrams and when they may leave.
    to_send: VecDeque<(Vec<u8>, Option<u16>, Option<Instant>)>,
    received: Vec<(Instant, Vec<u8>)>,
    /// Given back in place of the buffer that is lent.
    swap: Option<Vec<u8>>,
    /// What the lane allowed.
    segments_max: usize,
}

impl Probe {
    fn send(&self, payload: Vec<u8>, size: Option<u16>, departure: Option<Instant>) {
        self.0
            .borrow_mut()
            .to_send
            .push_back((payload, size, departure));
    }

    fn received(&self) -> Vec<(Instant, Vec<u8>)> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }
}

impl Transport for Probe {
    fn receive(&mut self, now: Instant, datagram: Datagram) {
        let mut script = self.0.borrow_mut();
        script.received.push((now, datagram.payload.to_vec()));
    }

    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        segments_max: usize,
    ) -> Option<Transmit> {
        let mut script = self.0.borrow_mut();
        script.segments_max = segments_max;
        let (payload, segment_size, departure) = script.to_send.pop_front()?;
        if let Some(other) = script.swap.take() {
            *buf = other;
        }
        buf.extend_from_slice(&payload);
        Some(Transmit {
            destination: SocketAddrV6::new(THEIRS, UDP_PORT, 0, 0),
            source: None,
            source_udp_port: UDP_PORT,
            ecn: Ecn::Ect0,
            size: payload.len(),
            segment_size,
            departure,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        None
    }
}

/// Two lanes over two emulated NICs, under a clock of the test's own.
struct Rig {
    lanes: [Lane<Probe>; 2],
    probes: [Probe; 2],
    emulation: Emulation,
    now: Instant,
    ports: [Port; 2],
}

impl Rig {
    fn new(eal: &Eal, pools: &mut Pools, tx_path: TxPath) -> Self {
        pools.links += 1;
        let names = ["left", "right"].map(|name| format!("{name}{}", pools.links));
        let config = |end: usize| PortConfig {
            mtu: 1500,
            queues: 1,
            rx_descriptors: 512,
            tx_descriptors: 256,
            pool: pools.rx[end],
            tx_pool: pools.tx[end],
            rss_key: None,
            offload: OffloadConfig {
                hardware_pacing: Mode::Hardware,
                ..OffloadConfig::default()
            },
        };
        let (ends, emulation) = emulated(
            eal,
            [&names[0], &names[1]],
            [&config(0), &config(1)],
            [NicConfig::default(), NicConfig::default()],
        )
        .expect("two emulated NICs");
        let probes = [Probe::default(), Probe::default()];
        let ports = ends.each_ref().map(|(port, _)| port.clone());
        let mut index = 0;
        let lanes = ends.map(|(port, mut queues)| {
            let address = [OURS, THEIRS][index];
            let offloads = port.offloads();
            assert_eq!(usize::from(offloads.segments_max), SEGMENTS);
            let mut host = common::host_config(0, port.mac(), address);
            host.tx_checksum = offloads.tx_checksum;
            let config = LaneConfig {
                pool: pools.tx[index],
                rx_pool: pools.rx[index],
                tx_path,
                rx_copybreak: 256,
                pool_low_mark: 0,
                udp_payload_max: PAYLOAD as u16,
                segments_max: offloads.segments_max,
                clock: PacingClock::new(eal.up(), &port),
                burst: BURST_DEFAULT,
                relay: None,
            };
            let host = poll::host::Host::new(host, emulation.clock().epoch());
            let queue = queues.pop().expect("one queue pair");
            let probe = probes[index].clone();
            index += 1;
            Lane::new(queue, host, probe, config, Arc::default())
        });
        let mut rig = Self {
            lanes,
            probes,
            now: emulation.clock().epoch(),
            emulation,
            ports,
        };
        // What hosts have to say at their start.
        for _ in 0..30 {
            rig.now += Duration::from_millis(100);
            rig.turn();
        }
        rig
    }

    /// Makes the neighbours known to each other.
    fn meet(&mut self) {
        self.probes[0].send(vec![1; 100], None, None);
        self.turns(20);
        assert_eq!(
            self.probes[1].received().len(),
            1,
            "neighbours know each other"
        );
    }

    fn turn(&mut self) {
        for lane in &mut self.lanes {
            lane.turn(self.now);
            lane.timeout(self.now);
            self.emulation.step(self.now);
        }
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.now += Duration::from_micros(1);
            self.turn();
        }
    }

    fn stats(&self) -> LaneStats {
        self.lanes[0].stats()
    }

    fn end(self, pools: &Pools) {
        for lane in self.lanes {
            drop(lane);
        }
        drop((self.emulation, self.ports));
        for pool in pools.rx.iter().chain(&pools.tx) {
            assert_eq!(pool.in_use(), 0, "{pool:?}");
        }
    }
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|at| ((at + seed) ^ ((at + seed) >> 8)) as u8)
        .collect()
}

fn datagrams_in_one_mbuf_arrive_one_by_one(eal: &Eal, pools: &mut Pools, path: TxPath) {
    let mut rig = Rig::new(eal, pools, path);
    rig.meet();
    let before = rig.stats();
    let payloads = [
        (bytes(SEGMENTS * PAYLOAD, 1), PAYLOAD),
        (bytes(3 * 1200 + 77, 2), 1200),
        (bytes(2 * 100, 3), 100),
        (bytes(PAYLOAD + 1, 4), PAYLOAD),
    ];
    for (payload, size) in &payloads {
        rig.probes[0].send(payload.clone(), Some(*size as u16), None);
    }
    rig.probes[0].send(bytes(500, 5), None, None);
    rig.turns(10);
    assert_eq!(rig.probes[0].0.borrow().segments_max, SEGMENTS);

    let mut expected: Vec<&[u8]> = Vec::new();
    for (payload, size) in &payloads {
        expected.extend(payload.chunks(*size));
    }
    let last = bytes(500, 5);
    expected.push(&last);
    let received = rig.probes[1].received();
    let received: Vec<&[u8]> = received.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(received, expected, "each datagram of its size, in order");

    let stats = rig.stats();
    let datagrams = expected.len() as u64;
    assert_eq!(
        stats.tx_frames - before.tx_frames,
        datagrams,
        "frames on the wire"
    );
    assert_eq!(
        stats.tx_segmented - before.tx_segmented,
        4,
        "mbufs that were cut"
    );
    let written = match path {
        TxPath::InPlace => stats.tx_in_place - before.tx_in_place,
        TxPath::Scratch => stats.tx_copied - before.tx_copied,
    };
    assert_eq!(written, datagrams, "by {path:?}");
    assert_eq!(rig.lanes[1].stats().drops.of(DropReason::BadUdpChecksum), 0);
    let nic = rig.emulation.stats()[1];
    assert!(
        nic.rx_checksum_bad == 0 && nic.rx_checksum_good >= datagrams,
        "{nic:?}"
    );
    rig.end(pools);
}

/// A payload to a neighbour that is not known yet waits as datagrams, each of which gets an mbuf of its own.
fn what_waits_for_its_neighbour_is_cut_in_software(eal: &Eal, pools: &mut Pools) {
    let mut rig = Rig::new(eal, pools, TxPath::InPlace);
    let before = rig.stats();
    let payload = bytes(5 * 1000 + 10, 6);
    rig.probes[0].send(payload.clone(), Some(1000), None);
    rig.turns(20);
    let received = rig.probes[1].received();
    let received: Vec<&[u8]> = received.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(received, payload.chunks(1000).collect::<Vec<_>>());
    let stats = rig.stats();
    assert_eq!(stats.tx_segmented, before.tx_segmented);
    assert_eq!(stats.tx_copied - before.tx_copied, 6);
    rig.end(pools);
}

fn more_than_was_allowed_is_refused(eal: &Eal, pools: &mut Pools) {
    let mut rig = Rig::new(eal, pools, TxPath::InPlace);
    rig.meet();
    let small = (SEGMENTS + 1) * 100;
    rig.probes[0].send(bytes(small, 7), Some(100), None);
    rig.probes[0].send(bytes(2 * PAYLOAD, 8), None, None);
    rig.probes[0].send(bytes(2 * PAYLOAD, 8), Some(PAYLOAD as u16 + 1), None);
    rig.turns(10);
    rig.probes[0].send(bytes(100, 9), Some(0), None);
    rig.turns(10);
    assert_eq!(rig.probes[1].received(), []);
    assert_eq!(rig.stats().drops.of(DropReason::TxGrew), 4);
    rig.end(pools);
}

/// The device may be told that all it gets is of one pool: a buffer of any other must not be sent.
fn another_buffer_than_was_lent_is_refused(eal: &Eal, pools: &mut Pools) {
    let mut rig = Rig::new(eal, pools, TxPath::InPlace);
    rig.meet();
    let others = [pools.rx[0], pools.tx[0]].map(|pool| Mbuf::alloc(pool).unwrap().into_vec());
    for (refused, other) in others.into_iter().enumerate() {
        rig.probes[0].0.borrow_mut().swap = Some(other.expect("a buffer of a pool"));
        rig.probes[0].send(bytes(1000, 10), None, None);
        rig.turns(10);
        assert_eq!(rig.probes[1].received(), []);
        let drops = rig.stats().drops;
        assert_eq!(drops.of(DropReason::TxGrew), refused as u64 + 1);
    }
    rig.probes[0].send(bytes(1000, 11), None, None);
    rig.turns(10);
    assert_eq!(rig.probes[1].received().len(), 1, "the next one goes");
    rig.end(pools);
}

/// Whatever size its writer names.
fn one_datagram_is_not_segmented(eal: &Eal, pools: &mut Pools) {
    let mut rig = Rig::new(eal, pools, TxPath::InPlace);
    rig.meet();
    let before = rig.emulation.stats()[0].tx_segmented;
    for size in [1000, 1001, u16::MAX] {
        rig.probes[0].send(bytes(1000, 12), Some(size), None);
    }
    rig.turns(10);
    assert_eq!(rig.probes[1].received().len(), 3);
    assert_eq!(rig.emulation.stats()[0].tx_segmented, before);
    rig.end(pools);
}

fn frames_leave_at_their_departure(eal: &Eal, pools: &mut Pools) {
    let mut rig = Rig::new(eal, pools, TxPath::InPlace);
    rig.meet();
    let start = rig.now;
    let at = |us: u64| start + Duration::from_micros(us);
    // Two datagrams of one mbuf leave together.
    for us in [100, 250, 1900] {
        rig.probes[0].send(bytes(2 * 600, us as usize), Some(600), Some(at(us)));
    }
    rig.turn();
    let mut arrived = Vec::new();
    while let Some(next) = rig.emulation.timeout() {
        rig.now = next;
        rig.turn();
        arrived.extend(rig.probes[1].received());
    }
    let times: Vec<_> = arrived
        .iter()
        .map(|(time, _)| time.duration_since(start).as_nanos().div_ceil(1000))
        .collect();
    assert_eq!(
        times,
        [100, 100, 250, 250, 1900, 1900],
        "a perfect wire takes no time"
    );
    assert_eq!(rig.emulation.stats()[0].tx_held, 3);
    rig.end(pools);
}
