//! An application on the shard, the async handle, and quinn over kernel sockets: requests, bulk, and what it costs to
//! cross into an lcore; in one run, in turns.
//!
//! Each measurement is a process: this program with another command.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench::api::case::{Case, Spec, Way};
use bench::api::goals::{self, Goal};
use bench::api::table::Table;
use bench::api::{crossing, handle_way, quinn_way, shard_way};
use bench::child::run_json_aloud;
use bench::machine;
use bench::scale::figures::Figures;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

/// The engine's own. It leaves everything but packet buffers to mimalloc, so quinn runs on that.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// What no case here says anything about.
const NOT_MEASURED: [&str; 2] = [
    "a NIC: the engine's packets cross rings inside one process, quinn's the kernel's loopback",
    "more than two CPUs: an application beside its lcores has to share",
];

/// Measures the ways into the engine, beside quinn over kernel sockets.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// What to measure; may be given several times. Default: everything.
    #[arg(long)]
    case: Vec<Case>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of each measurement, seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Where the figures go; by default `bench/api.json` in the target folder.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The processes that measure.
#[derive(Debug, Subcommand)]
enum Role {
    /// Measures one case through one way, once.
    #[command(hide = true)]
    Measure(Spec),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        None => compare(&cli.options),
        Some(Role::Measure(spec)) => measure(spec).and_then(print),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("api: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    match spec.way {
        _ if spec.case == Case::Crossing => crossing::run(spec),
        Way::Shard | Way::ShardOneLcore => shard_way::run(spec),
        Way::Handle | Way::HandleTask | Way::HandleSpinning | Way::HandleClient => {
            handle_way::run(spec)
        }
        Way::Quinn | Way::QuinnBusy => quinn_way::run(spec),
    }
}

/// What a measuring process hands to the one that started it.
fn print(figures: Figures) -> Result<bool, Box<dyn Error>> {
    println!("{}", serde_json::to_string(&figures)?);
    Ok(true)
}

/// Runs the cases in rounds; false when one of them failed on the engine.
fn compare(options: &Options) -> Result<bool, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let folder = folder(&program)?;
    std::fs::create_dir_all(&folder)?;
    let cases = match options.case.is_empty() {
        true => Case::value_variants(),
        false => &options.case,
    };
    let mut tables: Vec<Table> = cases.iter().map(|&case| Table::new(case)).collect();
    for round in 1..=options.rounds {
        for (&case, table) in cases.iter().zip(&mut tables) {
            eprintln!("round {round} of {}, {case}", options.rounds);
            for &way in case.ways() {
                let spec = Spec {
                    way,
                    case,
                    seconds: options.seconds,
                };
                match measure_in_child(&spec, &program, &folder) {
                    Ok(figures) => table.add(way, figures),
                    Err(error) => table.fail(way, &format!("no figures: {error}")),
                }
            }
        }
    }

    let machine = machine::describe().to_string();
    println!("{machine}");
    println!(
        "median (least .. greatest) of {} rounds of {} s; percentiles are from issue to the last byte of the answer",
        options.rounds, options.seconds
    );
    tables.iter().for_each(Table::print);
    let goals = goals::judge(&tables);
    if !goals.is_empty() {
        println!("\nGoals:");
        goals.iter().for_each(|goal: &Goal| println!("  {goal}"));
    }
    println!("\nNot measured:");
    NOT_MEASURED.iter().for_each(|what| println!("  {what}"));

    let path = options.json.clone().unwrap_or(folder.join("api.json"));
    let result = json!({
        "machine": machine, "rounds": options.rounds, "seconds": options.seconds,
        "cases": tables, "goals": goals, "not_measured": NOT_MEASURED,
    });
    std::fs::write(&path, serde_json::to_string_pretty(&result)?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(tables.iter().all(|table| table.problems.is_empty()))
}

fn measure_in_child(spec: &Spec, program: &Path, folder: &Path) -> Result<Figures, Box<dyn Error>> {
    let mut command = Command::new(program);
    command.arg("measure").args(spec.arguments());
    let found = run_json_aloud(&mut command, folder, spec.limit())?;
    Ok(serde_json::from_value(found)?)
}

/// The folder of results: `bench` in the target folder, above that of this program.
fn folder(program: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .ok_or("this program's folder has no parent")?
        .join("bench"))
}
