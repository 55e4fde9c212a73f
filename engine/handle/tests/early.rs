//! 0-RTT data.

use bytes::Bytes;
use quinn_proto::VarInt;

use super::rig::{CLIENT, NAME, Rig, SERVER, Setup, server};
use super::tasks::pause;
use crate::handle::{
    ClientConfig, ClosedStream, Connection, HandleLimits, Listener, ReadError, StoppedError,
    WriteError,
};

fn early(limits: HandleLimits) -> (Rig, Listener, ClientConfig) {
    let mut rig = Rig::new(Setup {
        early_data: true,
        ..Setup::limits(limits)
    });
    let listener = rig.listen();
    let config = rig.client_config();
    // A first connection leaves a session to resume.
    let (server, client) = rig.connect_with(&listener, config.clone());
    rig.settle();
    client.close(VarInt::from_u32(0), b"");
    rig.block_on(server.closed());
    (rig, listener, config)
}

/// The server starts again, and knows no session any more.
fn forget(rig: &mut Rig, listener: Listener) -> Listener {
    drop(listener);
    rig.settle();
    let listener = rig.listen();
    rig.settle();
    listener
}

async fn say(connection: &Connection, text: &'static str) {
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(text.as_bytes()).await.unwrap();
}

async fn hear(connection: &Connection) -> Vec<u8> {
    let mut recv = connection.accept_uni().await.unwrap();
    recv.read_to_end(1_000).await.unwrap()
}

#[test]
fn data_goes_before_the_handshake_is_complete() {
    let (mut rig, listener, config) = early(HandleLimits::default());
    let accept = rig.spawn("server", async move {
        let server = listener.accept().await.unwrap();
        let was_early = server.is_early_data();
        let heard = hear(&server).await;
        let done = server.handshake_done().await;
        assert!(!server.is_early_data());
        say(&server, "hello, too").await;
        (was_early, heard, done, server, listener)
    });
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, server(), NAME)
        .unwrap();
    rig.block_on(async move {
        let (client, accepted) = connecting.into_0rtt().await.unwrap();
        assert!(client.is_early_data());
        assert!(client.alpn().is_empty() || client.alpn() == super::rig::ALPN.as_bytes());
        say(&client, "hello").await;
        client.send_datagram(Bytes::from_static(b"early")).unwrap();
        assert!(client.is_early_data());
        assert!(accepted.await);
        assert!(client.handshake_done().await.unwrap());
        assert!(!client.is_early_data());
        assert_eq!(client.alpn(), super::rig::ALPN.as_bytes());
        assert_eq!(hear(&client).await, b"hello, too");
    });
    let (was_early, heard, done, server, _listener) = rig.join(&accept);
    assert!(
        was_early,
        "it was handed out before the end of the handshake"
    );
    assert_eq!(heard, b"hello");
    assert!(done.unwrap());
    assert_eq!(rig.block_on(server.read_datagram()).unwrap(), "early");
    assert_eq!(rig.counters(SERVER).early_data_accepted.get(), 1);
}

#[test]
fn without_a_session_there_is_nothing_early() {
    let mut rig = Rig::new(Setup {
        early_data: true,
        ..Setup::default()
    });
    let listener = rig.listen();
    let config = rig.client_config();
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, server(), NAME)
        .unwrap();
    let accept = rig.spawn("server", async move { listener.accept().await.unwrap() });
    rig.block_on(async move {
        let (client, accepted) = connecting.into_0rtt().await.unwrap();
        assert!(!client.is_early_data());
        say(&client, "hello").await;
        // What was sent counts: nothing is to be sent again.
        assert!(accepted.await);
        assert!(client.handshake_done().await.unwrap());
        std::mem::forget(client);
    });
    let server = rig.join(&accept);
    assert_eq!(rig.block_on(async move { hear(&server).await }), b"hello");
}

#[test]
fn refused_data_is_gone_and_new_streams_work() {
    for commands in [4_096, 1] {
        let (mut rig, listener, config) = early(HandleLimits {
            commands,
            ..HandleLimits::default()
        });
        let listener = forget(&mut rig, listener);
        let accept = rig.spawn("server", async move {
            let server = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for _ in 0..3 {
                heard.push(hear(&server).await);
            }
            let (mut send, mut recv) = server.accept_bi().await.unwrap();
            let asked = recv.read_to_end(100).await.unwrap();
            send.write_all(&asked).await.unwrap();
            (heard, server, listener)
        });
        let connecting = rig
            .handle(CLIENT)
            .connect_with(config, server(), NAME)
            .unwrap();
        let (client, accepted) = rig.block_on(connecting.into_0rtt()).unwrap();
        assert!(client.is_early_data());
        let (uni, mut bi) = {
            let client = client.clone();
            rig.block_on(async move {
                let mut uni = client.open_uni().await.unwrap();
                uni.write_all(b"lost").await.unwrap();
                client
                    .send_datagram_wait(Bytes::from_static(b"lost"))
                    .await
                    .unwrap();
                (uni, client.open_bi().await.unwrap())
            })
        };
        let reader = rig.spawn("early reader", async move {
            let read = bi.1.read(&mut [0]).await;
            (bi, read)
        });
        let stopped = rig.spawn("early writer", async move {
            let mut uni = uni;
            let stopped = uni.stopped().await;
            (uni, stopped)
        });
        // Right until the refusal is known, and then some.
        let own = client.clone();
        let writer = rig.spawn("who writes", async move {
            let mut send = own.open_uni().await.unwrap();
            while send.write(b"lost").await.is_ok() {
                pause().await;
            }
            assert_eq!(send.write(b"lost").await, Err(WriteError::ZeroRttRejected));
            send
        });
        let own = client.clone();
        let datagrams = rig.spawn("who sends datagrams", async move {
            while own.is_early_data() {
                own.send_datagram_wait(Bytes::from_static(b"perhaps"))
                    .await
                    .unwrap();
                pause().await;
            }
        });
        assert!(!rig.block_on(accepted));
        assert!(!rig.block_on(client.handshake_done()).unwrap());
        rig.join(&datagrams);
        let (mut bi, read) = rig.join(&reader);
        assert_eq!(read, Err(ReadError::ZeroRttRejected));
        let (mut uni, stopped) = rig.join(&stopped);
        assert_eq!(stopped, Err(StoppedError::ZeroRttRejected));
        let late = rig.join(&writer);

        // New streams have the same numbers.
        let own = client.clone();
        let (mut new, mut third) = rig.block_on(async move {
            let mut first = own.open_uni().await.unwrap();
            first.write_all(b"first").await.unwrap();
            let mut second = own.open_uni().await.unwrap();
            second.write_all(b"se").await.unwrap();
            let third = own.open_uni().await.unwrap();
            drop(first);
            (second, third)
        });
        assert_eq!(new.id().index(), 1);
        let old_id = uni.id();
        assert_eq!(old_id.index(), 0);
        let own = client.clone();
        let answer = rig.spawn("new bidirectional stream", async move {
            let (mut send, mut recv) = own.open_bi().await.unwrap();
            assert_eq!(send.id().index(), 0);
            send.write_all(b"anew").await.unwrap();
            send.finish().unwrap();
            recv.read_to_end(100).await.unwrap()
        });
        rig.settle();
        // What is done to the old ones does nothing to them.
        rig.block_on(async move {
            assert_eq!(uni.write(b"x").await, Err(WriteError::ZeroRttRejected));
            assert_eq!(uni.reset(VarInt::from_u32(1)), Err(ClosedStream));
            assert_eq!(bi.1.read(&mut [0]).await, Err(ReadError::ZeroRttRejected));
            uni.set_priority(3);
            let _ = bi.1.stop(VarInt::from_u32(1));
            drop((uni, bi, late));
        });
        rig.settle();
        rig.block_on(async move {
            new.write_all(b"cond").await.unwrap();
            third.write_all(b"third").await.unwrap();
            drop(third);
            new.finish().unwrap();
            assert_eq!(new.stopped().await, Ok(None));
        });
        let (heard, server, _listener) = rig.join(&accept);
        assert_eq!(heard, [&b"first"[..], b"second", b"third"]);
        assert_eq!(rig.join(&answer), b"anew");
        // Datagrams still have their room.
        rig.settle();
        let own = client.clone();
        rig.block_on(async move {
            for _ in 0..2_000 {
                own.send_datagram_wait(Bytes::from(vec![0; 1_000]))
                    .await
                    .unwrap();
                server.read_datagram().await.unwrap();
            }
        });
        rig.settle();
        assert_eq!(rig.agent(CLIENT, |agent| agent.streams().0), 0);
        assert!(client.inner().state().streams.is_empty());
    }
}

#[test]
fn a_datagram_that_is_on_its_way_when_early_data_is_refused_counts_nowhere() {
    let (mut rig, listener, config) = early(HandleLimits {
        datagram_bytes: 1_000,
        ..HandleLimits::default()
    });
    let listener = forget(&mut rig, listener);
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, server(), NAME)
        .unwrap();
    let (client, accepted) = rig.block_on(connecting.into_0rtt()).unwrap();
    // The shard knows of the refusal; the handle does not.
    rig.couriers_away = true;
    rig.settle();
    assert!(client.is_early_data());
    client.send_datagram(Bytes::from(vec![0; 600])).unwrap();
    rig.settle();
    rig.couriers_away = false;
    assert!(!rig.block_on(accepted));
    rig.settle();
    let state = client.inner().state();
    assert_eq!(state.datagram_bytes_sent, state.datagram_bytes_written);
    drop(state);
    let server = rig.block_on(listener.accept()).unwrap();
    rig.block_on(async move {
        for number in 0..10 {
            let datagram = Bytes::from(vec![number; 600]);
            client.send_datagram_wait(datagram.clone()).await.unwrap();
            assert_eq!(server.read_datagram().await.unwrap(), datagram);
        }
    });
}
