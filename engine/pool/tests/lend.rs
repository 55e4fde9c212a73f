//! Who gets which connection, and when there is one more.

use super::*;

#[test]
fn a_connection_is_opened_once_and_lent_again() {
    let mut pool = Fixture::new(PoolConfig::default());
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    for _ in 0..3 {
        assert_eq!(pool.call(&peer).lease().facts.number, 0);
    }
    let stats = pool.stats();
    assert_eq!((stats.opens, stats.hits, stats.misses), (1, 3, 1));
    assert_eq!((stats.connections, stats.leases), (1, 0));
}

#[test]
fn peers_are_told_apart_by_address_name_and_configuration() {
    let pool = Fixture::new(PoolConfig::default());
    let remote = key(1).remote_address();
    let other = super::super::ClientId::next();
    let keys = [
        key(1),
        key(2),
        PeerKey::new(remote, "other.test"),
        key(1).client(other),
    ];
    let ids = keys.map(|key| pool.shared.peer(&key).unwrap().id);
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(ids.iter().position(|other| other == id), Some(place));
    }
    let mut labelled = remote;
    labelled.set_flowinfo(7);
    let labelled = PeerKey::new(labelled, "peer.test");
    assert_eq!(pool.shared.peer(&labelled).unwrap().id, ids[0]);
}

#[test]
fn a_call_by_key_gets_the_same_connections() {
    let mut pool = Fixture::new(PoolConfig::default());
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    let shared = Arc::clone(&pool.shared);
    let mut call = Call {
        future: Box::pin(async move { shared.get_by_key(&key(1)).await }),
        woken: Arc::default(),
    };
    assert_eq!(call.lease().facts.number, 0);
    assert_eq!(pool.stats().hits, 1);
}

#[test]
fn the_least_loaded_comes_first() {
    let config = PoolConfig::default().connections_per_peer(3).open_at(1);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut held: Vec<_> = (0..3).map(|_| pool.call(&peer)).collect();
    pool.turn();
    assert_eq!(pool.world.waiting(), 3);
    for _ in 0..3 {
        pool.world.accept(0);
        pool.turn();
    }
    let mut held: Vec<_> = held.iter_mut().map(Call::lease).collect();
    let mut count = [0; 3];
    for _ in 0..30 {
        held.push(pool.call(&peer).lease());
    }
    for lease in &held {
        count[lease.facts.number] += 1;
    }
    assert_eq!(count, [11, 11, 11]);
    held.retain(|lease| lease.facts.number != 1);
    for _ in 0..11 {
        let lease = pool.call(&peer).lease();
        assert_eq!(lease.facts.number, 1);
        held.push(lease);
    }
    assert_eq!(pool.stats().opens, 3);
}

#[test]
fn a_busy_peer_gets_one_connection_more_at_a_time_and_no_more_than_allowed() {
    let config = PoolConfig::default().open_at(4).connections_per_peer(3);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut held = vec![pool.open(&peer)];
    for expected in [0, 0, 0, 1, 0] {
        held.push(pool.call(&peer).lease());
        pool.turn();
        let opened = pool.world.waiting();
        assert_eq!(opened, expected.max(usize::from(held.len() > 4)));
    }
    pool.world.accept(0);
    pool.turn();
    for _ in 0..40 {
        held.push(pool.call(&peer).lease());
        pool.turn();
        if pool.world.waiting() > 0 {
            assert_eq!(pool.world.waiting(), 1);
            pool.world.accept(0);
            pool.turn();
        }
    }
    assert_eq!((pool.stats().opens, pool.stats().connections), (3, 3));
    assert_eq!(pool.stats().waiters_max, 1, "nobody waited for those");
}

#[test]
fn connections_are_spread_over_shards() {
    let config = PoolConfig::default().leases_per_connection(1);
    let mut pool = Fixture::on_shards(2, config);
    let mut held = Vec::new();
    for number in 1..=3 {
        let peer = pool.peer(number);
        held.extend((0..4).map(|_| pool.open(&peer)));
        let on_first = held.iter().filter(|lease| lease.facts.shard == 0);
        assert_eq!(on_first.count(), 2 * usize::from(number));
    }
    // Those of one connection each, too.
    let mut counts = [0; 2];
    for number in 11..=14 {
        let lease = pool.open(&pool.peer(number));
        counts[lease.facts.shard] += 1;
        held.push(lease);
    }
    assert_eq!(counts, [2, 2]);
}

#[test]
fn of_several_the_first_is_taken_so_that_the_rest_become_idle() {
    let config = PoolConfig::default()
        .leases_per_connection(1)
        .idle_timeout(4 * SECOND);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let held: Vec<_> = (0..3).map(|_| pool.open(&peer)).collect();
    drop(held);
    for _ in 0..6 {
        pool.advance(SECOND);
        drop(pool.call(&peer).lease());
    }
    let stats = pool.stats();
    assert_eq!((stats.evicted_idle, stats.connections), (2, 1));
}

#[test]
fn places_that_became_free_on_a_shard_are_taken_by_other_peers() {
    let mut pool = Fixture::on_shards(2, PoolConfig::default().settle(Duration::ZERO));
    let leases: Vec<_> = (0..8).map(|n| pool.open(&pool.peer(n))).collect();
    let on_second = leases.iter().filter(|lease| lease.facts.shard == 1);
    on_second.for_each(|lease| lease.facts.close());
    pool.turn();
    for number in 10..14 {
        assert_eq!(pool.open(&pool.peer(number)).facts.shard, 1);
    }
}

#[test]
fn a_lost_connection_is_made_up_for_on_its_shard() {
    let config = PoolConfig::default().leases_per_connection(1).settle(MS);
    let mut pool = Fixture::on_shards(2, config);
    let peer = pool.peer(1);
    let held: Vec<_> = (0..4).map(|_| pool.open(&peer)).collect();
    pool.advance(SECOND);
    let lost = held.iter().find(|lease| lease.facts.shard == 1).unwrap();
    lost.facts.close();
    pool.turn();
    assert_eq!(pool.open(&peer).facts.shard, 1);
}

#[test]
fn early_data_is_told_until_the_server_has_spoken() {
    let mut pool = Fixture::new(PoolConfig::default().early_data(true));
    for (number, accepted) in [(1, true), (2, false)] {
        let peer = pool.peer(number);
        let mut call = pool.call(&peer);
        pool.turn();
        let facts = pool.world.accept_early(0);
        pool.turn();
        let lease = call.lease();
        assert!(lease.slot().is_early());
        facts.early.keep(accepted);
        pool.turn();
        assert!(!lease.slot().is_early());
    }
    let stats = pool.stats();
    assert_eq!((stats.opens_early, stats.early_refused), (2, 1));
}

#[test]
fn early_data_without_a_handshake_ends_at_the_time_out() {
    let config = PoolConfig::default().open_timeout(SECOND);
    let mut pool = Fixture::new(config);
    let peer = pool.peer(1);
    let mut call = pool.call(&peer);
    pool.turn();
    let facts = pool.world.accept_early(0);
    pool.turn();
    let _lease = call.lease();
    pool.advance(SECOND);
    assert!(facts.is_closed());
    let stats = pool.stats();
    assert_eq!((stats.evicted_unhealthy, stats.open_failures), (1, 1));
    assert!(matches!(
        pool.call(&peer).error(),
        PoolError::BackingOff { failures: 1, .. }
    ));
}

#[test]
fn no_configuration_of_nothing() {
    let zero = Duration::ZERO;
    for config in [
        PoolConfig::default().peers(0),
        PoolConfig::default().connections(0),
        PoolConfig::default().connections_per_peer(0),
        PoolConfig::default().leases_per_connection(0),
        PoolConfig::default().leases_per_connection(32_768),
        PoolConfig::default().open_at(0),
        PoolConfig::default().waiters(0),
        PoolConfig::default().waiters_per_peer(0),
        PoolConfig::default().wait_timeout(zero),
        PoolConfig::default().open_timeout(zero),
        PoolConfig::default().idle_timeout(zero),
        PoolConfig::default().health(Some(Health::default().interval(zero))),
        PoolConfig::default().health(Some(Health::default().deadline(zero))),
        PoolConfig::default().back_off(BackOff::default().base(zero)),
        PoolConfig::default().back_off(BackOff::default().max(MS)),
    ] {
        assert!(config.clone().checked().is_err(), "{config:?}");
    }
    let longest = PoolConfig::default()
        .idle_timeout(Duration::MAX)
        .wait_timeout(Duration::MAX);
    let mut pool = Fixture::new(longest);
    let peer = pool.peer(1);
    drop(pool.open(&peer));
    pool.advance(SECOND);
}
