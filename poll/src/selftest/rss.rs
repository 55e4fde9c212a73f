//! The question whether flows arrive on the queues that their hash says.

use std::collections::BTreeSet;
use std::net::SocketAddrV6;

use super::cable::{Cable, Outgoing, ROUNDS};
use super::checks::{
    Answer, PAYLOAD, Question, SRC_PORT, lies, no_answer, not_seen, nothing_arrived, ok,
};
use super::frame::{self, Content, UDP_PORT};
use crate::port::Rss;
use crate::wire::Checksum;

/// Flows that are to be spread.
const FLOWS: usize = 32;
/// How many of them are to be seen at least.
const FLOWS_MIN: usize = FLOWS * 3 / 4;

pub(super) fn rss(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let (offered, in_force) = (port.info().rss_table > 0, port.rss().is_some());
    let asked = format!("{FLOWS} flows on their queues");
    Question::new(port, "rss", [offered, in_force], asked, |cable| {
        let payload = frame::pattern(PAYLOAD);
        let rss = cable.receiver().rss().cloned();
        let mut flows = BTreeSet::new();
        for _ in 0..ROUNDS {
            cable.ask();
            let frames: Vec<_> = (SRC_PORT..)
                .take(FLOWS)
                .map(|src_port| Outgoing {
                    frame: cable.frame(src_port, Checksum::Software, &payload),
                    ..Outgoing::default()
                })
                .collect();
            let seen = cable.exchange(&frames, |seen| seen.len() >= FLOWS)?;
            let question = cable.question();
            flows.extend(seen.iter().filter_map(|seen| {
                match seen.content {
                    Content::Datagram { src_port, .. } => Some(Flow {
                        src_port,
                        queue: seen.queue,
                        predicted: rss
                            .as_ref()
                            .map_or(0, |rss| predicted(rss, question, src_port)),
                    }),
                    Content::Fragment | Content::Mangled => None,
                }
            }));
            if distinct(&flows, |flow| flow.src_port) >= FLOWS_MIN {
                break;
            }
        }
        Ok(spread(&flows))
    })
}

/// A flow that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    src_port: u16,
    queue: u16,
    /// The queue that Toeplitz says.
    predicted: u16,
}

fn predicted(rss: &Rss, question: u16, src_port: u16) -> u16 {
    let from = SocketAddrV6::new(frame::source(question), src_port, 0, 0);
    let to = SocketAddrV6::new(frame::destination(question), UDP_PORT, 0, 0);
    rss.queue(from, to)
}

fn distinct(flows: &BTreeSet<Flow>, of: fn(&Flow) -> u16) -> usize {
    flows.iter().map(of).collect::<BTreeSet<_>>().len()
}

/// What to think of where flows arrived.
fn spread(flows: &BTreeSet<Flow>) -> Answer {
    let count = distinct(flows, |flow| flow.src_port);
    let strays = flows.iter().filter(|flow| flow.queue != flow.predicted);
    match strays.count() {
        _ if flows.is_empty() => nothing_arrived(),
        0 if count < FLOWS_MIN => no_answer(format!("{count} of {FLOWS} flows arrived")),
        0 if distinct(flows, |flow| flow.predicted) < 2 => {
            not_seen("all flows belong on one queue")
        }
        0 => ok(format!("{count} flows where Toeplitz predicts")),
        strays => lies(format!(
            "{strays} of {} flows on another queue than Toeplitz predicts",
            flows.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn only_many_flows_on_several_queues_say_something() {
        let flows = |count: u16, queues: u16, shift: u16| -> BTreeSet<Flow> {
            (0..count)
                .map(|src_port| Flow {
                    src_port,
                    queue: (src_port + shift) % queues,
                    predicted: src_port % queues,
                })
                .collect()
        };
        assert_eq!(spread(&flows(32, 4, 0)).1, Verdict::Ok);
        assert_eq!(spread(&flows(24, 4, 0)).1, Verdict::Ok);
        assert_eq!(spread(&flows(23, 4, 0)).1, Verdict::NoAnswer);
        assert_eq!(spread(&flows(32, 1, 0)).1, Verdict::NotSeen);
        assert_eq!(spread(&flows(32, 4, 1)).1, Verdict::Lies);
        assert_eq!(spread(&flows(1, 4, 1)).1, Verdict::Lies);
        assert_eq!(spread(&flows(0, 4, 0)).1, Verdict::Lies);
    }
}
