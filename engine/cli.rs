//! The command line: `engine [EAL arguments --] COMMAND`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::Interval;

/// Version, git revision and the DPDK version this was built against.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("STOQ_GIT_REVISION"),
    ", DPDK ",
    env!("STOQ_DPDK_VERSION"),
    ")"
);

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// EAL arguments, those before the first `--`; without them, those of the configuration file are used.
    pub eal: Vec<String>,
    /// What to do.
    pub command: Command,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run what a configuration file describes, until a signal or for a duration
    Run(Run),
    /// Check a configuration file and print the plan; needs no device and no root
    Check(Check),
    /// Show the devices that EAL sees, their drivers, queues, RSS and offloads
    Ports(Ports),
    /// Send frames through every offload that devices offer, and see what they do on the wire
    Selftest(Selftest),
    /// Show what a running engine does, live
    Top(Top),
    /// Look at the machine and say what to change: memory, CPUs, IOMMU, drivers, links; changes nothing
    Doctor(Doctor),
}

/// `engine run`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How long to run, such as 5s; wins over the file's
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Print the report as one JSON object, the last thing on standard output
    #[arg(long)]
    pub json: bool,
    /// Time some turns of the loop and show where the time goes; costs little
    #[arg(long)]
    pub profile: bool,
}

/// `engine check`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

/// `engine ports`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ports {
    /// Configuration file (YAML) whose EAL arguments are used, and whose ports tell which offloads are wanted
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// `engine selftest`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Selftest {
    /// Configuration file (YAML) whose EAL arguments are used, and whose ports may be named
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The two ports at the ends of a cable, or one whose cable comes back to it: devices, or ports of the file;
    /// by default the ports of the file, if they are one or two
    #[arg(value_name = "PORT", num_args = 0..=2)]
    pub ports: Vec<String>,
    /// IP MTU to test with; by default that of the file's ports, else 1500
    #[arg(long, value_parser = clap::value_parser!(u16).range(1280..=9600))]
    pub mtu: Option<u16>,
    /// Print the findings as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `engine top`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Top {
    /// EAL's --file-prefix of the engine; needed when several run
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub file_prefix: Option<String>,
    /// Time between two readings
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub interval: Duration,
    /// Show one interval, then end
    #[arg(long)]
    pub once: bool,
    /// Print one JSON object an interval
    #[arg(long)]
    pub json: bool,
}

/// `engine doctor`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {
    /// Configuration file (YAML) that is to run on this machine; without, the machine as such is looked at
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// A QUIC transport engine in user space: DPDK poll-mode drivers under quinn-proto, zero-copy.
#[derive(Debug, Parser)]
#[command(
    name = "engine",
    version = VERSION,
    override_usage = "engine [EAL arguments --] <COMMAND> [options]",
    after_help = "EAL arguments are DPDK's, such as -l 0-3 -a 0000:3b:00.0; they win over `eal:` in \
                  the configuration file.\nExit code: 2 for usage and configuration errors, 1 for \
                  failures of the run."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// Parses the arguments that follow the program's name.
///
/// # Errors
/// A usage error, or a request for help or the version: [`clap::Error::exit`] prints it and ends with code 2 or 0.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let eal = take_eal(&mut arguments)?;
    let name = OsString::from("engine");
    let line = CommandLine::try_parse_from(std::iter::once(name).chain(arguments))?;
    Ok(Invocation {
        eal,
        command: line.command,
    })
}

/// Takes away the EAL arguments and the `--` behind them.
fn take_eal(arguments: &mut Vec<OsString>) -> Result<Vec<String>, clap::Error> {
    let Some(first) = arguments.first().and_then(|first| first.to_str()) else {
        return Ok(Vec::new());
    };
    if is_command(first) {
        return Ok(Vec::new());
    }
    let Some(end) = arguments.iter().position(|argument| argument == "--") else {
        if first.starts_with('-') {
            let message = format!(
                "`{first}` is no option here; EAL arguments end with `--`, then follows the \
                 command: engine -l 0-1 -- run --config FILE\n"
            );
            return Err(CommandLine::command().error(ErrorKind::UnknownArgument, message));
        }
        // A misspelt command: clap knows which one was meant.
        return Ok(Vec::new());
    };
    let eal = arguments.drain(..=end).take(end).map(OsString::into_string);
    eal.collect::<Result<_, _>>().map_err(|argument| {
        let message = format!("the EAL argument {} is not UTF-8\n", argument.display());
        CommandLine::command().error(ErrorKind::InvalidUtf8, message)
    })
}

/// True for what stands first when there are no EAL arguments.
fn is_command(first: &str) -> bool {
    ["help", "--help", "-h", "--version", "-V"].contains(&first)
        || CommandLine::command()
            .get_subcommands()
            .any(|command| command.get_name() == first)
}

fn duration(text: &str) -> Result<Duration, String> {
    let Interval(duration) = text.parse()?;
    if duration.is_zero() {
        Err("it must be more than 0".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn run(config: &str, duration: Option<Duration>, json: bool) -> Command {
        Command::Run(Run {
            config: config.into(),
            duration,
            json,
            profile: false,
        })
    }

    fn failure(line: &str) -> (ErrorKind, i32, String) {
        let error = parsed(line).unwrap_err();
        (error.kind(), error.exit_code(), error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_command_alone() {
        let invocation = parsed("run --config x.yaml --duration 5s --json").unwrap();
        assert_eq!(invocation.eal, [""; 0]);
        assert_eq!(
            invocation.command,
            run("x.yaml", Some(Duration::from_secs(5)), true)
        );
        let ports = Command::Ports(Ports {
            config: None,
            json: false,
        });
        assert_eq!(parsed("ports").unwrap().command, ports);
        let profiled = Command::Run(Run {
            config: "x.yaml".into(),
            duration: None,
            json: false,
            profile: true,
        });
        let line = "run --config x.yaml --profile";
        assert_eq!(parsed(line).unwrap().command, profiled);
    }

    #[test]
    fn eal_arguments_before_a_command() {
        let invocation =
            parsed("-l 0-1 --vdev=net_null0 --no-huge -- check --config x.yaml").unwrap();
        assert_eq!(
            invocation.eal,
            ["-l", "0-1", "--vdev=net_null0", "--no-huge"]
        );
        let check = Command::Check(Check {
            config: "x.yaml".into(),
            json: false,
        });
        assert_eq!(invocation.command, check);
    }

    #[test]
    fn doctor_with_and_without_a_configuration() {
        let doctor = |config: Option<&str>, json| {
            Command::Doctor(Doctor {
                config: config.map(PathBuf::from),
                json,
            })
        };
        assert_eq!(parsed("doctor").unwrap().command, doctor(None, false));
        let line = "-l 2-3 -- doctor --config x.yaml --json";
        let invocation = parsed(line).unwrap();
        assert_eq!(invocation.eal, ["-l", "2-3"]);
        assert_eq!(invocation.command, doctor(Some("x.yaml"), true));
    }

    #[test]
    fn top_by_default_and_in_full() {
        let top = |line| match parsed(line).unwrap().command {
            Command::Top(top) => top,
            other => panic!("{other:?}"),
        };
        let default = Top {
            file_prefix: None,
            interval: Duration::from_secs(1),
            once: false,
            json: false,
        };
        assert_eq!(top("top"), default);
        let full = Top {
            file_prefix: Some("edge".to_owned()),
            interval: Duration::from_millis(250),
            once: true,
            json: true,
        };
        let line = "top --file-prefix edge --interval 250ms --once --json";
        assert_eq!(top(line), full);
        assert_eq!(failure("top --interval 0s").1, 2);
        assert_eq!(failure("top --file-prefix=").1, 2);
    }

    #[test]
    fn selftest_takes_up_to_two_ports() {
        let selftest = |line| match parsed(line).unwrap().command {
            Command::Selftest(selftest) => selftest,
            other => panic!("{other:?}"),
        };
        let two = selftest("--no-huge --vdev=net_null0 -- selftest net_null0 b --mtu 9000 --json");
        assert_eq!(two.ports, ["net_null0", "b"]);
        assert_eq!((two.config, two.mtu, two.json), (None, Some(9000), true));
        let of_file = selftest("selftest --config x.yaml");
        assert_eq!(of_file.config, Some("x.yaml".into()));
        assert_eq!((of_file.ports.len(), of_file.mtu), (0, None));
        assert_eq!(failure("selftest a b c").1, 2);
        assert_eq!(failure("selftest a --mtu 1000").1, 2);
    }

    #[test]
    fn a_separator_without_eal_arguments() {
        let invocation = parsed("-- run --config x.yaml").unwrap();
        assert_eq!(invocation.eal, [""; 0]);
        assert_eq!(invocation.command, run("x.yaml", None, false));
    }

    #[test]
    fn usage_errors_end_with_2() {
        let (_, code, text) = failure("-l 0-1 run --config x.yaml");
        assert_eq!(code, 2);
        assert!(text.contains("EAL arguments end with `--`"), "{text}");
        let (kind, code, text) = failure("rum --config x.yaml");
        assert_eq!((kind, code), (ErrorKind::InvalidSubcommand, 2));
        assert!(text.contains("run"), "{text}");
        let (_, code, text) = failure("run --config x.yaml --duration 5");
        assert_eq!(code, 2);
        assert!(
            text.contains("`5` has no unit: write `5s` or `5ms`"),
            "{text}"
        );
        let (kind, code, _) = failure("run");
        assert_eq!((kind, code), (ErrorKind::MissingRequiredArgument, 2));
        assert_eq!(failure("").1, 2);
        assert_eq!(failure("-l 0-1 --").1, 2);
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in ["--help", "-h", "help", "run --help", "-l 0-1 -- --help"] {
            let (_, code, text) = failure(line);
            assert_eq!(code, 0, "{line}");
            assert!(text.contains("Usage: engine"), "{text}");
        }
        let (kind, code, text) = failure("--version");
        assert_eq!((kind, code), (ErrorKind::DisplayVersion, 0));
        assert!(text.contains("revision") && text.contains("DPDK"), "{text}");
    }
}
