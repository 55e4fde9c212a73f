//! What an emulated NIC does with a frame to send: exactly what its mbuf asks for and the port was configured with.
//!
//! Nothing is repaired. A checksum is computed over what the field holds, as hardware does, so that a field which was not
//! prepared, or a header length that is wrong, makes a frame that every receiver drops.

use dpdk_sys as sys;

use super::config::Misbehaviour;
use super::fragment::fragment;
use super::headers::{MACS, TAG, TAG_TYPE, put_u16};
use super::kit::Kit;
use super::segment::segment;
use crate::wire::{ETHERNET_HEADER, IPV6_HEADER, Sum, UDP_HEADER};

/// Bytes that an Ethernet frame has at least, without its checksum. NICs pad.
const FRAME_MIN: usize = 60;
/// Payload of a segment at least, bytes. Devices have such bounds, too; it keeps the number of segments in hand.
const SEGMENT_MIN: usize = 64;

/// What the mbuf of a frame to send asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Request {
    /// `RTE_MBUF_F_TX_*`.
    pub(super) flags: u64,
    pub(super) layout: Layout,
    /// Control information of the VLAN tag.
    pub(super) vlan_tci: u16,
}

/// Lengths of the headers, and of the payload of a segment, as the mbuf gives them; bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) l2: usize,
    pub(super) l3: usize,
    pub(super) l4: usize,
    pub(super) segment: usize,
}

impl Layout {
    /// Where the UDP header starts.
    pub(super) fn udp(&self) -> usize {
        self.l2 + self.l3
    }

    /// Bytes of all headers.
    pub(super) fn headers(&self) -> usize {
        self.udp() + self.l4
    }

    /// Bytes of IPv6 extension headers: they count as payload.
    pub(super) fn extensions(&self) -> u16 {
        self.l3.saturating_sub(IPV6_HEADER) as u16
    }

    fn can_be_segmented(&self, frame: &[u8]) -> bool {
        self.l3 >= IPV6_HEADER
            && self.l4 == UDP_HEADER
            && self.segment >= SEGMENT_MIN
            && self.headers() < frame.len()
            && frame.len() - self.udp() <= usize::from(u16::MAX)
    }
}

/// The transmit side of a NIC, as its port was configured.
#[derive(Debug)]
pub(super) struct Transmitter {
    /// `RTE_ETH_TX_OFFLOAD_*` in force.
    pub(super) granted: u64,
    pub(super) misbehaves: Vec<Misbehaviour>,
    /// Longest frame that it sends, bytes, a VLAN tag included.
    pub(super) frame_max: usize,
    /// Identification of the next datagram that is fragmented.
    pub(super) fragment_id: u32,
}

impl Transmitter {
    /// What goes on the wire for `frame`: one frame, several, or none.
    pub(super) fn process(
        &mut self,
        mut frame: Vec<u8>,
        request: &Request,
        kit: &mut Kit,
        mut emit: impl FnMut(Vec<u8>, &mut Kit),
    ) {
        let mut asked = self.heeded(request.flags, kit);
        asked.checksum &= !self.lies(Misbehaviour::TxChecksumLeft);
        asked.vlan &= !self.lies(Misbehaviour::VlanNotInserted);
        let layout = &request.layout;
        let is_ipv6 = request.flags & sys::RTE_MBUF_F_TX_IPV6 != 0;
        if !asked.segmentation {
            if asked.checksum {
                let filled = is_ipv6 && fill_checksum(&mut frame, layout.udp(), 0);
                kit.stats.tx_checksums += u64::from(filled);
                kit.stats.tx_bad_request += u64::from(!filled);
            }
            return self.finish(frame, asked, request, kit, &mut emit);
        }
        if !(is_ipv6 && layout.can_be_segmented(&frame)) {
            kit.stats.tx_bad_segmentation += 1;
            return kit.put(frame);
        }
        if self.lies(Misbehaviour::UsoFragments) {
            kit.stats.tx_fragmented += 1;
            self.fragment_id = self.fragment_id.wrapping_add(1);
            let id = self.fragment_id;
            let finish = |part, kit: &mut Kit| self.finish(part, asked, request, kit, &mut emit);
            fragment(&mut frame, layout, asked.checksum, id, kit, finish);
        } else {
            kit.stats.tx_segmented += 1;
            let finish = |part, kit: &mut Kit| self.finish(part, asked, request, kit, &mut emit);
            segment(&frame, layout, asked.checksum, kit, finish);
        }
        kit.put(frame);
    }

    /// Tag, length, padding: what happens to each frame that leaves.
    fn finish(
        &self,
        mut frame: Vec<u8>,
        asked: Asked,
        request: &Request,
        kit: &mut Kit,
        emit: &mut impl FnMut(Vec<u8>, &mut Kit),
    ) {
        if asked.vlan && insert_tag(&mut frame, request.vlan_tci) {
            kit.stats.tx_vlan_inserted += 1;
        }
        if frame.len() < ETHERNET_HEADER || frame.len() > self.frame_max {
            kit.stats.tx_bad_length += 1;
            return kit.put(frame);
        }
        if frame.len() < FRAME_MIN {
            frame.resize(FRAME_MIN, 0);
        }
        emit(frame, kit);
    }

    fn lies(&self, misbehaviour: Misbehaviour) -> bool {
        self.misbehaves.contains(&misbehaviour)
    }

    /// What is asked for and granted. The rest is counted.
    fn heeded(&self, flags: u64, kit: &mut Kit) -> Asked {
        let asked = Asked {
            checksum: flags & sys::RTE_MBUF_F_TX_L4_MASK == sys::RTE_MBUF_F_TX_UDP_CKSUM,
            segmentation: flags & sys::RTE_MBUF_F_TX_UDP_SEG != 0,
            vlan: flags & sys::RTE_MBUF_F_TX_VLAN != 0,
        };
        let granted = |bit| self.granted & bit != 0;
        let heeded = Asked {
            checksum: asked.checksum && granted(sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM),
            segmentation: asked.segmentation && granted(sys::RTE_ETH_TX_OFFLOAD_UDP_TSO),
            vlan: asked.vlan && granted(sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT),
        };
        kit.stats.tx_not_granted += u64::from(asked != heeded);
        heeded
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    checksum: bool,
    segmentation: bool,
    vlan: bool,
}

/// Puts the UDP checksum into its field: over everything from `udp` on, the field's present content, and `more`. False when
/// there is no such field.
pub(super) fn fill_checksum(frame: &mut [u8], udp: usize, more: u16) -> bool {
    let Some(datagram) = frame.get_mut(udp..).filter(|udp| udp.len() >= UDP_HEADER) else {
        return false;
    };
    let mut sum = Sum::new();
    sum.add(datagram);
    sum.add_u16(more);
    // 0 would say "no checksum" (RFC 8200 §8.1).
    let checksum = match sum.checksum() {
        0 => 0xffff,
        checksum => checksum,
    };
    put_u16(datagram, 6, checksum)
}

/// Puts a VLAN tag behind the MAC addresses. False when the frame has none.
fn insert_tag(frame: &mut Vec<u8>, tci: u16) -> bool {
    let len = frame.len();
    if len < MACS {
        return false;
    }
    frame.resize(len + TAG, 0);
    frame.copy_within(MACS..len, MACS + TAG);
    let tag = [TAG_TYPE, tci.to_be_bytes()];
    for (to, from) in frame.iter_mut().skip(MACS).zip(tag.as_flattened()) {
        *to = *from;
    }
    true
}
