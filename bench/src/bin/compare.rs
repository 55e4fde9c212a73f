//! The engine against its ceilings: one run, in rounds, for datagrams of 1452 and 8952 bytes.
//!
//! In each round, one after the other: quinn-proto alone on one core (sender and receiver charged apart), the engine's
//! shards likewise, packet I/O alone on two lcores, and the whole engine on two lcores in its variants. Absolute figures on a shared machine drift
//! from hour to hour; what is compared was measured within seconds of each other.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use bench::ceiling::OneCore;
use bench::engine::{self, Variant};
use bench::samples::{Rows, Summary};
use bench::{ceiling, link, machine};
use clap::Parser;
use serde_json::json;
use stoq::transport::IPV6_UDP_HEADERS;

/// The engine's own allocator hands everything but packet buffers to this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// MTUs of the two halves of the table: UDP payloads of 1452 and 8952 bytes.
const MTUS: [u16; 2] = [1500, 9000];
/// The CPU of what is measured on one core; CPU 0 also serves most interrupts.
const CPU: usize = 1;

const BARE: &str = "quinn-proto alone";
const SHARDS: &str = "shards in memory";
const GBPS: &str = "Gbit/s";
const NS: &str = "ns";

/// Measures the engine and its ceilings, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of each measurement, seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The engine to run; by default the release build, brought up to date first.
    #[arg(long)]
    engine: Option<PathBuf>,
    /// Leave out what runs on two lcores: the engine and packet I/O.
    #[arg(long)]
    one_core: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let programs = Programs::find(arguments)?;
    let folder = programs.target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let duration = Duration::from_secs_f64(arguments.seconds);

    let mut rows = Rows::default();
    for round in 1..=arguments.rounds {
        for mtu in MTUS {
            eprintln!("round {round} of {}, MTU {mtu}", arguments.rounds);
            measure_one_core(BARE, ceiling::bare, mtu, duration, &mut rows)?;
            measure_one_core(SHARDS, ceiling::shards, mtu, duration, &mut rows)?;
            if arguments.one_core {
                continue;
            }
            measure_link(&programs, mtu, duration, &folder, &mut rows)?;
            for variant in variants(mtu) {
                measure_engine(&programs, variant, duration, &folder, &mut rows)?;
            }
        }
    }

    let machine = machine::describe();
    println!("{machine}");
    println!(
        "median (least .. greatest) of {} rounds of {duration:?}\n",
        arguments.rounds
    );
    print_rows(&rows);
    print_ratios(&rows);
    println!(
        "\nNot measured: a NIC. Every datagram crosses a ring inside one process, or none at all."
    );

    let path = folder.join("compare.json");
    let ratios: Vec<_> = ratios(&rows)
        .into_iter()
        .map(|(name, udp_payload, ratio)| {
            json!({"name": name, "udp_payload": udp_payload, "of_slower_ceiling": ratio})
        })
        .collect();
    let result = json!({
        "machine": machine.to_string(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "rows": rows,
        "ratios": ratios,
        "not_measured": ["NIC"],
    });
    std::fs::write(&path, serde_json::to_string_pretty(&result)?)?;
    println!("{}", path.display());
    Ok(())
}

fn variants(mtu: u16) -> impl Iterator<Item = Variant> {
    ["off", "software"].into_iter().flat_map(move |checksum| {
        ["in_place", "scratch"].map(|tx_path| Variant {
            mtu,
            tx_path,
            checksum,
        })
    })
}

/// A measurement on one core: quinn-proto alone, or shards.
type OneCoreFn = fn(u16, Duration) -> Result<OneCore, Box<dyn Error>>;

fn measure_one_core(
    what: &str,
    measure: OneCoreFn,
    mtu: u16,
    duration: Duration,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    // On a thread of its own: the programs started later would inherit the affinity of this one.
    let measured = std::thread::spawn(move || {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: CPU }) {
            eprintln!("not pinned: there is no CPU {CPU}");
        }
        measure(mtu, duration).map_err(|error| error.to_string())
    });
    let found = measured
        .join()
        .map_err(|_| format!("the measurement of {what} panicked"))??;
    let size = mtu - IPV6_UDP_HEADERS;
    rows.add(&format!("{what}, sender"), size, GBPS, found.sender_gbps);
    rows.add(
        &format!("{what}, receiver"),
        size,
        GBPS,
        found.receiver_gbps,
    );
    rows.add(
        &format!("{what}, sender, a datagram"),
        size,
        NS,
        found.sender_ns,
    );
    rows.add(
        &format!("{what}, receiver, a datagram"),
        size,
        NS,
        found.receiver_ns,
    );
    Ok(())
}

fn measure_link(
    programs: &Programs,
    mtu: u16,
    duration: Duration,
    folder: &Path,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    let report = link::run(&programs.link, mtu, duration, folder)?;
    let size = mtu - IPV6_UDP_HEADERS;
    rows.add("packet I/O alone", size, GBPS, report.goodput_gbps);
    rows.add(
        "packet I/O alone, a datagram",
        size,
        NS,
        report.ns_per_datagram,
    );
    Ok(())
}

fn measure_engine(
    programs: &Programs,
    variant: Variant,
    duration: Duration,
    folder: &Path,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    let report = engine::run(&programs.engine, variant, duration, folder)?;
    rows.add(
        &variant.to_string(),
        variant.mtu - IPV6_UDP_HEADERS,
        GBPS,
        report.goodput_gbps,
    );
    Ok(())
}

fn print_rows(rows: &Rows) {
    let sizes = MTUS.map(|mtu| mtu - IPV6_UDP_HEADERS);
    println!("{:42} {:>8} {:>26} {:>26}", "", "unit", sizes[0], sizes[1]);
    for (name, unit) in rows.names() {
        print!("{name:42} {unit:>8}");
        for size in sizes {
            let cell = Summary::of(rows.samples(name, size)).map_or_else(
                || "-".to_owned(),
                |Summary { median, min, max }| match unit {
                    NS => format!("{median:.0} ({min:.0} .. {max:.0})"),
                    _ => format!("{median:.2} ({min:.2} .. {max:.2})"),
                },
            );
            print!(" {cell:>26}");
        }
        println!();
    }
}

fn print_ratios(rows: &Rows) {
    let ratios = ratios(rows);
    if ratios.is_empty() {
        return;
    }
    println!("\nof the slower of the two ceilings (medians)");
    for (name, udp_payload, ratio) in ratios {
        println!("{name:42} {udp_payload:>8} {:>8.1} %", ratio * 100.0);
    }
}

/// Median goodput of each variant of the engine by that of the slower end of quinn-proto alone.
fn ratios(rows: &Rows) -> Vec<(String, u16, f64)> {
    let median = |name: &str, size| Summary::of(rows.samples(name, size)).map(|s| s.median);
    let mut ratios = Vec::new();
    for mtu in MTUS {
        let size = mtu - IPV6_UDP_HEADERS;
        let sender = median(&format!("{BARE}, sender"), size);
        let receiver = median(&format!("{BARE}, receiver"), size);
        for name in variants(mtu).map(|variant| variant.to_string()) {
            let medians = (median(&name, size), sender, receiver);
            if let (Some(engine), Some(sender), Some(receiver)) = medians {
                ratios.push((name, size, engine / sender.min(receiver)));
            }
        }
    }
    ratios
}

/// The programs that are measured as processes of their own: EAL can be started once in a process.
struct Programs {
    target: PathBuf,
    engine: PathBuf,
    link: PathBuf,
}

impl Programs {
    fn find(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let own = std::env::current_exe()?;
        let release = own.parent().ok_or("this program has no folder")?;
        let target = release
            .parent()
            .ok_or("this program's folder has no parent")?
            .to_owned();
        if !arguments.one_core {
            build(&["--package", "bench", "--bin", "link"])?;
            if arguments.engine.is_none() {
                build(&["--package", "stoq", "--bin", "engine"])?;
            }
        }
        let engine = arguments
            .engine
            .clone()
            .unwrap_or_else(|| release.join("engine"));
        Ok(Self {
            target,
            engine,
            link: release.join("link"),
        })
    }
}

fn build(what: &[&str]) -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(manifest)
        .args(what)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo build {what:?}: {status}").into())
    }
}
