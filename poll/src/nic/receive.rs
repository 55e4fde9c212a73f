//! What an emulated NIC says of a frame that it received: its queue, the verdict on its checksum, its VLAN tag.

use dpdk_sys as sys;

use super::config::Misbehaviour;
use super::headers::{Headers, Ipv6, MACS, TAG};
use super::kit::Kit;
use crate::port::Rss;
use crate::toeplitz::{toeplitz, toeplitz_addresses};
use crate::wire::ETHERNET_HEADER;

/// The receive side of a NIC, as its port was configured.
#[derive(Debug)]
pub(super) struct Receiver {
    /// `RTE_ETH_RX_OFFLOAD_*` in force.
    pub(super) granted: u64,
    /// Spreads flows over the queues; none with one queue.
    pub(super) rss: Option<Rss>,
    pub(super) misbehaves: Vec<Misbehaviour>,
    /// Longest frame that it receives, bytes, a VLAN tag included.
    pub(super) frame_max: usize,
}

/// What the mbuf of a received frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// `RTE_MBUF_F_RX_*`.
    pub(super) flags: u64,
    /// Control information of a VLAN tag that was taken off.
    pub(super) vlan_tci: u16,
    /// The hash that chose the queue.
    pub(super) rss_hash: u32,
    pub(super) queue: u16,
}

impl Receiver {
    /// Looks at a frame, and takes off its VLAN tag if it is to. Nothing when the frame is dropped for its length.
    pub(super) fn examine(&self, frame: &mut Vec<u8>, kit: &mut Kit) -> Option<Verdict> {
        if frame.len() < ETHERNET_HEADER || frame.len() > self.frame_max {
            kit.stats.rx_bad_length += 1;
            return None;
        }
        let headers = Headers::parse(frame);
        let mut verdict = Verdict::default();
        if let Some(ipv6) = &headers.ipv6 {
            self.verify(frame, ipv6, &mut verdict, kit);
            self.spread(frame, ipv6, &mut verdict);
        }
        if let Some(tci) = headers.tag
            && self.granted & sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP != 0
        {
            frame.copy_within(MACS + TAG.., MACS);
            frame.truncate(frame.len() - TAG);
            verdict.flags |= sys::RTE_MBUF_F_RX_VLAN | sys::RTE_MBUF_F_RX_VLAN_STRIPPED;
            verdict.vlan_tci = tci;
            kit.stats.rx_vlan_stripped += 1;
        }
        Some(verdict)
    }

    /// The verdict on the UDP checksum: unknown for whatever is not UDP directly behind IPv6, or has no checksum.
    fn verify(&self, frame: &[u8], ipv6: &Ipv6, verdict: &mut Verdict, kit: &mut Kit) {
        if self.granted & sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM == 0 {
            return;
        }
        let mut is_good = ipv6.udp_checksum_is_good(frame);
        if self.lies(Misbehaviour::RxChecksumGoodAlways) {
            is_good = is_good.map(|_| true);
        }
        verdict.flags |= match is_good {
            Some(true) => {
                kit.stats.rx_checksum_good += 1;
                sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD
            }
            Some(false) => {
                kit.stats.rx_checksum_bad += 1;
                sys::RTE_MBUF_F_RX_L4_CKSUM_BAD
            }
            None => sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN,
        };
    }

    /// Chooses the queue: by addresses and ports for UDP, by addresses for the rest of IPv6 if that type is on, and the
    /// first for all else.
    fn spread(&self, frame: &[u8], ipv6: &Ipv6, verdict: &mut Verdict) {
        let Some(rss) = &self.rss else { return };
        let is_on = |types| rss.types & types != 0;
        let ports = ipv6
            .udp_addresses(frame)
            .filter(|_| is_on(sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP));
        let hash = match ports {
            Some([src, dst]) => toeplitz(&rss.key, src, dst),
            None if is_on(sys::RTE_ETH_RSS_IPV6) => {
                toeplitz_addresses(&rss.key, ipv6.src, ipv6.dst)
            }
            None => return,
        };
        let next = usize::from(self.lies(Misbehaviour::RssWrong));
        let entry = (hash as usize + next) % rss.table.len().max(1);
        verdict.queue = rss.table.get(entry).copied().unwrap_or_default();
        verdict.rss_hash = hash;
        verdict.flags |= sys::RTE_MBUF_F_RX_RSS_HASH;
    }

    fn lies(&self, misbehaviour: Misbehaviour) -> bool {
        self.misbehaves.contains(&misbehaviour)
    }
}
