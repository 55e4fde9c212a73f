//! Peers that cannot be reached.

use super::*;

/// The longest first delay.
const BASE: Duration = Duration::from_millis(100);

fn config() -> PoolConfig {
    PoolConfig::default().back_off(BackOff::default().base(BASE))
}

#[test]
fn those_who_wait_for_an_attempt_that_fails_hear_of_it() {
    let mut pool = Fixture::new(config());
    let peer = pool.peer(1);
    let mut calls = [pool.call(&peer), pool.call(&peer)];
    pool.turn();
    assert_eq!(pool.world.waiting(), 1);
    pool.world.refuse(0);
    pool.turn();
    for call in &mut calls {
        assert!(matches!(call.error(), PoolError::OpenFailed(_)));
    }
    let stats = pool.stats();
    assert_eq!((stats.open_failures, stats.failed), (1, 2));
}

#[test]
fn while_backed_off_calls_fail_at_once() {
    let mut pool = Fixture::new(config());
    let peer = pool.peer(1);
    let mut last = Duration::ZERO;
    for failures in 1..=6 {
        let mut call = pool.call(&peer);
        pool.turn();
        pool.world.refuse(0);
        pool.turn();
        assert!(matches!(call.error(), PoolError::OpenFailed(_)));
        let error = pool.call(&peer).error();
        let PoolError::BackingOff {
            next, failures: n, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(n, failures);
        let longest = BASE * 2u32.pow(failures - 1);
        assert!(next <= longest && next >= longest / 2, "{next:?}");
        assert!(next >= last);
        last = next;
        pool.advance(next - MS);
        assert!(matches!(
            pool.call(&peer).error(),
            PoolError::BackingOff { .. }
        ));
        assert_eq!(pool.world.waiting(), 0, "no attempt before its time");
        pool.advance(MS);
    }
    // One success that lasts, and the next delay is the first again.
    drop(pool.open(&peer));
    pool.advance(SECOND);
    pool.world.made(0).close();
    pool.turn();
    let mut call = pool.call(&peer);
    pool.turn();
    pool.world.refuse(0);
    pool.turn();
    call.error();
    assert!(matches!(
        pool.call(&peer).error(),
        PoolError::BackingOff { failures: 1, .. }
    ));
}

#[test]
fn callers_who_are_patient_wait_for_the_next_attempt() {
    let back_off = BackOff::default().base(BASE).wait(true);
    let config = config().back_off(back_off).wait_timeout(SECOND);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut calls: Vec<_> = (0..40).map(|_| pool.call(&peer)).collect();
    pool.turn();
    while pool.world.waiting() > 0 {
        pool.world.refuse(0);
    }
    pool.turn();
    for call in &mut calls {
        call.waits();
    }
    pool.advance(BASE);
    assert_eq!(pool.world.waiting(), 1, "one tries for all");
    pool.world.accept(0);
    pool.turn();
    assert_eq!(calls[0].lease().facts.number, 0);
    drop(calls);
    assert_eq!(pool.stats().leases, 0);
    // And not for ever.
    pool.world.made(0).close();
    pool.turn();
    let mut call = pool.call(&peer);
    for _ in 0..20 {
        pool.advance(BASE);
        while pool.world.waiting() > 0 {
            pool.world.refuse(0);
        }
        pool.turn();
    }
    assert!(matches!(call.error(), PoolError::WaitTimeout { .. }));
}

#[test]
fn what_cannot_succeed_is_not_waited_for() {
    let back_off = BackOff::default().wait(true);
    let mut pool = Fixture::new(config().back_off(back_off));
    let peer = pool.peer(1);
    let mut call = pool.call(&peer);
    pool.turn();
    pool.world.refuse_with(0, OpenError::UnknownClient);
    pool.turn();
    assert!(matches!(
        call.error(),
        PoolError::OpenFailed(OpenError::UnknownClient)
    ));
    assert!(matches!(
        pool.call(&peer).error(),
        PoolError::BackingOff { .. }
    ));
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up() {
    let mut pool = Fixture::new(config().open_timeout(SECOND));
    let peer = pool.peer(1);
    let mut call = pool.call(&peer);
    pool.turn();
    pool.advance(SECOND - MS);
    call.waits();
    pool.advance(MS);
    assert!(matches!(
        call.error(),
        PoolError::OpenFailed(OpenError::TimedOut { after: SECOND })
    ));
    // Its future is gone, and the one that watches the time with it.
    assert_eq!(pool.keeper.tasks(), 0);
    // It succeeds too late: the connection is dropped with the attempt.
    pool.world.accept(0);
    pool.turn();
    assert_eq!(pool.stats().connections, 0);
}

#[test]
fn a_connection_that_ends_at_once_is_a_failure() {
    let mut pool = Fixture::new(config().settle(SECOND));
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    pool.advance(SECOND / 2);
    pool.world.made(0).close();
    pool.turn();
    let error = pool.call(&peer).error();
    assert!(
        matches!(
            error,
            PoolError::BackingOff {
                failures: 1,
                last: OpenError::ShortLived,
                ..
            }
        ),
        "{error}"
    );
    // So do those that come after it, until one lasts.
    pool.advance(BASE);
    drop(pool.open(&peer));
    pool.world.made(1).close();
    pool.turn();
    assert!(matches!(
        pool.call(&peer).error(),
        PoolError::BackingOff { failures: 2, .. }
    ));
}

#[test]
fn with_a_connection_left_a_failure_is_nobodys_concern() {
    let config = config().connections_per_peer(2).leases_per_connection(1);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    let mut call = pool.call(&peer);
    pool.turn();
    pool.world.refuse(0);
    pool.turn();
    call.waits();
    drop(lease);
    drop(call.lease());
    assert_eq!(pool.stats().open_failures, 1);
}

#[test]
fn a_busy_peer_does_not_grow_while_it_is_backed_off_from() {
    let config = config().open_at(1).connections_per_peer(2);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut held = vec![pool.open(&peer)];
    held.push(pool.call(&peer).lease());
    pool.turn();
    pool.world.refuse(0);
    pool.turn();
    held.push(pool.call(&peer).lease());
    pool.turn();
    assert_eq!(pool.world.waiting(), 0);
    pool.advance(BASE);
    held.push(pool.call(&peer).lease());
    pool.turn();
    assert_eq!(pool.world.waiting(), 1);
}
