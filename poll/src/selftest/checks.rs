//! The questions that are asked of a pair of ports, one an offload.

use std::time::Duration;

use dpdk_sys as sys;
use hugepages::TxOffload;

use super::cable::{Cable, Outgoing};
use super::frame::{self, Content, Seen, SumSeen, UDP_PORT};
use super::{Finding, Verdict};
use crate::offload::{RxChecksum, Tagging, segmentation};
use crate::port::Port;
use crate::wire::{Checksum, ETHERNET_HEADER, IPV6_HEADER, UDP_HEADER};

/// The UDP port that frames come from, where it does not matter.
const SRC_PORT: u16 = 50_000;
/// Bytes of an unremarkable payload.
const PAYLOAD: usize = 600;
/// The frames of a question that may lose one or two.
const COPIES: usize = 4;
/// Bytes of each datagram of a payload that is to be cut.
const SEGMENT: usize = 1200;
/// How many they are; the last one is shorter.
const SEGMENTS: usize = 4;
const LAST_SEGMENT: usize = 100;
/// Flows that RSS has to spread.
const FLOWS: u16 = 32;
/// How long a frame is held back that leaves on time, and how exactly that is kept.
const DELAY: Duration = Duration::from_millis(20);
const DELAY_SLACK: Duration = Duration::from_micros(200);

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
    let plain = plain(cable);
    let passes = plain.verdict == Verdict::Ok;
    let mut findings = vec![plain];
    let checks: [Check; 8] = [
        tx_checksum,
        rx_checksum,
        udp_segmentation,
        vlan_insert,
        vlan_strip,
        rss,
        jumbo,
        hardware_pacing,
    ];
    for check in checks {
        let question = check(cable);
        findings.push(match question.ask {
            Some(ask) if passes => question.draft.answered(ask(cable)),
            Some(_) => question
                .draft
                .answered(("no plain frame comes through".to_owned(), Verdict::NoAnswer)),
            None => question
                .draft
                .answered((String::new(), Verdict::NotOffered)),
        });
    }
    findings
}

/// Asks about UDP segmentation only.
pub(super) fn segmentation_alone(cable: &mut Cable<'_>) -> Finding {
    let question = udp_segmentation(cable);
    match question.ask {
        Some(ask) => question.draft.answered(ask(cable)),
        None => question
            .draft
            .answered((String::new(), Verdict::NotOffered)),
    }
}

/// A question before it is asked; without `ask`, there is nothing to ask.
struct Question {
    draft: Draft,
    ask: Option<fn(&mut Cable<'_>) -> Answer>,
}

type Check = fn(&Cable<'_>) -> Question;
type Answer = (String, Verdict);

/// A finding without its answer.
struct Draft {
    port: String,
    offload: &'static str,
    offered: bool,
    asked: &'static str,
}

impl Draft {
    fn answered(self, (seen, verdict): Answer) -> Finding {
        Finding {
            port: self.port,
            offload: self.offload,
            offered: self.offered,
            asked: self.asked.to_owned(),
            seen,
            verdict,
        }
    }
}

/// A question about an offload of `port`: asked if it is in force.
fn question(
    port: &Port,
    offload: &'static str,
    offered: bool,
    in_force: bool,
    asked: &'static str,
    ask: fn(&mut Cable<'_>) -> Answer,
) -> Question {
    Question {
        draft: Draft {
            port: port.info().name.clone(),
            offload,
            offered,
            asked: if in_force { asked } else { "" },
        },
        ask: in_force.then_some(ask),
    }
}

fn plain(cable: &mut Cable<'_>) -> Finding {
    let question = question(
        cable.sender(),
        "frames",
        true,
        true,
        "plain frames",
        |cable| {
            let payload = frame::pattern(PAYLOAD);
            // The first frames after a start may find a socket of the kernel that was told of it (net_af_packet over a
            // net_tap), or a link that is not quite up.
            for _ in 0..COPIES {
                cable.ask();
                let outgoing = Outgoing {
                    frame: cable.frame(SRC_PORT, Checksum::Software, &payload),
                    ..Outgoing::default()
                };
                let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
                if let Some(first) = seen.first() {
                    return unchanged(first, &payload);
                }
            }
            ("nothing arrived".to_owned(), Verdict::NoAnswer)
        },
    );
    match question.ask {
        Some(ask) => question.draft.answered(ask(cable)),
        None => question
            .draft
            .answered((String::new(), Verdict::NotOffered)),
    }
}

/// What to think of a frame that no device was to touch.
fn unchanged(seen: &Seen, payload: &[u8]) -> Answer {
    match &seen.content {
        Content::Datagram {
            payload: arrived,
            checksum,
            ..
        } if arrived == payload => match checksum {
            SumSeen::Right => ("arrived as sent".to_owned(), Verdict::Ok),
            SumSeen::Prepared | SumSeen::Wrong => {
                ("arrived with another checksum".to_owned(), Verdict::Lies)
            }
        },
        Content::Datagram { .. } | Content::Fragment | Content::Mangled => {
            ("arrived changed".to_owned(), Verdict::Lies)
        }
    }
}

fn sends(port: &Port, bit: u64) -> bool {
    port.info().tx_offloads & bit != 0
}

fn receives(port: &Port, bit: u64) -> bool {
    port.info().rx_offloads & bit != 0
}

fn tx_checksum(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
    let in_force = port.offloads().tx_checksum == Checksum::PseudoHeader;
    question(
        port,
        "tx_checksum",
        offered,
        in_force,
        "sum completed",
        |cable| {
            cable.ask();
            let payload = frame::pattern(PAYLOAD);
            let outgoing = Outgoing {
                frame: cable.frame(SRC_PORT, Checksum::PseudoHeader, &payload),
                offload: TxOffload {
                    flags: sys::RTE_MBUF_F_TX_IPV6 | sys::RTE_MBUF_F_TX_UDP_CKSUM,
                    l2_len: ETHERNET_HEADER as u8,
                    l3_len: IPV6_HEADER as u16,
                    ..TxOffload::default()
                },
                ..Outgoing::default()
            };
            let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
            match seen.first() {
                None => ("nothing arrived".to_owned(), Verdict::Lies),
                Some(first) => summed(first, &payload),
            }
        },
    )
}

/// What to think of a datagram whose sum a device was to complete.
fn summed(seen: &Seen, payload: &[u8]) -> Answer {
    let Content::Datagram {
        payload: arrived,
        checksum,
        ..
    } = &seen.content
    else {
        return ("no datagram".to_owned(), Verdict::Lies);
    };
    if arrived != payload {
        return ("payload changed".to_owned(), Verdict::Lies);
    }
    let verdict = seen.flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK;
    // A virtual device need not compute what never meets a wire, if it tells the receiver so (virtio's DATA_VALID and
    // NEEDS_CSUM).
    let vouched = [
        sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD,
        sys::RTE_MBUF_F_RX_L4_CKSUM_NONE,
    ];
    match checksum {
        SumSeen::Right => ("right checksum".to_owned(), Verdict::Ok),
        SumSeen::Prepared if vouched.contains(&verdict) => (
            "left unfinished, and the receiver told so".to_owned(),
            Verdict::Ok,
        ),
        SumSeen::Prepared => ("checksum left unfinished".to_owned(), Verdict::Lies),
        SumSeen::Wrong => ("wrong checksum".to_owned(), Verdict::Lies),
    }
}

fn rx_checksum(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    let in_force = port.offloads().rx_checksum == RxChecksum::Trust;
    question(
        port,
        "rx_checksum",
        offered,
        in_force,
        "verdict on sums",
        |cable| {
            cable.ask();
            let payload = frame::pattern(PAYLOAD);
            let right = cable.frame(SRC_PORT, Checksum::Software, &payload);
            let mut wrong = cable.frame(SRC_PORT + 1, Checksum::Software, &payload);
            if let Some(last) = wrong.last_mut() {
                *last ^= 0xff;
            }
            let frames: Vec<_> = [right, wrong]
                .into_iter()
                .flat_map(|frame| {
                    let outgoing = Outgoing {
                        frame,
                        ..Outgoing::default()
                    };
                    vec![outgoing; COPIES]
                })
                .collect();
            let seen = cable.exchange(&frames, |seen| {
                verdict_on(seen, SRC_PORT).is_some() && verdict_on(seen, SRC_PORT + 1).is_some()
            });
            judged(verdict_on(&seen, SRC_PORT), verdict_on(&seen, SRC_PORT + 1))
        },
    )
}

/// What the device says of the datagrams from `src_port`.
fn verdict_on(seen: &[Seen], src_port: u16) -> Option<u64> {
    let of_port = |seen: &&Seen| matches!(seen.content, Content::Datagram { src_port: port, .. } if port == src_port);
    let first = seen.iter().find(of_port)?;
    Some(first.flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK)
}

/// What to think of the verdicts on a right and a wrong sum.
fn judged(right: Option<u64>, wrong: Option<u64>) -> Answer {
    const GOOD: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    const BAD: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_BAD;
    match (right, wrong) {
        (Some(GOOD), Some(BAD)) => ("good is good, bad is bad".to_owned(), Verdict::Ok),
        (Some(GOOD), None) => (
            "good is good, the bad one did not arrive".to_owned(),
            Verdict::Ok,
        ),
        (_, Some(GOOD)) => ("a bad sum is called good".to_owned(), Verdict::Lies),
        (Some(BAD), _) => ("a good sum is called bad".to_owned(), Verdict::Lies),
        (None, _) => ("the good one did not arrive".to_owned(), Verdict::Lies),
        (Some(_), _) => ("no verdict".to_owned(), Verdict::NotSeen),
    }
}

fn udp_segmentation(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_UDP_TSO);
    let in_force = port.offloads().segments_max > 1;
    question(
        port,
        "udp_segmentation",
        offered,
        in_force,
        "4 datagrams in one mbuf",
        |cable| {
            let payload = frame::pattern((SEGMENTS - 1) * SEGMENT + LAST_SEGMENT);
            let mut answer = ("nothing arrived".to_owned(), Verdict::Lies);
            // Where frames get lost, one of several comes through whole.
            for _ in 0..COPIES {
                cable.ask();
                let outgoing = Outgoing {
                    frame: cable.frame(SRC_PORT, Checksum::Segmented, &payload),
                    offload: segmentation::ask(TxOffload::default(), SEGMENT as u16),
                    ..Outgoing::default()
                };
                let seen = cable.exchange(&[outgoing], |seen| {
                    seen.iter()
                        .filter_map(Seen::payload)
                        .map(<[u8]>::len)
                        .sum::<usize>()
                        >= payload.len()
                });
                answer = segmented(&seen, &payload);
                if answer.1 == Verdict::Ok {
                    break;
                }
            }
            answer
        },
    )
}

/// What to think of what became of a payload that was to be cut.
fn segmented(seen: &[Seen], payload: &[u8]) -> Answer {
    let count = seen.len();
    let lies = |what: String| (what, Verdict::Lies);
    if seen.is_empty() {
        return lies("nothing arrived".to_owned());
    }
    if seen.iter().all(|seen| seen.content == Content::Fragment) {
        return lies(format!("{count} IPv6 fragments"));
    }
    let parts: Vec<&[u8]> = seen.iter().filter_map(Seen::payload).collect();
    if parts.len() != count {
        return lies(format!("{count} frames, not all of them datagrams"));
    }
    if let [whole] = parts[..]
        && whole.len() == payload.len()
    {
        return lies(format!("one datagram of {} bytes, uncut", whole.len()));
    }
    // A wire may reorder them, or double one.
    let mut arrived = parts.clone();
    arrived.sort_unstable();
    arrived.dedup();
    let mut expected: Vec<&[u8]> = payload.chunks(SEGMENT).collect();
    expected.sort_unstable();
    if arrived != expected {
        let sizes: Vec<_> = parts.iter().map(|part| part.len().to_string()).collect();
        return lies(format!("datagrams of {} bytes", sizes.join(", ")));
    }
    let right = |seen: &&Seen| {
        matches!(
            seen.content,
            Content::Datagram {
                checksum: SumSeen::Right,
                ..
            }
        )
    };
    match seen.iter().filter(right).count() {
        right if right == count => (format!("{count} datagrams, sums right"), Verdict::Ok),
        right => lies(format!("{count} datagrams, {right} sums right")),
    }
}

fn vlan_insert(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
    let vlan = port.offloads().vlan;
    let in_force = vlan.is_some_and(|vlan| vlan.insert == Tagging::Hardware);
    question(
        port,
        "vlan_insert",
        offered,
        in_force,
        "tag inserted",
        |cable| {
            let Some(vlan) = cable.sender().offloads().vlan else {
                return (String::new(), Verdict::NotOffered);
            };
            cable.ask();
            let payload = frame::pattern(PAYLOAD);
            let outgoing = Outgoing {
                frame: cable.frame(SRC_PORT, Checksum::Software, &payload),
                offload: TxOffload {
                    flags: sys::RTE_MBUF_F_TX_VLAN,
                    ..TxOffload::default()
                },
                vlan_tci: vlan.id,
                ..Outgoing::default()
            };
            let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
            let Some(first) = seen.first() else {
                return ("nothing arrived".to_owned(), Verdict::Lies);
            };
            let stripped = first.flags & sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0;
            match first.tag.or(stripped.then_some(first.vlan_tci)) {
                _ if first.payload() != Some(&payload) => {
                    ("payload changed".to_owned(), Verdict::Lies)
                }
                Some(tci) if tci == vlan.id => (format!("tag {tci}"), Verdict::Ok),
                Some(tci) => (format!("tag {tci} instead of {}", vlan.id), Verdict::Lies),
                None => ("no tag".to_owned(), Verdict::Lies),
            }
        },
    )
}

fn vlan_strip(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
    let vlan = port.offloads().vlan;
    let in_force = vlan.is_some_and(|vlan| vlan.strip == Tagging::Hardware);
    question(
        port,
        "vlan_strip",
        offered,
        in_force,
        "tag taken off",
        |cable| {
            let Some(vlan) = cable.receiver().offloads().vlan else {
                return (String::new(), Verdict::NotOffered);
            };
            cable.ask();
            let payload = frame::pattern(PAYLOAD);
            let untagged = cable.frame(SRC_PORT, Checksum::Software, &payload);
            let outgoing = Outgoing {
                frame: frame::tagged(&untagged, vlan.id),
                ..Outgoing::default()
            };
            let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
            let Some(first) = seen.first() else {
                return ("nothing arrived".to_owned(), Verdict::Lies);
            };
            let said = first.flags & sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0;
            match (said, first.tag) {
                (true, None) if first.vlan_tci == vlan.id => {
                    (format!("taken off, {} in the mbuf", vlan.id), Verdict::Ok)
                }
                (true, None) => (
                    format!("taken off, but {} in the mbuf", first.vlan_tci),
                    Verdict::Lies,
                ),
                (true, Some(_)) => (
                    "said to be taken off, and is there".to_owned(),
                    Verdict::Lies,
                ),
                (false, Some(_)) => ("left in the frame".to_owned(), Verdict::NotSeen),
                (false, None) => ("taken off, and nothing said".to_owned(), Verdict::Lies),
            }
        },
    )
}

fn rss(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let (offered, in_force) = (port.info().rss_table > 0, port.rss().is_some());
    question(
        port,
        "rss",
        offered,
        in_force,
        "32 flows on their queues",
        |cable| {
            cable.ask();
            let payload = frame::pattern(PAYLOAD);
            let ports = SRC_PORT..SRC_PORT + FLOWS;
            let frames: Vec<_> = ports
                .clone()
                .map(|src_port| Outgoing {
                    frame: cable.frame(src_port, Checksum::Software, &payload),
                    ..Outgoing::default()
                })
                .collect();
            let seen = cable.exchange(&frames, |seen| seen.len() >= usize::from(FLOWS));
            let question = cable.question();
            let Some(rss) = cable.receiver().rss() else {
                return (String::new(), Verdict::NotOffered);
            };
            let predicted = |src_port| {
                let from = std::net::SocketAddrV6::new(frame::source(question), src_port, 0, 0);
                let to = std::net::SocketAddrV6::new(frame::destination(question), UDP_PORT, 0, 0);
                rss.queue(from, to)
            };
            let strays = seen.iter().filter(|seen| match seen.content {
                Content::Datagram { src_port, .. } => predicted(src_port) != seen.queue,
                Content::Fragment | Content::Mangled => true,
            });
            match (strays.count(), seen.len()) {
                (_, 0) => ("nothing arrived".to_owned(), Verdict::Lies),
                (0, flows) => (
                    format!("{flows} flows where Toeplitz predicts"),
                    Verdict::Ok,
                ),
                (strays, flows) => (
                    format!("{strays} of {flows} flows on another queue than Toeplitz predicts"),
                    Verdict::Lies,
                ),
            }
        },
    )
}

fn jumbo(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_SCATTER);
    let fits = cable.room() >= usize::from(port.mtu()) + ETHERNET_HEADER;
    question(
        port,
        "scatter",
        offered,
        fits,
        "a frame of the MTU",
        |cable| {
            cable.ask();
            let mtu = usize::from(cable.receiver().mtu().min(cable.sender().mtu()));
            let payload = frame::pattern(mtu - IPV6_HEADER - UDP_HEADER);
            let outgoing = Outgoing {
                frame: cable.frame(SRC_PORT, Checksum::Software, &payload),
                ..Outgoing::default()
            };
            let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
            match seen.first() {
                None => (format!("{mtu} bytes: nothing arrived"), Verdict::Lies),
                Some(first) if first.payload() == Some(&payload) => (
                    format!("{mtu} bytes whole, in mbufs: {}", first.mbufs),
                    Verdict::Ok,
                ),
                Some(_) => (format!("{mtu} bytes: arrived changed"), Verdict::Lies),
            }
        },
    )
}

fn hardware_pacing(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP);
    let in_force = port.offloads().pacing && cable.clock().is_some();
    question(
        port,
        "hardware_pacing",
        offered,
        in_force,
        "held back for 20 ms",
        |cable| {
            cable.ask();
            let outgoing = Outgoing {
                frame: cable.frame(SRC_PORT, Checksum::Software, &frame::pattern(PAYLOAD)),
                delay: Some(DELAY),
                ..Outgoing::default()
            };
            let start = std::time::Instant::now();
            let seen = cable.exchange(&vec![outgoing; COPIES], |seen| !seen.is_empty());
            let Some(first) = seen.first() else {
                return ("nothing arrived".to_owned(), Verdict::Lies);
            };
            let after = first.at.duration_since(start);
            let seen = format!("left after {:.3} ms", after.as_secs_f64() * 1e3);
            if after + DELAY_SLACK < DELAY {
                (seen, Verdict::Lies)
            } else {
                (seen, Verdict::Ok)
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(content: Content) -> Seen {
        Seen {
            at: std::time::Instant::now(),
            queue: 0,
            flags: 0,
            vlan_tci: 0,
            mbufs: 1,
            tag: None,
            content,
        }
    }

    fn datagrams(sizes: &[usize], checksum: SumSeen) -> (Vec<Seen>, Vec<u8>) {
        let whole = frame::pattern((SEGMENTS - 1) * SEGMENT + LAST_SEGMENT);
        let mut rest = &whole[..];
        let frames = sizes.iter().map(|&size| {
            let (payload, behind) = rest.split_at(size);
            rest = behind;
            seen(Content::Datagram {
                src_port: SRC_PORT,
                payload: payload.to_vec(),
                checksum,
            })
        });
        (frames.collect(), whole.clone())
    }

    #[test]
    fn segmentation_is_told_from_what_is_not() {
        let answer = |sizes: &[usize], checksum| {
            let (frames, whole) = datagrams(sizes, checksum);
            segmented(&frames, &whole)
        };
        let (text, verdict) = answer(&[1200, 1200, 1200, 100], SumSeen::Right);
        assert_eq!((&*text, verdict), ("4 datagrams, sums right", Verdict::Ok));
        let (text, verdict) = answer(&[1200, 1200, 1200, 100], SumSeen::Prepared);
        assert_eq!(
            (&*text, verdict),
            ("4 datagrams, 0 sums right", Verdict::Lies)
        );
        let (text, verdict) = answer(&[3700], SumSeen::Right);
        assert_eq!(
            (&*text, verdict),
            ("one datagram of 3700 bytes, uncut", Verdict::Lies)
        );
        let (text, verdict) = answer(&[1200, 1200, 1300], SumSeen::Right);
        assert_eq!(
            (&*text, verdict),
            ("datagrams of 1200, 1200, 1300 bytes", Verdict::Lies)
        );
        assert_eq!(answer(&[], SumSeen::Right).1, Verdict::Lies);
        let fragments = vec![seen(Content::Fragment); 3];
        assert_eq!(segmented(&fragments, &[]).0, "3 IPv6 fragments");
        let mixed = vec![seen(Content::Fragment), seen(Content::Mangled)];
        assert_eq!(segmented(&mixed, &[]).1, Verdict::Lies);
    }

    #[test]
    fn verdicts_of_a_device_are_judged_by_what_was_sent() {
        const GOOD: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD);
        const BAD: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_BAD);
        const UNKNOWN: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN);
        for (right, wrong, verdict) in [
            (GOOD, BAD, Verdict::Ok),
            (GOOD, None, Verdict::Ok),
            (GOOD, GOOD, Verdict::Lies),
            (BAD, BAD, Verdict::Lies),
            (UNKNOWN, GOOD, Verdict::Lies),
            (None, BAD, Verdict::Lies),
            (UNKNOWN, UNKNOWN, Verdict::NotSeen),
            (UNKNOWN, BAD, Verdict::NotSeen),
            (GOOD, UNKNOWN, Verdict::NotSeen),
        ] {
            assert_eq!(judged(right, wrong).1, verdict, "{right:?}, {wrong:?}");
        }
    }
}
