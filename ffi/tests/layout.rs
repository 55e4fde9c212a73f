//! Do the bindings agree with what the C compiler sees? Runs without EAL.

use std::ffi::{CStr, CString};

use dpdk_sys as dpdk;

/// The constant on the C side, by its name.
fn on_c_side(name: &str) -> u64 {
    let name = CString::new(name).expect("no NUL in a constant's name");
    // SAFETY: the shim reads the NUL-terminated name during the call only.
    unsafe { dpdk::stoq_layout_constant(name.as_ptr()) }
}

fn offset_on_c_side(name: &str) -> u64 {
    let name = CString::new(name).expect("no NUL in a field's name");
    // SAFETY: the shim reads the NUL-terminated name during the call only.
    unsafe { dpdk::stoq_layout_mbuf_field(name.as_ptr()) }
}

macro_rules! constants {
    ($($name:ident)*) => { &[$((stringify!($name), dpdk::$name)),*] };
}

const CONSTANTS: &[(&str, u64)] = constants![
    RTE_MAX_LCORE RTE_MAX_ETHPORTS RTE_MAX_NUMA_NODES RTE_PKTMBUF_HEADROOM
    RTE_MBUF_DEFAULT_DATAROOM RTE_MBUF_DEFAULT_BUF_SIZE RTE_MBUF_PRIV_ALIGN RTE_MBUF_L2_LEN_BITS
    RTE_MBUF_L3_LEN_BITS RTE_MBUF_L4_LEN_BITS RTE_MBUF_TSO_SEGSZ_BITS RTE_MEMPOOL_CACHE_MAX_SIZE RTE_MEMPOOL_NAMESIZE RTE_ETH_NAME_MAX_LEN
    RTE_ETH_XSTATS_NAME_SIZE RTE_ETHER_MIN_MTU
    RTE_MBUF_F_RX_RSS_HASH RTE_MBUF_F_RX_VLAN RTE_MBUF_F_RX_VLAN_STRIPPED
    RTE_MBUF_F_RX_IP_CKSUM_MASK RTE_MBUF_F_RX_IP_CKSUM_BAD RTE_MBUF_F_RX_IP_CKSUM_GOOD
    RTE_MBUF_F_RX_L4_CKSUM_MASK RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN RTE_MBUF_F_RX_L4_CKSUM_BAD
    RTE_MBUF_F_RX_L4_CKSUM_GOOD RTE_MBUF_F_RX_L4_CKSUM_NONE RTE_MBUF_F_RX_LRO
    RTE_MBUF_F_TX_IPV6 RTE_MBUF_F_TX_IPV4 RTE_MBUF_F_TX_IP_CKSUM RTE_MBUF_F_TX_L4_MASK
    RTE_MBUF_F_TX_UDP_CKSUM RTE_MBUF_F_TX_UDP_SEG RTE_MBUF_F_TX_VLAN
    RTE_MBUF_F_INDIRECT RTE_MBUF_F_EXTERNAL
    RTE_ETH_RX_OFFLOAD_VLAN_STRIP RTE_ETH_RX_OFFLOAD_IPV4_CKSUM RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    RTE_ETH_RX_OFFLOAD_TCP_CKSUM RTE_ETH_RX_OFFLOAD_TCP_LRO RTE_ETH_RX_OFFLOAD_SCATTER
    RTE_ETH_RX_OFFLOAD_KEEP_CRC RTE_ETH_RX_OFFLOAD_RSS_HASH RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT
    RTE_ETH_TX_OFFLOAD_VLAN_INSERT RTE_ETH_TX_OFFLOAD_IPV4_CKSUM RTE_ETH_TX_OFFLOAD_UDP_CKSUM
    RTE_ETH_TX_OFFLOAD_TCP_CKSUM RTE_ETH_TX_OFFLOAD_UDP_TSO RTE_ETH_TX_OFFLOAD_MT_LOCKFREE
    RTE_ETH_TX_OFFLOAD_MULTI_SEGS RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE
    RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP
    RTE_ETH_RETA_GROUP_SIZE RTE_ETH_RSS_IPV6
    RTE_ETH_RSS_IPV6_EX RTE_ETH_RSS_NONFRAG_IPV6_UDP RTE_ETH_RSS_IPV6_UDP_EX
    RTE_ETH_LINK_DOWN RTE_ETH_LINK_UP RTE_ETH_SPEED_NUM_NONE RTE_ETH_SPEED_NUM_UNKNOWN
    RTE_TEL_MAX_STRING_LEN RTE_TEL_MAX_SINGLE_STRING_LEN RTE_TEL_MAX_DICT_ENTRIES
    RTE_TEL_MAX_ARRAY_ENTRIES
    RING_F_SP_ENQ RING_F_SC_DEQ
    RTE_LOG_EMERG RTE_LOG_ERR RTE_LOG_WARNING RTE_LOG_NOTICE RTE_LOG_INFO RTE_LOG_DEBUG
];

#[test]
fn every_constant_has_the_value_of_the_c_side() {
    for &(name, value) in CONSTANTS {
        assert_eq!(value, on_c_side(name), "{name}");
    }
    // SAFETY: no precondition.
    let listed = unsafe { dpdk::stoq_layout_constant_count() };
    assert_eq!(
        CONSTANTS.len() as u64,
        listed,
        "a constant of constants.h is not checked here"
    );
}

#[test]
fn flags_are_the_bits_the_manual_names() {
    // Two independent anchors, so that the test above cannot pass by comparing a list with itself.
    assert_eq!(dpdk::RTE_MBUF_F_TX_IPV6, 1 << 56);
    assert_eq!(dpdk::RTE_MBUF_F_TX_UDP_CKSUM, 3 << 52);
    assert_eq!(dpdk::RTE_ETH_RX_OFFLOAD_UDP_CKSUM, 1 << 2);
    assert_eq!(dpdk::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, 1 << 16);
    assert_eq!(on_c_side("NO_SUCH_CONSTANT"), u64::MAX);
}

#[test]
fn mbuf_size_and_offsets_match() {
    // SAFETY: no precondition.
    assert_eq!(dpdk::MBUF_SIZE as u64, unsafe {
        dpdk::stoq_layout_mbuf_size()
    });
    assert_eq!(align_of::<dpdk::rte_mbuf>(), 64);
    for (name, offset) in [
        ("buf_addr", dpdk::MBUF_OFFSET_buf_addr),
        ("data_off", dpdk::MBUF_OFFSET_data_off),
        ("refcnt", dpdk::MBUF_OFFSET_refcnt),
        ("nb_segs", dpdk::MBUF_OFFSET_nb_segs),
        ("port", dpdk::MBUF_OFFSET_port),
        ("ol_flags", dpdk::MBUF_OFFSET_ol_flags),
        ("pkt_len", dpdk::MBUF_OFFSET_pkt_len),
        ("data_len", dpdk::MBUF_OFFSET_data_len),
        ("buf_len", dpdk::MBUF_OFFSET_buf_len),
        ("pool", dpdk::MBUF_OFFSET_pool),
        ("next", dpdk::MBUF_OFFSET_next),
        ("vlan_tci", dpdk::MBUF_OFFSET_vlan_tci),
        ("hash", dpdk::MBUF_OFFSET_hash),
        ("tx_offload", dpdk::MBUF_OFFSET_tx_offload),
        ("priv_size", dpdk::MBUF_OFFSET_priv_size),
    ] {
        assert_eq!(offset, offset_on_c_side(name), "{name}");
    }
}

#[test]
fn getters_read_what_c_wrote() {
    // SAFETY: an mbuf is plain data for which zero is a valid value.
    let mut mbuf: dpdk::rte_mbuf = unsafe { std::mem::zeroed() };
    let m = &raw mut mbuf;
    // SAFETY: `m` is an mbuf of our own that no pool knows; the pointers written into it are never
    // followed.
    unsafe {
        dpdk::stoq_layout_mbuf_fill(m);
        assert_eq!(dpdk::mbuf_buf_addr(m) as u64, 0x1111_2222_3333_4444);
        assert_eq!(dpdk::mbuf_data_off(m), 0x1001);
        assert_eq!(dpdk::mbuf_refcnt(m), 0x1002);
        assert_eq!(dpdk::mbuf_nb_segs(m), 0x1003);
        assert_eq!(dpdk::mbuf_port(m), 0x1004);
        assert_eq!(dpdk::mbuf_ol_flags(m), 0x5555_6666_7777_8888);
        assert_eq!(dpdk::mbuf_pkt_len(m), 0x2000_0001);
        assert_eq!(dpdk::mbuf_data_len(m), 0x1005);
        assert_eq!(dpdk::mbuf_buf_len(m), 0x1006);
        assert_eq!(dpdk::mbuf_pool(m) as u64, 0x9999_aaaa_bbbb_cccc);
        assert_eq!(dpdk::mbuf_next(m) as u64, 0xdddd_eeee_ffff_0000);
        assert_eq!(dpdk::mbuf_vlan_tci(m), 0x1008);
        assert_eq!(dpdk::mbuf_rss_hash(m), 0x2000_0002);
        assert_eq!(dpdk::mbuf_tx_offload(m), dpdk::tx_offload(14, 40, 8, 1200));
        assert_eq!(dpdk::mbuf_priv_size(m), 0x1007);
    }
}

#[test]
fn setters_write_only_their_field() {
    // SAFETY: an mbuf is plain data for which zero is a valid value.
    let mut mbuf: dpdk::rte_mbuf = unsafe { std::mem::zeroed() };
    let m = &raw mut mbuf;
    // SAFETY: `m` is an mbuf of our own that no pool knows.
    unsafe {
        dpdk::stoq_layout_mbuf_fill(m);
        dpdk::mbuf_set_data_off(m, 1);
        dpdk::mbuf_set_nb_segs(m, 2);
        dpdk::mbuf_set_port(m, 3);
        dpdk::mbuf_set_ol_flags(m, 4);
        dpdk::mbuf_set_pkt_len(m, 5);
        dpdk::mbuf_set_data_len(m, 6);
        dpdk::mbuf_set_next(m, std::ptr::null_mut());
        dpdk::mbuf_set_tx_offload(m, 7);
        dpdk::mbuf_set_vlan_tci(m, 8);
        dpdk::mbuf_set_rss_hash(m, 9);
        assert_eq!(dpdk::mbuf_data_off(m), 1);
        assert_eq!(dpdk::mbuf_nb_segs(m), 2);
        assert_eq!(dpdk::mbuf_port(m), 3);
        assert_eq!(dpdk::mbuf_ol_flags(m), 4);
        assert_eq!(dpdk::mbuf_pkt_len(m), 5);
        assert_eq!(dpdk::mbuf_data_len(m), 6);
        assert!(dpdk::mbuf_next(m).is_null());
        assert_eq!(dpdk::mbuf_tx_offload(m), 7);
        assert_eq!(dpdk::mbuf_vlan_tci(m), 8);
        assert_eq!(dpdk::mbuf_rss_hash(m), 9);
        // Untouched neighbours.
        assert_eq!(dpdk::mbuf_refcnt(m), 0x1002);
        assert_eq!(dpdk::mbuf_buf_len(m), 0x1006);
        assert_eq!(dpdk::mbuf_priv_size(m), 0x1007);
    }
}

#[test]
fn the_library_running_is_the_one_built_against() {
    // SAFETY: returns a static NUL-terminated string.
    let running = unsafe { CStr::from_ptr(dpdk::rte_version()) }
        .to_string_lossy()
        .into_owned();
    let release = dpdk::DPDK_VERSION
        .rsplit_once('.')
        .map_or(dpdk::DPDK_VERSION, |(r, _)| r);
    assert!(
        running.contains(release),
        "running {running}, built against {}",
        dpdk::DPDK_VERSION
    );
}
