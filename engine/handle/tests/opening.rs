//! Streams past what the peer permits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::rig::{Pair, Rig, Setup};
use super::tasks::Manual;
use crate::transport::TransportSettings;

fn two_streams(chaos: bool) -> Pair {
    Pair::new(Setup {
        settings: [(); 2].map(|()| TransportSettings {
            bidi_streams: 2,
            uni_streams: 2,
            idle_timeout: None,
            ..TransportSettings::default()
        }),
        chaos,
        ..Setup::default()
    })
}

#[test]
fn opening_waits_until_streams_end() {
    let mut pair = two_streams(false);
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(pair.rig.block_on(client.open_bi()).unwrap());
    }
    let own = client.clone();
    let third = pair
        .rig
        .spawn("third", async move { own.open_bi().await.map(drop) });
    pair.rig.settle();
    assert!(!third.is_done());
    // Both directions have to end.
    held[0].0.finish().unwrap();
    pair.rig.settle();
    assert!(!third.is_done(), "the peer may still answer");
    let (send, _recv) = pair.rig.block_on(server.accept_bi()).unwrap();
    pair.rig.settle();
    assert!(!third.is_done());
    drop(send);
    pair.rig.join(&third).unwrap();
}

#[test]
fn who_came_first_opens_first_and_nobody_starves() {
    for chaos in [false, true] {
        let mut pair = two_streams(chaos);
        let server = pair.server.clone();
        pair.rig.spawn("server", async move {
            for _ in 0..2 * 60 {
                let (send, mut recv) = server.accept_bi().await.unwrap();
                recv.read_to_end(100).await.unwrap();
                drop(send);
            }
        });
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..60 {
            let (client, order) = (pair.client.clone(), Rc::clone(&order));
            pair.rig.spawn(format!("client {task}"), async move {
                for _ in 0..2 {
                    let (mut send, mut recv) = client.open_bi().await.unwrap();
                    order.borrow_mut().push(task);
                    send.write_all(b"x").await.unwrap();
                    send.finish().unwrap();
                    recv.read_to_end(100).await.unwrap();
                }
            });
        }
        pair.rig.finish();
        let order = order.borrow();
        assert_eq!(order.len(), 120);
        // Nobody has a second stream before everybody has had a first one. Those who are woken together run in any order.
        for task in 0..60 {
            let first = order.iter().position(|other| *other == task).unwrap();
            assert!(first < 64, "task {task} was number {first}: {order:?}");
        }
    }
}

#[test]
fn a_newcomer_does_not_pass_those_who_wait() {
    let mut pair = two_streams(false);
    let server = pair.server.clone();
    pair.rig.spawn("server", async move {
        while let Ok((send, mut recv)) = server.accept_bi().await {
            recv.read_to_end(100).await.unwrap();
            drop(send);
        }
    });
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(pair.rig.block_on(pair.client.open_bi()).unwrap());
    }
    let mut first = Manual::new(pair.client.open_bi());
    assert!(first.poll().is_pending());
    pair.rig.settle();
    // One stream ends, and the first is woken. Whoever asks before it runs, waits.
    held.pop();
    pair.rig.run_until(|| first.is_woken());
    let mut newcomer = Manual::new(pair.client.open_bi());
    assert!(newcomer.poll().is_pending());
    assert!(first.poll().is_ready());
    assert!(newcomer.poll().is_pending());
    // When who was woken gives up, it is the turn of the next.
    let mut another = Manual::new(pair.client.open_bi());
    assert!(another.poll().is_pending());
    held.pop();
    pair.rig.run_until(|| newcomer.is_woken());
    drop(newcomer);
    assert!(another.is_woken());
    assert!(another.poll().is_ready());
}

/// A listener's settings bound what clients may open, and a client's what its server may, however many the shards allow.
#[test]
fn limits_are_those_of_the_listener_and_of_the_client() {
    let few = TransportSettings {
        bidi_streams: 40,
        uni_streams: 3,
        ..TransportSettings::default()
    };
    let mut rig = Rig::new(Setup::default());
    let config = rig.server_config().transport(few.clone());
    let listener = rig.listen_with(config);
    let config = rig.client_config().transport(few);
    let (server, client) = rig.connect_with(&listener, config);
    // Whoever opens one uses it at once, so that grants grow as far as they do.
    for connection in [client.clone(), server.clone()] {
        rig.spawn("bidirectional", async move {
            let mut held = Vec::new();
            while let Ok((mut send, recv)) = connection.open_bi().await {
                send.write_all(b"x").await.unwrap();
                held.push((send, recv));
            }
        });
    }
    let accepted = [client, server].map(|connection| {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        rig.spawn("acceptor", async move {
            let mut held = Vec::new();
            while let Ok(streams) = connection.accept_bi().await {
                held.push(streams);
                counter.set(held.len());
            }
        });
        count
    });
    rig.settle();
    assert_eq!(accepted.map(|count| count.get()), [40, 40]);
}
