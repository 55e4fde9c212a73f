//! The cases: what is measured, and which figures of it are rows of the table.

use std::fmt;

use clap::ValueEnum;

use super::peer::{Load, Work};

/// Bytes of a small request, its header of eight among them.
pub const REQUEST: u64 = 512;
/// Bytes of the answer to a small request.
const ANSWER: u64 = 4096;
/// Bytes of each answer of one bulk download.
const BULK_ANSWER: u64 = 64 << 20;
/// The same where many run at a time: each is counted to its end.
const BULK_ANSWER_OF_MANY: u64 = 2 << 20;
/// Bytes of an unreliable datagram: one fits a packet, two do not.
const DATAGRAM: u64 = 1000;
/// Handshakes, or datagrams, under way at a time.
const UNDER_WAY: usize = 64;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Case {
    /// One connection that downloads, datagrams of 1452 bytes.
    #[value(name = "bulk-1452")]
    Bulk1452,
    /// The same with datagrams of 8952 bytes.
    #[value(name = "bulk-8952")]
    Bulk8952,
    /// 100 connections that download.
    #[value(name = "bulk-100")]
    Bulk100,
    /// One small request at a time; threads sleep while they wait.
    #[value(name = "request-sleeping")]
    RequestSleeping,
    /// The same with threads that never sleep.
    #[value(name = "request-polling")]
    RequestPolling,
    /// 64 small requests at a time; threads never sleep.
    #[value(name = "requests-64")]
    Requests64,
    /// Full handshakes.
    Handshakes,
    /// Resumed ones.
    Resumed,
    /// Unreliable datagrams that come back.
    Datagrams,
    /// Connections at rest.
    Idle,
}

/// A figure of a case: a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The figure's name in a cell.
    pub figure: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which of two is the better.
    pub better: Better,
}

/// Which of two figures is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The greater.
    More,
    /// The smaller.
    Less,
    /// None: it is a condition.
    Neither,
}

impl Case {
    /// The rows that it fills.
    pub fn rows(self) -> &'static [Row] {
        const fn row(
            better: Better,
            figure: &'static str,
            title: &'static str,
            unit: &'static str,
        ) -> Row {
            Row {
                figure,
                title,
                unit,
                better,
            }
        }
        use Better::{Less, More, Neither};
        match self {
            Self::Bulk1452 => {
                const {
                    &[
                        row(More, "goodput", "bulk, 1 connection, 1452 B", "Gbit/s"),
                        row(Less, "CPU", "CPU time of both ends for it", "s/GB"),
                        row(
                            Neither,
                            "packet on the wire",
                            "mean IP packet during it",
                            "B",
                        ),
                    ]
                }
            }
            Self::Bulk8952 => {
                const { &[row(More, "goodput", "bulk, 1 connection, 8952 B", "Gbit/s")] }
            }
            Self::Bulk100 => {
                const {
                    &[row(
                        More,
                        "goodput",
                        "bulk, 100 connections, 1452 B",
                        "Gbit/s",
                    )]
                }
            }
            Self::RequestSleeping => {
                const {
                    &[
                        row(Less, "p50", "512 B / 4 kB, sleeping, p50", "us"),
                        row(Less, "p99", "512 B / 4 kB, sleeping, p99", "us"),
                    ]
                }
            }
            Self::RequestPolling => {
                const {
                    &[
                        row(Less, "p50", "512 B / 4 kB, polling, p50", "us"),
                        row(Less, "p99", "512 B / 4 kB, polling, p99", "us"),
                        row(More, "requests", "requests, 1 at a time", "/s"),
                    ]
                }
            }
            Self::Requests64 => const { &[row(More, "requests", "requests, 64 at a time", "/s")] },
            Self::Handshakes => const { &[row(More, "requests", "handshakes, full", "/s")] },
            Self::Resumed => const { &[row(More, "requests", "handshakes, resumed", "/s")] },
            Self::Datagrams => {
                const { &[row(More, "requests", "datagrams of 1000 B and back", "/s")] }
            }
            Self::Idle => {
                const {
                    &[row(
                        Less,
                        "memory",
                        "memory of an idle connection, both ends",
                        "kB",
                    )]
                }
            }
        }
    }

    /// What a client does.
    pub fn work(self) -> Work {
        match self {
            Self::Bulk1452 | Self::Bulk8952 | Self::Bulk100 => Work::Bulk,
            Self::RequestSleeping | Self::RequestPolling | Self::Requests64 => Work::Requests,
            Self::Handshakes => Work::Handshakes,
            Self::Resumed => Work::Resumed,
            Self::Datagrams => Work::Datagrams,
            Self::Idle => Work::Idle,
        }
    }

    /// How much of it, for `seconds`.
    pub fn load(self, seconds: f64, quick: bool) -> Load {
        let load = |connections, outstanding, answer| Load {
            connections,
            outstanding,
            answer,
            seconds,
        };
        match self {
            Self::Bulk1452 | Self::Bulk8952 => load(1, 1, BULK_ANSWER),
            Self::Bulk100 => load(100, 100, BULK_ANSWER_OF_MANY),
            Self::RequestSleeping | Self::RequestPolling => load(1, 1, ANSWER),
            Self::Requests64 => load(1, UNDER_WAY, ANSWER),
            Self::Handshakes | Self::Resumed => load(1, UNDER_WAY, 0),
            Self::Datagrams => load(1, UNDER_WAY, DATAGRAM),
            Self::Idle => load(if quick { 500 } else { 4000 }, 0, 0),
        }
    }

    /// Whether the threads of both ends never sleep.
    pub fn polls(self) -> bool {
        matches!(
            self,
            Self::RequestPolling | Self::Requests64 | Self::Datagrams
        )
    }

    /// IP MTU of the path.
    pub fn mtu(self) -> u16 {
        match self {
            Self::Bulk8952 => 9000,
            _ => 1500,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
