//! Those who wait: in order, not too many, not too long, and free to leave.

use super::*;

/// One connection, one lease.
fn narrow() -> PoolConfig {
    PoolConfig::default()
        .connections_per_peer(1)
        .leases_per_connection(1)
}

#[test]
fn first_come_first_served() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let mut lease = pool.open(&peer);
    let mut calls: Vec<_> = (0..5).map(|_| pool.call(&peer)).collect();
    assert_eq!(pool.stats().waiters, 5);
    for place in 0..5 {
        for call in &mut calls[place..] {
            call.waits();
        }
        drop(lease);
        let wakes: Vec<_> = calls.iter().map(Call::wakes).collect();
        assert_eq!(wakes.iter().sum::<usize>(), place + 1, "one is woken");
        assert_eq!(wakes[place], 1);
        lease = calls[place].lease();
    }
    drop(lease);
    let stats = pool.stats();
    assert_eq!((stats.waiters, stats.waiters_max, stats.leases), (0, 5, 0));
    assert_eq!((stats.hits, stats.misses), (0, 6));
}

#[test]
fn nobody_goes_past_the_queue() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let mut first = pool.call(&peer);
    drop(lease);
    // The lease is the first one's, though it has not looked yet.
    let mut second = pool.call(&peer);
    second.waits();
    let lease = first.lease();
    second.waits();
    drop(lease);
    drop(second.lease());
    drop(pool.call(&peer).lease());
}

#[test]
fn who_leaves_the_queue_leaves_no_trace() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let mut calls: Vec<_> = (0..3).map(|_| pool.call(&peer)).collect();
    drop(calls.remove(1));
    drop(calls.remove(0));
    assert_eq!(pool.stats().waiters, 1);
    drop(lease);
    drop(calls.remove(0).lease());
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.waiters, stats.leases), (2, 0, 0));
    // The connection is lent as ever.
    assert_eq!(pool.call(&peer).lease().facts.number, 0);
    assert_eq!(pool.stats().hits, 1);
}

#[test]
fn what_was_found_for_one_who_left_goes_to_the_next() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let first = pool.call(&peer);
    let mut second = pool.call(&peer);
    drop(lease);
    assert_eq!(first.wakes(), 1);
    drop(first);
    assert_eq!(second.wakes(), 1);
    drop(second.lease());
    assert_eq!(pool.stats().leases, 0);
}

#[test]
fn a_connection_is_opened_though_the_caller_left() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let call = pool.call(&peer);
    pool.turn();
    drop(call);
    pool.world.accept(0);
    pool.turn();
    assert_eq!(pool.stats().connections, 1);
    drop(pool.call(&peer).lease());
    assert_eq!(pool.stats().hits, 1);
}

#[test]
fn nobody_waits_longer_than_allowed() {
    let config = narrow().wait_timeout(SECOND);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let _lease = pool.open(&peer);
    let mut first = pool.call(&peer);
    pool.advance(SECOND / 2);
    let mut second = pool.call(&peer);
    pool.advance(SECOND / 2);
    assert!(matches!(
        first.error(),
        PoolError::WaitTimeout { after: SECOND }
    ));
    second.waits();
    pool.advance(SECOND / 2);
    assert!(matches!(second.error(), PoolError::WaitTimeout { .. }));
    assert_eq!((pool.stats().timed_out, pool.stats().waiters), (2, 0));
}

#[test]
fn queues_are_bounded_by_peer_and_in_all() {
    let config = narrow().waiters_per_peer(2).waiters(3);
    let mut pool = Fixture::new(config);
    let (one, other) = (pool.peer(1), pool.peer(2));
    let _leases = [pool.open(&one), pool.open(&other)];
    let mut calls = vec![pool.call(&one), pool.call(&one)];
    assert!(matches!(
        pool.call(&one).error(),
        PoolError::TooManyWaiters { limit: 2 }
    ));
    calls.push(pool.call(&other));
    assert!(matches!(
        pool.call(&other).error(),
        PoolError::TooManyWaiters { limit: 3 }
    ));
    assert_eq!((pool.stats().refused, pool.stats().waiters), (2, 3));
    drop(calls.remove(0));
    pool.call(&other).waits();
}

#[test]
fn many_callers_at_once_get_connections_by_need() {
    let config = PoolConfig::default().open_at(8).connections_per_peer(4);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut calls: Vec<_> = (0..20).map(|_| pool.call(&peer)).collect();
    pool.turn();
    assert_eq!(pool.world.waiting(), 3, "eight callers each");
    // One of them is enough to serve all, and the others are there for the next.
    pool.world.accept(0);
    pool.turn();
    let leases: Vec<_> = calls.iter_mut().map(Call::lease).collect();
    assert_eq!(pool.stats().leases, leases.len());
}

#[test]
fn closing_the_pool_tells_those_who_wait() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let mut call = pool.call(&peer);
    let mut opening = pool.call(&pool.peer(2));
    pool.turn();
    pool.shared.close();
    pool.turn();
    assert!(matches!(call.error(), PoolError::Closed));
    assert!(matches!(opening.error(), PoolError::Closed));
    assert!(matches!(pool.call(&peer).error(), PoolError::Closed));
    assert!(matches!(pool.shared.peer(&key(3)), Err(PoolError::Closed)));
    // An attempt that succeeds after all is of no use.
    pool.world.accept(0);
    pool.turn();
    assert_eq!(pool.world.alive(), 1, "the one that is lent");
    drop(lease);
    assert_eq!(pool.world.alive(), 0);
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.opening, stats.waiters), (0, 0, 0));
}

#[test]
fn the_last_who_polled_is_woken() {
    let mut pool = Fixture::new(narrow());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let mut call = pool.call(&peer);
    let first = std::mem::take(&mut call.woken);
    call.waits();
    drop(lease);
    assert_eq!((first.0.load(Ordering::SeqCst), call.wakes()), (0, 1));
    drop(call.lease());
    let lease = pool.call(&peer).lease();
    let given_up = pool.call(&peer);
    let woken = Arc::clone(&given_up.woken);
    drop(given_up);
    drop(lease);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
}
