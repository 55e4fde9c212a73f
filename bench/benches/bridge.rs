//! The bridge: received buffers taken as `BytesMut` or copied, packets written in place or to a scratch buffer first.
//!
//! Each figure holds what both ways share, taking an mbuf from its pool and giving it back; `mbuf` is that alone. The
//! buffers are warm here. On a device they come from another core or from memory, where copying costs more.

use std::hint::black_box;
use std::process::ExitCode;

use bench::lanes::eal_arguments;
use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput};
use hugepages::{Mbuf, Mempool, MempoolConfig, into_bytes_mut};
use poll::Eal;
use poll::wire::HEADERS;

mod common;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// UDP payloads: a small one, and what fills MTUs of 1500 and 9000 bytes.
const PAYLOADS: [usize; 3] = [64, 1452, 8952];
/// Holds a frame of 9000 bytes of IPv6 packet behind 128 bytes of headroom.
const DATA_ROOM: u16 = 128 + 9000 + 14;

fn main() -> ExitCode {
    let made = Eal::start(&eal_arguments("0"))
        .map_err(|error| error.to_string())
        .and_then(|eal| {
            let config = MempoolConfig {
                name: "bridge".to_owned(),
                mbufs: 1023,
                cache: 256,
                data_room: DATA_ROOM,
                numa_node: None,
            };
            let pool = Mempool::create(eal.up(), &config).map_err(|error| error.to_string())?;
            Ok((eal, pool))
        });
    let (eal, pool) = match made {
        Ok(made) => made,
        Err(error) => {
            eprintln!("bridge: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut criterion = common::short();
    taking(&mut criterion, pool);
    receiving(&mut criterion, pool);
    sending(&mut criterion, pool);
    criterion.final_summary();
    match eal.cleanup() {
        Ok(()) => ExitCode::SUCCESS,
        Err(out) => {
            eprintln!("bridge: {out} mbufs did not come home");
            ExitCode::FAILURE
        }
    }
}

/// What every other figure contains.
fn taking(c: &mut Criterion, pool: Mempool) {
    c.bench_function("bridge/mbuf", |b| b.iter(|| black_box(Mbuf::alloc(pool))));
}

/// An mbuf with a frame of `payload` bytes behind its headers, as a driver leaves it: nothing of it is written here.
fn received(pool: Mempool, payload: usize) -> Option<Mbuf> {
    let mut mbuf = Mbuf::alloc(pool)?;
    mbuf.append(HEADERS + payload)?;
    Some(mbuf)
}

fn receiving(c: &mut Criterion, pool: Mempool) {
    let mut group = c.benchmark_group("bridge/rx");
    for payload in PAYLOADS {
        group.throughput(Throughput::Bytes(payload as u64));
        let range = HEADERS..HEADERS + payload;
        group.bench_function(BenchmarkId::new("zero-copy", payload), |b| {
            b.iter(|| {
                let mbuf = received(pool, payload)?;
                into_bytes_mut(mbuf, black_box(range.clone()))
                    .map(black_box)
                    .ok()
            });
        });
        group.bench_function(BenchmarkId::new("copy", payload), |b| {
            b.iter(|| -> Option<BytesMut> {
                let mbuf = received(pool, payload)?;
                mbuf.copy_range(black_box(range.clone())).map(black_box)
            });
        });
    }
}

fn sending(c: &mut Criterion, pool: Mempool) {
    let mut group = c.benchmark_group("bridge/tx");
    for payload in PAYLOADS {
        group.throughput(Throughput::Bytes(payload as u64));
        let bytes = vec![0xa5; payload];
        group.bench_with_input(BenchmarkId::new("in place", payload), &bytes, |b, bytes| {
            b.iter(|| in_place(pool, black_box(bytes)));
        });
        let mut scratch = Vec::with_capacity(payload);
        group.bench_with_input(BenchmarkId::new("scratch", payload), &bytes, |b, bytes| {
            b.iter(|| through_scratch(pool, &mut scratch, black_box(bytes)));
        });
    }
}

/// The payload is written where the device reads it.
fn in_place(pool: Mempool, payload: &[u8]) -> Option<Mbuf> {
    let mut vec = Mbuf::alloc(pool)?.into_vec().ok()?;
    black_box(&mut vec).extend_from_slice(payload);
    let mut mbuf = Mbuf::from_vec(vec).ok()?;
    mbuf.prepend(HEADERS)?;
    Some(black_box(mbuf))
}

/// The payload is written to a buffer that stays in the cache, and copied from there.
fn through_scratch(pool: Mempool, scratch: &mut Vec<u8>, payload: &[u8]) -> Option<Mbuf> {
    scratch.clear();
    black_box(&mut *scratch).extend_from_slice(payload);
    let mut mbuf = Mbuf::alloc(pool)?;
    mbuf.append(scratch.len())?.copy_from_slice(scratch);
    mbuf.prepend(HEADERS)?;
    Some(black_box(mbuf))
}
