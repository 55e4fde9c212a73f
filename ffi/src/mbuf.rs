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
    /// VLAN tag of a received frame whose tag was taken off, or to be inserted: priority, DEI and VLAN id.
    mbuf_vlan_tci: u16 = MBUF_OFFSET_vlan_tci;
    /// Hash of receive side scaling; meaningful with `RTE_MBUF_F_RX_RSS_HASH`.
    mbuf_rss_hash: u32 = MBUF_OFFSET_hash;
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
    /// Sets the VLAN tag.
    mbuf_set_vlan_tci: u16 = MBUF_OFFSET_vlan_tci;
    /// Sets the hash of receive side scaling.
    mbuf_set_rss_hash: u32 = MBUF_OFFSET_hash;
    /// Sets the packed offload lengths (see [`tx_offload`]).
    mbuf_set_tx_offload: u64 = MBUF_OFFSET_tx_offload;
}

/// The `tx_offload` word: lengths of the Ethernet, the IP and the UDP header, and the payload of each segment that UDP
/// segmentation is to make, bytes. What an offload does not need may be 0.
pub const fn tx_offload(l2_len: u8, l3_len: u16, l4_len: u8, tso_segsz: u16) -> u64 {
    assert!((l2_len as u64) < 1 << RTE_MBUF_L2_LEN_BITS);
    assert!((l3_len as u64) < 1 << RTE_MBUF_L3_LEN_BITS);
    const _: () = assert!(RTE_MBUF_L4_LEN_BITS == 8 && RTE_MBUF_TSO_SEGSZ_BITS == 16);
    l2_len as u64
        | (l3_len as u64) << L3_SHIFT
        | (l4_len as u64) << L4_SHIFT
        | (tso_segsz as u64) << TSO_SHIFT
}

/// The lengths of a `tx_offload` word, in the order of [`tx_offload`]'s arguments.
pub const fn tx_offload_lengths(word: u64) -> (u8, u16, u8, u16) {
    let l2_len = word & ((1 << RTE_MBUF_L2_LEN_BITS) - 1);
    let l3_len = word >> L3_SHIFT & ((1 << RTE_MBUF_L3_LEN_BITS) - 1);
    (
        l2_len as u8,
        l3_len as u16,
        (word >> L4_SHIFT) as u8,
        (word >> TSO_SHIFT) as u16,
    )
}

const L3_SHIFT: u64 = RTE_MBUF_L2_LEN_BITS;
const L4_SHIFT: u64 = L3_SHIFT + RTE_MBUF_L3_LEN_BITS;
const TSO_SHIFT: u64 = L4_SHIFT + RTE_MBUF_L4_LEN_BITS;

/// Reads a dynamic field of an mbuf: `offset` bytes from its start.
///
/// # Safety
/// As for the getters above; a field of eight bytes was registered at `offset` (`rte_mbuf_dynfield_register` or one of
/// the calls that go through it).
#[inline(always)]
pub unsafe fn mbuf_dynamic_u64(m: *const rte_mbuf, offset: u16) -> u64 {
    // SAFETY: a registered field lies within the mbuf, which the caller vouches for.
    unsafe { m.byte_add(offset as usize).cast::<u64>().read_unaligned() }
}

/// Writes a dynamic field of an mbuf.
///
/// # Safety
/// As for the setters above; a field of eight bytes was registered at `offset`.
#[inline(always)]
pub unsafe fn mbuf_set_dynamic_u64(m: *mut rte_mbuf, offset: u16, value: u64) {
    // SAFETY: a registered field lies within the mbuf, which the caller vouches for.
    unsafe {
        m.byte_add(offset as usize)
            .cast::<u64>()
            .write_unaligned(value)
    }
}
