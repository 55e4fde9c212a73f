//! Other QUIC stacks over kernel sockets, measured as the engine is: one program, a process for each end.
//!
//! `bench::field::peer` says what it is told and what it answers. Each stack runs with the settings that serve it best
//! here: segmentation offload (GSO) and its counterpart on receipt (GRO), socket buffers of 16 MiB, windows that never
//! limit, AES-128-GCM, one thread on a CPU of its own.

mod asynchronous;
mod quiche;
mod quinn;
mod report;
mod s2n;

use std::error::Error;
use std::process::ExitCode;

use bench::field::peer::{ClientSpec, ServerSpec};
use bench::scale::quinn_server::pin;
use clap::{Parser, Subcommand, ValueEnum};

/// What the engine leaves everything to but packet buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stack {
    Quinn,
    Quiche,
    S2nQuic,
}

/// One end of another QUIC stack.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until standard input ends.
    Server {
        /// The stack.
        #[arg(value_enum)]
        stack: Stack,
        #[command(flatten)]
        spec: ServerSpec,
    },
    /// Does its work and prints what it found.
    Client {
        /// The stack.
        #[arg(value_enum)]
        stack: Stack,
        #[command(flatten)]
        spec: ClientSpec,
    },
    /// Prints the versions of all stacks.
    Versions,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Server { stack, spec } => {
            pin(spec.path.cpu);
            report::end_with_standard_input();
            match stack {
                Stack::Quinn => quinn::serve(&spec),
                Stack::Quiche => quiche::server::serve(&spec),
                Stack::S2nQuic => s2n::server::serve(&spec),
            }
        }
        Command::Client { stack, spec } => {
            pin(spec.path.cpu);
            let found = match stack {
                Stack::Quinn => quinn::run(&spec),
                Stack::Quiche => quiche::client::run(&spec),
                Stack::S2nQuic => s2n::client::run(&spec),
            };
            report::print(&found?)
        }
        Command::Versions => report::print(&report::versions()),
    }
}
