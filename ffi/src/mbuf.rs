//! The fields of `rte_mbuf`, by their offsets in the C headers.
//!
//! Each function is one load or one store. Their common contract: `m` points to an initialised mbuf
//! which stays out of its pool during the call, and for the setters nobody else reads or writes it
//! meanwhile.

use core::ffi::c_void;

use crate::bindings::*;

/// Size of an mbuf without private area, bytes: the data buffer of a pktmbuf starts this far (plus
/// the private size) behind the mbuf.
pub const MBUF_SIZE: usize = size_of::<rte_mbuf>();

const _: () = assert!(
    MBUF_SIZE == 128,
    "DPDK promises an mbuf of two 64-byte cache lines"
);

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points to an initialised mbuf that stays out of its pool during the call.
        #[inline(always)]
        pub unsafe fn $name(m: *const rte_mbuf) -> $type {
            // SAFETY: the offset is that of a field of this type in the C headers, so it lies
            // within the mbuf, which the caller vouches for, and is aligned for the type.
            unsafe { m.byte_add($offset as usize).cast::<$type>().read() }
        }
    )*};
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points to an mbuf that the caller alone uses during the call.
        #[inline(always)]
        pub unsafe fn $name(m: *mut rte_mbuf, value: $type) {
            // SAFETY: the offset is that of a field of this type in the C headers, so it lies
            // within the mbuf, which the caller vouches for, and is aligned for the type.
            unsafe { m.byte_add($offset as usize).cast::<$type>().write(value) }
        }
    )*};
}

getters! {
    /// Start of the buffer: headroom, data, tailroom.
    mbuf_buf_addr: *mut c_void = MBUF_OFFSET_buf_addr;
    /// Where the data start within the buffer, bytes.
    mbuf_data_off: u16 = MBUF_OFFSET_data_off;
    /// How many owners the mbuf has. A plain load: exact only while no other thread can change it.
    mbuf_refcnt: u16 = MBUF_OFFSET_refcnt;
    /// Segments in the chain this mbuf heads.
    mbuf_nb_segs: u16 = MBUF_OFFSET_nb_segs;
    /// The port it was received from.
    mbuf_port: u16 = MBUF_OFFSET_port;
    /// `RTE_MBUF_F_*`.
    mbuf_ol_flags: u64 = MBUF_OFFSET_ol_flags;
    /// Data in the whole chain, bytes.
    mbuf_pkt_len: u32 = MBUF_OFFSET_pkt_len;
    /// Data in this segment, bytes.
    mbuf_data_len: u16 = MBUF_OFFSET_data_len;
    /// Size of the buffer, headroom included, bytes.
    mbuf_buf_len: u16 = MBUF_OFFSET_buf_len;
    /// The pool it belongs to.
    mbuf_pool: *mut rte_mempool = MBUF_OFFSET_pool;
    /// The next segment, null in the last.
    mbuf_next: *mut rte_mbuf = MBUF_OFFSET_next;
    /// The lengths transmit offloads need, packed (see [`tx_offload`]).
    mbuf_tx_offload: u64 = MBUF_OFFSET_tx_offload;
    /// Size of the private area between mbuf and buffer, bytes.
    mbuf_priv_size: u16 = MBUF_OFFSET_priv_size;
}

setters! {
    /// Sets where the data start within the buffer, bytes.
    mbuf_set_data_off: u16 = MBUF_OFFSET_data_off;
    /// Sets the number of segments in the chain.
    mbuf_set_nb_segs: u16 = MBUF_OFFSET_nb_segs;
    /// Sets the input port.
    mbuf_set_port: u16 = MBUF_OFFSET_port;
    /// Sets the `RTE_MBUF_F_*` flags.
    mbuf_set_ol_flags: u64 = MBUF_OFFSET_ol_flags;
    /// Sets the length of the whole chain, bytes.
    mbuf_set_pkt_len: u32 = MBUF_OFFSET_pkt_len;
    /// Sets the length of this segment, bytes.
    mbuf_set_data_len: u16 = MBUF_OFFSET_data_len;
    /// Sets the next segment.
    mbuf_set_next: *mut rte_mbuf = MBUF_OFFSET_next;
    /// Sets the packed offload lengths (see [`tx_offload`]).
    mbuf_set_tx_offload: u64 = MBUF_OFFSET_tx_offload;
}

/// The `tx_offload` word for a checksum offload: lengths of the Ethernet and the IP header, bytes.
pub const fn tx_offload(l2_len: u8, l3_len: u16) -> u64 {
    assert!((l2_len as u64) < 1 << RTE_MBUF_L2_LEN_BITS);
    assert!((l3_len as u64) < 1 << RTE_MBUF_L3_LEN_BITS);
    l2_len as u64 | (l3_len as u64) << RTE_MBUF_L2_LEN_BITS
}
