//! What offloads mean for single frames: what the device says of one, and what it is told.

use dpdk_sys as sys;
use hugepages::{Mbuf, TxOffload};

use super::{Offloads, RxChecksum, Tagging};
use crate::wire::{
    Checksum, DropReason, ETHERNET_HEADER, IPV6_HEADER, UDP_HEADER, VLAN_TAG, cover_tag,
    insert_tag, tag_of, vlan_id,
};

/// What a device says of the UDP checksum of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumVerdict {
    /// Nothing.
    #[default]
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
    /// The field may hold the sum of the pseudo-header alone: the frame never crossed a wire, and its sender left the
    /// rest to a device (`RTE_MBUF_F_RX_L4_CKSUM_NONE`; virtio).
    Unfinished,
}

/// What a lane does with each frame because of the offloads in force.
#[derive(Debug)]
pub(crate) struct FrameOffloads {
    trust: bool,
    /// The VLAN; 0 for none, which is what untagged frames and priority tags count as.
    vlan: u16,
    insert: Option<Tagging>,
    /// For UDP datagrams, and for everything else.
    datagram: TxOffload,
    other: TxOffload,
}

impl FrameOffloads {
    /// `tx_checksum`: what the host writes into the headers of datagrams.
    pub(crate) fn new(offloads: &Offloads, tx_checksum: Checksum) -> Self {
        let insert = offloads.vlan.map(|vlan| vlan.insert);
        let (tag_len, tag_flag) = match insert {
            Some(Tagging::Software) => (VLAN_TAG, 0),
            Some(Tagging::Hardware) => (0, sys::RTE_MBUF_F_TX_VLAN),
            None => (0, 0),
        };
        let other = TxOffload {
            flags: tag_flag,
            ..TxOffload::default()
        };
        let datagram = match tx_checksum {
            Checksum::PseudoHeader | Checksum::Segmented => TxOffload {
                flags: tag_flag | sys::RTE_MBUF_F_TX_IPV6 | sys::RTE_MBUF_F_TX_UDP_CKSUM,
                l2_len: (ETHERNET_HEADER + tag_len) as u8,
                l3_len: IPV6_HEADER as u16,
                l4_len: UDP_HEADER as u8,
                tso_segsz: 0,
            },
            Checksum::Software | Checksum::Skip => other,
        };
        Self {
            trust: offloads.rx_checksum == RxChecksum::Trust,
            vlan: offloads.vlan.map_or(0, |vlan| vlan.id),
            insert,
            datagram,
            other,
        }
    }

    /// Looks at the VLAN of a received frame, takes a tag off, and returns what the device says of the checksum.
    ///
    /// # Errors
    /// The reason to drop a frame that is not of the port's VLAN.
    #[inline]
    pub(crate) fn admit(&self, mbuf: &mut Mbuf) -> Result<ChecksumVerdict, DropReason> {
        let flags = mbuf.flags();
        // Whatever is in force: there are drivers that take tags off unasked.
        let stripped = flags & sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0;
        let tag = match stripped {
            true => Some(mbuf.vlan_tci()),
            false => tag_of(mbuf.data()),
        };
        let vlan = tag.map_or(0, vlan_id);
        if vlan != self.vlan {
            return Err(match (self.vlan, vlan) {
                (0, _) => DropReason::Vlan,
                (_, 0) => DropReason::Untagged,
                _ => DropReason::OtherVlan,
            });
        }
        if tag.is_some() && !stripped {
            cover_tag(mbuf.data_mut());
            mbuf.trim_front(VLAN_TAG);
        }
        Ok(if self.trust {
            verdict(flags)
        } else {
            ChecksumVerdict::Unknown
        })
    }

    /// Tells the device what to do with a datagram whose headers are written. False when there is no headroom for a tag.
    #[inline]
    #[must_use]
    pub(crate) fn dress_datagram(&self, mbuf: &mut Mbuf) -> bool {
        self.dress(mbuf, self.datagram)
    }

    /// The same for a frame that carries its checksum.
    #[inline]
    #[must_use]
    pub(crate) fn dress_other(&self, mbuf: &mut Mbuf) -> bool {
        self.dress(mbuf, self.other)
    }

    #[inline]
    fn dress(&self, mbuf: &mut Mbuf, offload: TxOffload) -> bool {
        match self.insert {
            None => {}
            Some(Tagging::Hardware) => mbuf.set_vlan_tci(self.vlan),
            Some(Tagging::Software) => {
                if mbuf.prepend(VLAN_TAG).is_none() {
                    return false;
                }
                insert_tag(mbuf.data_mut(), self.vlan);
            }
        }
        // An mbuf that is to be built in asks for nothing by itself.
        if offload.flags != 0 {
            mbuf.set_tx(offload);
        }
        true
    }
}

/// What the flags of an mbuf say of its UDP checksum.
#[inline]
fn verdict(flags: u64) -> ChecksumVerdict {
    match flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK {
        sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD => ChecksumVerdict::Good,
        sys::RTE_MBUF_F_RX_L4_CKSUM_BAD => ChecksumVerdict::Bad,
        sys::RTE_MBUF_F_RX_L4_CKSUM_NONE => ChecksumVerdict::Unfinished,
        _ => ChecksumVerdict::Unknown,
    }
}
