//! What an mbuf says to a device, and a device of an mbuf: flags, header lengths, VLAN tag, hash, departure.

use dpdk_sys::{
    RTE_MBUF_F_EXTERNAL, RTE_MBUF_F_INDIRECT, mbuf_dynamic_u64, mbuf_ol_flags, mbuf_port,
    mbuf_rss_hash, mbuf_set_dynamic_u64, mbuf_set_ol_flags, mbuf_set_port, mbuf_set_rss_hash,
    mbuf_set_tx_offload, mbuf_set_vlan_tci, mbuf_tx_offload, mbuf_vlan_tci,
    rte_mbuf_dyn_tx_timestamp_register, tx_offload, tx_offload_lengths,
};

use crate::eal::EalUp;
use crate::mbuf::Mbuf;

/// What is asked of a device for a frame to send. The default asks for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// `RTE_MBUF_F_TX_*`.
    pub flags: u64,
    /// Bytes of the Ethernet header, with a VLAN tag if there is one in the frame; at most 127.
    pub l2_len: u8,
    /// Bytes of the IP header with its extensions; at most 511.
    pub l3_len: u16,
    /// Bytes of the UDP header; needed for segmentation.
    pub l4_len: u8,
    /// For segmentation: payload of each segment but the last, bytes.
    pub tso_segsz: u16,
}

/// A field of all mbufs that was registered at run time, and the flag that says whether it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynField {
    offset: u16,
    flag: u64,
}

impl DynField {
    /// The field in which a device that sends on timestamps finds when a frame is to leave, in ticks of the device's
    /// clock. `None` when mbufs have no room left for it.
    pub fn tx_timestamp(_eal: EalUp) -> Option<Self> {
        let (mut offset, mut flag) = (0, 0);
        // SAFETY: EAL is up; both places are valid. Asked again, DPDK answers the same.
        let code = unsafe { rte_mbuf_dyn_tx_timestamp_register(&mut offset, &mut flag) };
        let offset = u16::try_from(offset).ok().filter(|_| code == 0)?;
        Some(Self { offset, flag })
    }

    /// The flag that says that the field is set (`ol_flags`).
    pub fn flag(self) -> u64 {
        self.flag
    }
}

impl Mbuf {
    /// `RTE_MBUF_F_*`: what the driver says of a received frame, or what is asked of it for one to
    /// send.
    #[inline]
    pub fn flags(&self) -> u64 {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_ol_flags(self.as_ptr()) }
    }

    /// Sets the flags, all but those that say how the buffer belongs to the mbuf.
    #[inline]
    pub fn set_flags(&mut self, flags: u64) {
        const KIND: u64 = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
        let flags = flags & !KIND | self.flags() & KIND;
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_ol_flags(self.as_ptr(), flags) }
    }

    /// Says what the device is to do with the frame: replaces all flags and lengths.
    #[inline]
    pub fn set_tx(&mut self, offload: TxOffload) {
        self.set_flags(offload.flags);
        let lengths = tx_offload(
            offload.l2_len,
            offload.l3_len,
            offload.l4_len,
            offload.tso_segsz,
        );
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_tx_offload(self.as_ptr(), lengths) };
    }

    /// What the device is asked to do with the frame.
    #[inline]
    pub fn tx_offload(&self) -> TxOffload {
        // SAFETY: `self` owns the mbuf.
        let word = unsafe { mbuf_tx_offload(self.as_ptr()) };
        let (l2_len, l3_len, l4_len, tso_segsz) = tx_offload_lengths(word);
        TxOffload {
            flags: self.flags(),
            l2_len,
            l3_len,
            l4_len,
            tso_segsz,
        }
    }

    /// The VLAN tag (priority, DEI, 12 bits of VLAN id) that the device took off a received frame, or is to insert.
    #[inline]
    pub fn vlan_tci(&self) -> u16 {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_vlan_tci(self.as_ptr()) }
    }

    /// Sets the VLAN tag; the flags say what is meant by it.
    #[inline]
    pub fn set_vlan_tci(&mut self, tci: u16) {
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_vlan_tci(self.as_ptr(), tci) }
    }

    /// The hash of receive side scaling; meaningful with `RTE_MBUF_F_RX_RSS_HASH`.
    #[inline]
    pub fn rss_hash(&self) -> u32 {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_rss_hash(self.as_ptr()) }
    }

    /// Sets the hash of receive side scaling.
    #[inline]
    pub fn set_rss_hash(&mut self, hash: u32) {
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_rss_hash(self.as_ptr(), hash) }
    }

    /// The port it was received on.
    #[inline]
    pub fn port(&self) -> u16 {
        // SAFETY: `self` owns the mbuf.
        unsafe { mbuf_port(self.as_ptr()) }
    }

    /// Sets the port it was received on.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        // SAFETY: `self` owns the mbuf and is borrowed mutably.
        unsafe { mbuf_set_port(self.as_ptr(), port) }
    }

    /// When the frame is to leave, in ticks of the device's clock; `None` when nobody said.
    #[inline]
    pub fn timestamp(&self, field: DynField) -> Option<u64> {
        if self.flags() & field.flag == 0 {
            return None;
        }
        // SAFETY: `self` owns the mbuf; the field was registered, with eight bytes.
        Some(unsafe { mbuf_dynamic_u64(self.as_ptr(), field.offset) })
    }

    /// Says when the frame is to leave, in ticks of the device's clock. To be called after [`set_tx`](Self::set_tx),
    /// which replaces all flags.
    #[inline]
    pub fn set_timestamp(&mut self, field: DynField, ticks: u64) {
        self.set_flags(self.flags() | field.flag);
        // SAFETY: `self` owns the mbuf and is borrowed mutably; the field was registered, with eight bytes.
        unsafe { mbuf_set_dynamic_u64(self.as_ptr(), field.offset, ticks) }
    }
}
