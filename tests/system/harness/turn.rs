//! Who may run, and whether the machine can run it at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::thread::CpuSet;

use super::{Aioquic, Browser, example};

static TURN: Mutex<()> = Mutex::new(());

/// What a test needs of the machine it runs on.
#[derive(Clone, Copy)]
pub enum Need {
    /// The right to make network namespaces and TAP interfaces.
    Root,
    /// The kernel's TUN/TAP driver.
    Tun,
    /// The `ip` command of iproute2.
    Ip,
    /// A CPU for each of two lcores.
    TwoCpus,
    /// Python 3.
    Python,
    /// Python with aioquic: `make venv`.
    Aioquic,
    /// Chromium and its driver.
    Browser,
    /// An example of this name, built by `cargo build --all-features --examples`, and by `cargo test`.
    Example(&'static str),
    /// The tshark of Wireshark.
    Tshark,
    /// Prometheus' promtool: `scripts/promtool.sh`.
    Promtool,
    /// This many bytes of memory that can be had without swapping.
    Memory(u64),
}

impl Need {
    /// Why the machine falls short, or nothing when it does not.
    fn unmet(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".into()),
            Self::Tun => (!Path::new("/dev/net/tun").exists()).then(|| "no /dev/net/tun".into()),
            Self::Ip => {
                let found = Command::new("ip")
                    .arg("-V")
                    .stdout(Stdio::null())
                    .status()
                    .is_ok();
                (!found).then(|| "no `ip` command: install iproute2".into())
            }
            Self::Python => (!starts(Path::new("python3"))).then(|| "no `python3`".into()),
            Self::TwoCpus => {
                let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                (cpus < 2).then(|| "one CPU, and two lcores need two".into())
            }
            Self::Tshark => {
                (!starts(Path::new("tshark"))).then(|| "no `tshark` command: install tshark".into())
            }
            Self::Promtool => promtool()
                .is_none()
                .then(|| "no promtool: run scripts/promtool.sh".into()),
            Self::Browser => {
                let mut programs = Browser::PROGRAMS.iter();
                let missing = programs.find(|program| !starts(Path::new(program)));
                missing.map(|program| {
                    format!(
                        "no `{program}`: run scripts/setup.sh on Debian, whose Chromium is meant; \
                         Ubuntu's is a snap and not installed"
                    )
                })
            }
            Self::Memory(bytes) => {
                let available = available_memory();
                (available < bytes).then(|| {
                    let [has, takes] = [available, bytes].map(|bytes| bytes >> 20);
                    format!("{has} MiB of memory available, and it takes {takes} MiB")
                })
            }
            Self::Example(name) => (!example(name).exists()).then(|| {
                format!(
                    "no {}: run cargo build --all-features --examples",
                    example(name).display()
                )
            }),
            Self::Aioquic => (!Aioquic::python().exists())
                .then(|| format!("no {}: run `make venv`", Aioquic::python().display())),
        }
    }
}

/// Prometheus' promtool: the installed one, or what `scripts/promtool.sh` has fetched.
pub fn promtool() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool");
    [PathBuf::from("promtool"), fetched]
        .into_iter()
        .find(|program| starts(program))
}

/// `MemAvailable` of proc_meminfo(5), in bytes.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("Linux has it");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.expect("Linux has it since 3.14") << 10
}

/// Whether a program can be started.
fn starts(program: &Path) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// The turn of one test: while it lasts, no other test of this process runs an engine.
///
/// The thread that holds it, and what it starts, stays off the CPU that the engine polls on.
pub struct Turn {
    _guard: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for the turn; `None`, after a line that says so, when a need is not met.
    pub fn take(needs: &[Need]) -> Option<Self> {
        if let Some(reason) = needs.iter().find_map(|need| need.unmet()) {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Straight to the descriptor: libtest captures what the print macros write.
            let line = format!("skipped: {test}: {reason}\n");
            std::io::stderr()
                .write_all(line.as_bytes())
                .expect("standard error is open");
            return None;
        }
        // A test that failed in its turn must not take the others down.
        let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        leave_the_engine_its_cpu();
        Some(Self { _guard: guard })
    }
}

/// Moves this thread off CPU 0, on which the engine of every test polls, if there is another.
fn leave_the_engine_its_cpu() {
    let allowed = rustix::thread::sched_getaffinity(None).expect("own affinity is readable");
    let mut others = CpuSet::new();
    (1..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .for_each(|cpu| others.set(cpu));
    if others.count() > 0 {
        rustix::thread::sched_setaffinity(None, &others).expect("a subset of the own CPUs");
    }
}
