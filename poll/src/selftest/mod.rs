//! The self-test: what a device does with the offloads that it offers, seen on the wire.
//!
//! A capability bit is no proof. `RTE_ETH_TX_OFFLOAD_UDP_TSO` stands for datagrams on one card and for IP fragments on
//! another, and drivers of virtual devices promise what their other side does not keep. So frames are sent through every
//! offload in force on one port, and looked at where they come out: on a second port at the other end of a cable, or on
//! the same one if the cable comes back to it.
//!
//! ```text
//!   left                                    right
//!   TX offloads  ──── frames, then ────►    RX offloads        and the same from right to left
//!                     what became of them
//! ```
//!
//! The ports must be idle: what else arrives is left alone, but thrown away.

mod cable;
mod checks;
mod frame;
mod pacing;
mod receive;
mod rss;
mod segmentation;
mod setup;
mod transmit;

use std::fmt;
use std::time::{Duration, Instant};

use hugepages::Mempool;

use crate::offload::PacingClock;
use crate::port::Port;
use crate::queue::QueuePair;
use cable::Cable;

pub use setup::{TX_DATA_ROOM, port_config, rx_data_room};

/// A port under test.
#[derive(Debug)]
pub struct TestEnd {
    /// The port. What its [`Offloads`](crate::offload::Offloads) say is in force is put to the test.
    pub port: Port,
    /// All its queue pairs.
    pub queues: Vec<QueuePair>,
    /// Where frames to send are built.
    pub pool: Mempool,
    /// The clock by which it sends, where it sends on time.
    pub clock: Option<PacingClock>,
}

/// What was found of one offload of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The device whose offload it is.
    pub port: String,
    /// The offload: the key of the configuration file, or `frames`, `scatter`.
    pub offload: &'static str,
    /// Whether the device offers it.
    pub offered: bool,
    /// What was asked of the device; empty if nothing was.
    pub asked: String,
    /// What came out at the other end.
    pub seen: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// What to think of an offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It does what it is for.
    Ok,
    /// It does something else, and must not be used.
    Lies,
    /// Frames pass, but the device says nothing of what it is asked for, or the line leaves it open. Harmless: the engine
    /// does it.
    NotSeen,
    /// The device does not offer it, or it was not asked for.
    NotOffered,
    /// Nothing can be said: no plain frame comes through, the question could not be sent, or the wire lost too much of it.
    NoAnswer,
}

impl Verdict {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lies => "lies",
            Self::NotSeen => "not seen",
            Self::NotOffered => "not offered",
            Self::NoAnswer => "no answer",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Tests every offload in force: of both ports of a cable, or of the one at both its ends. `turn` is called while frames
/// are awaited, with the time, to drive what stands between the ports. What does not come within `patience` does not come.
pub fn run(
    ends: &mut [TestEnd],
    patience: Duration,
    turn: &mut dyn FnMut(Instant),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (from, to) in ways(ends.len()) {
        let mut cable = Cable::new(ends, from, to, patience, turn);
        findings.extend(checks::all(&mut cable));
    }
    // Each way has told of one sender and one receiver.
    let place = |finding: &Finding| {
        checks::ORDER
            .iter()
            .position(|&name| name == finding.offload)
    };
    findings.sort_by_key(|finding| (finding.port.clone(), place(finding)));
    findings
}

/// Tests UDP segmentation alone, of the port `ends[from]`, on the way to the other end. A wire that lets no plain frame
/// through, or loses much, gives no answer.
pub fn segmentation(
    ends: &mut [TestEnd],
    from: usize,
    patience: Duration,
    turn: &mut dyn FnMut(Instant),
) -> Finding {
    let to = ends.len() - 1 - from;
    checks::segmentation_alone(&mut Cable::new(ends, from, to, patience, turn))
}

/// From which end to which.
fn ways(ends: usize) -> Vec<(usize, usize)> {
    match ends {
        0 => Vec::new(),
        1 => vec![(0, 0)],
        _ => vec![(0, 1), (1, 0)],
    }
}
