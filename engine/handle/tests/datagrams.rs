//! Unreliable datagrams.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::rig::{CLIENT, Pair, SERVER, Setup, shared};
use crate::handle::{HandleLimits, SendDatagramError};
use crate::transport::TransportSettings;

fn numbered(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes().repeat(25))
}

#[test]
fn they_go_there_and_back() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    pair.rig.block_on(async move {
        for number in 0..10 {
            client.send_datagram(numbered(number)).unwrap();
            let got = server.read_datagram().await.unwrap();
            assert_eq!(got, numbered(number));
            server.send_datagram_wait(got).await.unwrap();
            assert_eq!(client.read_datagram().await.unwrap(), numbered(number));
        }
        client.send_datagram(Bytes::new()).unwrap();
        assert_eq!(server.read_datagram().await.unwrap(), "");
    });
}

#[test]
fn one_that_is_too_large_says_what_fits() {
    let mut pair = Pair::new(Setup::default());
    // The search for the MTU is over then.
    pair.rig.settle();
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let max = client.max_datagram_size().unwrap();
    assert!((1_100..1_452).contains(&max), "{max}");
    let error = client
        .send_datagram(Bytes::from(vec![0; max + 1]))
        .unwrap_err();
    assert_eq!(error, SendDatagramError::TooLarge(max));
    pair.rig.block_on(async move {
        let error = client.send_datagram_wait(Bytes::from(vec![0; 5_000])).await;
        assert_eq!(error, Err(SendDatagramError::TooLarge(max)));
        client.send_datagram(Bytes::from(vec![1; max])).unwrap();
        assert_eq!(server.read_datagram().await.unwrap().len(), max);
    });
}

#[test]
fn their_size_is_known_as_soon_as_the_connection_is() {
    for seed in 0..20 {
        let mut rig = super::rig::Rig::new(Setup {
            chaos: true,
            seed,
            ..Setup::default()
        });
        let listener = rig.listen();
        let config = rig.client_config();
        let connecting =
            rig.handle(CLIENT)
                .connect_with(config, super::rig::server(), super::rig::NAME);
        let server = rig.spawn("server", async move {
            let server = listener.accept().await.unwrap();
            server.send_datagram(numbered(1)).unwrap();
            (server.read_datagram().await.unwrap(), server)
        });
        let client = rig.spawn("client", async move {
            let client = connecting.unwrap().await.unwrap();
            client.send_datagram(numbered(2)).unwrap();
            (client.read_datagram().await.unwrap(), client)
        });
        let (at_server, _server) = rig.join(&server);
        assert_eq!(at_server, numbered(2));
        assert_eq!(rig.join(&client).0, numbered(1));
    }
}

#[test]
fn a_side_without_them() {
    for without in [SERVER, CLIENT] {
        let mut setup = Setup::default();
        setup.settings[without].datagram_buffer = 0;
        let mut pair = Pair::new(setup);
        let (client, server) = (pair.client.clone(), pair.server.clone());
        for end in [client, server] {
            assert_eq!(end.max_datagram_size(), None);
            let error = end.send_datagram(numbered(1)).unwrap_err();
            assert_eq!(error, SendDatagramError::Unsupported);
            let wait = end.send_datagram_wait(numbered(1));
            assert_eq!(pair.rig.block_on(wait), Err(SendDatagramError::Unsupported));
        }
    }
}

#[test]
fn a_small_buffer_makes_them_small() {
    let mut pair = Pair::new(Setup {
        settings: [(); 2].map(|()| TransportSettings {
            datagram_buffer: 500,
            idle_timeout: None,
            ..TransportSettings::default()
        }),
        ..Setup::default()
    });
    let max = pair.client.max_datagram_size().unwrap();
    assert!(max < 500, "{max}");
    let (client, server) = (pair.client.clone(), pair.server.clone());
    pair.rig.block_on(async move {
        let error = client.send_datagram(Bytes::from(vec![0; 500])).unwrap_err();
        assert_eq!(error, SendDatagramError::TooLarge(max));
        for _ in 0..5 {
            client
                .send_datagram_wait(Bytes::from(vec![0; max]))
                .await
                .unwrap();
            assert_eq!(server.read_datagram().await.unwrap().len(), max);
        }
    });
}

#[test]
fn empty_ones_take_room_too() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        datagram_bytes: 5 * 32,
        ..HandleLimits::default()
    }));
    let client = pair.client.clone();
    for _ in 0..5 {
        client.send_datagram(Bytes::new()).unwrap();
    }
    let sixth = client.send_datagram(Bytes::new());
    assert_eq!(sixth, Err(SendDatagramError::Blocked(Bytes::new())));
    pair.rig.settle();
    client.send_datagram(Bytes::new()).unwrap();
}

#[test]
fn who_sends_too_many_waits() {
    let mut setup = Setup::limits(HandleLimits {
        datagram_bytes: 10 * (100 + 32),
        ..HandleLimits::default()
    });
    setup.settings[CLIENT].datagram_buffer = 2_000;
    let mut pair = Pair::new(setup);
    let (client, server) = (pair.client.clone(), pair.server.clone());
    // Before the shard has run.
    let mut sent = 0;
    let back = loop {
        match client.send_datagram(numbered(sent)) {
            Ok(()) => sent += 1,
            Err(SendDatagramError::Blocked(back)) => break back,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(sent, 10);
    assert_eq!(back, numbered(10), "it comes back");
    let done = shared(0);
    for task in 0..5 {
        let (client, done) = (client.clone(), Rc::clone(&done));
        pair.rig.spawn(format!("sender {task}"), async move {
            for _ in 0..20 {
                client.send_datagram_wait(numbered(1_000)).await.unwrap();
            }
            done.set(done.get() + 1);
        });
    }
    // As many as may wait here, and what the peer has read.
    pair.rig.spawn("reader", async move {
        for _ in 0..110 {
            server.read_datagram().await.unwrap();
        }
    });
    pair.rig.finish();
    assert_eq!(done.get(), 5);
}

#[test]
fn when_nobody_reads_the_oldest_are_dropped() {
    let mut pair = Pair::new(Setup {
        limits: [HandleLimits {
            datagrams: 4,
            ..HandleLimits::default()
        }; 2],
        settings: [(); 2].map(|()| TransportSettings {
            datagram_buffer: 2_000,
            idle_timeout: None,
            ..TransportSettings::default()
        }),
        ..Setup::default()
    });
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let clock = pair.rig.clock();
    pair.rig.block_on(async move {
        for number in 0..200 {
            client.send_datagram_wait(numbered(number)).await.unwrap();
            // One by one, so that the first ones are read before QUIC's buffer is full.
            clock.sleep(Duration::from_millis(1)).await;
        }
    });
    pair.rig.settle();
    assert_eq!(pair.server.inner().state().datagrams.len(), 4);
    // The first ones wait here, the last ones in QUIC's buffer; those in between are lost.
    let got = pair.rig.block_on(async move {
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(server.read_datagram().await.unwrap());
        }
        loop {
            let next = server.read_datagram().await.unwrap();
            got.push(next.clone());
            if next == numbered(199) {
                return got;
            }
        }
    });
    assert_eq!(got[..4], [0, 1, 2, 3].map(numbered));
    assert!(got.len() < 4 + 20, "{}", got.len());
    let first = got[4].clone();
    assert!(
        (4..200)
            .map(numbered)
            .position(|sent| sent == first)
            .unwrap()
            > 100
    );
}

#[test]
fn several_readers_share_them() {
    let mut pair = Pair::new(Setup {
        limits: [HandleLimits {
            datagrams: 2,
            ..HandleLimits::default()
        }; 2],
        chaos: true,
        ..Setup::default()
    });
    let read = shared(0);
    for task in 0..10 {
        let (server, read) = (pair.server.clone(), Rc::clone(&read));
        pair.rig.spawn(format!("reader {task}"), async move {
            for _ in 0..10 {
                server.read_datagram().await.unwrap();
                read.set(read.get() + 1);
            }
        });
    }
    let (client, clock) = (pair.client.clone(), pair.rig.clock());
    pair.rig.spawn("sender", async move {
        for number in 0..100 {
            client.send_datagram_wait(numbered(number)).await.unwrap();
            // So that none is dropped.
            clock.sleep(Duration::from_millis(1)).await;
        }
    });
    pair.rig.finish();
    assert_eq!(read.get(), 100);
}
