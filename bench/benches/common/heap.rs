//! What the engine asks of a global allocator: small blocks taken and given back. Each allocator is measured in a
//! program of its own, since a program has one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};

/// Bytes: quinn-proto's shared headers of buffers, its bookkeeping of frames, and a copied packet.
const SIZES: [usize; 4] = [40, 256, 1500, 9000];
/// Blocks held at a time in half of the figures: those of a burst.
const HELD: usize = 32;

/// Measures the program's allocator, whose name is `name`.
pub fn measure(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(format!("allocator/{name}"));
    for size in SIZES {
        group.bench_function(BenchmarkId::new("one", size), |b| {
            b.iter(|| drop(black_box(Vec::<u8>::with_capacity(black_box(size)))));
        });
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(HELD);
        group.bench_function(BenchmarkId::new("32 at a time", size), |b| {
            b.iter(|| {
                held.extend((0..HELD).map(|_| Vec::with_capacity(black_box(size))));
                black_box(&mut held).clear();
            });
        });
    }
}
