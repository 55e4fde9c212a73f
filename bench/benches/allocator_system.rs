//! The C library's allocator, for comparison.

use std::process::ExitCode;

mod common;
#[path = "common/heap.rs"]
mod heap;

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> ExitCode {
    let mut criterion = common::short();
    heap::measure(&mut criterion, "system");
    criterion.final_summary();
    ExitCode::SUCCESS
}
