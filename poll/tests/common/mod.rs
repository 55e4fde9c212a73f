//! EAL, links and lanes for the tests that move frames over real rings. Lanes are driven by hand, under a clock of the
//! test's own, so that what happens in which turn is certain.

#![allow(
    dead_code,
    reason = "each of the programs that share this module uses a part of it"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hugepages::{Burst, Mbuf, Mempool, MempoolConfig};
use poll::host::{Host, HostConfig, HostRole};
use poll::offload::OffloadConfig;
use poll::wire::icmpv6::{Icmpv6Headers, Message, ND_HOP_LIMIT, emit};
use poll::wire::{Checksum, MacAddr, Parsed, UdpHeaders, emit_udp_headers, parse, solicited_node};
use poll::{
    BURST_DEFAULT, Datagram, Eal, Ecn, Lane, LaneConfig, LaneCounters, Path, Port, PortConfig,
    QueuePair, Relay, Transmit, Transport, TxPath, link, relay,
};

/// The address of the hosts under test, and that of the other end.
pub const OURS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1);
pub const THEIRS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2);
pub const UDP_PORT: u16 = 4433;
/// MAC address of a station that is no host of these tests.
pub const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

/// Starts EAL, which a process does once: hence one test in each of these programs.
pub fn eal() -> Eal {
    let arguments = "-l 0 --no-huge -m 160 --no-pci --no-shconf --no-telemetry --log-level=4";
    let arguments: Vec<_> = arguments.split(' ').map(String::from).collect();
    Eal::start(&arguments).expect("EAL starts without huge pages")
}

/// What every port and pool of a process needs: a name of its own.
fn unique(stem: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{stem}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A pool of its own for the caller.
pub fn pool(eal: &Eal, mbufs: u32) -> Mempool {
    let config = MempoolConfig {
        name: unique("pool"),
        mbufs,
        cache: 0,
        data_room: 2048 + 128,
        numa_node: None,
    };
    Mempool::create(eal.up(), &config).expect("a pool")
}

/// A transport that sends what the test says and keeps what it receives.
#[derive(Debug, Clone, Default)]
pub struct Probe(Rc<RefCell<Script>>);

#[derive(Debug, Default)]
struct Script {
    to_send: VecDeque<(Ipv6Addr, Vec<u8>)>,
    received: Vec<(Path, BytesMut)>,
    pulled: u64,
}

impl Probe {
    /// Gives the transport a datagram to send, from and to [`UDP_PORT`].
    pub fn send(&self, destination: Ipv6Addr, payload: &[u8]) {
        let datagram = (destination, payload.to_vec());
        self.0.borrow_mut().to_send.push_back(datagram);
    }

    /// What was received since the last call.
    pub fn received(&self) -> Vec<(Path, BytesMut)> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }

    /// Datagrams that the lane pulled.
    pub fn pulled(&self) -> u64 {
        self.0.borrow().pulled
    }
}

impl Transport for Probe {
    fn receive(&mut self, _now: Instant, datagram: Datagram) {
        let received = (datagram.path, datagram.payload);
        self.0.borrow_mut().received.push(received);
    }

    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        let mut script = self.0.borrow_mut();
        let (destination, payload) = script.to_send.pop_front()?;
        script.pulled += 1;
        buf.extend_from_slice(&payload);
        Some(Transmit {
            destination: SocketAddrV6::new(destination, UDP_PORT, 0, 0),
            source: None,
            source_udp_port: UDP_PORT,
            ecn: Ecn::Ect0,
            size: payload.len(),
            segment_size: None,
            departure: None,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        None
    }
}

/// How a link and its lanes are set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub queues: u16,
    pub mbufs: u32,
    pub pool_low_mark: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            queues: 1,
            mbufs: 2047,
            pool_low_mark: 0,
        }
    }
}

/// A port with a lane on each of its queues.
pub struct Station {
    pub mac: MacAddr,
    pub pool: Mempool,
    pub lanes: Vec<Lane<Probe>>,
    pub probes: Vec<Probe>,
    pub counters: Vec<Arc<LaneCounters>>,
    _port: Port,
}

/// The other end of a link, without hosts: frames as they are.
pub struct Wire {
    pub pool: Mempool,
    pub queues: Vec<QueuePair>,
    _port: Port,
}

/// Two stations with addresses [`OURS`] and [`THEIRS`].
pub fn stations(eal: &Eal, setup: Setup) -> [Station; 2] {
    let pools = [pool(eal, setup.mbufs), pool(eal, setup.mbufs)];
    let [left, right] = ends(eal, setup, pools);
    [
        station(left, OURS, pools, setup),
        station(right, THEIRS, [pools[1], pools[0]], setup),
    ]
}

/// A station with address [`OURS`], and the bare other end of its link.
pub fn station_and_wire(eal: &Eal, setup: Setup) -> (Station, Wire) {
    let pools = [pool(eal, setup.mbufs), pool(eal, setup.mbufs)];
    let [left, right] = ends(eal, setup, pools);
    (
        station(left, OURS, pools, setup),
        Wire::new(right, pools[1]),
    )
}

/// Both ends of a link with names of its own.
pub fn ends(eal: &Eal, setup: Setup, pools: [Mempool; 2]) -> [(Port, Vec<QueuePair>); 2] {
    let configs = pools.map(|pool| PortConfig {
        mtu: 1500,
        queues: setup.queues,
        rx_descriptors: 256,
        tx_descriptors: 256,
        pool,
        tx_pool: pool,
        offload: OffloadConfig::default(),
        rss_key: None,
    });
    let names = [unique("end"), unique("end")];
    link(eal, [&names[0], &names[1]], [&configs[0], &configs[1]]).expect("a link")
}

fn station(
    (port, queues): (Port, Vec<QueuePair>),
    address: Ipv6Addr,
    pools: [Mempool; 2],
    setup: Setup,
) -> Station {
    let mac = port.mac();
    let probes: Vec<Probe> = queues.iter().map(|_| Probe::default()).collect();
    let relays = relay(queues.len());
    let counters: Vec<Arc<LaneCounters>> = queues.iter().map(|_| Arc::default()).collect();
    let lanes = queues.into_iter().zip(relays).zip(&probes).enumerate();
    let lanes = lanes
        .map(|(index, ((queue, relay), probe))| {
            let host = host(index, mac, address);
            let config = lane_config(pools, setup, relay);
            Lane::new(
                queue,
                host,
                probe.clone(),
                config,
                Arc::clone(&counters[index]),
            )
        })
        .collect();
    Station {
        mac,
        pool: pools[0],
        lanes,
        probes,
        counters,
        _port: port,
    }
}

/// The host on a queue of a port.
pub fn host(queue: usize, mac: MacAddr, address: Ipv6Addr) -> Host {
    Host::new(host_config(queue, mac, address), Instant::now())
}

/// How the host on a queue of a port is set up.
pub fn host_config(queue: usize, mac: MacAddr, address: Ipv6Addr) -> HostConfig {
    HostConfig {
        role: match queue {
            0 => HostRole::Primary,
            _ => HostRole::Secondary,
        },
        mac,
        addresses: vec![(address, 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: 1500,
        udp_ports: [UDP_PORT].into_iter().collect(),
        verify_checksums: true,
        tx_checksum: Checksum::Software,
        neighbours_max: 16,
        waiting_datagrams_max: 64,
        seed: queue as u64,
    }
}

/// A lane that builds in the first of `pools` and receives what was built in the second.
pub fn lane_config([pool, rx_pool]: [Mempool; 2], setup: Setup, relay: Relay) -> LaneConfig {
    LaneConfig {
        pool,
        rx_pool,
        tx_path: TxPath::InPlace,
        rx_copybreak: 256,
        pool_low_mark: setup.pool_low_mark,
        udp_payload_max: 1452,
        segments_max: 1,
        clock: None,
        burst: BURST_DEFAULT,
        relay: Some(relay),
    }
}

impl Station {
    /// One turn of every lane.
    pub fn turn(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            lane.turn(now);
            lane.timeout(now);
        }
    }
}

impl Wire {
    pub fn new((port, queues): (Port, Vec<QueuePair>), pool: Mempool) -> Self {
        Self {
            pool,
            queues,
            _port: port,
        }
    }

    /// Sends frames to a queue of the other end; returns how many there was room for.
    pub fn inject(&mut self, queue: usize, frames: &[Vec<u8>]) -> usize {
        let mut taken = 0;
        for frame in frames {
            let Some(mut mbuf) = Mbuf::alloc(self.pool) else {
                break;
            };
            let room = mbuf.append(frame.len()).expect("frames fit mbufs");
            room.copy_from_slice(frame);
            let mut burst = Burst::new();
            burst.push(mbuf).expect("an empty burst has room");
            taken += self.queues[queue].tx.tx_burst(&mut burst);
        }
        taken
    }

    /// Everything that arrived, with its queue.
    pub fn collect(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut frames = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let mut burst = Burst::new();
            while queue.rx.rx_burst(&mut burst) > 0 {
                while let Some(mbuf) = burst.pop() {
                    frames.push((index, mbuf.data().to_vec()));
                }
            }
        }
        frames
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // A frame that stayed in a ring would be missed in its pool.
        self.collect();
    }
}

/// Lets a station say what it has to say at its start, and returns the time after it.
pub fn settle(station: &mut Station, wire: &mut Wire) -> Instant {
    let mut now = Instant::now();
    for _ in 0..30 {
        now += Duration::from_millis(100);
        station.turn(now);
        wire.collect();
    }
    now
}

/// A solicitation for [`OURS`] by [`THEIRS`] at [`STRANGER`].
pub fn solicitation() -> Vec<u8> {
    let message = Message::NeighbourSolicitation {
        target: OURS,
        source_mac: Some(STRANGER),
    };
    let group = solicited_node(OURS);
    icmpv6(MacAddr::of_multicast(group), group, &message)
}

/// An advertisement of [`THEIRS`] at [`STRANGER`], to `mac`.
pub fn advertisement(mac: MacAddr) -> Vec<u8> {
    let message = Message::NeighbourAdvertisement {
        target: THEIRS,
        target_mac: Some(STRANGER),
        router: false,
        solicited: true,
        overrides: true,
    };
    icmpv6(mac, OURS, &message)
}

/// A message of [`THEIRS`] at [`STRANGER`].
pub fn icmpv6(dst_mac: MacAddr, dst: Ipv6Addr, message: &Message<'_>) -> Vec<u8> {
    let headers = Icmpv6Headers {
        src_mac: STRANGER,
        dst_mac,
        src: THEIRS,
        dst,
        hop_limit: ND_HOP_LIMIT,
    };
    let mut frame = Vec::new();
    emit(&mut frame, &headers, message);
    frame
}

/// A datagram of [`THEIRS`] at [`STRANGER`] for [`OURS`].
pub fn datagram(dst_mac: MacAddr, payload: &[u8]) -> Vec<u8> {
    let headers = UdpHeaders {
        src_mac: STRANGER,
        dst_mac,
        src: THEIRS,
        dst: OURS,
        src_port: UDP_PORT,
        dst_port: UDP_PORT,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut head = [0; poll::wire::HEADERS];
    emit_udp_headers(&mut head, &headers, payload, Checksum::Software);
    [&head[..], payload].concat()
}

/// The payload of a frame, if it is a datagram.
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    match parse(frame, true) {
        Ok(Parsed::Udp(udp)) => frame.get(udp.payload),
        _ => None,
    }
}

/// Whether a frame is an ICMPv6 message of the kind that `is` says.
pub fn is_icmpv6(frame: &[u8], is: impl Fn(&Message<'_>) -> bool) -> bool {
    match parse(frame, true) {
        Ok(Parsed::Icmpv6(headers)) => Message::parse(&headers, frame).is_ok_and(|m| is(&m)),
        _ => false,
    }
}
