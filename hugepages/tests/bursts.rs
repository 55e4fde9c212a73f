//! Bursts: order, partial sends, and who owns what afterwards. Runs without `PacketAlloc`, which
//! bursts do not need.

mod common;

use std::ptr;

use common::pool;
use hugepages::{Burst, DynField, Mbuf, Mempool, TxOffload};

fn numbered(pool: Mempool, number: u8) -> Mbuf {
    let mut mbuf = Mbuf::alloc(pool).expect("the pool is not empty");
    mbuf.append(1).expect("room")[0] = number;
    mbuf
}

fn numbers(burst: &Burst<8>) -> Vec<u8> {
    burst.as_slice().iter().map(|mbuf| mbuf.data()[0]).collect()
}

#[test]
fn mbufs_leave_in_the_order_they_came() {
    let pool = pool(63);
    let mut burst = Burst::<8>::new();
    assert!(burst.is_empty() && burst.pop().is_none());
    for number in 0..8 {
        burst.push(numbered(pool, number)).expect("room");
    }
    assert!(burst.is_full());
    let refused = burst.push(numbered(pool, 8)).expect_err("full");
    assert_eq!(refused.data(), [8]);
    for number in 0..3 {
        assert_eq!(burst.pop().expect("not empty").data(), [number]);
    }
    burst.push(refused).expect("three have left");
    assert_eq!(numbers(&burst), [3, 4, 5, 6, 7, 8]);
    burst.as_mut_slice()[0].data_mut()[0] = 33;
    assert_eq!(numbers(&burst), [33, 4, 5, 6, 7, 8]);
    assert_eq!(pool.in_use(), 6);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_ring_takes_what_it_has_room_for_and_the_rest_stays_first_in_line() {
    let pool = pool(63);
    // One slot of a ring's power of two stays empty: it holds 3.
    // SAFETY: EAL is up.
    let ring = unsafe { dpdk_sys::rte_ring_create(c"partial".as_ptr(), 4, -1, 0) };
    assert!(!ring.is_null());
    let send = |burst: &mut Burst<8>| {
        // SAFETY: the ring takes over the first mbufs, as many as it says, and leaves the others.
        unsafe {
            burst.send_with(|mbufs, n| {
                dpdk_sys::stoq_ring_enqueue_burst(ring, mbufs.cast(), n.into()) as u16
            })
        }
    };
    let receive = |burst: &mut Burst<8>| {
        // SAFETY: what comes out of the ring are the mbufs put in above, owned by nobody else.
        unsafe {
            burst.receive_with(|mbufs, n| {
                dpdk_sys::stoq_ring_dequeue_burst(ring, mbufs.cast(), n.into()) as u16
            })
        }
    };

    let (mut out, mut back) = (Burst::<8>::new(), Burst::<8>::new());
    for number in 0..5 {
        out.push(numbered(pool, number)).expect("room");
    }
    assert_eq!(send(&mut out), 3);
    assert_eq!(numbers(&out), [3, 4]);
    assert_eq!(send(&mut out), 0, "the ring is full");
    assert_eq!(numbers(&out), [3, 4]);
    out.push(numbered(pool, 5)).expect("room");
    assert_eq!(receive(&mut back), 3);
    assert_eq!(send(&mut out), 3);
    assert!(out.is_empty());
    assert_eq!(receive(&mut back), 3, "appended");
    assert_eq!(numbers(&back), [0, 1, 2, 3, 4, 5]);
    assert_eq!(pool.in_use(), 6);
    back.clear();
    assert_eq!(pool.in_use(), 0);

    // Mbufs in the ring are nobody's in Rust: dropping the burst must not free them.
    out.push(numbered(pool, 9)).expect("room");
    assert_eq!(send(&mut out), 1);
    drop(out);
    assert_eq!(pool.in_use(), 1);
    assert_eq!(receive(&mut back), 1);
    drop(back);
    assert_eq!(pool.in_use(), 0);
    // SAFETY: the ring is empty and not used again.
    unsafe { dpdk_sys::rte_ring_free(ring) };
}

#[test]
fn receiving_appends_and_never_overruns() {
    let pool = pool(63);
    let mut burst = Burst::<8>::new();
    assert!(burst.alloc(pool, 5));
    burst.pop();
    // SAFETY: writes as many pointers to mbufs of ours as it returns.
    let received = unsafe {
        burst.receive_with(|mbufs, room| {
            assert_eq!(room, 4);
            assert_eq!(dpdk_sys::stoq_alloc_bulk(pool.as_ptr(), mbufs, 4), 0);
            4
        })
    };
    assert_eq!((received, burst.len(), burst.room()), (4, 8, 0));
    // SAFETY: writes none and returns 0.
    let received = unsafe {
        burst.receive_with(|_, room| {
            assert_eq!(room, 0);
            0
        })
    };
    assert_eq!(received, 0);
    assert_eq!(pool.in_use(), 8);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn allocation_is_all_or_nothing() {
    let pool = pool(7);
    let mut burst = Burst::<8>::new();
    assert!(!burst.alloc(pool, 8), "the pool has 7");
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
    assert!(burst.alloc(pool, 7));
    assert!(!burst.alloc(pool, 2), "no room for two");
    assert!(!burst.alloc(pool, 1), "the pool is empty");
    assert!(Mbuf::alloc(pool).is_none());
    assert_eq!(
        (
            burst.len(),
            pool.in_use(),
            pool.available(),
            pool.free_in_ring()
        ),
        (7, 7, 0, 0)
    );
    for mbuf in burst.as_slice() {
        assert_eq!(
            (mbuf.len(), mbuf.headroom(), mbuf.segment_count()),
            (0, 128, 1)
        );
    }
    burst.clear();
    assert!(burst.is_empty() && burst.alloc(pool, 7));
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_send_that_unwinds_leaks_rather_than_freeing_twice() {
    let pool = pool(63);
    let mut burst = Burst::<8>::new();
    assert!(burst.alloc(pool, 2));
    let mut offered = [ptr::null_mut(); 2];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // SAFETY: takes both over and never returns.
        unsafe {
            burst.send_with(|mbufs, n| {
                ptr::copy_nonoverlapping(mbufs, offered.as_mut_ptr(), n.into());
                panic!("on purpose");
            })
        }
    }));
    assert!(result.is_err());
    assert!(burst.is_empty());
    drop(burst);
    assert_eq!(pool.in_use(), 2);
    // SAFETY: the two were taken over above.
    unsafe { dpdk_sys::stoq_free_bulk(offered.as_mut_ptr(), 2) };
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_mbuf_keeps_its_data_within_its_buffer() {
    let pool = pool(63);
    let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
    assert_eq!(mbuf.headroom() + mbuf.tailroom(), mbuf.buffer_len());
    let room = mbuf.tailroom();
    assert!(mbuf.append(room + 1).is_none());
    assert!(mbuf.append(room).is_some());
    assert_eq!(mbuf.tailroom(), 0);
    assert!(mbuf.append(1).is_none());
    assert!(mbuf.prepend(129).is_none());
    assert_eq!(mbuf.prepend(128).map(|head| head.len()), Some(128));
    assert_eq!((mbuf.headroom(), mbuf.len()), (0, mbuf.buffer_len()));
    assert!(!mbuf.trim_front(mbuf.len() + 1));
    assert!(mbuf.trim_front(100));
    mbuf.truncate(5000);
    assert_eq!(mbuf.len(), mbuf.buffer_len() - 100);
    mbuf.truncate(10);
    assert_eq!(
        (mbuf.headroom(), mbuf.len(), mbuf.packet_len()),
        (100, 10, 10)
    );
    mbuf.clear();
    assert_eq!(
        (mbuf.headroom(), mbuf.len(), mbuf.packet_len()),
        (128, 0, 0)
    );
}

#[test]
fn offload_flags_do_not_touch_the_kind_of_buffer() {
    let pool = pool(63);
    let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
    let wanted = dpdk_sys::RTE_MBUF_F_TX_IPV6 | dpdk_sys::RTE_MBUF_F_TX_UDP_CKSUM;
    let offload = TxOffload {
        flags: wanted,
        l2_len: 18,
        l3_len: 40,
        l4_len: 8,
        tso_segsz: 1452,
    };
    mbuf.set_tx(TxOffload {
        flags: wanted | dpdk_sys::RTE_MBUF_F_EXTERNAL,
        ..offload
    });
    assert_eq!(mbuf.tx_offload(), offload);
    assert!(mbuf.is_direct_single());
    mbuf.set_vlan_tci(0xe064);
    mbuf.set_rss_hash(0x1234_5678);
    mbuf.set_port(7);
    assert_eq!(
        (mbuf.vlan_tci(), mbuf.rss_hash(), mbuf.port()),
        (0xe064, 0x1234_5678, 7)
    );
    mbuf.set_tx(TxOffload::default());
    assert_eq!(mbuf.tx_offload(), TxOffload::default());
}

#[test]
fn a_departure_is_set_and_read_in_the_registered_field() {
    let pool = pool(63);
    let field = DynField::tx_timestamp(common::eal()).expect("room in mbufs");
    assert_eq!(DynField::tx_timestamp(common::eal()), Some(field));
    let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
    assert_eq!(mbuf.timestamp(field), None);
    let offload = TxOffload {
        l2_len: 14,
        ..TxOffload::default()
    };
    mbuf.set_tx(offload);
    mbuf.set_timestamp(field, u64::MAX - 1);
    assert_eq!(mbuf.timestamp(field), Some(u64::MAX - 1));
    assert_eq!(mbuf.flags(), field.flag());
    mbuf.set_tx(offload);
    assert_eq!(mbuf.timestamp(field), None, "flags are replaced");
}

#[test]
fn chained_segments_are_one_frame_and_go_back_together() {
    let pool = pool(63);
    let segment = |byte: u8, len| {
        let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
        mbuf.append(len).expect("room").fill(byte);
        mbuf
    };
    let mut frame = segment(1, 10);
    let mut tail = segment(2, 20);
    tail.chain(segment(3, 30)).expect("two segments");
    frame.chain(tail).expect("three segments");
    frame.chain(segment(4, 1)).expect("four segments");
    assert_eq!((frame.segment_count(), frame.packet_len()), (4, 61));
    let copy = frame.copy_range(5..61).expect("within the frame");
    let expected = [vec![1; 5], vec![2; 20], vec![3; 30], vec![4; 1]].concat();
    assert_eq!(copy, expected);
    assert!(!frame.is_direct_single());
    assert_eq!(pool.in_use(), 4);
    drop(frame);
    assert_eq!(pool.in_use(), 0);
}
