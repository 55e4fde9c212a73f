//! Making pools, the limits on it, and retiring them all. One test, in order: the pools of a
//! process are its state.

#[path = "common/eal.rs"]
mod eal;

use hugepages::{
    Burst, ConfigError, Mbuf, Mempool, MempoolConfig, PacketAlloc, PoolError, into_bytes_mut,
    retire_pools,
};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

fn config(name: &str, mbufs: u32) -> MempoolConfig {
    MempoolConfig {
        name: name.to_owned(),
        mbufs,
        cache: 0,
        data_room: 256,
        numa_node: None,
    }
}

#[test]
fn pools_are_made_limited_and_retired() {
    let eal = eal::eal();

    let pool = Mempool::create(eal, &config("first", 100)).expect("memory for a small pool");
    assert_eq!(
        (pool.name(), pool.capacity(), pool.data_room()),
        ("first", 100, 256)
    );
    assert_eq!(
        (pool.available(), pool.in_use(), pool.free_in_ring()),
        (100, 0, 100)
    );

    let cached = MempoolConfig {
        cache: 64,
        ..config("cached", 100)
    };
    assert!(Mempool::create(eal, &cached).is_ok());
    let invalid = MempoolConfig {
        cache: 67,
        ..config("invalid", 100)
    };
    let error = Mempool::create(eal, &invalid).expect_err("above two thirds");
    assert!(
        matches!(error, PoolError::Config(ConfigError::Cache { .. })),
        "{error}"
    );

    // What DPDK refuses says what was asked for, and what there is.
    let error = Mempool::create(eal, &config("first", 100)).expect_err("the name is taken");
    assert!(error.to_string().contains("File exists"), "{error}");
    let error = Mempool::create(eal, &config("huge", 4_000_000)).expect_err("over 128 MiB");
    let text = error.to_string();
    for part in [
        "mempool huge: 4000000 mbufs",
        "GiB",
        "Cannot allocate memory",
        "lower the number",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    let elsewhere = MempoolConfig {
        numa_node: Some(7),
        ..config("elsewhere", 100)
    };
    let error = Mempool::create(eal, &elsewhere).expect_err("no such node");
    assert!(error.to_string().contains("NUMA node 7"), "{error}");

    let mut made = 2;
    let error = loop {
        match Mempool::create(eal, &config(&format!("many{made}"), 1)) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PoolError::TooManyPools { .. }), "{error}");
    assert_eq!(made, 64);

    // Slices of every pool are known to the allocator, however many pools there are.
    let mut mbuf = Mbuf::alloc(pool).expect("an mbuf");
    mbuf.append(100).expect("room").fill(1);
    let bytes = into_bytes_mut(mbuf, 0..100).expect("installed");

    // SAFETY: no port is open in this process.
    assert_eq!(unsafe { retire_pools(eal) }, Err(1), "a slice is out");
    assert_eq!(bytes, [1; 100][..]);
    assert_eq!(pool.in_use(), 1, "a refusal changes nothing");
    drop(bytes);
    // SAFETY: no port is open in this process.
    assert_eq!(unsafe { retire_pools(eal) }, Ok(()));

    // What is left of the pools is empty, and stays so.
    assert_eq!(
        (pool.available(), pool.in_use(), pool.free_in_ring()),
        (0, 0, 0)
    );
    assert!(Mbuf::alloc(pool).is_none());
    assert!(!Burst::<32>::new().alloc(pool, 1));
    let late = Mempool::create(eal, &config("late", 100)).expect_err("too late");
    assert!(matches!(late, PoolError::Retired { .. }), "{late}");
}
