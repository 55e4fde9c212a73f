//! Pools for the integration tests, and the EAL they need.

mod eal;

use std::sync::atomic::{AtomicU32, Ordering};

use hugepages::{Mempool, MempoolConfig};

pub use eal::eal;

/// A pool of its own for the caller, whose mbufs hold an Ethernet frame of the usual size behind the
/// standard headroom.
#[allow(
    dead_code,
    reason = "one of the programs that share this module makes its own pools"
)]
pub fn pool(mbufs: u32) -> Mempool {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let config = MempoolConfig {
        name: format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        mbufs,
        cache: 0,
        data_room: 2048 + 128,
        numa_node: None,
    };
    Mempool::create(eal(), &config).unwrap_or_else(|error| panic!("{error}"))
}
