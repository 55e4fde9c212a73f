//! The pool over handles, between two shards: peers that fall silent, and networks that lose a lot.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use super::rig::{CLIENT, NAME, Rig, Setup, server, shared};
use super::tasks::pause;
use crate::handle::{ConnectionError, Listener};
use crate::pool::tests::manual::{ManualPool, manual};
use crate::pool::{BackOff, Health, OpenError, PeerKey, PoolConfig, PoolError};

const SECOND: Duration = Duration::from_secs(1);

fn key() -> PeerKey {
    PeerKey::new(server(), NAME)
}

/// A pool of the client's side, whose keeper takes a turn in each of the rig's.
fn pool(rig: &mut Rig, config: PoolConfig) -> ManualPool {
    let handle = rig.handle(CLIENT);
    handle.set_default_client_config(rig.client_config());
    let clock = rig.clock();
    let (mut keeper, pool) = manual(clock.now(), handle, config);
    rig.every_turn = Some(Box::new({
        let clock = clock.clone();
        move || keeper.turn(clock.now())
    }));
    // So that there are turns when nothing else happens.
    rig.spawn("ticks", async move {
        loop {
            clock.sleep(Duration::from_millis(20)).await;
        }
    });
    pool
}

/// Answers every stream with what came on it.
fn serve(rig: &mut Rig, listener: Listener) {
    let spawner = rig.tasks.spawner();
    rig.spawn("server", async move {
        while let Some(connection) = listener.accept().await {
            let streams = spawner.clone();
            spawner.spawn("connection", async move {
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    streams.spawn("stream", async move {
                        if let Ok(question) = receive.read_to_end(100).await {
                            let _ = send.write_all(&question).await;
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up_and_found_again() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    serve(&mut rig, listener);
    let config = PoolConfig::default()
        .health(Some(
            Health::default().interval(10 * SECOND).deadline(4 * SECOND),
        ))
        .back_off(BackOff::default().max(SECOND));
    let pool = pool(&mut rig, config);
    let get = |rig: &mut Rig| {
        let pool = pool.clone();
        rig.block_on(async move { pool.get(&key()).await })
    };
    let lease = get(&mut rig).unwrap();
    // It answers pings, though nobody sends anything, and QUIC has no idle time-out here.
    rig.run_for(100 * SECOND);
    assert!(lease.close_reason().is_none());
    assert_eq!(pool.stats().evicted_unhealthy, 0);

    // A short silence is nothing.
    rig.loss = 1.0;
    rig.run_for(3 * SECOND);
    rig.loss = 0.0;
    rig.run_for(30 * SECOND);
    assert!(lease.close_reason().is_none());

    rig.loss = 1.0;
    rig.run_for((10 + 10 + 4 + 1) * SECOND);
    assert_eq!(lease.close_reason(), Some(ConnectionError::LocallyClosed));
    assert_eq!(pool.stats().evicted_unhealthy, 1);
    let error = get(&mut rig).unwrap_err();
    assert!(
        matches!(error, PoolError::OpenFailed(OpenError::TimedOut { .. })),
        "{error}"
    );

    rig.loss = 0.0;
    rig.run_for(2 * SECOND);
    let other = get(&mut rig).unwrap();
    assert!(!other.same_connection(&lease));
    let stats = pool.stats();
    assert_eq!((stats.opens, stats.open_failures), (3, 1));
}

/// A network that loses every tenth datagram, late couriers, tasks polled in any order, callers who give up.
#[test]
fn everybody_who_asks_is_answered() {
    for seed in 0..8 {
        let mut rig = Rig::new(Setup {
            chaos: true,
            loss: 0.1,
            seed,
            ..Setup::default()
        });
        let listener = rig.listen();
        serve(&mut rig, listener);
        let config = PoolConfig::default()
            .leases_per_connection(3)
            .open_at(1)
            .connections_per_peer(3)
            .wait_timeout(1000 * SECOND)
            .open_timeout(100 * SECOND)
            .back_off(BackOff::default().wait(true));
        let pool = pool(&mut rig, config);
        let answered = shared(0);
        let tasks: Vec<_> = (0..24_u32)
            .map(|task| {
                let (pool, answered) = (pool.clone(), answered.clone());
                rig.spawn(format!("caller {task}"), async move {
                    for round in 0..6_u32 {
                        if (task + round) % 5 == 0 {
                            // Given up while it waits, or when it has found one.
                            let key = key();
                            let mut get = Box::pin(pool.get(&key));
                            let give_up = task + round;
                            for _ in 0..give_up {
                                let polled = poll_fn(|context| {
                                    Poll::Ready(get.as_mut().poll(context).is_ready())
                                });
                                if polled.await {
                                    break;
                                }
                                pause().await;
                            }
                            continue;
                        }
                        let lease = pool.get(&key()).await.unwrap();
                        let (mut send, mut receive) = lease.open_bi().await.unwrap();
                        send.write_all(&round.to_be_bytes()).await.unwrap();
                        send.finish().unwrap();
                        let answer = receive.read_to_end(100).await.unwrap();
                        assert_eq!(answer, round.to_be_bytes());
                        answered.set(answered.get() + 1);
                    }
                })
            })
            .collect();
        for task in &tasks {
            rig.join(task);
        }
        let given_up = (0..24).flat_map(|task| (0..6).map(move |round| task + round));
        let given_up = given_up.filter(|sum| sum % 5 == 0).count();
        assert_eq!(answered.get(), 24 * 6 - given_up);
        let stats = pool.stats();
        assert!(stats.opens <= 3, "{stats:?}");
        assert_eq!((stats.leases, stats.waiters), (0, 0), "{stats:?}");
    }
}
