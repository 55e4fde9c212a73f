//! A program that does not run on `PacketAlloc`: conversions refuse, and copying works.

mod common;

use common::pool;
use hugepages::{Mbuf, into_bytes_mut, is_installed, thread_allocations};

#[test]
fn conversions_refuse_and_the_mbuf_is_as_it_was() {
    assert!(!is_installed());
    let pool = pool(63);
    let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
    mbuf.append(4).expect("room").copy_from_slice(b"data");
    let mbuf = into_bytes_mut(mbuf, 0..4).expect_err("not installed");
    let mbuf = mbuf.into_vec().expect_err("not installed");
    assert_eq!(mbuf.data(), b"data");
    let copy = mbuf.copy_range(1..3).expect("within the data");
    drop(mbuf);
    assert_eq!(&copy[..], b"at");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn nothing_is_counted() {
    let kept = vec![1_u8; 1000];
    assert_eq!(thread_allocations(), Default::default());
    assert_eq!(kept.len(), 1000);
}
