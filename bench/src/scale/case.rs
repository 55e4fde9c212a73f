//! The cases: which loads there are, for how long, and how often.

use std::fmt;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::flood::UNLIMITED;
use super::load::{LoadSpec, Work};

/// How long connections may take to come up.
pub const DIAL_MAX: Duration = Duration::from_secs(300);
/// Time beyond the parts of a measurement that it may take: start, rest between the parts, end.
const OVERHEAD_MAX: Duration = Duration::from_secs(60);
/// The most parts that a measurement has.
const PARTS_MAX: u32 = 20;
/// Handshakes under way at a time.
pub const DIALING: usize = 64;
/// Small requests a second in all.
const SMALL_PER_SECOND: f64 = 10_000.0;
/// The connections that make them.
const SMALL_CONNECTIONS: usize = 1000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Many connections, all transferring.
    Connections,
    /// Many connections at rest.
    Idle,
    /// Handshakes a second, full and resumed.
    Handshakes,
    /// Two lcores against one.
    Scaling,
    /// One bulk transfer beside many small requests.
    Fairness,
    /// A bulk transfer during a flood of Initial packets.
    Flood,
}

/// A kind of handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Handshake {
    /// The server proves itself.
    Full,
    /// A TLS session is resumed.
    Resumed,
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// One measurement: a process is told it on its command line.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Spec {
    /// The case.
    #[arg(long)]
    pub case: Case,
    /// A short run, to see that it works.
    #[arg(long)]
    pub quick: bool,
    /// Pairs of client and server; with `scaling`, each on an lcore of its own.
    #[arg(long, default_value_t = 1)]
    pub pairs: usize,
    /// Connections, instead of the number that the case has.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Length of each measurement, seconds, instead of the one that the case has.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// With `handshakes`, only those of this kind.
    #[arg(long)]
    pub handshakes: Option<Handshake>,
}

impl Spec {
    /// The command line of this measurement.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--case={}", self.case)];
        arguments.push(format!("--pairs={}", self.pairs));
        if self.quick {
            arguments.push("--quick".to_owned());
        }
        if let Some(connections) = self.connections {
            arguments.push(format!("--connections={connections}"));
        }
        if let Some(seconds) = self.seconds {
            arguments.push(format!("--seconds={seconds}"));
        }
        if let Some(handshakes) = self.handshakes {
            arguments.push(format!("--handshakes={handshakes}"));
        }
        arguments
    }

    /// How often it is repeated, in turns with the other stack.
    pub fn rounds(&self) -> u32 {
        match self.case {
            Case::Connections | Case::Idle => 1,
            _ if self.quick => 1,
            _ => 3,
        }
    }

    /// The most time that it may take, from the start of its process to its end.
    pub fn limit(&self) -> Duration {
        self.length() * PARTS_MAX + DIAL_MAX + OVERHEAD_MAX
    }

    /// Length of each part of the measurement.
    pub fn length(&self) -> Duration {
        let (full, quick) = match self.case {
            Case::Connections => (60.0, 3.0),
            Case::Idle => (60.0, 10.0),
            Case::Handshakes | Case::Scaling | Case::Fairness => (3.0, 1.0),
            Case::Flood => (1.5, 0.5),
        };
        let default = if self.quick { quick } else { full };
        Duration::from_secs_f64(self.seconds.unwrap_or(default).clamp(0.01, 3600.0))
    }

    /// Connections of the load that has many.
    pub fn connections(&self) -> usize {
        let default = match (self.case, self.quick) {
            (Case::Connections, false) => 10_000,
            (Case::Connections, true) => 1_000,
            (Case::Idle, false) => 100_000,
            (Case::Idle, true) => 10_000,
            (Case::Fairness, _) => SMALL_CONNECTIONS,
            (Case::Handshakes | Case::Scaling | Case::Flood, _) => 1,
        };
        self.connections.unwrap_or(default)
    }

    /// The loads of one pair.
    pub fn loads(&self) -> Vec<LoadSpec> {
        let load = |connections, work| LoadSpec {
            connections,
            dialing: DIALING,
            work,
        };
        match self.case {
            Case::Connections => vec![load(self.connections(), Work::Bulk)],
            Case::Idle => vec![load(self.connections(), Work::Idle)],
            Case::Handshakes => [Handshake::Full, Handshake::Resumed]
                .into_iter()
                .filter(|kind| self.handshakes.is_none_or(|only| only == *kind))
                .map(|kind| {
                    let resume = kind == Handshake::Resumed;
                    load(0, Work::Handshakes { resume })
                })
                .collect(),
            Case::Scaling | Case::Flood => vec![load(1, Work::Bulk)],
            Case::Fairness => {
                let per_second = SMALL_PER_SECOND;
                let small = load(self.connections(), Work::Requests { per_second });
                vec![load(1, Work::Bulk), small]
            }
        }
    }

    /// Connections that a shard may have to hold at a time, closing ones among them.
    pub fn connections_max(&self) -> usize {
        2 * self.connections() + 200_000
    }

    /// Initial packets to make for a flood.
    pub fn initials(&self) -> usize {
        match (self.case, self.quick) {
            (Case::Flood, true) => 2_048,
            (Case::Flood, false) => 16_384,
            _ => 0,
        }
    }

    /// Rates of a flood, datagrams a second.
    pub fn flood_rates(&self) -> &'static [u64] {
        match self.quick {
            true => &[50_000, UNLIMITED],
            false => &[50_000, 200_000, UNLIMITED],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        spec: Spec,
    }

    #[test]
    fn a_measurement_survives_its_command_line() {
        for case in Case::value_variants() {
            let spec = Spec {
                case: *case,
                quick: true,
                pairs: 2,
                connections: Some(7),
                seconds: Some(0.25),
                handshakes: Some(Handshake::Resumed),
            };
            let arguments = std::iter::once("scale".to_owned()).chain(spec.arguments());
            assert_eq!(Cli::parse_from(arguments).spec, spec);
        }
    }
}
