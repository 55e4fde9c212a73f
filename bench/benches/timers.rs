//! Time-outs of many connections at rest: no turn looks at all of them.
//!
//! `empty turn` is what every turn of the loop pays while nothing is due. `keep-alive` is what a connection costs when
//! its timer fires: ping, acknowledgement and their timers, on both ends.

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::idle::IdleConnections;
use criterion::{BenchmarkId, Criterion};

mod common;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// Connections of the shard.
const CONNECTIONS: [usize; 3] = [1, 100, 2000];

fn main() -> ExitCode {
    let mut criterion = common::short();
    let measured = measure(&mut criterion);
    criterion.final_summary();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("timers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    for connections in CONNECTIONS {
        let mut idle = IdleConnections::new(connections)?;
        let mut group = c.benchmark_group("timers");
        group.bench_function(BenchmarkId::new("empty turn", connections), |b| {
            b.iter(|| black_box(idle.empty_turn()));
        });
        group.bench_function(BenchmarkId::new("keep-alive", connections), |b| {
            b.iter_custom(|iterations| keep_alives(&mut idle, iterations));
        });
    }
    Ok(())
}

/// The time for `count` pings. Those that are due at the same time are sent in one step, so there may be more.
fn keep_alives(idle: &mut IdleConnections, count: u64) -> Duration {
    let (start, before) = (Instant::now(), idle.sent());
    while idle.sent() - before < count {
        idle.step();
    }
    start
        .elapsed()
        .mul_f64(count as f64 / (idle.sent() - before) as f64)
}
