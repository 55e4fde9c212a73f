//! The packet-aware allocator: its way round mimalloc, and its way into packet memory.

use std::hint::black_box;
use std::process::ExitCode;

use bench::lanes::eal_arguments;
use criterion::{BatchSize, Criterion};
use hugepages::{Burst, Mbuf, Mempool, MempoolConfig};
use poll::Eal;

mod common;
#[path = "common/heap.rs"]
mod heap;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// Room in an mbuf, headroom included, bytes.
const DATA_ROOM: u16 = 128 + 2048;

fn main() -> ExitCode {
    let (eal, pool) = match start() {
        Ok(started) => started,
        Err(error) => {
            eprintln!("allocator: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut criterion = common::short();
    // With a pool registered, as in the engine: the range test has something to compare with.
    heap::measure(&mut criterion, "packet-aware");
    packets(&mut criterion, pool);
    criterion.final_summary();
    match eal.cleanup() {
        Ok(()) => ExitCode::SUCCESS,
        Err(out) => {
            eprintln!("allocator: {out} mbufs did not come home");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(Eal, Mempool), Box<dyn std::error::Error>> {
    let eal = Eal::start(&eal_arguments("0"))?;
    let config = MempoolConfig {
        name: "allocator".to_owned(),
        mbufs: 1023,
        cache: 256,
        data_room: DATA_ROOM,
        numa_node: None,
    };
    let pool = Mempool::create(eal.up(), &config)?;
    Ok((eal, pool))
}

/// Packet pointers that reach the allocator. The mbufs are taken outside of what is timed.
fn packets(c: &mut Criterion, pool: Mempool) {
    let mut group = c.benchmark_group("allocator/packet-aware");
    group.bench_function("free a packet buffer", |b| {
        b.iter_batched(|| vec(pool), drop, BatchSize::NumIterations(64));
    });
    group.bench_function("grow a packet buffer of 1452 bytes", |b| {
        let full = || {
            let mut vec = vec(pool);
            vec.resize(1452, 0xa5);
            vec
        };
        let grow = |mut vec: Vec<u8>| {
            vec.reserve_exact(black_box(8952 - 1452));
            vec
        };
        b.iter_batched(full, grow, BatchSize::NumIterations(64));
    });
    group.bench_function("32 mbufs in bulk, for comparison", |b| {
        b.iter(|| {
            let mut burst = Burst::<32>::new();
            burst.alloc(pool, 32);
            black_box(burst)
        });
    });
}

/// A `Vec` that is a packet buffer; one of the heap when there is none, which would show in the figure.
fn vec(pool: Mempool) -> Vec<u8> {
    Mbuf::alloc(pool)
        .and_then(|mbuf| mbuf.into_vec().ok())
        .unwrap_or_default()
}
