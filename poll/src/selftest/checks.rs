//! The questions that are asked of a pair of ports, one an offload.

use super::cable::{Cable, NotSent, Outgoing};
use super::frame::{self, Content, Seen, SumSeen};
use super::{Finding, Verdict, pacing, receive, rss, segmentation, transmit};
use crate::port::Port;
use crate::wire::{Checksum, ETHERNET_HEADER, HEADERS};

/// The UDP port that frames come from, where it does not matter.
pub(super) const SRC_PORT: u16 = 50_000;
/// Bytes of an unremarkable payload.
pub(super) const PAYLOAD: usize = 600;

/// The offloads, in the order in which they are told.
pub(super) const ORDER: [&str; 9] = [
    "frames",
    "tx_checksum",
    "rx_checksum",
    "udp_segmentation",
    "rss",
    "vlan_insert",
    "vlan_strip",
    "scatter",
    "hardware_pacing",
];

/// Asks everything. Without an answer to a plain frame, nothing else is asked.
pub(super) fn all(cable: &mut Cable<'_>) -> Vec<Finding> {
    let plain = frames(cable).put(cable);
    let passes = plain.verdict != Verdict::NoAnswer;
    let mut findings = vec![plain];
    let questions: [fn(&Cable<'_>) -> Question; 8] = [
        transmit::tx_checksum,
        receive::rx_checksum,
        segmentation::udp_segmentation,
        transmit::vlan_insert,
        receive::vlan_strip,
        rss::rss,
        receive::scatter,
        pacing::hardware_pacing,
    ];
    for question in questions {
        let question = question(cable);
        findings.push(match passes {
            true => question.put(cable),
            false => question.unanswered("no plain frame comes through"),
        });
    }
    findings
}

/// Asks about UDP segmentation only.
pub(super) fn segmentation_alone(cable: &mut Cable<'_>) -> Finding {
    let question = segmentation::udp_segmentation(cable);
    if question.ask.is_none() {
        return question.put(cable);
    }
    match plain(cable) {
        Ok((_, Verdict::Ok)) => question.put(cable),
        Ok((seen, _)) => question.unanswered(&format!("plain frames: {seen}")),
        Err(why) => question.unanswered(&why.to_string()),
    }
}

/// What was seen, and what to think of it.
pub(super) type Answer = (String, Verdict);
type Ask = fn(&mut Cable<'_>) -> Result<Answer, NotSent>;

/// A question before it is asked; without `ask`, there is nothing to ask.
pub(super) struct Question {
    port: String,
    offload: &'static str,
    offered: bool,
    asked: String,
    ask: Option<Ask>,
}

impl Question {
    /// A question about an offload of `port`: asked if it is in force.
    pub(super) fn new(
        port: &Port,
        offload: &'static str,
        [offered, in_force]: [bool; 2],
        asked: impl Into<String>,
        ask: Ask,
    ) -> Self {
        Self {
            port: port.info().name.clone(),
            offload,
            offered,
            asked: if in_force {
                asked.into()
            } else {
                String::new()
            },
            ask: in_force.then_some(ask),
        }
    }

    fn put(self, cable: &mut Cable<'_>) -> Finding {
        match self.ask.map(|ask| ask(cable)) {
            Some(Ok(answer)) => self.answered(answer),
            Some(Err(why)) => self.unanswered(&why.to_string()),
            None => self.answered((String::new(), Verdict::NotOffered)),
        }
    }

    /// Nothing can be said of an offload in force, and why.
    fn unanswered(self, why: &str) -> Finding {
        match self.ask {
            Some(_) => self.answered((why.to_owned(), Verdict::NoAnswer)),
            None => self.answered((String::new(), Verdict::NotOffered)),
        }
    }

    fn answered(self, (seen, verdict): Answer) -> Finding {
        Finding {
            port: self.port,
            offload: self.offload,
            offered: self.offered,
            asked: self.asked,
            seen,
            verdict,
        }
    }
}

pub(super) fn ok(seen: impl Into<String>) -> Answer {
    (seen.into(), Verdict::Ok)
}

pub(super) fn lies(seen: impl Into<String>) -> Answer {
    (seen.into(), Verdict::Lies)
}

pub(super) fn not_seen(seen: impl Into<String>) -> Answer {
    (seen.into(), Verdict::NotSeen)
}

pub(super) fn no_answer(seen: impl Into<String>) -> Answer {
    (seen.into(), Verdict::NoAnswer)
}

/// What of a question never gets an answer where plain frames do.
pub(super) fn nothing_arrived() -> Answer {
    lies("nothing arrived")
}

pub(super) fn sends(port: &Port, bit: u64) -> bool {
    port.info().tx_offloads & bit != 0
}

pub(super) fn receives(port: &Port, bit: u64) -> bool {
    port.info().rx_offloads & bit != 0
}

/// A frame that no device is to touch.
pub(super) fn untouched(cable: &Cable<'_>, payload: &[u8]) -> Outgoing {
    Outgoing {
        frame: cable.frame(SRC_PORT, Checksum::Software, payload),
        ..Outgoing::default()
    }
}

/// The largest IPv6 packet that both ends take, bytes.
pub(super) fn mtu(cable: &Cable<'_>) -> usize {
    usize::from(cable.receiver().mtu().min(cable.sender().mtu()))
}

/// Frames without any offload: small ones, and those of the MTU, if it takes no scattering to receive them.
fn frames(cable: &Cable<'_>) -> Question {
    let asked = "plain frames";
    Question::new(cable.sender(), "frames", [true; 2], asked, |cable| {
        let small = plain(cable)?;
        let fits = cable.room() >= mtu(cable) + ETHERNET_HEADER;
        if small.1 != Verdict::Ok || !fits || cable.receiver().offloads().scatter {
            return Ok(small);
        }
        let mtu = mtu(cable);
        let payload = frame::pattern(mtu + ETHERNET_HEADER - HEADERS);
        Ok(match cable.first(|cable| untouched(cable, &payload))? {
            None => lies(format!("small ones arrived, one of {mtu} bytes did not")),
            Some(first) => match unchanged(&first, &payload) {
                (_, Verdict::Ok) => ok(format!("arrived as sent, up to {mtu} bytes")),
                (seen, verdict) => (format!("{mtu} bytes: {seen}"), verdict),
            },
        })
    })
}

/// Whether a plain frame comes through.
fn plain(cable: &mut Cable<'_>) -> Result<Answer, NotSent> {
    let payload = frame::pattern(PAYLOAD);
    // The first frames after a start may find a socket of the kernel that was not told of it (net_af_packet over a net_tap),
    // or a link that is not quite up: hence the rounds.
    Ok(match cable.first(|cable| untouched(cable, &payload))? {
        None => no_answer("nothing arrived"),
        Some(first) => unchanged(&first, &payload),
    })
}

/// What to think of a frame that no device was to touch.
fn unchanged(seen: &Seen, payload: &[u8]) -> Answer {
    match &seen.content {
        Content::Datagram {
            payload: arrived,
            checksum,
            ..
        } if arrived == payload => match checksum {
            SumSeen::Right => ok("arrived as sent"),
            SumSeen::Prepared | SumSeen::Wrong => lies("arrived with another checksum"),
        },
        Content::Datagram { .. } | Content::Fragment | Content::Mangled => lies("arrived changed"),
    }
}
