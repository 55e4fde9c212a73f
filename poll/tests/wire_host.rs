//! Two hosts joined by queues under a virtual clock: they find each other, exchange datagrams, survive loss, forget and
//! ask again. Nothing here needs a device.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use poll::host::{Host, HostConfig, HostRole, Reachability, Route, Verdict, frame_len_max};
use poll::wire::{Checksum, DropReason, HEADERS, MacAddr, UdpHeaders, emit_udp_headers};
use poll::{Ecn, Transmit};

const MTU: u16 = 1500;
const UDP_PORT: u16 = 4433;
const STEP: Duration = Duration::from_millis(10);

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn config(last: u8) -> HostConfig {
    HostConfig {
        role: HostRole::Primary,
        mac: mac(last),
        addresses: vec![(address(u16::from(last)), 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: MTU,
        udp_ports: [UDP_PORT].into_iter().collect(),
        verify_checksums: true,
        tx_checksum: Checksum::Software,
        neighbours_max: 64,
        waiting_datagrams_max: 16,
        seed: u64::from(last),
    }
}

/// A host with what it sent and what its transport received.
struct Node {
    host: Host,
    sent: VecDeque<Vec<u8>>,
    received: Vec<Vec<u8>>,
    refused: Vec<DropReason>,
    dropped: Vec<DropReason>,
}

impl Node {
    fn new(config: HostConfig, now: Instant) -> Self {
        Self {
            host: Host::new(config, now),
            sent: VecDeque::new(),
            received: Vec::new(),
            refused: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// What a worker does with a datagram of its transport.
    fn send(&mut self, now: Instant, to: Ipv6Addr, payload: &[u8]) {
        let transmit = Transmit {
            destination: SocketAddrV6::new(to, UDP_PORT, 0, 0),
            source: None,
            source_udp_port: UDP_PORT,
            ecn: Ecn::Ect0,
            size: payload.len(),
            segment_size: None,
            departure: None,
        };
        match self.host.route(now, to, None, payload.len()) {
            Route::Ready { mac, source } => {
                let mut head = [0; HEADERS];
                self.host
                    .write_headers(&mut head, mac, source, &transmit, payload);
                self.sent.push_back([&head[..], payload].concat());
            }
            Route::Waiting { source } => {
                self.refused
                    .extend(self.host.park(now, &transmit, source, payload).err());
            }
            Route::Refused(reason) => self.refused.push(reason),
        }
    }

    fn poll(&mut self, now: Instant) {
        let mut out = [0; frame_len_max(MTU)];
        while let Some(len) = self.host.poll_frame(now, &mut out) {
            self.sent.push_back(out[..len].to_vec());
        }
    }

    fn receive(&mut self, now: Instant, frame: &[u8]) {
        match self.host.receive(now, frame) {
            Verdict::Udp { payload, .. } => self.received.push(frame[payload].to_vec()),
            Verdict::Consumed | Verdict::Shared(_) => {}
            Verdict::Dropped(reason) => self.dropped.push(reason),
        }
    }

    fn reachability(&self, now: Instant, of: Ipv6Addr) -> Option<Reachability> {
        let info = self.host.neighbours(now).find(|info| info.address == of)?;
        Some(info.reachability)
    }
}

/// Two nodes on one wire that loses some of the frames.
struct Wire {
    now: Instant,
    a: Node,
    b: Node,
    loss_percent: u64,
    random: u64,
    frames: usize,
}

impl Wire {
    fn new(loss_percent: u64, seed: u64) -> Self {
        let now = Instant::now();
        let (a, b) = (Node::new(config(1), now), Node::new(config(2), now));
        Self {
            now,
            a,
            b,
            loss_percent,
            random: seed,
            frames: 0,
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.a.poll(self.now);
        self.b.poll(self.now);
        while let Some(frame) = self.a.sent.pop_front() {
            self.frames += 1;
            if !self.loses() {
                self.b.receive(self.now, &frame);
            }
        }
        while let Some(frame) = self.b.sent.pop_front() {
            self.frames += 1;
            if !self.loses() {
                self.a.receive(self.now, &frame);
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    fn loses(&mut self) -> bool {
        // A linear congruential generator does: the test wants the same losses every time, not good ones.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % 100 < self.loss_percent
    }
}

#[test]
fn two_hosts_find_each_other_and_talk() {
    let mut wire = Wire::new(0, 1);
    wire.a.send(wire.now, address(2), b"ping");
    wire.run(Duration::from_millis(50));
    assert_eq!(wire.b.received, [b"ping"]);
    // The solicitation has told the other side whom it answers.
    wire.b.send(wire.now, address(1), b"pong");
    wire.run(Duration::from_millis(50));
    assert_eq!(wire.a.received, [b"pong"]);
    assert_eq!(wire.b.host.counters().parked, 0);
    assert_eq!(
        wire.a.reachability(wire.now, address(2)),
        Some(Reachability::Reachable)
    );
}

#[test]
fn a_silent_pair_sends_nothing() {
    let mut wire = Wire::new(0, 1);
    wire.run(Duration::from_secs(3));
    let frames = wire.frames;
    wire.run(Duration::from_secs(600));
    assert_eq!(wire.frames, frames);
    assert_eq!((wire.a.host.timeout(), wire.b.host.timeout()), (None, None));
}

#[test]
fn a_one_way_flow_is_confirmed_by_probes_and_loses_nothing() {
    let mut wire = Wire::new(0, 1);
    for second in 0..600_u32 {
        wire.a.send(wire.now, address(2), &second.to_be_bytes());
        wire.run(Duration::from_secs(1));
    }
    assert_eq!(wire.b.received.len(), 600);
    // Every 15 to 45 s of reachability, and 5 s of delay, one probe.
    let probes = wire.a.host.counters().solicitations_sent;
    assert!((600 / 50..600 / 15).contains(&probes), "{probes} probes");
    assert_eq!(wire.a.host.counters().neighbours_failed, 0);
}

#[test]
fn a_conversation_needs_no_probes() {
    let mut wire = Wire::new(0, 1);
    for second in 0..600_u32 {
        wire.a.send(wire.now, address(2), &second.to_be_bytes());
        wire.run(Duration::from_millis(500));
        wire.b.send(wire.now, address(1), &second.to_be_bytes());
        wire.run(Duration::from_millis(500));
    }
    assert_eq!((wire.a.received.len(), wire.b.received.len()), (600, 600));
    // Two duplicate address probes, one resolution; then the answers are proof enough.
    assert!(wire.a.host.counters().solicitations_sent <= 3);
}

#[test]
fn resolution_survives_loss() {
    let mut resolved = 0;
    for seed in 0..50 {
        let mut wire = Wire::new(30, seed);
        for second in 0..60_u32 {
            wire.a.send(wire.now, address(2), &second.to_be_bytes());
            wire.run(Duration::from_secs(1));
        }
        // Most of what was sent arrives; the neighbour may be lost for some seconds, but is found again.
        assert!(
            wire.b.received.len() > 20,
            "seed {seed}: {}",
            wire.b.received.len()
        );
        let waited: u64 = wire.a.host.counters().parked;
        let failed = wire.a.host.drops().of(DropReason::TxNeighbourUnreachable);
        assert!(failed <= waited);
        resolved += usize::from(waited > 0);
        assert!(wire.a.refused.is_empty());
    }
    assert_eq!(resolved, 50);
}

#[test]
fn a_neighbour_that_vanished_is_given_up_and_found_again() {
    let mut wire = Wire::new(0, 1);
    wire.a.send(wire.now, address(2), b"x");
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.b.received.len(), 1);
    wire.loss_percent = 100;
    for _ in 0..90 {
        wire.a.send(wire.now, address(2), b"x");
        wire.run(Duration::from_secs(1));
    }
    assert_eq!(wire.b.received.len(), 1);
    assert!(wire.a.host.counters().neighbours_failed >= 2);
    assert!(wire.a.host.drops().of(DropReason::TxNeighbourUnreachable) > 0);
    // It comes back with another MAC address.
    wire.b = Node::new(
        HostConfig {
            mac: mac(9),
            ..config(2)
        },
        wire.now,
    );
    wire.loss_percent = 0;
    for _ in 0..10 {
        wire.a.send(wire.now, address(2), b"x");
        wire.run(Duration::from_secs(1));
    }
    assert!(wire.b.received.len() >= 9);
}

#[test]
fn both_ends_without_checksums() {
    let now = Instant::now();
    let quiet = |last| HostConfig {
        verify_checksums: false,
        tx_checksum: Checksum::Skip,
        ..config(last)
    };
    let mut wire = Wire::new(0, 1);
    wire.a = Node::new(quiet(1), now);
    wire.b = Node::new(quiet(2), now);
    for _ in 0..3 {
        wire.a.send(wire.now, address(2), b"x");
        wire.run(Duration::from_millis(50));
    }
    assert_eq!(wire.b.received.len(), 3);
    // A host that verifies takes none of them, parked or not.
    let mut wire = Wire::new(0, 1);
    wire.a = Node::new(quiet(1), now);
    for _ in 0..3 {
        wire.a.send(wire.now, address(2), b"x");
        wire.run(Duration::from_millis(50));
    }
    assert!(wire.b.received.is_empty());
    let zero = wire
        .b
        .dropped
        .iter()
        .filter(|r| **r == DropReason::ZeroUdpChecksum)
        .count();
    assert_eq!(zero, 3);
}

/// A datagram to host 2 from any address and MAC address.
fn forged(from: Ipv6Addr, src_mac: MacAddr) -> Vec<u8> {
    let headers = UdpHeaders {
        src_mac,
        dst_mac: mac(2),
        src: from,
        dst: address(2),
        src_port: 5,
        dst_port: UDP_PORT,
        ecn: Ecn::NotEct,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, &headers, b"spoof", Checksum::Software);
    [&head[..], b"spoof"].concat()
}

#[test]
fn ten_thousand_forged_senders_do_not_displace_a_neighbour() {
    let mut wire = Wire::new(0, 1);
    wire.b.send(wire.now, address(1), b"x");
    wire.run(Duration::from_secs(1));
    assert_eq!(
        wire.b.reachability(wire.now, address(1)),
        Some(Reachability::Reachable)
    );
    for i in 0..10_000_u16 {
        let frame = forged(
            address(1000 + i),
            MacAddr([6, 0, 0, 0, (i >> 8) as u8, i as u8]),
        );
        wire.b.receive(wire.now, &frame);
        // And one that claims to be the neighbour.
        if i % 100 == 0 {
            wire.b.receive(wire.now, &forged(address(1), mac(0x66)));
        }
    }
    assert_eq!(wire.b.host.neighbours(wire.now).count(), 64);
    let reachable = wire
        .b
        .host
        .neighbours(wire.now)
        .find(|info| info.address == address(1));
    assert_eq!(
        reachable.map(|info| (info.mac, info.reachability)),
        Some((Some(mac(1)), Reachability::Reachable))
    );
    assert_eq!(wire.b.host.counters().neighbours_evicted, 0);

    // Answering them all replaces forged ones by forged ones.
    for i in 0..10_000 {
        wire.b.send(wire.now, address(1000 + i), b"x");
        if i % 10 == 0 {
            wire.b.send(wire.now, address(1), b"x");
            wire.step();
        }
    }
    assert_eq!(wire.b.host.neighbours(wire.now).count(), 64);
    assert_eq!(
        wire.b.reachability(wire.now, address(1)),
        Some(Reachability::Reachable)
    );
    assert_eq!(wire.a.received.len(), 1 + 1000);
    assert!(wire.b.refused.contains(&DropReason::TxNeighbourTableFull));
}
