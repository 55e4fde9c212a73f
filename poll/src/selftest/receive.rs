//! Questions to a receiver, frame by frame: verdicts on checksums, VLAN tags, chains.

use dpdk_sys as sys;

use super::cable::{Cable, NotSent, Outgoing, ROUNDS};
use super::checks::{
    Answer, PAYLOAD, Question, SRC_PORT, lies, mtu, no_answer, not_seen, nothing_arrived, ok,
    receives, untouched,
};
use super::frame::{self, Content, Seen};
use crate::offload::{RxChecksum, Tagging};
use crate::wire::{Checksum, ETHERNET_HEADER, HEADERS};

/// Frames with a right sum, and as many with a wrong one.
const COPIES: usize = 4;
/// Where the frames with a wrong sum come from.
const WRONG_PORT: u16 = SRC_PORT + 1;

pub(super) fn rx_checksum(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    let in_force = port.offloads().rx_checksum == RxChecksum::Trust;
    let asked = "verdict on sums";
    Question::new(port, "rx_checksum", [offered, in_force], asked, |cable| {
        let [right, wrong] = verdicts(cable)?;
        Ok(judged(right, wrong))
    })
}

/// Whether a receiver says that the sum of a datagram is right, or need not be.
pub(super) fn vouches(seen: &Seen) -> bool {
    vouched(verdict(seen))
}

/// Whether the receiver's word on sums is believed, and it does not vouch for a wrong one.
pub(super) fn tells_bad_sums(cable: &mut Cable<'_>) -> Result<bool, NotSent> {
    let is_believed = cable.receiver().offloads().rx_checksum == RxChecksum::Trust;
    let [_, wrong] = verdicts(cable)?;
    Ok(is_believed && wrong.is_some_and(|wrong| !vouched(wrong)))
}

fn vouched(verdict: u64) -> bool {
    [
        sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD,
        sys::RTE_MBUF_F_RX_L4_CKSUM_NONE,
    ]
    .contains(&verdict)
}

fn verdict(seen: &Seen) -> u64 {
    seen.flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK
}

/// What the device says of a right sum and of a wrong one.
fn verdicts(cable: &mut Cable<'_>) -> Result<[Option<u64>; 2], NotSent> {
    let payload = frame::pattern(PAYLOAD);
    let mut verdicts = [None; 2];
    for _ in 0..ROUNDS {
        cable.ask();
        let right = cable.frame(SRC_PORT, Checksum::Software, &payload);
        let mut wrong = cable.frame(WRONG_PORT, Checksum::Software, &payload);
        if let Some(last) = wrong.last_mut() {
            *last ^= 0xff;
        }
        let outgoing = |frame| Outgoing {
            frame,
            ..Outgoing::default()
        };
        let frames = [right, wrong].map(|frame| vec![outgoing(frame); COPIES]);
        let of = |seen: &[Seen]| [SRC_PORT, WRONG_PORT].map(|port| verdict_on(seen, port));
        let both = |seen: &[Seen]| of(seen).iter().all(Option::is_some);
        let seen = of(&cable.exchange(&frames.concat(), both)?);
        for (verdict, seen) in verdicts.iter_mut().zip(seen) {
            *verdict = verdict.or(seen);
        }
        if verdicts.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(verdicts)
}

/// What the device says of the datagrams from `src_port`.
fn verdict_on(seen: &[Seen], src_port: u16) -> Option<u64> {
    let of_port = |seen: &&Seen| matches!(seen.content, Content::Datagram { src_port: port, .. } if port == src_port);
    seen.iter().find(of_port).map(verdict)
}

/// What to think of the verdicts on a right and a wrong sum.
fn judged(right: Option<u64>, wrong: Option<u64>) -> Answer {
    const GOOD: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    const BAD: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_BAD;
    match (right, wrong) {
        (Some(GOOD), Some(BAD)) => ok("good is good, bad is bad"),
        // Somebody on the way drops them, and the device may call everything good.
        (Some(GOOD), None) => not_seen("good is good, the bad one did not arrive"),
        (_, Some(GOOD)) => lies("a bad sum is called good"),
        (Some(BAD), _) => lies("a good sum is called bad"),
        (None, None) => no_answer("nothing arrived"),
        (None, _) => lies("the good one did not arrive"),
        (Some(_), _) => not_seen("no verdict"),
    }
}

pub(super) fn vlan_strip(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
    let vlan = port.offloads().vlan;
    let in_force = vlan.is_some_and(|vlan| vlan.strip == Tagging::Hardware);
    let asked = "tag taken off";
    Question::new(port, "vlan_strip", [offered, in_force], asked, |cable| {
        let vlan = cable.receiver().offloads().vlan.map_or(0, |vlan| vlan.id);
        let payload = frame::pattern(PAYLOAD);
        let first = cable.first(|cable| Outgoing {
            frame: frame::tagged(&untouched(cable, &payload).frame, vlan),
            ..Outgoing::default()
        })?;
        Ok(match first {
            None => nothing_arrived(),
            Some(first) => stripped(&first, vlan, &payload),
        })
    })
}

/// What to think of a frame whose tag the device was to take off.
fn stripped(seen: &Seen, vlan: u16, payload: &[u8]) -> Answer {
    let said = seen.flags & sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0;
    match (said, seen.tag) {
        _ if seen.payload() != Some(payload) => lies("payload changed"),
        (true, None) if seen.vlan_tci == vlan => ok(format!("taken off, {vlan} in the mbuf")),
        (true, None) => lies(format!("taken off, but {} in the mbuf", seen.vlan_tci)),
        (true, Some(_)) => lies("said to be taken off, and is there"),
        (false, Some(_)) => not_seen("left in the frame"),
        (false, None) => lies("taken off, and nothing said"),
    }
}

pub(super) fn scatter(cable: &Cable<'_>) -> Question {
    let port = cable.receiver();
    let offered = receives(port, sys::RTE_ETH_RX_OFFLOAD_SCATTER);
    let in_force = port.offloads().scatter;
    let asked = "a frame of the MTU";
    Question::new(port, "scatter", [offered, in_force], asked, |cable| {
        let mtu = mtu(cable);
        let payload = frame::pattern(mtu + ETHERNET_HEADER - HEADERS);
        let first = cable.first(|cable| untouched(cable, &payload))?;
        Ok(match first {
            None => lies(format!("{mtu} bytes: nothing arrived")),
            Some(first) if first.payload() != Some(&payload) => {
                lies(format!("{mtu} bytes: arrived changed"))
            }
            Some(first) if first.mbufs > 1 => {
                ok(format!("{mtu} bytes whole, in mbufs: {}", first.mbufs))
            }
            Some(_) => not_seen(format!("{mtu} bytes whole, in one mbuf")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::frame::SumSeen;
    use super::*;

    #[test]
    fn verdicts_of_a_device_are_judged_by_what_was_sent() {
        const GOOD: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD);
        const BAD: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_BAD);
        const UNKNOWN: Option<u64> = Some(sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN);
        for (right, wrong, verdict) in [
            (GOOD, BAD, Verdict::Ok),
            (GOOD, None, Verdict::NotSeen),
            (GOOD, GOOD, Verdict::Lies),
            (BAD, BAD, Verdict::Lies),
            (UNKNOWN, GOOD, Verdict::Lies),
            (None, BAD, Verdict::Lies),
            (None, None, Verdict::NoAnswer),
            (UNKNOWN, UNKNOWN, Verdict::NotSeen),
            (UNKNOWN, BAD, Verdict::NotSeen),
            (GOOD, UNKNOWN, Verdict::NotSeen),
        ] {
            assert_eq!(judged(right, wrong).1, verdict, "{right:?}, {wrong:?}");
        }
    }

    #[test]
    fn a_tag_is_taken_off_with_nothing_else() {
        let of = |flags, vlan_tci, tag, payload: &[u8]| {
            let seen = Seen {
                flags,
                vlan_tci,
                tag,
                ..Seen::of(Content::Datagram {
                    src_port: SRC_PORT,
                    payload: payload.to_vec(),
                    checksum: SumSeen::Right,
                })
            };
            stripped(&seen, 100, b"stoq").1
        };
        const SAID: u64 = sys::RTE_MBUF_F_RX_VLAN_STRIPPED;
        assert_eq!(of(SAID, 100, None, b"stoq"), Verdict::Ok);
        assert_eq!(of(SAID, 100, None, b"toq"), Verdict::Lies);
        assert_eq!(of(SAID, 7, None, b"stoq"), Verdict::Lies);
        assert_eq!(of(SAID, 100, Some(100), b"stoq"), Verdict::Lies);
        assert_eq!(of(0, 0, None, b"stoq"), Verdict::Lies);
        assert_eq!(of(0, 0, Some(100), b"stoq"), Verdict::NotSeen);
    }
}
