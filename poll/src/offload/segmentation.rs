//! UDP segmentation (USO): several datagrams of one size in one mbuf, which the device cuts up.

use dpdk_sys as sys;
use hugepages::{Mbuf, TxOffload};

use crate::wire::{ETHERNET_HEADER, IPV6_HEADER, UDP_HEADER};

/// What is asked of the device for a payload that it is to cut into datagrams of `size` bytes, besides what is `asked` of it
/// anyway. Every datagram needs a checksum, so the device computes them.
#[inline]
pub(crate) fn ask(asked: TxOffload, size: u16) -> TxOffload {
    TxOffload {
        flags: asked.flags
            | sys::RTE_MBUF_F_TX_IPV6
            | sys::RTE_MBUF_F_TX_UDP_CKSUM
            | sys::RTE_MBUF_F_TX_UDP_SEG,
        l2_len: asked.l2_len.max(ETHERNET_HEADER as u8),
        l3_len: IPV6_HEADER as u16,
        l4_len: UDP_HEADER as u8,
        tso_segsz: size,
    }
}

/// How many frames become of an mbuf on the wire.
#[inline]
pub(crate) fn frames(mbuf: &Mbuf) -> usize {
    let asked = mbuf.tx_offload();
    if asked.flags & sys::RTE_MBUF_F_TX_UDP_SEG == 0 {
        return 1;
    }
    let headers = usize::from(asked.l2_len) + usize::from(asked.l3_len) + usize::from(asked.l4_len);
    let payload = mbuf.packet_len().saturating_sub(headers);
    payload.div_ceil(usize::from(asked.tso_segsz).max(1))
}
