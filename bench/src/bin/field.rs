//! The engine beside the field: quinn, quiche and s2n-quic over kernel sockets, case by case, in one run.
//!
//! Prints the table, writes the report, and draws it. `make bench` builds what it starts: the engine, `scale` and `peer`,
//! which are looked for beside this program.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bench::field::case::Case;
use bench::field::peer_way::{Place, make_identity};
use bench::field::schedule::{ROUNDS, SECONDS, Schedule, Step};
use bench::field::way::{Medium, Stack, Way};
use bench::field::{engine_way, peer_way, plot, table, wire};
use bench::report::Report;
use bench::scale::figures::Figures;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// What no cell says anything about.
const NOT_MEASURED: [&str; 5] = [
    "a NIC: nothing leaves this machine",
    "more than two CPUs; both ends share one machine, and with kernel sockets the kernel's work is done on the CPU of either",
    "handshakes and connections at rest over anything but loopback and a link: the engine's clients connect once",
    "loss, and paths longer than a queue",
    "quinn and s2n-quic with several threads: each end has one CPU, as an lcore has",
];

/// Measures the engine beside quinn, quiche and s2n-quic.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<What>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Draws a report again.
    Plot {
        /// The report.
        #[arg(long)]
        report: PathBuf,
        /// Folder of the pictures.
        #[arg(long)]
        plots: PathBuf,
    },
    /// Prints a report as Markdown, or writes it into a page.
    Markdown {
        /// The report.
        #[arg(long)]
        report: PathBuf,
        /// A page with the lines `<!-- field: begin -->` and `<!-- field: end -->`: what is between them is replaced.
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// Adds what `engine run --json` printed to a report, which is made if there is none.
    Add {
        /// The report.
        #[arg(long)]
        report: PathBuf,
        /// The file with the engine's output; its last object counts.
        #[arg(long)]
        engine: PathBuf,
        /// The case that was run.
        #[arg(long)]
        case: Case,
        /// What packets crossed, such as the name of a driver.
        #[arg(long)]
        medium: String,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// One short round, to see that everything works: its figures say little.
    #[arg(long)]
    quick: bool,
    /// How often each cell is measured.
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
    /// Length of a measurement, seconds.
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// What to measure; may be given several times. Default: everything.
    #[arg(long)]
    case: Vec<Case>,
    /// With which stack, likewise.
    #[arg(long)]
    stack: Vec<Stack>,
    /// Over which medium, likewise.
    #[arg(long)]
    medium: Vec<Medium>,
    /// Where the report goes; by default `bench/report.json` in the target folder.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Folder of the pictures; none are drawn without.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// A page to write the table into, as `field markdown --into` does.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        None => compare(&cli.options),
        Some(What::Plot { report, plots }) => draw(report, plots),
        Some(What::Markdown { report, into }) => markdown(report, into.as_deref()),
        Some(What::Add {
            report,
            engine,
            case,
            medium,
        }) => add(report, engine, *case, medium),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("field: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let place = place()?;
    wire::remove_stale();
    let (rounds, seconds) = match options.quick {
        true => (1, 0.4),
        false => (options.rounds, options.seconds),
    };
    let ways: Vec<Way> = (Way::all().into_iter())
        .filter(|way| chosen(&options.stack, way.stack) && chosen(&options.medium, way.medium))
        .collect();
    let cases: Vec<Case> = (Case::value_variants().iter().copied())
        .filter(|case| chosen(&options.case, *case))
        .collect();
    let mut report = Report::begin(rounds, seconds, options.quick, software(&place)?);
    report.not_measured = NOT_MEASURED.map(str::to_owned).into();
    let path = options
        .report
        .clone()
        .unwrap_or_else(|| place.folder.join("report.json"));

    let mut schedule = Schedule::new(rounds, &cases, &ways, Duration::from_secs_f64(seconds));
    let (all, seconds_all) = (schedule.progress().1, schedule.remaining().as_secs());
    eprintln!(
        "{all} measurements, about {} minutes",
        seconds_all.div_ceil(60)
    );
    while let Some(step) = schedule.next() {
        let start = Instant::now();
        announce(&schedule, step, rounds);
        let found = measure(&place, step, seconds, options.quick);
        match &found {
            Ok(figures) => eprintln!("{}", first_figure(step.case, figures)),
            Err(problem) => eprintln!("failed: {problem}"),
        }
        let Step { case, way, .. } = step;
        report.add(
            &case.to_string(),
            &way.stack.to_string(),
            &way.medium.to_string(),
            found,
        );
        // A run that is interrupted leaves what it has.
        report.write(&path)?;
        schedule.finish(start);
    }
    println!("{}", table::text(&report));
    println!("{}", path.display());
    if let Some(plots) = &options.plots {
        draw(&path, plots)?;
    }
    if let Some(page) = &options.page {
        markdown(&path, Some(page))?;
    }
    let failed = report.cells.iter().filter(|cell| !cell.failures.is_empty());
    match failed.count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} cells failed", report.cells.len()).into()),
    }
}

fn chosen<T: PartialEq>(wanted: &[T], one: T) -> bool {
    wanted.is_empty() || wanted.contains(&one)
}

fn announce(schedule: &Schedule, step: Step, rounds: u32) {
    let (done, all) = schedule.progress();
    let seconds = schedule.remaining().as_secs();
    let Step { round, case, way } = step;
    eprint!(
        "{:>3} of {all}, {:>2} min {:02} s to go: round {round} of {rounds}, {case}, {way}: ",
        done + 1,
        seconds / 60,
        seconds % 60
    );
}

/// What a progress line says of a cell.
fn first_figure(case: Case, figures: &Figures) -> String {
    let row = &case.rows()[0];
    match figures.value(row.figure) {
        Some(value) if figures.problems.is_empty() => {
            format!("{} {}", table::number(row.unit, value), row.unit)
        }
        _ => format!("failed: {}", figures.problems.join("; ")),
    }
}

fn measure(place: &Place, step: Step, seconds: f64, quick: bool) -> Result<Figures, String> {
    let Step { case, way, .. } = step;
    match way.stack {
        Stack::Engine => engine_way::measure(place, way.medium, case, seconds, quick),
        _ => peer_way::measure(place, way, case, seconds, quick),
    }
}

/// The programs beside this one, and a folder for their files with the identity of all servers.
fn place() -> Result<Place, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let beside = |name: &str| {
        let path = program.with_file_name(name);
        match path.exists() {
            true => Ok(path),
            false => Err(format!(
                "{} is missing: run `make bench`, which builds it",
                path.display()
            )),
        }
    };
    let target = program
        .parent()
        .and_then(Path::parent)
        .ok_or("this program's folder has no parent")?;
    let place = Place {
        peer: beside("peer")?,
        engine: beside("engine")?,
        scale: beside("scale")?,
        folder: target.join("bench"),
    };
    std::fs::create_dir_all(&place.folder)?;
    make_identity(&place.folder)?;
    Ok(place)
}

/// The versions of all that is measured.
fn software(place: &Place) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let output = Command::new(&place.peer).arg("versions").output()?;
    let mut software: BTreeMap<String, String> = serde_json::from_slice(&output.stdout)?;
    let output = Command::new(&place.engine).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout);
    let version = version
        .trim()
        .strip_prefix("engine ")
        .unwrap_or(version.trim());
    software.insert("engine".to_owned(), version.to_owned());
    Ok(software)
}

fn draw(report: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    for file in plot::draw(&Report::read(report)?, folder)? {
        println!("{}", file.display());
    }
    Ok(())
}

fn markdown(report: &Path, into: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let text = table::markdown(&Report::read(report)?);
    let Some(page) = into else {
        print!("{text}");
        return Ok(());
    };
    let old = std::fs::read_to_string(page)?;
    let new = table::replace_between_marks(&old, &text);
    let new = new.ok_or_else(|| format!("{} has no lines {:?}", page.display(), table::MARKS))?;
    Ok(std::fs::write(page, new)?)
}

fn add(path: &Path, engine: &Path, case: Case, medium: &str) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(engine)?;
    let value: serde_json::Value = serde_json::from_str(bench::child::last_object(&text))?;
    let mut report = match path.exists() {
        true => Report::read(path)?,
        false => {
            let seconds = value
                .get("elapsed_s")
                .and_then(serde_json::Value::as_f64)
                .unwrap_or(0.0);
            Report::begin(1, seconds, false, BTreeMap::new())
        }
    };
    let found = engine_way::figures_of(&value, case, false);
    report.add(&case.to_string(), "engine", medium, found);
    Ok(report.write(path)?)
}
