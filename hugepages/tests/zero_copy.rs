//! Packet buffers as `Vec`, `Bytes` and `BytesMut`, in a program that runs on `PacketAlloc`: no
//! conversion copies, and every mbuf comes back, whatever is done to the slices and wherever they
//! are dropped.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::pool;
use hugepages::{
    Mbuf, Mempool, PacketAlloc, TX_HEADROOM, into_bytes_mut, is_installed, thread_allocations,
};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

/// An mbuf that holds 0, 1, 2, …
fn frame(pool: Mempool, len: usize) -> Mbuf {
    let mut mbuf = Mbuf::alloc(pool).expect("the pool is not empty");
    let data = mbuf.append(len).expect("the frame fits");
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = index as u8;
    }
    mbuf
}

/// Something done to received bytes that leaves them as they were.
type Conversion = fn(BytesMut) -> Vec<u8>;

fn content(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|index| index as u8).collect()
}

fn received(pool: Mempool, len: usize) -> BytesMut {
    into_bytes_mut(frame(pool, len), 0..len).expect("the allocator is installed")
}

#[test]
fn the_allocator_is_found_installed() {
    assert!(is_installed());
}

#[test]
fn receiving_neither_copies_nor_allocates() {
    let pool = pool(64);
    let mbuf = frame(pool, 1500);
    let address = mbuf.data()[62..].as_ptr();
    assert!(is_installed(), "asked first: finding out allocates, once");
    let before = thread_allocations();
    let bytes = into_bytes_mut(mbuf, 62..1462).expect("the allocator is installed");
    assert_eq!(thread_allocations(), before);
    assert_eq!(bytes.as_ptr(), address);
    assert_eq!(pool.in_use(), 1);
    assert_eq!(bytes, content(62..1462));
    drop(bytes);
    let after = thread_allocations();
    assert_eq!(after.buffers_returned, before.buffers_returned + 1);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_range_outside_the_data_is_refused() {
    let pool = pool(64);
    for range in [0..101, 100..101, 101..101, 0..usize::MAX] {
        let mbuf = into_bytes_mut(frame(pool, 100), range.clone()).expect_err("outside");
        assert_eq!(mbuf.data(), content(0..100), "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = into_bytes_mut(frame(pool, 100), 50..40);
    assert!(reversed.is_err());
    assert_eq!(
        into_bytes_mut(frame(pool, 100), 100..100)
            .map(|b| b.len())
            .ok(),
        Some(0)
    );
    drop(reversed);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn chained_and_shared_mbufs_are_refused() {
    let pool = pool(64);
    let head = frame(pool, 10);
    let tail = frame(pool, 5).into_raw();
    // SAFETY: both mbufs are ours; the tail's ownership goes to the head.
    unsafe {
        dpdk_sys::mbuf_set_next(head.as_ptr(), tail.as_ptr());
        dpdk_sys::mbuf_set_nb_segs(head.as_ptr(), 2);
        dpdk_sys::mbuf_set_pkt_len(head.as_ptr(), 15);
    }
    let head = into_bytes_mut(head, 0..5).expect_err("chained");
    let mut head = head.into_vec().expect_err("chained");
    assert_eq!(head.packet_len(), 15);
    assert!(head.append(1).is_none());
    let whole = head.copy_range(0..15).expect("all of it");
    assert_eq!(&whole[..10], content(0..10));
    assert_eq!(&whole[10..], content(0..5));
    assert_eq!(
        head.copy_range(8..12).expect("across the seam").as_ref(),
        [8, 9, 0, 1]
    );
    assert_eq!(
        head.copy_range(10..15).expect("the second").as_ref(),
        content(0..5)
    );
    assert_eq!(head.copy_range(15..15).map(|bytes| bytes.len()), Some(0));
    assert!(head.copy_range(0..16).is_none());
    assert!(head.copy_range(16..16).is_none());
    assert_eq!(head.segments().count(), 2);
    assert_eq!(pool.in_use(), 2);
    drop(head);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn every_conversion_keeps_content_and_accounts_for_the_mbuf() {
    let pool = pool(64);
    let want = content(10..1400);
    let fresh = || into_bytes_mut(frame(pool, 1500), 10..1400).expect("installed");
    let conversions: [(&str, Conversion); 12] = [
        ("freeze", |b| b.freeze().to_vec()),
        ("freeze, clone", |b| {
            let frozen = b.freeze();
            let clone = frozen.clone();
            drop(frozen);
            clone.to_vec()
        }),
        ("freeze, try_into_mut", |b| {
            b.freeze().try_into_mut().expect("unique").to_vec()
        }),
        ("shared, no try_into_mut", |b| {
            let frozen = b.freeze();
            let _clone = frozen.clone();
            frozen.try_into_mut().expect_err("shared").to_vec()
        }),
        ("Bytes into Vec", |b| Vec::from(b.freeze())),
        ("BytesMut into Vec", |b| Vec::from(b)),
        ("Vec, shrink", |b| {
            let mut vec = Vec::from(b);
            vec.shrink_to_fit();
            vec
        }),
        ("into boxed slice and back", |b| {
            let boxed = Vec::from(b).into_boxed_slice();
            let bytes = Bytes::from(boxed);
            Vec::from(BytesMut::from(bytes))
        }),
        ("grow", |mut b| {
            b.reserve(100_000);
            let len = b.len();
            b.put_bytes(7, 100_000);
            b.truncate(len);
            Vec::from(b)
        }),
        ("split and unsplit", |mut b| {
            let mut tail = b.split_off(700);
            let head = b.split_to(300);
            let middle = b;
            let mut whole = head;
            whole.unsplit(middle);
            tail.reserve(10);
            whole.unsplit(tail);
            whole.to_vec()
        }),
        ("slices out of order", |b| {
            let all = b.freeze();
            let (a, c) = (all.slice(..500), all.slice(500..));
            drop(all);
            let second = c.to_vec();
            drop(c);
            [a.to_vec(), second].concat()
        }),
        ("write in place", |mut b| {
            for byte in b.iter_mut() {
                *byte ^= 0xff;
            }
            b.iter().map(|byte| byte ^ 0xff).collect()
        }),
    ];
    for (name, convert) in conversions {
        assert_eq!(convert(fresh()), want, "{name}");
        assert_eq!(pool.in_use(), 0, "{name}");
    }
}

#[test]
fn advance_and_reserve_reuse_the_buffer() {
    let pool = pool(64);
    let mut bytes = received(pool, 1500);
    let address = bytes.as_ptr().addr();
    bytes.advance(1400);
    // There is room before: bytes moves its content there rather than growing.
    bytes.reserve(1000);
    assert!(address.abs_diff(bytes.as_ptr().addr()) <= usize::from(pool.data_room()));
    assert_eq!(bytes, content(1400..1500));
    assert_eq!(pool.in_use(), 1);
    drop(bytes);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn slices_dropped_on_other_threads_return_their_mbufs() {
    let pool = pool(256);
    let (sender, receiver) = mpsc::channel::<Bytes>();
    let consumer = thread::spawn(move || {
        let mut bytes = 0;
        for slice in receiver {
            bytes += slice.len();
        }
        (bytes, thread_allocations().buffers_returned)
    });
    for _ in 0..10_000 {
        // The consumer may be behind: then the pool is empty for a moment, as it may be for a
        // driver.
        let mbuf = loop {
            match Mbuf::alloc(pool) {
                Some(mbuf) => break mbuf,
                None => thread::yield_now(),
            }
        };
        let mut mbuf = mbuf;
        mbuf.append(100).expect("room").fill(1);
        let bytes = into_bytes_mut(mbuf, 0..100).expect("installed").freeze();
        sender.send(bytes.slice(..50)).expect("the consumer lives");
        sender.send(bytes.slice(50..)).expect("the consumer lives");
    }
    drop(sender);
    let (bytes, returned) = consumer.join().expect("the consumer ends well");
    assert_eq!(bytes, 1_000_000);
    assert!(
        returned > 0,
        "at least some of the last slices were dropped by the consumer"
    );
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_slice_in_a_thread_local_is_returned_when_the_thread_ends() {
    thread_local!(static KEPT: RefCell<Option<Bytes>> = const { RefCell::new(None) });
    let pool = pool(64);
    let bytes = received(pool, 100).freeze();
    thread::spawn(move || KEPT.with(|kept| *kept.borrow_mut() = Some(bytes)))
        .join()
        .expect("the thread ends well");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_packet_is_born_in_the_mbuf() {
    let pool = pool(64);
    let mbuf = Mbuf::alloc(pool).expect("the pool is not empty");
    assert!(is_installed(), "asked first: finding out allocates, once");
    let before = thread_allocations();
    let mut vec = mbuf.into_vec().expect("installed");
    assert!(vec.is_empty());
    assert_eq!(vec.capacity(), usize::from(pool.data_room()) - TX_HEADROOM);
    let address = vec.as_ptr();
    vec.extend_from_slice(b"payload");
    vec.resize(1452, 9);
    let mut mbuf = Mbuf::from_vec(vec).expect("it is the mbuf's");
    assert_eq!(
        thread_allocations(),
        before,
        "no allocation, and nothing given back"
    );
    assert_eq!(mbuf.headroom(), TX_HEADROOM);
    assert_eq!(mbuf.data().as_ptr(), address);
    assert_eq!((mbuf.len(), mbuf.packet_len()), (1452, 1452));
    mbuf.prepend(62)
        .expect("headroom")
        .copy_from_slice(&[5; 62]);
    assert_eq!(mbuf.len(), 62 + 1452);
    assert_eq!(&mbuf.data()[..69], [&[5; 62][..], b"payload"].concat());
    assert!(mbuf.prepend(TX_HEADROOM).is_none());
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_full_vec_still_fits() {
    let pool = pool(64);
    let mut vec = Mbuf::alloc(pool)
        .expect("an mbuf")
        .into_vec()
        .expect("installed");
    vec.resize(vec.capacity(), 1);
    let mbuf = Mbuf::from_vec(vec).expect("it did not move");
    assert_eq!(
        (mbuf.len(), mbuf.tailroom()),
        (usize::from(pool.data_room()) - TX_HEADROOM, 0)
    );
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_vec_that_outgrew_its_mbuf_keeps_its_content_and_frees_the_mbuf() {
    let pool = pool(64);
    let mut vec = Mbuf::alloc(pool)
        .expect("an mbuf")
        .into_vec()
        .expect("installed");
    vec.extend_from_slice(&content(0..2000));
    vec.extend_from_slice(&content(2000..4000));
    assert_eq!(pool.in_use(), 0, "realloc copied it out");
    let vec = Mbuf::from_vec(vec).expect_err("it moved");
    assert_eq!(vec, content(0..4000));
}

#[test]
fn a_vec_that_was_swapped_belongs_to_whoever_has_it() {
    let pool = pool(64);
    let mut vec = Mbuf::alloc(pool)
        .expect("an mbuf")
        .into_vec()
        .expect("installed");
    vec.extend_from_slice(b"stolen");
    let stolen = std::mem::take(&mut vec);
    assert!(Mbuf::from_vec(vec).is_err());
    assert_eq!(pool.in_use(), 1);
    let bytes = thread::spawn(move || Bytes::from(stolen).slice(1..))
        .join()
        .expect("a thread");
    assert_eq!(&bytes[..], b"tolen");
    drop(bytes);
    assert_eq!(pool.in_use(), 0);
    // One that was received starts at its buffer's start, and has no headroom to send from.
    let mut received = received(pool, 10);
    received.truncate(0);
    let received = Mbuf::from_vec(Vec::from(received)).expect_err("no room for headers");
    drop(received);
    assert_eq!(pool.in_use(), 0);
    // Heap memory that happens to be aligned alike.
    for len in 1..200 {
        assert!(Mbuf::from_vec(vec![0; len]).is_err());
    }
}

#[test]
fn unwinding_returns_the_mbuf() {
    let pool = pool(64);
    let mbuf = Mbuf::alloc(pool).expect("an mbuf");
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut vec = mbuf.into_vec().expect("installed");
        vec.push(1);
        panic!("on purpose, {} in use", pool.in_use());
    }));
    let message = *result
        .expect_err("it panicked")
        .downcast::<String>()
        .expect("a message");
    assert_eq!(message, "on purpose, 1 in use");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_mbuf_from_a_pool_of_another_kind_is_refused() {
    common::eal();
    // SAFETY: EAL is up.
    let foreign =
        unsafe { dpdk_sys::rte_pktmbuf_pool_create(c"foreign".as_ptr(), 15, 0, 0, 2176, -1) };
    assert!(!foreign.is_null());
    let mut raw = std::ptr::null_mut();
    // SAFETY: the pool lives; there is room for one pointer.
    let allocated = unsafe { dpdk_sys::stoq_alloc_bulk(foreign, &mut raw, 1) };
    assert_eq!(allocated, 0);
    // SAFETY: the mbuf was just allocated and is ours.
    let mut mbuf = unsafe { Mbuf::from_raw(std::ptr::NonNull::new(raw).expect("allocated")) };
    mbuf.append(20).expect("room").fill(3);
    let mbuf = into_bytes_mut(mbuf, 0..20).expect_err("not registered");
    let mbuf = mbuf.into_vec().expect_err("not registered");
    assert_eq!(mbuf.copy_range(0..20).expect("in range").as_ref(), [3; 20]);
    drop(mbuf);
    // SAFETY: the pool lives.
    assert_eq!(unsafe { dpdk_sys::rte_mempool_in_use_count(foreign) }, 0);
}

#[test]
fn a_stray_pointer_into_a_pool_ends_the_process() {
    const CHILD: &str = "HUGEPAGES_TEST_STRAY";
    if std::env::var_os(CHILD).is_some() {
        let mbuf = frame(pool(64), 100);
        // SAFETY: none: this is the mistake that has to be caught.
        drop(unsafe { Vec::from_raw_parts(mbuf.data().as_ptr().cast_mut().add(8), 1, 1) });
        std::process::exit(0);
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "a_stray_pointer_into_a_pool_ends_the_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .expect("the child runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        errors.contains("a pointer into packet memory was freed"),
        "{errors}"
    );
}
