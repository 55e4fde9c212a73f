//! What is measured, and through which way.

use std::fmt;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::recorder::{Kind, Terms};

/// Bytes of a request, the header of eight that says how long its answer is among them.
pub const REQUEST: usize = 512;
/// Bytes of the answer to a small request.
const ANSWER: u64 = 4096;
/// Bytes of each answer of a bulk download: one after the other, so that all of them can be counted to the end.
const BULK_ANSWER: u64 = 64 << 20;
/// The most time that is left out at the start: streams granted as they are used, the congestion window, caches.
const WARM_UP_MAX: Duration = Duration::from_millis(500);
/// Rest of a new connection, before any of that: MTU discovery probes only while there is nothing else to send.
pub const REST: Duration = Duration::from_millis(100);
/// Time beyond that and its length that a measurement may take: start, last answers, end.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Small requests, one at a time.
    #[value(name = "requests-1")]
    Requests1,
    /// Small requests, 16 at a time.
    #[value(name = "requests-16")]
    Requests16,
    /// Small requests, 256 at a time.
    #[value(name = "requests-256")]
    Requests256,
    /// Large answers, one after the other.
    Bulk,
    /// What it costs to cross into an lcore, without packets.
    Crossing,
}

impl Case {
    /// The heading of its table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Requests1 => "512 B ANSWERED BY 4 KiB, 1 OUTSTANDING",
            Self::Requests16 => "512 B ANSWERED BY 4 KiB, 16 OUTSTANDING",
            Self::Requests256 => "512 B ANSWERED BY 4 KiB, 256 OUTSTANDING",
            Self::Bulk => "BULK DOWNLOAD, ONE CONNECTION",
            Self::Crossing => "CROSSING INTO AN LCORE",
        }
    }

    /// Whether it is about small requests, and their latency.
    pub fn is_requests(self) -> bool {
        matches!(self, Self::Requests1 | Self::Requests16 | Self::Requests256)
    }

    /// Requests under way at a time.
    pub fn outstanding(self) -> usize {
        match self {
            Self::Requests1 | Self::Bulk | Self::Crossing => 1,
            Self::Requests16 => 16,
            Self::Requests256 => 256,
        }
    }

    /// Bytes of each answer.
    pub fn answer(self) -> u64 {
        match self {
            Self::Bulk => BULK_ANSWER,
            _ => ANSWER,
        }
    }

    /// The ways that it is measured through, in the order of a round.
    pub fn ways(self) -> &'static [Way] {
        match self {
            Self::Crossing => &[Way::Handle, Way::HandleTask, Way::HandleSpinning],
            _ => Way::value_variants(),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self).as_str())
    }
}

/// The way from the program to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// (a): server on lcore 0, client on lcore 1, both applications of their shards.
    Shard,
    /// (a), with server and client on lcore 0.
    ShardOneLcore,
    /// (b): client and server use the handle, on CPU 1; both shards are on lcore 0. The courier is a thread on CPU 1.
    Handle,
    /// (b), with the courier as a task beside those that use the handle.
    HandleTask,
    /// (b), with a courier task that never sleeps.
    HandleSpinning,
    /// (b), with a courier task that never sleeps and a server that is an application of its shard.
    HandleClient,
    /// (c): quinn over kernel UDP on loopback, server thread on CPU 0, client thread on CPU 1; they sleep in epoll.
    Quinn,
    /// (c), with threads that never sleep.
    QuinnBusy,
}

impl Way {
    /// How tables name it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Shard => "(a) application on the shard, two lcores",
            Self::ShardOneLcore => "(a) application on the shard, one lcore",
            Self::Handle => "(b) handle, courier thread",
            Self::HandleTask => "(b) handle, courier task",
            Self::HandleSpinning => "(b) handle, spinning",
            Self::HandleClient => "(b) handle, spinning, server on the shard",
            Self::Quinn => "(c) quinn, blocking threads",
            Self::QuinnBusy => "(c) quinn, busy polling",
        }
    }

    /// Whether a failure of it fails the run: the engine's does, quinn's is a remark.
    pub fn is_engine(self) -> bool {
        !matches!(self, Self::Quinn | Self::QuinnBusy)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self).as_str())
    }
}

fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// One measurement: a process is told it on its command line.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Spec {
    /// The way.
    #[arg(long)]
    pub way: Way,
    /// The case.
    #[arg(long)]
    pub case: Case,
    /// Its length, seconds, without what is left out at its start.
    #[arg(long)]
    pub seconds: f64,
}

impl Spec {
    /// The command line of this measurement.
    pub fn arguments(&self) -> [String; 3] {
        [
            format!("--way={}", self.way),
            format!("--case={}", self.case),
            format!("--seconds={}", self.seconds),
        ]
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.01, 3600.0))
    }

    /// What is left out before.
    pub fn warm_up(&self) -> Duration {
        self.length().min(WARM_UP_MAX)
    }

    /// What its recorder has to know.
    pub fn terms(&self) -> Terms {
        Terms {
            answer: self.case.answer(),
            outstanding: self.case.outstanding(),
            figures: match self.case.is_requests() {
                true => Kind::Requests,
                false => Kind::Bulk,
            },
            warm_up: self.warm_up(),
            length: self.length(),
        }
    }

    /// The most time that it may take, from the start of its process to its end.
    pub fn limit(&self) -> Duration {
        self.warm_up() + self.length() + OVERHEAD_MAX
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
        for &case in Case::value_variants() {
            for &way in case.ways() {
                let spec = Spec {
                    way,
                    case,
                    seconds: 0.25,
                };
                let arguments = std::iter::once("api".to_owned()).chain(spec.arguments());
                assert_eq!(Cli::parse_from(arguments).spec, spec);
            }
        }
    }
}
