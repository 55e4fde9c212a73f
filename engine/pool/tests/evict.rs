//! Connections that go: idle, broken, unhealthy, in the way of others.

use super::*;

/// How many connections are left after so many seconds.
fn pass(pool: &mut Fixture, seconds: usize) -> usize {
    for _ in 0..seconds {
        pool.advance(SECOND);
    }
    pool.world.alive()
}

#[test]
fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let config = PoolConfig::default()
        .idle_timeout(8 * SECOND)
        .health(None)
        .open_at(1)
        .connections_per_peer(2);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let used = pool.open(&peer);
    let idle = pool.call(&peer).lease();
    pool.turn();
    pool.world.accept(0);
    pool.turn();
    drop(idle);
    drop(pool.call(&peer).lease());
    assert_eq!(pass(&mut pool, 7), 2);
    assert_eq!(pass(&mut pool, 3), 1, "at most a quarter later");
    assert_eq!(pass(&mut pool, 100), 1);
    assert!(pool.world.made(1).dropped.load(Ordering::SeqCst));
    assert_eq!(pool.stats().evicted_idle, 1);
    drop(used);
    assert_eq!(pass(&mut pool, 7), 1);
    assert_eq!(pass(&mut pool, 3), 0);
    assert_eq!(pool.stats().evicted_idle, 2);
}

#[test]
fn one_taken_from_time_to_time_stays() {
    let config = PoolConfig::default().idle_timeout(8 * SECOND);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    for _ in 0..20 {
        pool.advance(6 * SECOND);
        drop(pool.call(&peer).lease());
    }
    assert_eq!((pool.stats().opens, pool.stats().evicted_idle), (1, 0));
}

#[test]
fn a_broken_connection_is_not_lent_again() {
    let mut pool = Fixture::new(PoolConfig::default().settle(MS));
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    pool.advance(SECOND);
    pool.world.made(0).close();
    pool.turn();
    assert_eq!(pool.stats().evicted_broken, 1);
    assert_eq!(pool.world.alive(), 0);
    assert_eq!(pool.open(&peer).facts.number, 1);
    assert_eq!(pool.stats().open_failures, 0);
}

#[test]
fn one_that_has_settled_is_no_failure_though_nobody_looked() {
    let mut pool = Fixture::new(PoolConfig::default().settle(SECOND));
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    pool.world.advance(SECOND);
    pool.world.made(0).close();
    pool.turn();
    let stats = pool.stats();
    assert_eq!((stats.evicted_broken, stats.open_failures), (1, 0));
}

#[test]
fn a_broken_connection_is_seen_before_the_keeper_hears_of_it() {
    let mut pool = Fixture::new(PoolConfig::default().settle(MS));
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    pool.advance(SECOND);
    pool.world.made(0).close_silently();
    assert_eq!(pool.open(&peer).facts.number, 1);
    assert_eq!(pool.stats().evicted_broken, 1);
}

#[test]
fn those_who_wait_for_a_broken_connection_get_another() {
    let config = PoolConfig::default()
        .connections_per_peer(1)
        .leases_per_connection(1)
        .settle(MS);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    pool.advance(SECOND);
    let mut call = pool.call(&peer);
    pool.world.made(0).close();
    pool.turn();
    assert_eq!(pool.world.waiting(), 1);
    pool.world.accept(0);
    pool.turn();
    assert_eq!(call.lease().facts.number, 1);
    // The old one is its holder's still.
    assert!(lease.facts.is_closed());
    drop(lease);
    assert_eq!(pool.world.alive(), 1);
}

#[test]
fn a_silent_connection_is_closed() {
    let health = Health::default().interval(10 * SECOND).deadline(2 * SECOND);
    let config = PoolConfig::default()
        .health(Some(health))
        .open_at(1)
        .connections_per_peer(2);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let first = pool.open(&peer);
    let second = pool.call(&peer).lease();
    pool.turn();
    pool.world.accept(0);
    pool.turn();
    let third = pool.call(&peer).lease();
    assert_eq!(third.facts.number, 1);
    third.facts.turn_deaf();
    pool.advance(10 * SECOND);
    assert_eq!(third.facts.pings.load(Ordering::SeqCst), 1);
    pool.advance(SECOND);
    assert!(!third.facts.is_closed());
    pool.advance(SECOND);
    assert!(third.facts.is_closed(), "its holder sees it");
    for _ in 0..50 {
        pool.advance(SECOND);
    }
    assert!(!first.facts.is_closed());
    let stats = pool.stats();
    assert_eq!((stats.evicted_unhealthy, stats.connections), (1, 1));
    drop(second);
}

#[test]
fn one_closed_by_its_holder_is_no_failure() {
    let mut pool = Fixture::new(PoolConfig::default());
    let peer = pool.peer(1);
    let lease = pool.open(&peer);
    lease.facts.close_locally();
    pool.turn();
    let stats = pool.stats();
    assert_eq!((stats.evicted_broken, stats.open_failures), (1, 0));
    assert_eq!(pool.open(&peer).facts.number, 1);
}

#[test]
fn at_the_bound_of_all_the_one_idle_for_longest_makes_room() {
    const COUNT: u16 = 3;
    // Uses are told apart that are a quarter of it away from each other.
    let idle_timeout = 60 * SECOND;
    let config = PoolConfig::default()
        .connections(COUNT.into())
        .idle_timeout(idle_timeout);
    let mut pool = Fixture::new(config);
    let peers: Vec<_> = (0..=COUNT).map(|number| pool.peer(number)).collect();
    for peer in &peers[..COUNT.into()] {
        drop(pool.open(peer));
    }
    // Not in the order in which they were opened.
    let order = [1, 2, 0];
    for place in order {
        pool.advance(idle_timeout / 4 + MS);
        drop(pool.call(&peers[place]).lease());
    }
    pool.advance(SECOND);
    let mut last = COUNT.into();
    for place in order {
        drop(pool.open(&peers[last]));
        pool.advance(SECOND);
        let dropped = |number| pool.world.made(number).dropped.load(Ordering::SeqCst);
        assert!(dropped(place), "{place}");
        last = place;
    }
    let stats = pool.stats();
    assert_eq!(stats.evicted_crowded, u64::from(COUNT));
    assert_eq!(stats.connections, usize::from(COUNT));
}

#[test]
fn with_none_idle_the_next_returned_makes_room_for_the_first_who_waits() {
    let config = PoolConfig::default().connections(2);
    let mut pool = Fixture::new(config);
    let peers: Vec<_> = (1..=4).map(|number| pool.peer(number)).collect();
    let leases = [pool.open(&peers[0]), pool.open(&peers[1])];
    let mut third = pool.call(&peers[2]);
    pool.turn();
    let mut fourth = pool.call(&peers[3]);
    pool.turn();
    assert_eq!(pool.world.waiting(), 0);
    let [first, second] = leases;
    // A connection with room is lent though others starve.
    drop(pool.call(&peers[0]).lease());
    drop(second);
    pool.turn();
    assert_eq!(pool.world.waiting(), 1);
    pool.world.accept(0);
    pool.turn();
    fourth.waits();
    drop(third.lease());
    pool.turn();
    pool.world.accept(0);
    pool.turn();
    drop(fourth.lease());
    assert_eq!(pool.stats().evicted_crowded, 2);
    drop(first);
}

#[test]
fn who_starves_and_leaves_takes_nothing() {
    let config = PoolConfig::default().connections(1);
    let mut pool = Fixture::new(config);
    let lease = pool.open(&pool.peer(1));
    let call = pool.call(&pool.peer(2));
    drop(call);
    drop(lease);
    pool.turn();
    let stats = pool.stats();
    assert_eq!((stats.evicted_crowded, stats.opens), (0, 1));
}

#[test]
fn peers_are_bounded_and_the_idle_are_forgotten() {
    let config = PoolConfig::default().peers(2);
    let mut pool = Fixture::new(config);
    drop(pool.open(&pool.peer(1)));
    pool.advance(SECOND);
    drop(pool.open(&pool.peer(2)));
    pool.advance(SECOND);
    let third = pool.peer(3);
    assert!(pool.world.made(0).dropped.load(Ordering::SeqCst));
    let fourth = pool.peer(4);
    assert_eq!(pool.world.alive(), 0);
    assert!(matches!(
        pool.shared.peer(&key(5)),
        Err(PoolError::TooManyPeers { limit: 2 })
    ));
    drop(third);
    let _fifth = pool.peer(5);
    let stats = pool.stats();
    assert_eq!((stats.peers, stats.peers_forgotten), (2, 3));
    drop(fourth);
}

#[test]
fn a_peer_with_a_lease_out_is_not_forgotten() {
    let config = PoolConfig::default().peers(1);
    let mut pool = Fixture::new(config);
    let lease = pool.open(&pool.peer(1));
    assert!(pool.shared.peer(&key(2)).is_err());
    drop(lease);
    assert!(pool.shared.peer(&key(2)).is_ok());
}

#[test]
fn everything_is_forgotten_in_the_end() {
    let config = PoolConfig::default().idle_timeout(SECOND);
    let mut pool = Fixture::new(config);
    for number in 1..10 {
        drop(pool.open(&pool.peer(number)));
    }
    for _ in 0..12 {
        pool.advance(SECOND / 2);
    }
    let stats = pool.stats();
    assert_eq!((stats.peers, stats.connections), (0, 0));
    assert_eq!(pool.world.alive(), 0);
    // Then the keeper has nothing to wake up for.
    assert_eq!(pool.keeper.turn(pool.world_now()), None);
}
