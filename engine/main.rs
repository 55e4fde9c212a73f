//! The engine's command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use stoq::{cli, commands};

/// Packet buffers are this allocator's memory, too: that is what receiving and sending without copying rests on.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => commands::execute(invocation),
        Err(error) => error.exit(),
    }
}
