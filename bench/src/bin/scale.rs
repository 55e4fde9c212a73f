//! Many connections, floods, fairness and handshakes: the engine over a link beside quinn over kernel sockets, in one
//! run, in turns where a turn is short.
//!
//! Each measurement is a process: this program with another command.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use bench::child::run_json_aloud;
use bench::machine;
use bench::scale::case::{Case, Spec};
use bench::scale::control::FLOOD_GOAL;
use bench::scale::figures::Figures;
use bench::scale::table::{Stack, Table};
use bench::scale::{engine_run, quinn_run, quinn_server};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

/// The engine's own. It leaves everything but packet buffers to mimalloc, so quinn runs on that.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// What no case here says anything about.
const NOT_MEASURED: [&str; 3] = [
    "a NIC: the engine's packets cross rings inside one process, quinn's the kernel's loopback",
    "more than two CPUs",
    "loss, and paths longer than a queue",
];

/// Measures the engine at scale, beside quinn over kernel sockets.
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
    /// Short measurements, to see that they work: their figures say little.
    #[arg(long)]
    quick: bool,
    /// How often short measurements are taken.
    #[arg(long)]
    rounds: Option<u32>,
    /// Connections, instead of the number that the case has.
    #[arg(long)]
    connections: Option<usize>,
    /// Length of each measurement, seconds, instead of the one that the case has.
    #[arg(long)]
    seconds: Option<f64>,
    /// Measure the engine alone.
    #[arg(long)]
    engine_only: bool,
}

/// The processes that measure.
#[derive(Debug, Subcommand)]
enum Role {
    /// Measures the engine, once.
    #[command(hide = true)]
    Engine(Spec),
    /// Measures quinn, once.
    #[command(hide = true)]
    Quinn(Spec),
    /// quinn's server, until standard input ends.
    #[command(hide = true)]
    QuinnServer(Spec),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        None => compare(&cli.options),
        Some(Role::Engine(spec)) => engine_run::run(spec).and_then(print),
        Some(Role::Quinn(spec)) => quinn_run::run(spec).and_then(print),
        Some(Role::QuinnServer(spec)) => quinn_server::run(spec).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a measuring process hands to the one that started it.
fn print(figures: Figures) -> Result<bool, Box<dyn Error>> {
    println!("{}", serde_json::to_string(&figures)?);
    Ok(true)
}

/// Runs the cases; false when one of them failed on the engine.
fn compare(options: &Options) -> Result<bool, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let folder = folder(&program)?;
    std::fs::create_dir_all(&folder)?;
    let machine = machine::describe().to_string();
    println!("{machine}");
    println!(
        "quinn over kernel UDP on the loopback device, GSO on; median (least .. greatest) of rounds"
    );
    if options.quick {
        println!("QUICK: these figures only show that the measurements work");
    }

    let cases = match options.case.is_empty() {
        true => Case::value_variants(),
        false => &options.case,
    };
    let (mut passed, mut results) = (true, Vec::new());
    for &case in cases {
        let start = Instant::now();
        let table = measure(case, options, &program, &folder);
        eprintln!("{case}: {:.0} s", start.elapsed().as_secs_f64());
        table.print(title(case));
        passed &= table.problems.is_empty();
        let (quick, rows) = (options.quick, &table.rows);
        let (problems, notes) = (&table.problems, &table.notes);
        results.push(json!({
            "case": case.to_string(), "title": title(case), "quick": quick,
            "rows": rows, "problems": problems, "notes": notes,
        }));
        write(&folder.join("scale.json"), &machine, &results)?;
    }
    println!("\nNot measured:");
    NOT_MEASURED.iter().for_each(|what| println!("  {what}"));
    println!("{}", folder.join("scale.json").display());
    Ok(passed)
}

/// Written after each case, so that a run that is interrupted leaves what it has.
fn write(path: &Path, machine: &str, results: &[Value]) -> Result<(), Box<dyn Error>> {
    let result = json!({
        "machine": machine,
        "cases": results,
        "not_measured": NOT_MEASURED,
    });
    std::fs::write(path, serde_json::to_string_pretty(&result)?)?;
    Ok(())
}

fn title(case: Case) -> &'static str {
    match case {
        Case::Connections => "CONNECTIONS, ALL TRANSFERRING",
        Case::Idle => "CONNECTIONS AT REST",
        Case::Handshakes => "HANDSHAKES, 64 UNDER WAY",
        Case::Scaling => "TWO CPUS AGAINST ONE",
        Case::Fairness => "BULK BESIDE SMALL REQUESTS",
        Case::Flood => "BULK DURING A FLOOD OF INITIALS",
    }
}

/// All rounds of a case, both stacks in turns.
fn measure(case: Case, options: &Options, program: &Path, folder: &Path) -> Table {
    let spec = Spec {
        case,
        quick: options.quick,
        pairs: 1,
        connections: options.connections,
        seconds: options.seconds,
        handshakes: None,
    };
    let stacks = match options.engine_only {
        true => &Stack::BOTH[..1],
        false => &Stack::BOTH[..],
    };
    let rounds = match spec.rounds() {
        1 => 1,
        default => options.rounds.unwrap_or(default),
    };
    let mut table = Table::default();
    for round in 1..=rounds {
        for &stack in stacks {
            eprintln!("{case}, round {round} of {rounds}, {}", stack.name());
            match measure_once(stack, &spec, program, folder) {
                Ok(figures) => table.add(stack, figures),
                Err(error) => table.fail(stack, &format!("no figures: {error}")),
            }
        }
    }
    table
}

fn measure_once(
    stack: Stack,
    spec: &Spec,
    program: &Path,
    folder: &Path,
) -> Result<Figures, Box<dyn Error>> {
    let run = |spec: &Spec| -> Result<Figures, Box<dyn Error>> {
        let mut command = Command::new(program);
        command.arg(stack.name()).args(spec.arguments());
        let found = run_json_aloud(&mut command, folder, spec.limit())?;
        Ok(serde_json::from_value(found)?)
    };
    let mut figures = run(spec)?;
    match spec.case {
        Case::Scaling => {
            let two = run(&Spec { pairs: 2, ..*spec })?;
            figures.merge(two);
            let goodput = |cpus| figures.value(&format!("goodput, CPUs: {cpus}"));
            if let (Some(one), Some(two)) = (goodput(1), goodput(2)) {
                figures.add("two by one", "x", two / one);
            }
        }
        Case::Flood => {
            let goal = FLOOD_GOAL * 100.0;
            figures.notes.push(format!(
                "the goal: at least {goal:.0} % of the goodput beside the same flood to nobody"
            ));
        }
        _ => {}
    }
    Ok(figures)
}

/// The folder of results: `bench` in the target folder, above that of this program.
fn folder(program: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .ok_or("this program's folder has no parent")?
        .join("bench"))
}
