//! mimalloc by itself: what the packet-aware allocator hands everything but packet buffers to.

use std::process::ExitCode;

mod common;
#[path = "common/heap.rs"]
mod heap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut criterion = common::short();
    heap::measure(&mut criterion, "mimalloc");
    criterion.final_summary();
    ExitCode::SUCCESS
}
