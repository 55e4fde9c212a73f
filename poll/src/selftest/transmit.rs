//! Questions to a sender, frame by frame: checksums and VLAN tags.

use dpdk_sys as sys;
use hugepages::TxOffload;

use super::cable::Cable;
use super::cable::Outgoing;
use super::checks::{
    Answer, PAYLOAD, Question, SRC_PORT, lies, nothing_arrived, ok, sends, untouched,
};
use super::frame::{self, Content, Seen, SumSeen};
use super::receive;
use crate::offload::Tagging;
use crate::wire::{Checksum, ETHERNET_HEADER, IPV6_HEADER, UDP_HEADER};

pub(super) fn tx_checksum(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
    let in_force = port.offloads().tx_checksum == Checksum::PseudoHeader;
    let asked = "sum completed";
    Question::new(port, "tx_checksum", [offered, in_force], asked, |cable| {
        let payload = frame::pattern(PAYLOAD);
        let first = cable.first(|cable| Outgoing {
            frame: cable.frame(SRC_PORT, Checksum::PseudoHeader, &payload),
            offload: TxOffload {
                flags: sys::RTE_MBUF_F_TX_IPV6 | sys::RTE_MBUF_F_TX_UDP_CKSUM,
                l2_len: ETHERNET_HEADER as u8,
                l3_len: IPV6_HEADER as u16,
                l4_len: UDP_HEADER as u8,
                ..TxOffload::default()
            },
            ..Outgoing::default()
        })?;
        Ok(match first {
            None => nothing_arrived(),
            // A virtual device need not compute what never meets a wire, if its receiver is told so (virtio's DATA_VALID
            // and NEEDS_CSUM): one that is believed, and does not vouch for everything.
            Some(first) if receive::vouches(&first) => {
                let believed = receive::tells_bad_sums(cable)?;
                summed(&first, &payload, believed)
            }
            Some(first) => summed(&first, &payload, false),
        })
    })
}

/// What to think of a datagram whose sum a device was to complete. `believed`: the receiver vouches for this sum, is
/// believed, and does not vouch for a wrong one.
fn summed(seen: &Seen, payload: &[u8], believed: bool) -> Answer {
    let Content::Datagram {
        payload: arrived,
        checksum,
        ..
    } = &seen.content
    else {
        return lies("no datagram");
    };
    if arrived != payload {
        return lies("payload changed");
    }
    match checksum {
        SumSeen::Right => ok("right checksum"),
        SumSeen::Prepared if believed => ok("left unfinished, and the receiver told so"),
        SumSeen::Prepared => lies("checksum left unfinished"),
        SumSeen::Wrong => lies("wrong checksum"),
    }
}

pub(super) fn vlan_insert(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
    let vlan = port.offloads().vlan;
    let in_force = vlan.is_some_and(|vlan| vlan.insert == Tagging::Hardware);
    let asked = "tag inserted";
    Question::new(port, "vlan_insert", [offered, in_force], asked, |cable| {
        let vlan = cable.sender().offloads().vlan.map_or(0, |vlan| vlan.id);
        let payload = frame::pattern(PAYLOAD);
        let first = cable.first(|cable| Outgoing {
            offload: TxOffload {
                flags: sys::RTE_MBUF_F_TX_VLAN,
                ..TxOffload::default()
            },
            vlan_tci: vlan,
            ..untouched(cable, &payload)
        })?;
        let Some(first) = first else {
            return Ok(nothing_arrived());
        };
        Ok(match first.vlan_tag() {
            _ if first.payload() != Some(&payload) => lies("payload changed"),
            Some(tci) if tci == vlan => ok(format!("tag {tci}")),
            Some(tci) => lies(format!("tag {tci} instead of {vlan}")),
            None => lies("no tag"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_unfinished_sum_is_fine_only_where_the_receiver_is_believed() {
        for (checksum, believed, verdict) in [
            (SumSeen::Right, false, Verdict::Ok),
            (SumSeen::Prepared, true, Verdict::Ok),
            (SumSeen::Prepared, false, Verdict::Lies),
            (SumSeen::Wrong, true, Verdict::Lies),
        ] {
            let seen = Seen::of(Content::Datagram {
                src_port: SRC_PORT,
                payload: vec![1],
                checksum,
            });
            assert_eq!(summed(&seen, &[1], believed).1, verdict, "{checksum:?}");
            assert_eq!(summed(&seen, &[2], believed).1, Verdict::Lies);
        }
    }
}
