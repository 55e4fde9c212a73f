//! Two lcores joined by a link, on a real EAL: `--no-huge`, no device, no root. One process, one EAL: one test.

mod common;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Setup, Wire};
use hugepages::{Mempool, MempoolConfig, PacketAlloc};
use poll::offload::OffloadConfig;
use poll::{
    BURST_DEFAULT, Control, Datagram, Eal, Echo, Ecn, IdlePolicy, Lane, LaneConfig, LaneCounters,
    LaneStats, LcoreTask, PortConfig, QueuePair, Stop, Transmit, Transport, TxPath, Worker,
    drain_queues,
    host::{Host, HostConfig, HostRole},
    link,
};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

const LEFT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1);
const RIGHT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2);
const ECHO_PORT: u16 = 7;
const CALLER_PORT: u16 = 40_000;
const PAYLOAD: usize = 1400;
const COUNT: u64 = 20_000;
const WINDOW: u64 = 64;

/// Sends numbered datagrams to the echo, a window at a time, and checks what comes back.
struct Caller {
    sent: u64,
    seen: Arc<AtomicU64>,
    /// How often the worker asked for the next deadline.
    asked: Arc<AtomicU64>,
    held: Vec<bytes::BytesMut>,
}

impl Transport for Caller {
    fn receive(&mut self, _now: Instant, datagram: Datagram) {
        let expected = self.seen.load(Ordering::Relaxed);
        let mut number = [0; 8];
        number.copy_from_slice(&datagram.payload[..8]);
        assert_eq!(
            u64::from_be_bytes(number),
            expected,
            "datagrams come back in order"
        );
        assert_eq!(datagram.payload.len(), PAYLOAD);
        assert!(
            datagram.payload[8..]
                .iter()
                .all(|byte| *byte == expected as u8)
        );
        assert_eq!(datagram.ecn, Ecn::Ect0, "ECN bits cross in both directions");
        assert_eq!(
            datagram.path.remote,
            SocketAddrV6::new(LEFT, ECHO_PORT, 0, 0)
        );
        if expected.is_multiple_of(100) {
            self.held.push(datagram.payload);
        }
        self.seen.store(expected + 1, Ordering::Relaxed);
    }

    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        let seen = self.seen.load(Ordering::Relaxed);
        // One at first: few datagrams may wait while the neighbour is resolved.
        let window = if seen == 0 { 1 } else { WINDOW };
        if self.sent == COUNT || self.sent >= seen + window {
            return None;
        }
        buf.extend_from_slice(&self.sent.to_be_bytes());
        buf.resize(PAYLOAD, self.sent as u8);
        self.sent += 1;
        Some(Transmit {
            destination: SocketAddrV6::new(LEFT, ECHO_PORT, 0, 0),
            source: None,
            source_udp_port: CALLER_PORT,
            ecn: Ecn::Ect0,
            size: PAYLOAD,
            segment_size: None,
            departure: None,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        None
    }
}

fn host(mac: poll::wire::MacAddr, address: Ipv6Addr, udp_port: u16) -> Host {
    let config = HostConfig {
        role: HostRole::Primary,
        mac,
        addresses: vec![(address, 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: 1500,
        udp_ports: [udp_port].into_iter().collect(),
        verify_checksums: true,
        tx_checksum: poll::wire::Checksum::Software,
        neighbours_max: 16,
        waiting_datagrams_max: 64,
        seed: 7,
    };
    Host::new(config, Instant::now())
}

/// Runs one exchange over a fresh link; returns the counters of the caller and of the echo.
fn exchange(
    eal: &Eal,
    pool: Mempool,
    name: &str,
    tx_path: TxPath,
    copybreak: usize,
) -> [LaneStats; 2] {
    let port_config = PortConfig {
        mtu: 1500,
        queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
        pool,
        tx_pool: pool,
        offload: OffloadConfig::default(),
        rss_key: None,
    };
    let names = [format!("{name}l"), format!("{name}r")];
    let [left, right] =
        link(eal, [&names[0], &names[1]], [&port_config, &port_config]).expect("a link");
    let lane_config = || LaneConfig {
        pool,
        rx_pool: pool,
        tx_path,
        rx_copybreak: copybreak,
        pool_low_mark: 0,
        udp_payload_max: 1452,
        segments_max: 1,
        clock: None,
        burst: BURST_DEFAULT,
        relay: None,
    };
    let counters = [
        Arc::new(LaneCounters::default()),
        Arc::new(LaneCounters::default()),
    ];
    let control = Control::new(2);
    let seen = Arc::new(AtomicU64::new(0));
    let asked = Arc::new(AtomicU64::new(0));

    let queue = |end: (poll::Port, Vec<QueuePair>)| {
        let (port, mut queues) = end;
        (port, queues.remove(0))
    };
    let (left_port, left_queue) = queue(left);
    let (right_port, right_queue) = queue(right);
    let (echo_mac, caller_mac) = (left_port.mac(), right_port.mac());
    assert!(left_port.link().up && right_port.link().up);
    let tasks = vec![
        LcoreTask {
            lcore: eal.lcores()[0],
            work: Box::new({
                let (config, counters, control) =
                    (lane_config(), Arc::clone(&counters[0]), &control);
                move || {
                    let host = host(echo_mac, LEFT, ECHO_PORT);
                    let lane = Lane::new(left_queue, host, Echo::new(1024), config, counters);
                    Worker::new(vec![lane], IdlePolicy::Adaptive).run(control)
                }
            }) as Box<dyn FnOnce() -> Vec<QueuePair> + Send>,
        },
        LcoreTask {
            lcore: eal.lcores()[1],
            work: Box::new({
                let (config, counters, control) =
                    (lane_config(), Arc::clone(&counters[1]), &control);
                let (seen, asked) = (Arc::clone(&seen), Arc::clone(&asked));
                move || {
                    let host = host(caller_mac, RIGHT, CALLER_PORT);
                    let caller = Caller {
                        sent: 0,
                        seen,
                        asked,
                        held: Vec::new(),
                    };
                    let lane = Lane::new(right_queue, host, caller, config, counters);
                    Worker::new(vec![lane], IdlePolicy::Adaptive).run(control)
                }
            }),
        },
    ];
    let mut queues: Vec<QueuePair> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while seen.load(Ordering::Relaxed) < COUNT && start.elapsed() < Duration::from_secs(15)
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            control.request(Stop::Drain);
        });
        eal.run(tasks)
            .expect("both lcores ran")
            .into_iter()
            .flatten()
            .collect()
    });
    drain_queues(&mut queues);
    assert_eq!(
        seen.load(Ordering::Relaxed),
        COUNT,
        "every datagram came back"
    );
    let stats = [counters[1].read(), counters[0].read()];
    // A transport runs its timers by it, so it is asked in busy turns, too.
    assert_eq!(asked.load(Ordering::Relaxed), stats[0].turns);
    stats
}

/// Always has something to send, and counts how often it was let run.
struct Flooder {
    advanced: Arc<AtomicU64>,
}

impl Transport for Flooder {
    fn receive(&mut self, _now: Instant, _datagram: Datagram) {}

    fn advance(&mut self, _now: Instant) {
        self.advanced.fetch_add(1, Ordering::Relaxed);
    }

    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        buf.resize(PAYLOAD, 0);
        Some(Transmit {
            destination: SocketAddrV6::new(LEFT, ECHO_PORT, 0, 0),
            source: None,
            source_udp_port: CALLER_PORT,
            ecn: Ecn::NotEct,
            size: PAYLOAD,
            segment_size: None,
            departure: None,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        None
    }
}

/// Sends into a link whose other end nobody polls, until the ring is full and on.
fn stall(eal: &Eal, pool: Mempool) {
    let port_config = PortConfig {
        mtu: 1500,
        queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
        pool,
        tx_pool: pool,
        offload: OffloadConfig::default(),
        rss_key: None,
    };
    let [(_left_port, mut left), (right_port, mut right)] =
        link(eal, ["sl", "sr"], [&port_config, &port_config]).expect("a link");
    let config = LaneConfig {
        pool,
        rx_pool: pool,
        tx_path: TxPath::InPlace,
        rx_copybreak: 256,
        pool_low_mark: 0,
        udp_payload_max: 1452,
        segments_max: 1,
        clock: None,
        burst: BURST_DEFAULT,
        relay: None,
    };
    let mut host = host(right_port.mac(), RIGHT, CALLER_PORT);
    // The neighbour is known, so that frames really go out.
    let hello = frame_from(LEFT, RIGHT, right_port.mac());
    host.receive(Instant::now(), &hello);
    let (advanced, counters) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(LaneCounters::default()),
    );
    let flooder = Flooder {
        advanced: Arc::clone(&advanced),
    };
    let control = Control::new(1);
    let queue = right.remove(0);
    let lane = Lane::new(queue, host, flooder, config, Arc::clone(&counters));
    let task = LcoreTask {
        lcore: eal.lcores()[0],
        work: Box::new(|| Worker::new(vec![lane], IdlePolicy::Adaptive).run(&control))
            as Box<dyn FnOnce() -> Vec<QueuePair> + Send>,
    };
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            control.request(Stop::Now);
        });
        eal.run(vec![task]).expect("the lcore ran")
    });
    let stats = counters.read();
    assert!(
        stats.tx_frames >= 200,
        "the ring was filled: {}",
        stats.tx_frames
    );
    assert!(stats.tx_stalled > 0, "and then refused frames");
    assert_eq!(
        advanced.load(Ordering::Relaxed),
        stats.turns,
        "the transport ran in every turn"
    );
    drain_queues(&mut left);
    drop(ended);
    assert_eq!(pool.in_use(), 0);
}

/// Two lcores asleep, each with a queue of one port: a frame that the first one gets and hands on wakes the second within
/// its bounded sleep. No timer is due, no frame arrives at it.
fn a_sleeper_notices_what_is_relayed(eal: &Eal, pool: Mempool) {
    let setup = Setup {
        queues: 2,
        ..Setup::default()
    };
    let [(left_port, left_queues), right] = common::ends(eal, setup, [pool, pool]);
    let mut wire = Wire::new(right, pool);
    let mac = left_port.mac();
    let control = Control::new(2);
    let counters = [0, 1].map(|_| Arc::new(LaneCounters::default()));
    let lanes = left_queues.into_iter().zip(poll::relay(2));
    let tasks: Vec<_> = lanes
        .enumerate()
        .map(|(index, (queue, relay))| {
            let (control, counters) = (&control, Arc::clone(&counters[index]));
            let work = move || {
                let host = common::host(index, mac, common::OURS);
                let config = common::lane_config([pool, pool], setup, relay);
                let lane = Lane::new(queue, host, Echo::new(16), config, counters);
                Worker::new(vec![lane], IdlePolicy::Adaptive).run(control)
            };
            LcoreTask {
                lcore: eal.lcores()[index],
                work: Box::new(work) as Box<dyn FnOnce() -> Vec<QueuePair> + Send>,
            }
        })
        .collect();
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Past the probes that hosts send in their first second and a half.
            std::thread::sleep(Duration::from_secs(2));
            wire.inject(0, &[common::solicitation()]);
            let start = Instant::now();
            while counters[1].read().relay_received == 0
                && start.elapsed() < Duration::from_secs(15)
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            control.request(Stop::Drain);
        });
        eal.run(tasks).expect("both lcores ran")
    });
    assert_eq!(counters[0].read().relayed, 1);
    assert_eq!(counters[1].read().relay_received, 1);
    assert_eq!(counters[1].read().neighbours, 1);
    drop((ended, wire));
    assert_eq!(pool.in_use(), 0);
}

/// A datagram as the other end would send it.
fn frame_from(src: Ipv6Addr, dst: Ipv6Addr, dst_mac: poll::wire::MacAddr) -> Vec<u8> {
    let headers = poll::wire::UdpHeaders {
        src_mac: poll::wire::MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac,
        src,
        dst,
        src_port: ECHO_PORT,
        dst_port: CALLER_PORT,
        ecn: Ecn::NotEct,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut frame = [0; poll::wire::HEADERS];
    let checksum = poll::wire::Checksum::Software;
    poll::wire::emit_udp_headers(&mut frame, &headers, b"hello", checksum);
    [&frame[..], b"hello"].concat()
}

#[test]
fn datagrams_cross_a_link_and_every_mbuf_comes_home() {
    let args = [
        "-l",
        "0-1",
        "--no-huge",
        "-m",
        "128",
        "--no-pci",
        "--no-shconf",
        "--no-telemetry",
    ];
    let eal = Eal::start(&args.map(String::from)).expect("EAL starts without huge pages");
    assert!(Eal::start(&[]).is_err(), "a second start is refused");
    let pool = Mempool::create(
        eal.up(),
        &MempoolConfig {
            name: "link".to_owned(),
            mbufs: 4095,
            cache: 128,
            data_room: 2048 + 128,
            numa_node: None,
        },
    )
    .expect("a pool");

    let [caller, echo] = exchange(&eal, pool, "a", TxPath::InPlace, 256);
    assert_eq!(caller.rx_zero_copy, COUNT);
    // The first one waited, as a copy, for the neighbour's address.
    assert_eq!((caller.tx_in_place, caller.tx_copied), (COUNT - 1, 1));
    assert_eq!((echo.tx_in_place, echo.tx_copied), (COUNT, 0));
    assert_eq!((caller.rx_copied, echo.rx_copied), (0, 0));
    assert_eq!(pool.in_use(), 0);

    let [caller, echo] = exchange(&eal, pool, "b", TxPath::Scratch, usize::MAX);
    assert_eq!((caller.rx_zero_copy, echo.rx_zero_copy), (0, 0));
    assert_eq!(caller.rx_copied, COUNT);
    assert_eq!((caller.tx_in_place, echo.tx_in_place), (0, 0));
    assert!(caller.tx_copied >= COUNT);
    assert_eq!(pool.in_use(), 0);

    stall(&eal, pool);
    a_sleeper_notices_what_is_relayed(&eal, pool);

    eal.cleanup().expect("no mbuf is out");
}
