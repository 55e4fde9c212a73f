//! Parsing and emitting a frame, and the whole IPv6 host's look at one.

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use poll::Ecn;
use poll::host::{Host, HostConfig, HostRole};
use poll::wire::{Checksum, HEADERS, MacAddr, UdpHeaders, emit_udp_headers, parse};

mod common;

/// UDP payloads: a small one, and what fills MTUs of 1500 and 9000 bytes.
const PAYLOADS: [usize; 3] = [64, 1452, 8952];

const PEER: UdpHeaders = UdpHeaders {
    src_mac: MacAddr([2, 0, 0, 0, 0, 2]),
    dst_mac: MacAddr([2, 0, 0, 0, 0, 1]),
    src: Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2),
    dst: Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1),
    src_port: 50_000,
    dst_port: 4433,
    ecn: Ecn::Ect0,
    hop_limit: 64,
    flow_label: 0,
};

fn headers(payload: &[u8], checksum: Checksum) -> [u8; HEADERS] {
    let mut out = [0; HEADERS];
    emit_udp_headers(&mut out, &PEER, payload, checksum);
    out
}

fn frame(payload: usize) -> Vec<u8> {
    let payload = vec![0xa5; payload];
    [&headers(&payload, Checksum::Software)[..], &payload].concat()
}

fn host(verify_checksums: bool) -> Host {
    let config = HostConfig {
        role: HostRole::Primary,
        mac: PEER.dst_mac,
        addresses: vec![(PEER.dst, 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: 9000,
        udp_ports: [PEER.dst_port].into_iter().collect(),
        verify_checksums,
        tx_checksum: Checksum::Software,
        neighbours_max: 64,
        waiting_datagrams_max: 64,
        seed: 1,
    };
    Host::new(config, Instant::now())
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for payload in PAYLOADS {
        let frame = frame(payload);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        for (name, verify) in [("headers", false), ("and verify checksum", true)] {
            group.bench_with_input(BenchmarkId::new(name, payload), &frame, |b, frame| {
                b.iter(|| parse(black_box(frame), verify));
            });
        }
    }
}

fn emitting(c: &mut Criterion) {
    let mut group = c.benchmark_group("emit");
    for payload in PAYLOADS {
        let bytes = vec![0xa5; payload];
        group.throughput(Throughput::Bytes((HEADERS + payload) as u64));
        let checksums = [
            ("no checksum", Checksum::Skip),
            ("pseudo-header for the device", Checksum::PseudoHeader),
            ("checksum", Checksum::Software),
        ];
        for (name, checksum) in checksums {
            group.bench_with_input(BenchmarkId::new(name, payload), &bytes, |b, bytes| {
                b.iter(|| headers(black_box(bytes), checksum));
            });
        }
    }
}

fn receiving(c: &mut Criterion) {
    let mut group = c.benchmark_group("host receive");
    for payload in PAYLOADS {
        let frame = frame(payload);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        for (name, verify) in [("headers", false), ("and verify checksum", true)] {
            let mut host = host(verify);
            let now = Instant::now();
            group.bench_with_input(BenchmarkId::new(name, payload), &frame, |b, frame| {
                b.iter(|| host.receive(now, black_box(frame)));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = common::short();
    targets = parsing, emitting, receiving
}
criterion_main!(benches);
