//! The question whether a payload is cut into datagrams, asked as lanes ask.

use std::collections::BTreeSet;

use dpdk_sys as sys;

use super::cable::{Cable, Outgoing, ROUNDS};
use super::checks::{Answer, Question, SRC_PORT, lies, mtu, no_answer, nothing_arrived, ok, sends};
use super::frame::{self, Content, Seen, SumSeen};
use crate::wire::{Checksum, ETHERNET_HEADER, HEADERS, UDP_HEADER};

/// Bytes that a UDP datagram carries at most.
const UDP_PAYLOAD_MAX: usize = u16::MAX as usize - UDP_HEADER;

pub(super) fn udp_segmentation(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_UDP_TSO);
    let in_force = port.offloads().segments_max > 1;
    let Shape { size, count } = Shape::largest(cable);
    let asked = format!("{count} datagrams in one mbuf, of {size} bytes");
    Question::new(
        port,
        "udp_segmentation",
        [offered, in_force],
        asked,
        |cable| {
            let shape = Shape::largest(cable);
            let vlan = cable.sender().offloads().vlan.map(|vlan| vlan.id);
            let payload = frame::pattern(shape.payload());
            let mut parts = BTreeSet::new();
            // Where frames get lost, what is missing comes another time.
            for _ in 0..ROUNDS {
                cable.ask();
                let frame = cable.frame(SRC_PORT, Checksum::Segmented, &payload);
                let expected = Expected {
                    head: frame::head(&frame).unwrap_or_default(),
                    payload: &payload,
                    size: shape.size,
                    vlan,
                };
                let outgoing = Outgoing {
                    frame,
                    segment: Some(shape.size as u16),
                    ..Outgoing::default()
                };
                let seen = cable.exchange(&[outgoing], |seen| bytes(seen) >= payload.len())?;
                match expected.parts(&seen) {
                    Ok(seen) => parts.extend(seen.into_iter().map(<[u8]>::to_vec)),
                    Err(lie) => return Ok(lie),
                }
                if parts.len() == shape.count {
                    break;
                }
            }
            Ok(whole(parts.len(), shape.count))
        },
    )
}

/// How a payload is to be cut.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Bytes of each datagram; the last one is shorter.
    size: usize,
    count: usize,
}

impl Shape {
    /// The largest that a lane would ask for: datagrams of the MTU, as many as the mbuf and the device take; or smaller
    /// ones, where two of those do not fit.
    fn largest(cable: &Cable<'_>) -> Self {
        let room = cable.room().saturating_sub(HEADERS).min(UDP_PAYLOAD_MAX);
        let of_mtu = (mtu(cable) + ETHERNET_HEADER).saturating_sub(HEADERS);
        let size = of_mtu.min(room / 2).max(1);
        let segments_max = usize::from(cable.sender().offloads().segments_max);
        Self {
            size,
            count: (room / size).min(segments_max),
        }
    }

    fn payload(self) -> usize {
        self.count * self.size - self.size / 2
    }
}

fn bytes(seen: &[Seen]) -> usize {
    seen.iter().filter_map(Seen::payload).map(<[u8]>::len).sum()
}

/// What is to come out.
struct Expected<'a> {
    /// See [`frame::head`].
    head: Vec<u8>,
    payload: &'a [u8],
    size: usize,
    vlan: Option<u16>,
}

impl Expected<'_> {
    /// The parts that came, if they are right; some may be missing.
    fn parts<'a>(&self, seen: &'a [Seen]) -> Result<Vec<&'a [u8]>, Answer> {
        let count = seen.len();
        let wrong =
            |is_right: &dyn Fn(&Seen) -> bool| count - seen.iter().filter(|s| is_right(s)).count();
        if count > 0 && wrong(&|seen| seen.content == Content::Fragment) == 0 {
            return Err(lies(format!("{count} IPv6 fragments")));
        }
        let parts: Vec<&[u8]> = seen.iter().filter_map(Seen::payload).collect();
        if parts.len() != count {
            return Err(lies(format!("{count} frames, not all of them datagrams")));
        }
        if parts.contains(&self.payload) {
            let len = self.payload.len();
            return Err(lies(format!("one datagram of {len} bytes, uncut")));
        }
        let expected: BTreeSet<&[u8]> = self.payload.chunks(self.size).collect();
        if !parts.iter().all(|part| expected.contains(part)) {
            let sizes: Vec<_> = parts.iter().map(|part| part.len().to_string()).collect();
            return Err(lies(format!("datagrams of {} bytes", sizes.join(", "))));
        }
        for (what, wrong) in [
            ("with wrong sums", wrong(&has_right_sum)),
            ("with other headers", wrong(&|seen| seen.head == self.head)),
            (
                "in another VLAN",
                wrong(&|seen| seen.vlan_tag() == self.vlan),
            ),
        ] {
            if wrong > 0 {
                return Err(lies(format!("{count} datagrams, {wrong} {what}")));
            }
        }
        Ok(parts)
    }
}

fn has_right_sum(seen: &Seen) -> bool {
    matches!(
        seen.content,
        Content::Datagram {
            checksum: SumSeen::Right,
            ..
        }
    )
}

/// What to think of datagrams that are right, but perhaps not all there: wires lose frames.
fn whole(seen: usize, count: usize) -> Answer {
    match seen {
        0 => nothing_arrived(),
        seen if seen == count => ok(format!("{count} datagrams, sums right")),
        seen => no_answer(format!(
            "{seen} of {count} datagrams, the others did not arrive"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const SIZE: usize = 1200;
    const VLAN: u16 = 100;

    fn seen(payload: &[u8], checksum: SumSeen) -> Seen {
        Seen {
            head: vec![1, 2, 3],
            tag: Some(VLAN),
            ..Seen::of(Content::Datagram {
                src_port: SRC_PORT,
                payload: payload.to_vec(),
                checksum,
            })
        }
    }

    /// What is thought of frames that carry a payload in parts of these sizes.
    fn answer(
        sizes: &[usize],
        checksum: SumSeen,
        change: impl Fn(&mut Seen),
    ) -> Result<usize, String> {
        let payload = frame::pattern(3 * SIZE + 100);
        let mut rest = &payload[..];
        let mut frames = Vec::new();
        for &size in sizes {
            let (part, behind) = rest.split_at(size);
            frames.push(seen(part, checksum));
            rest = behind;
        }
        frames.iter_mut().take(1).for_each(change);
        let expected = Expected {
            head: vec![1, 2, 3],
            payload: &payload,
            size: SIZE,
            vlan: Some(VLAN),
        };
        let parts = expected.parts(&frames);
        parts.map(|parts| parts.len()).map_err(|(text, verdict)| {
            assert_eq!(verdict, Verdict::Lies);
            text
        })
    }

    #[test]
    fn segmentation_is_told_from_what_is_not() {
        let plain = |sizes: &[usize]| answer(sizes, SumSeen::Right, |_| {});
        assert_eq!(plain(&[1200, 1200, 1200, 100]), Ok(4));
        assert_eq!(plain(&[1200, 1200]), Ok(2), "the others may be lost");
        assert_eq!(plain(&[]), Ok(0));
        let uncut = "one datagram of 3700 bytes, uncut";
        assert_eq!(plain(&[3700]), Err(uncut.to_owned()));
        let sizes = "datagrams of 1200, 1200, 1300 bytes";
        assert_eq!(plain(&[1200, 1200, 1300]), Err(sizes.to_owned()));

        let four = [1200, 1200, 1200, 100];
        let sums = answer(&four, SumSeen::Prepared, |_| {});
        assert_eq!(sums, Err("4 datagrams, 4 with wrong sums".to_owned()));
        let head = answer(&four, SumSeen::Right, |seen| seen.head[1] = 7);
        assert_eq!(head, Err("4 datagrams, 1 with other headers".to_owned()));
        let tag = answer(&four, SumSeen::Right, |seen| seen.tag = None);
        assert_eq!(tag, Err("4 datagrams, 1 in another VLAN".to_owned()));
        let one = answer(&four, SumSeen::Right, |seen| {
            seen.content = Content::Mangled
        });
        assert_eq!(one, Err("4 frames, not all of them datagrams".to_owned()));
        let all = answer(&[1200], SumSeen::Right, |seen| {
            seen.content = Content::Fragment
        });
        assert_eq!(all, Err("1 IPv6 fragments".to_owned()));
    }

    #[test]
    fn what_is_missing_is_no_lie() {
        assert_eq!(whole(4, 4).1, Verdict::Ok);
        assert_eq!(whole(3, 4).1, Verdict::NoAnswer);
        assert_eq!(whole(0, 4).1, Verdict::Lies);
    }
}
