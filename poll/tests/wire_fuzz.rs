//! Valid frames of every kind, damaged in every way, against the parser and a host: nothing panics, every frame gets a
//! verdict, and no table grows beyond its bound. The same iterations every time, a second or two of them; the coverage
//! guided fuzzer in `fuzz/` looks further.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use poll::Ecn;
use poll::host::{Host, HostConfig, HostRole, Verdict, frame_len_max};
use poll::wire::icmpv6::{
    Icmpv6Headers, Message, NdOption, Options, PrefixInformation, emit, emit_listener_report,
};
use poll::wire::{ALL_NODES, Checksum, HEADERS, MacAddr, UdpHeaders, emit_udp_headers, parse};

const ITERATIONS: usize = 2_000_000;
const NEIGHBOURS_MAX: usize = 16;
const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OUR_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

fn host(role: HostRole, now: Instant) -> Host {
    let config = HostConfig {
        role,
        mac: OURS,
        addresses: vec![(OUR_ADDRESS, 64)],
        gateway: Some(ROUTER_ADDRESS),
        accept_router_advertisements: true,
        mtu: 1500,
        udp_ports: [4433].into_iter().collect(),
        verify_checksums: true,
        tx_checksum: Checksum::Software,
        neighbours_max: NEIGHBOURS_MAX,
        waiting_datagrams_max: 4,
        seed: 1,
    };
    Host::new(config, now)
}

/// One frame of each kind that the host takes.
fn seeds() -> Vec<Vec<u8>> {
    let headers = UdpHeaders {
        src_mac: PEER,
        dst_mac: OURS,
        src: PEER_ADDRESS,
        dst: OUR_ADDRESS,
        src_port: 443,
        dst_port: 4433,
        ecn: Ecn::Ce,
        hop_limit: 64,
        flow_label: 1,
    };
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, &headers, &[7; 100], Checksum::Software);
    let datagram = [&head[..], &[7; 100]].concat();

    // The same behind hop-by-hop and destination options, both padding.
    let mut extended = datagram[..54].to_vec();
    extended.extend([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
    extended.extend(&datagram[54..]);
    extended[18..20].copy_from_slice(&124_u16.to_be_bytes());
    extended[20] = 0;

    let mut ours = [0; HEADERS];
    let sent = UdpHeaders {
        src: OUR_ADDRESS,
        dst: PEER_ADDRESS,
        src_port: 4433,
        ..headers
    };
    emit_udp_headers(&mut ours, &sent, &[], Checksum::Software);
    let quoted = &ours[14..];

    let mut options = Vec::new();
    for option in [
        NdOption::SourceMac(PEER),
        NdOption::Mtu(1400),
        NdOption::Prefix(PrefixInformation {
            prefix: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
            len: 64,
            on_link: true,
            autonomous: true,
            valid_s: 3600,
            preferred_s: 1800,
        }),
    ] {
        option.emit(&mut options);
    }
    let options = Options::new(&options).unwrap();
    let (id, data) = ([1, 2, 3, 4], &b"ping"[..]);
    let messages = [
        Message::EchoRequest { id, data },
        Message::EchoReply { id, data },
        Message::PacketTooBig { mtu: 1300, quoted },
        Message::DestinationUnreachable { code: 4, quoted },
        Message::NeighbourSolicitation {
            target: OUR_ADDRESS,
            source_mac: Some(PEER),
        },
        Message::NeighbourAdvertisement {
            target: PEER_ADDRESS,
            target_mac: Some(PEER),
            router: false,
            solicited: false,
            overrides: true,
        },
        Message::RouterSolicitation {
            source_mac: Some(PEER),
        },
        Message::RouterAdvertisement {
            lifetime_s: 600,
            options,
        },
        Message::ListenerQuery {
            group: Ipv6Addr::UNSPECIFIED,
            delay_ms_max: 10,
        },
    ];
    let mut frames = vec![datagram, extended];
    for message in messages {
        let query = matches!(message, Message::ListenerQuery { .. });
        let headers = Icmpv6Headers {
            src_mac: PEER,
            dst_mac: MacAddr::of_multicast(ALL_NODES),
            src: ROUTER_ADDRESS,
            dst: ALL_NODES,
            hop_limit: if query { 1 } else { 255 },
        };
        let mut frame = Vec::new();
        emit(&mut frame, &headers, &message);
        frames.push(frame);
    }
    let mut report = Vec::new();
    emit_listener_report(&mut report, PEER, ROUTER_ADDRESS, true, &[ALL_NODES]);
    frames.push(report);
    frames
}

fn mutate(random: &mut Random, frame: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    for _ in 0..=random.below(3) {
        let len = frame.len().max(1);
        match random.below(6) {
            0 => frame.truncate(random.below(len)),
            1 => frame.extend((0..random.below(80)).map(|i| i as u8)),
            2 => {
                let other = &seeds[random.below(seeds.len())];
                let cut = random.below(len).min(other.len());
                frame.truncate(cut);
                frame.extend(&other[cut..]);
            }
            3 => {
                let value = [0, 1, 0x7f, 0x80, 0xff][random.below(5)];
                if let Some(byte) = frame.get_mut(random.below(len)) {
                    *byte = value;
                }
            }
            _ => {
                let bit = random.below(8);
                if let Some(byte) = frame.get_mut(random.below(len)) {
                    *byte ^= 1 << bit;
                }
            }
        }
    }
}

/// Makes the ICMPv6 or UDP checksum right again, so that damage gets past it.
fn mend_checksum(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk::<54>() else {
        return;
    };
    let offset = match head[20] {
        58 => 56,
        17 => 60,
        _ => return,
    };
    let len = usize::from(u16::from_be_bytes([head[18], head[19]]));
    if frame.len() < 54 + len || offset + 2 > 54 + len {
        return;
    }
    let protocol = frame[20];
    frame[offset..offset + 2].fill(0);
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum = len as u32 + u32::from(protocol);
    sum += frame[22..54 + len].chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[offset..offset + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn damaged_frames_get_a_verdict() {
    let seeds = seeds();
    let mut random = Random(0x5eed);
    let mut now = Instant::now();
    let mut host = host(HostRole::Primary, now);
    let mut out = [0; frame_len_max(1500)];
    let (mut datagrams, mut consumed, mut dropped) = (0, 0, 0);
    for iteration in 0..ITERATIONS {
        let mut frame = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut frame, &seeds);
        if random.below(4) > 0 {
            mend_checksum(&mut frame);
        }
        let _ = parse(&frame, false);
        match host.receive(now, &frame) {
            Verdict::Udp { payload, .. } => {
                assert!(!frame[payload].is_empty());
                datagrams += 1;
            }
            Verdict::Consumed | Verdict::Shared(_) => consumed += 1,
            Verdict::Dropped(_) => dropped += 1,
        }
        if random.below(8) == 0 {
            let destination = Ipv6Addr::from((0xfd00 << 112) + random.below(100) as u128);
            let _ = host.route(now, destination, None, 100);
            while let Some(len) = host.poll_frame(now, &mut out) {
                assert!((62..=frame_len_max(1500)).contains(&len));
            }
            now += Duration::from_millis(random.below(300) as u64);
        }
        if iteration % 1000 == 0 {
            assert!(host.neighbours(now).count() <= NEIGHBOURS_MAX);
            assert!(host.addresses().count() <= 2 + 8);
            assert!(host.routers().count() <= 1 + 4);
            assert!((1280..=1500).contains(&host.mtu()));
        }
    }
    // Damage of all depths was met: some frames are still good, most are not.
    assert!(datagrams > ITERATIONS / 100, "{datagrams} datagrams");
    assert!(consumed > ITERATIONS / 50, "{consumed} consumed");
    assert!(dropped > ITERATIONS / 4, "{dropped} dropped");
}

#[test]
fn a_secondary_takes_any_relayed_frame_and_stays_silent() {
    let seeds = seeds();
    let mut random = Random(0x0514);
    let mut now = Instant::now();
    let mut host = host(HostRole::Secondary, now);
    let mut out = [0; frame_len_max(1500)];
    for _ in 0..ITERATIONS {
        let mut frame = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut frame, &seeds);
        mend_checksum(&mut frame);
        host.receive_relayed(now, &frame);
        // It has nothing to send, so it asks for nobody; and it never answers.
        assert_eq!(host.poll_frame(now, &mut out), None);
        now += Duration::from_millis(random.below(30) as u64);
    }
    assert!((1..=NEIGHBOURS_MAX).contains(&host.neighbour_count()));
    assert!(host.counters().router_advertisements > 0);
}

#[test]
fn every_prefix_of_every_kind_gets_a_verdict() {
    let now = Instant::now();
    let mut host = host(HostRole::Primary, now);
    for frame in seeds() {
        for len in 0..frame.len() {
            let verdict = host.receive(now, &frame[..len]);
            assert!(
                matches!(verdict, Verdict::Dropped(_)),
                "{len} of {frame:x?}"
            );
        }
    }
}
