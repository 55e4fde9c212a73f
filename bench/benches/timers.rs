//! Time-outs of many connections at rest: no turn looks at all of them.
//!
//! `empty turn` is what every turn of the loop pays while nothing is due. `keep-alive` is what a connection costs when
//! its timer fires: ping, acknowledgement and their timers, on both ends.

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;

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
            b.iter(|| keep_alive(&mut idle));
        });
    }
    Ok(())
}

/// Until the next ping has been sent.
fn keep_alive(idle: &mut IdleConnections) {
    let sent = idle.sent();
    while idle.sent() == sent {
        idle.step();
    }
}
