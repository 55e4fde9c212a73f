//! Futures that are dropped: nothing is lost, and a wake-up goes to somebody who still waits.

use std::future::Future;
use std::task::Poll;

use bytes::Bytes;
use quinn_proto::VarInt;

use super::rig::{CLIENT, NAME, Pair, Rig, Setup, server};
use super::tasks::Manual;
use crate::handle::HandleLimits;
use crate::transport::TransportSettings;

/// Drops one of two futures that wait for the same thing, at every point of its life; the other one gets it.
fn drop_one_of_two<F: Future>(
    rig: &mut Rig,
    mut wait: impl FnMut() -> F,
    mut happen: impl FnMut(&mut Rig),
) {
    for stage in ["never polled", "waiting", "woken"] {
        let mut dropped = Manual::new(wait());
        if stage != "never polled" {
            assert!(dropped.poll().is_pending());
        }
        let mut other = Manual::new(wait());
        assert!(other.poll().is_pending());
        if stage == "woken" {
            happen(rig);
            rig.settle();
            assert!(dropped.is_woken() && !other.is_woken(), "{stage}");
            drop(dropped);
            assert!(other.is_woken(), "the wake-up was not passed on");
        } else {
            drop(dropped);
            happen(rig);
            rig.settle();
            assert!(other.is_woken(), "{stage}");
        }
        let Poll::Ready(_) = other.poll() else {
            panic!("{stage}: it is lost");
        };
    }
}

#[test]
fn accepting_streams() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let open = |rig: &mut Rig| {
        let client = client.clone();
        rig.block_on(async move {
            client
                .open_uni()
                .await
                .unwrap()
                .write_all(b"x")
                .await
                .unwrap();
            let (mut send, recv) = client.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            std::mem::forget(recv);
        });
    };
    drop_one_of_two(&mut pair.rig, || server.accept_uni(), open);
    for _ in 0..3 {
        pair.rig.block_on(server.accept_bi()).unwrap();
    }
    drop_one_of_two(&mut pair.rig, || server.accept_bi(), open);
}

#[test]
fn accepting_connections() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let config = rig.client_config();
    let connect = |rig: &mut Rig| {
        let connecting = rig
            .handle(CLIENT)
            .connect_with(config.clone(), server(), NAME);
        let client = rig.block_on(connecting.unwrap()).unwrap();
        std::mem::forget(client);
    };
    drop_one_of_two(&mut rig, || listener.accept(), connect);
}

#[test]
fn reading_datagrams() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    drop_one_of_two(
        &mut pair.rig,
        || server.read_datagram(),
        |_| client.send_datagram(Bytes::from_static(b"x")).unwrap(),
    );
}

#[test]
fn opening_streams() {
    let mut pair = Pair::new(Setup {
        settings: [(); 2].map(|()| TransportSettings {
            uni_streams: 1,
            idle_timeout: None,
            ..TransportSettings::default()
        }),
        ..Setup::default()
    });
    let (client, server) = (pair.client.clone(), pair.server.clone());
    pair.rig.spawn("server", async move {
        while let Ok(mut recv) = server.accept_uni().await {
            recv.read_to_end(10).await.unwrap();
        }
    });
    let mut held = vec![pair.rig.block_on(client.open_uni()).unwrap()];
    for stage in ["never polled", "waiting", "woken"] {
        let mut dropped = Manual::new(client.open_uni());
        if stage != "never polled" {
            assert!(dropped.poll().is_pending());
        }
        let mut other = Manual::new(client.open_uni());
        assert!(other.poll().is_pending());
        if stage != "woken" {
            drop(dropped);
            held.clear();
        } else {
            held.clear();
            pair.rig.run_until(|| dropped.is_woken());
            drop(dropped);
        }
        pair.rig.settle();
        assert!(other.is_woken(), "{stage}");
        match other.poll() {
            Poll::Ready(Ok(stream)) => held.push(stream),
            other => panic!("{stage}: {other:?}"),
        }
    }
}

#[test]
fn waiting_for_the_end_and_the_handshake() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let config = rig.client_config();
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, server(), NAME)
        .unwrap();
    let accept = rig.spawn("accept", async move { listener.accept().await.unwrap() });
    let client = rig.block_on(connecting).unwrap();
    let server = rig.join(&accept);
    let mut first = Manual::new(client.closed());
    let mut second = Manual::new(client.closed());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(first);
    let mut third = Manual::new(client.closed());
    assert!(third.poll().is_pending());
    server.close(VarInt::from_u32(1), b"");
    rig.settle();
    drop(third);
    assert!(second.is_woken() && second.poll().is_ready());
    assert!(Manual::new(client.handshake_done()).poll().is_ready());
}

#[test]
fn a_write_that_is_dropped_wrote_nothing() {
    let mut pair = Pair::new(Setup {
        limits: [HandleLimits {
            write_ahead: 4,
            commands: 1,
            ..HandleLimits::default()
        }; 2],
        ..Setup::default()
    });
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let mut send = pair.rig.block_on(client.open_uni()).unwrap();
    let other = pair.rig.block_on(client.open_uni()).unwrap();
    let mut expected = Vec::new();
    for number in 0..100_u8 {
        // The queue of commands is full, and then what may be written ahead.
        other.set_priority(i32::from(number));
        let data = [number; 3];
        let mut waits = 0;
        loop {
            let mut write = Manual::new(send.write(&data));
            if let Poll::Ready(written) = write.poll() {
                expected.extend_from_slice(&data[..written.unwrap()]);
                break;
            }
            waits += 1;
            if waits % 2 == 0 {
                pair.rig.run_until(|| write.is_woken());
            }
            drop(write);
            pair.rig.run_for(std::time::Duration::from_micros(1));
        }
    }
    drop(send);
    let all = pair.rig.block_on(async move {
        let mut recv = server.accept_uni().await.unwrap();
        recv.read_to_end(1_000).await.unwrap()
    });
    assert_eq!(all, expected);
}

#[test]
fn a_read_that_is_dropped_took_nothing() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let (mut send, mut recv) = pair.rig.block_on(async move {
        let mut send = client.open_uni().await.unwrap();
        send.write_all(b"0").await.unwrap();
        (send, server.accept_uni().await.unwrap())
    });
    assert!(Manual::new(recv.read_chunk(10)).poll().is_ready());
    let mut read = Manual::new(recv.read_chunk(10));
    assert!(read.poll().is_pending());
    send = pair.rig.block_on(async move {
        send.write_all(b"1").await.unwrap();
        send
    });
    pair.rig.settle();
    assert!(read.is_woken());
    drop(read);
    let Poll::Ready(Ok(Some(chunk))) = Manual::new(recv.read_chunk(10)).poll() else {
        panic!("it is lost");
    };
    assert_eq!(chunk, "1");
    drop(send);
}

#[test]
fn a_datagram_whose_future_is_dropped_is_not_sent_and_holds_nobody_up() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        datagram_bytes: 100,
        commands: 1,
        ..HandleLimits::default()
    }));
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let datagram = |number: u8| Bytes::from(vec![number; 80]);
    client.send_datagram(datagram(0)).unwrap();
    let mut dropped = Manual::new(client.send_datagram_wait(datagram(1)));
    let mut other = Manual::new(client.send_datagram_wait(datagram(2)));
    assert!(dropped.poll().is_pending() && other.poll().is_pending());
    pair.rig.settle();
    assert!(dropped.is_woken() && other.is_woken());
    drop(dropped);
    // What it waits for next may be something else.
    while other.poll().is_pending() {
        pair.rig.run_until(|| other.is_woken());
    }
    pair.rig.settle();
    pair.rig.block_on(async move {
        assert_eq!(server.read_datagram().await.unwrap(), datagram(0));
        assert_eq!(server.read_datagram().await.unwrap(), datagram(2));
    });
}

#[test]
fn statistics_that_nobody_waits_for() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        commands: 1,
        ..HandleLimits::default()
    }));
    for polls in 0..3 {
        let client = pair.client.clone();
        let mut stats = Manual::new(async move { client.stats().await });
        for _ in 0..polls {
            let _ = stats.poll();
        }
        drop(stats);
    }
    pair.rig.settle();
    let client = pair.client.clone();
    pair.rig
        .block_on(async move { client.stats().await })
        .unwrap();
}
