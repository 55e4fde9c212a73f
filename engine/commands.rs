//! The commands of the binary.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tracing::{error, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::{Check, Command, Invocation, Ports, Run};
use crate::config::{Config, ConfigError};
use crate::live::Live;
use crate::plan::{Given, Plan};
use crate::ports;
use crate::report::Report;
use crate::run::{Outcome, TlsChecks, run as run_plan};

/// Usage and configuration errors.
const USAGE: u8 = 2;
/// Failures of the run.
const FAILED: u8 = 1;

/// Does what the command line asks for; returns the process's exit code: 0, 1 for a failure of the run, 2 for usage and
/// configuration errors. Errors go to standard error.
pub fn execute(invocation: Invocation) -> ExitCode {
    log_to_stderr();
    match invocation.command {
        Command::Run(command) => run(&command, invocation.eal),
        Command::Check(command) => check(&command, invocation.eal),
        Command::Ports(command) => list_ports(&command, invocation.eal),
    }
}

/// Logs at `info` and above, or as `RUST_LOG` says.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .init();
}

fn run(command: &Run, eal: Vec<String>) -> ExitCode {
    let plan = match plan(&command.config, Given::new(eal, command.duration)) {
        Ok(plan) => plan,
        Err(error) => return refuse(&error),
    };
    for note in &plan.notes {
        warn!("{note}");
    }
    let is_terminal = stdout().is_terminal() && !command.json;
    let mut live = Live::new(stdout(), is_terminal, plan.run.warmup);
    // The live line is a courtesy: a terminal that is gone does not end the run.
    let mut show = |watched: &crate::run::Watched, at: Duration| {
        let _ = live.show(watched.sample(&plan, at));
    };
    let result = run_plan(&plan, &mut show);
    let _ = live.clear();
    match result {
        Ok(outcome) => finish(&outcome, &plan, command.json),
        Err(error) => fail(&error),
    }
}

fn finish(outcome: &Outcome, plan: &Plan, json: bool) -> ExitCode {
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
    let printed = print(&format!("{text}\n"));
    if outcome.failures() > 0 {
        ExitCode::from(FAILED)
    } else {
        printed
    }
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("standard output cannot be written to: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn check(command: &Check, eal: Vec<String>) -> ExitCode {
    match plan(&command.config, Given::new(eal, None)) {
        Ok(plan) if command.json => match serde_json::to_string_pretty(&plan) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => fail(&error),
        },
        Ok(plan) => print(&plan.to_string()),
        Err(error) => refuse(&error),
    }
}

fn list_ports(command: &Ports, eal: Vec<String>) -> ExitCode {
    let given = Given::new(eal, None);
    let plan = match command
        .config
        .as_deref()
        .map(|config| plan(config, given.clone()))
    {
        Some(Ok(plan)) => Some(plan),
        Some(Err(error)) => return refuse(&error),
        None => None,
    };
    let arguments = plan
        .as_ref()
        .map_or(given.eal, |plan| plan.eal.arguments.clone());
    match ports::list(&arguments, plan.as_ref()) {
        Ok(list) if command.json => match serde_json::to_string_pretty(&list) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => fail(&error),
        },
        Ok(list) => print(&list.to_string()),
        Err(error) => fail(&error),
    }
}

fn plan(config: &Path, given: Given) -> Result<Plan, ConfigError> {
    let (config, source) = Config::load(config)?;
    Plan::new(&config, &source, &given, &TlsChecks)
}

fn refuse(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}

fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(FAILED)
}
