//! The commands of the binary.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::{Check, Command, Doctor, Invocation, Ports, Run, Selftest, Top};
use crate::config::{Config, ConfigError};
use crate::doctor::{self, Subject, Tree};
use crate::live::Live;
use crate::outlet::Outlet;
use crate::plan::{Given, Plan};
use crate::ports;
use crate::report::Report;
use crate::run::{Outcome, TlsChecks, run as run_plan};
use crate::selftest;
use crate::top;

/// Usage and configuration errors.
const USAGE: u8 = 2;
/// Failures of the run.
const FAILED: u8 = 1;
/// Lines of the log that may wait to be written.
const LOG_LINES: usize = 1024;

/// What ends a command early: an exit code, and the error to tell.
struct Failure {
    code: u8,
    error: String,
}

/// Does what the command line asks for; returns the process's exit code: 0, 1 for a failure of the run, 2 for usage and
/// configuration errors. Errors go to standard error.
pub fn execute(invocation: Invocation) -> ExitCode {
    let log = match Outlet::new(stderr(), LOG_LINES, true) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: the system gave no thread for the log: {error}");
            return ExitCode::from(FAILED);
        }
    };
    log_to(&log);
    let done = match invocation.command {
        Command::Run(command) => run(&command, invocation.eal),
        Command::Check(command) => check(&command, invocation.eal),
        Command::Ports(command) => list_ports(&command, invocation.eal),
        Command::Selftest(command) => test_ports(&command, invocation.eal),
        Command::Top(command) => show_top(command),
        Command::Doctor(command) => examine(&command, invocation.eal),
    };
    log.drain();
    done.unwrap_or_else(|failure| {
        eprintln!("error: {}", failure.error);
        ExitCode::from(failure.code)
    })
}

/// Logs at `info` and above, or as `RUST_LOG` says, without ever waiting for the reader.
fn log_to(log: &Outlet) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .init();
}

fn run(command: &Run, eal: Vec<String>) -> Result<ExitCode, Failure> {
    let mut plan = plan(&command.config, Given::new(eal, command.duration))?;
    plan.run.profile |= command.profile;
    for note in &plan.notes {
        warn!("{note}");
    }
    let is_terminal = stdout().is_terminal() && !command.json;
    // The live line is a courtesy: a terminal that is stopped or gone holds nothing up. One line may wait.
    let out = Outlet::new(stdout(), 1, false).map_err(failed)?;
    let mut live = Live::new(out.clone(), is_terminal, plan.run.warmup);
    let mut show = |watched: &crate::run::Watched, at: Duration| {
        let _ = live.show(watched.sample(&plan, at));
    };
    let result = run_plan(&plan, &mut show);
    out.drain();
    let _ = live.clear();
    out.drain();
    finish(&result.map_err(failed)?, &plan, command.json)
}

fn finish(outcome: &Outcome, plan: &Plan, json: bool) -> Result<ExitCode, Failure> {
    for (name, results) in &outcome.clients {
        for failure in &results.failures {
            error!(client = %name, "{failure}");
        }
        let unlisted = results
            .failures_total
            .saturating_sub(results.failures.len() as u64);
        if unlisted > 0 {
            error!(client = %name, "and {unlisted} more failures");
        }
    }
    let report = Report::new(&outcome.totals(plan));
    let text = if json {
        report.to_json()
    } else {
        report.to_string()
    };
    let printed = print(&format!("{text}\n"))?;
    if outcome.failures() > 0 {
        Ok(ExitCode::from(FAILED))
    } else {
        Ok(printed)
    }
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(format!(
            "standard output cannot be written to: {error}"
        ))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print_json(value: &impl Serialize) -> Result<ExitCode, Failure> {
    let json = serde_json::to_string_pretty(value).map_err(failed)?;
    print(&format!("{json}\n"))
}

fn check(command: &Check, eal: Vec<String>) -> Result<ExitCode, Failure> {
    let plan = plan(&command.config, Given::new(eal, None))?;
    if command.json {
        print_json(&plan)
    } else {
        print(&plan.to_string())
    }
}

/// The plan of a configuration, if one is given, and the arguments that EAL starts with: the plan's, else those given.
fn plan_if_given(
    config: Option<&Path>,
    eal: Vec<String>,
) -> Result<(Option<Plan>, Vec<String>), Failure> {
    let given = Given::new(eal, None);
    let plan = config
        .map(|config| plan(config, given.clone()))
        .transpose()?;
    let arguments = plan
        .as_ref()
        .map_or(given.eal, |plan| plan.eal.arguments.clone());
    Ok((plan, arguments))
}

fn list_ports(command: &Ports, eal: Vec<String>) -> Result<ExitCode, Failure> {
    let (plan, arguments) = plan_if_given(command.config.as_deref(), eal)?;
    let list = ports::list(&arguments, plan.as_ref()).map_err(failed)?;
    if command.json {
        print_json(&list)
    } else {
        print(&list.to_string())
    }
}

fn examine(command: &Doctor, eal: Vec<String>) -> Result<ExitCode, Failure> {
    let tree = Tree::new("/");
    let subject = match &command.config {
        Some(config) => Subject::of_plan(&plan(config, Given::new(eal, None))?),
        None => Subject::of_machine(&tree),
    };
    let diagnosis = doctor::examine(&tree, &subject, &poll::dpdk_version());
    let printed = match command.json {
        true => print_json(&diagnosis)?,
        false => print(&diagnosis.to_string())?,
    };
    match diagnosis.problems {
        0 => Ok(printed),
        _ => Ok(ExitCode::from(FAILED)),
    }
}

fn test_ports(command: &Selftest, eal: Vec<String>) -> Result<ExitCode, Failure> {
    let (plan, arguments) = plan_if_given(command.config.as_deref(), eal)?;
    let choice = selftest::Choice::new(plan.as_ref(), &command.ports, command.mtu);
    let choice = choice.map_err(|error| Failure {
        code: USAGE,
        error: error.to_string(),
    })?;
    let report = selftest::run(&arguments, &choice).map_err(failed)?;
    let printed = if command.json {
        print_json(&report)
    } else {
        print(&report.to_string())
    }?;
    match report.passes() {
        true => Ok(printed),
        false => Ok(ExitCode::from(FAILED)),
    }
}

fn show_top(command: Top) -> Result<ExitCode, Failure> {
    let options = top::Options {
        file_prefix: command.file_prefix,
        interval: command.interval,
        once: command.once,
        json: command.json,
    };
    top::run(&options).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn plan(config: &Path, given: Given) -> Result<Plan, Failure> {
    let (config, source) = Config::load(config)?;
    Ok(Plan::new(&config, &source, &given, &TlsChecks)?)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            code: USAGE,
            error: error.to_string(),
        }
    }
}

fn failed(error: impl Display) -> Failure {
    Failure {
        code: FAILED,
        error: error.to_string(),
    }
}
