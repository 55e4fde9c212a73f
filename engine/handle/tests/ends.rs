//! The engine stops.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use quinn_proto::VarInt;

use super::rig::{CLIENT, NAME, Pair, Rig, SERVER, Setup, UDP_PORT, server};
use super::tasks::{Manual, Task};
use crate::handle::courier::courier;
use crate::handle::link::link;
use crate::handle::{
    ConnectError, Connection, ConnectionError, HandleLimits, ListenError, ReadError, RecvStream,
    SendDatagramError, SendStream, StoppedError, WriteError,
};

/// One task for each kind of thing to wait for, on the client's side; they say how they ended.
fn all_that_waits(pair: &mut Pair) -> Vec<Task<ConnectionError>> {
    let mut all = Vec::new();
    let client = pair.client.clone();
    let (mut full, mut finished, mut reading, held) = pair.rig.block_on(async move {
        let full = client.open_uni().await.unwrap();
        let mut finished = client.open_uni().await.unwrap();
        finished.write_all(&[0; 100]).await.unwrap();
        let (mut send, reading) = client.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        // Until no more may be opened.
        let mut held = vec![send];
        while held.len() < 3 {
            held.push(client.open_bi().await.unwrap().0);
        }
        (full, finished, reading, held)
    });
    fn spawn(
        pair: &mut Pair,
        all: &mut Vec<Task<ConnectionError>>,
        name: &str,
        future: impl Future<Output = ConnectionError> + 'static,
    ) {
        all.push(pair.rig.spawn(name, future));
    }
    macro_rules! waits {
        ($name:literal, |$client:ident| $future:expr) => {
            let $client = pair.client.clone();
            spawn(pair, &mut all, $name, async move { $future });
        };
    }
    waits!(
        "write",
        |_client| match full.write_all(&vec![0; 10_000_000]).await {
            Err(WriteError::ConnectionLost(error)) => error,
            other => panic!("{other:?}"),
        }
    );
    waits!("stopped", |_client| match finished.stopped().await {
        Err(StoppedError::ConnectionLost(error)) => error,
        other => panic!("{other:?}"),
    });
    waits!("read", |_client| match reading.read_chunk(1).await {
        Err(ReadError::ConnectionLost(error)) => error,
        other => panic!("{other:?}"),
    });
    waits!("open", |client| {
        let _held = held;
        client.open_bi().await.map(drop).unwrap_err()
    });
    waits!("accept bi", |client| client
        .accept_bi()
        .await
        .map(drop)
        .unwrap_err());
    waits!("accept uni", |client| client
        .accept_uni()
        .await
        .map(drop)
        .unwrap_err());
    waits!("read datagram", |client| client
        .read_datagram()
        .await
        .unwrap_err());
    waits!("closed", |client| client.closed().await);
    let clock = pair.rig.clock();
    waits!("send datagrams", |client| loop {
        match client.send_datagram_wait(Bytes::from(vec![0; 1_000])).await {
            Ok(()) => {}
            Err(SendDatagramError::ConnectionLost(error)) => return error,
            Err(other) => panic!("{other:?}"),
        }
        // Not more than the link can carry in the time of the test.
        clock.sleep(Duration::from_micros(300)).await;
    });
    let clock = pair.rig.clock();
    waits!("statistics", |client| loop {
        if let Err(error) = client.stats().await {
            return error;
        }
        clock.sleep(Duration::from_micros(100)).await;
    });
    all
}

fn pair() -> Pair {
    let mut setup = Setup::limits(HandleLimits {
        commands: 2,
        write_ahead: 10_000,
        ..HandleLimits::default()
    });
    for settings in &mut setup.settings {
        settings.bidi_streams = 3;
        settings.stream_receive_window = 20_000;
    }
    Pair::new(setup)
}

async fn later(client: Connection) -> Vec<ConnectionError> {
    vec![
        client.open_bi().await.map(drop).unwrap_err(),
        client.open_uni().await.map(drop).unwrap_err(),
        client.accept_bi().await.map(drop).unwrap_err(),
        client.accept_uni().await.map(drop).unwrap_err(),
        client.read_datagram().await.unwrap_err(),
        match client.send_datagram(Bytes::new()) {
            Err(SendDatagramError::ConnectionLost(error)) => error,
            other => panic!("{other:?}"),
        },
        client.stats().await.unwrap_err(),
        client.closed().await,
    ]
}

#[test]
fn all_that_waits_ends_when_the_shard_breaks_off() {
    let mut pair = pair();
    let all = all_that_waits(&mut pair);
    pair.rig.run_for(Duration::from_millis(100));
    assert!(all.iter().all(|task| !task.is_done()));
    // The shard is gone for a while before anybody hears of it.
    pair.rig.couriers_away = true;
    pair.rig.kill(CLIENT);
    pair.rig.run_for(Duration::from_millis(100));
    assert!(all.iter().all(|task| !task.is_done()));
    pair.rig.couriers_away = false;
    for task in &all {
        assert_eq!(pair.rig.join(task), ConnectionError::EngineStopped);
    }
    for error in pair.rig.block_on(later(pair.client.clone())) {
        assert_eq!(error, ConnectionError::EngineStopped);
    }
    assert!(pair.rig.handle(CLIENT).is_stopped());
    assert!(!pair.rig.handle(SERVER).is_stopped());
}

#[test]
fn all_that_waits_ends_when_the_shard_drains() {
    let mut pair = pair();
    let all = all_that_waits(&mut pair);
    pair.rig.run_for(Duration::from_millis(100));
    pair.rig.stop(CLIENT);
    for task in &all {
        assert_eq!(pair.rig.join(task), ConnectionError::LocallyClosed);
    }
    for error in pair.rig.block_on(later(pair.client.clone())) {
        assert_eq!(error, ConnectionError::LocallyClosed);
    }
    // The peer was told.
    let closed = pair.rig.block_on(pair.server.closed());
    assert!(matches!(closed, ConnectionError::ApplicationClosed(_)));
}

#[test]
fn connections_that_are_being_made_end_too() {
    // Begun while the shard does not run any more; before it knows of it; while the handshake runs.
    for stage in 0..3 {
        let mut rig = Rig::new(Setup::limits(HandleLimits {
            commands: 2,
            ..HandleLimits::default()
        }));
        let _listener = rig.listen();
        let (handle, config) = (rig.handle(CLIENT), rig.client_config());
        let connect = || handle.connect_with(config.clone(), server(), NAME);
        let tasks: Vec<_> = match stage {
            0 => {
                rig.couriers_away = true;
                rig.kill(CLIENT);
                vec![connect().unwrap(), connect().unwrap()]
            }
            _ => vec![connect().unwrap(), connect().unwrap(), connect().unwrap()],
        };
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|connecting| rig.spawn("connecting", connecting))
            .collect();
        if stage == 2 {
            rig.run_for(Duration::from_millis(2));
        }
        if stage > 0 {
            rig.kill(CLIENT);
        }
        rig.couriers_away = false;
        for task in &tasks {
            let error = rig.join(task).unwrap_err();
            assert_eq!(error, ConnectionError::EngineStopped, "stage {stage}");
        }
        let refused = connect().map(drop).unwrap_err();
        assert_eq!(refused, ConnectError::EngineStopped);
    }
}

#[test]
fn listeners_end_too() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let waits = rig.spawn("accept", listener.accept());
    let (handle, config) = (rig.handle(SERVER), rig.server_config());
    let late = {
        let (handle, config) = (handle.clone(), config.clone());
        rig.spawn("listen", async move {
            handle.listen(UDP_PORT + 1, config).await.map(drop)
        })
    };
    rig.tasks.poll(|| true);
    rig.kill(SERVER);
    assert!(rig.join(&waits).is_none());
    assert!(rig.block_on(listener.accept()).is_none());
    assert_eq!(rig.join(&late), Err(ListenError::EngineStopped));
    let later = rig.block_on(async move { handle.listen(UDP_PORT, config).await.map(drop) });
    assert_eq!(later, Err(ListenError::EngineStopped));
    listener.close();
}

/// Streams of which the server has read nothing, several of them in one packet.
fn unread(pair: &mut Pair) -> Vec<RecvStream> {
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let streams = pair.rig.block_on(async move {
        let mut streams: Vec<SendStream> = Vec::new();
        for _ in 0..4 {
            streams.push(client.open_uni().await.unwrap());
        }
        for send in &mut streams {
            send.write_all(b"unread").await.unwrap();
        }
        client
            .send_datagram(Bytes::from_static(b"unread, too"))
            .unwrap();
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(server.accept_uni().await.unwrap());
        }
        streams
    });
    pair.rig.settle();
    streams
}

#[test]
fn what_was_received_can_still_be_read_and_holds_no_packets() {
    for drains in [false, true] {
        let mut pair = Pair::new(Setup::default());
        let mut streams = unread(&mut pair);
        match drains {
            true => pair.rig.stop(SERVER),
            false => pair.rig.kill(SERVER),
        }
        pair.rig.settle();
        let server = pair.server.clone();
        pair.rig.block_on(async move {
            for recv in &mut streams {
                let chunk = recv.read_chunk(usize::MAX).await.unwrap().unwrap();
                assert_eq!(chunk, "unread");
                assert!(chunk.is_unique(), "it holds a packet with others in it");
            }
            let datagram = server.read_datagram().await.unwrap();
            assert_eq!(datagram, "unread, too");
            assert!(datagram.is_unique());
        });
    }
}

#[test]
fn what_was_written_before_the_drain_still_goes_out() {
    let mut pair = Pair::new(Setup::default());
    let mut send = pair.rig.block_on(pair.client.open_uni()).unwrap();
    let write = pair.rig.spawn("write", async move {
        send.write_all(&[7; 300_000]).await.unwrap();
    });
    // All of it is on the way to the shard, and nothing beyond.
    pair.rig.tasks.poll(|| true);
    assert!(write.is_done());
    let server = pair.server.clone();
    let read = pair.rig.spawn("read", async move {
        let mut recv = server.accept_uni().await.unwrap();
        recv.read_to_end(1 << 20).await
    });
    pair.rig.stop(CLIENT);
    assert_eq!(pair.rig.join(&read).unwrap().len(), 300_000);
}

#[test]
fn handles_may_be_dropped_in_any_order_after_the_end() {
    let mut pair = Pair::new(Setup::default());
    let streams = unread(&mut pair);
    let pending = pair.rig.spawn("accept", pair.server.accept_bi());
    pair.rig.settle();
    pair.rig.kill(SERVER);
    pair.server.close(VarInt::from_u32(1), b"");
    drop(pair.listener);
    drop(pair.server);
    drop(streams);
    pair.rig.join(&pending).map(drop).unwrap_err();
}

#[test]
fn a_courier_that_was_late_still_ends() {
    // Its shards could not hand over their last words: the channel was full for too long. It finds it closed.
    let links = [(); 2].map(|()| link(HandleLimits::default()).0);
    let (courier, mailboxes) = courier(links.to_vec());
    let mut courier = Manual::new(courier);
    assert!(courier.poll().is_pending());
    drop(mailboxes);
    assert!(courier.is_woken());
    assert!(courier.poll().is_ready());
}

#[test]
fn a_courier_that_is_dropped_leaves_nobody_waiting() {
    let mut pair = Pair::new(Setup::default());
    let config = pair.rig.client_config();
    let waits = pair.rig.spawn("accept", pair.server.accept_bi());
    let listens = pair.rig.spawn("listener", pair.listener.accept());
    pair.rig.settle();
    pair.rig.drop_courier(SERVER);
    let error = pair.rig.join(&waits).map(drop).unwrap_err();
    assert_eq!(error, ConnectionError::EngineStopped);
    assert!(pair.rig.join(&listens).is_none());
    // Peers hear of it, and nobody new comes.
    let closed = pair.rig.block_on(pair.client.closed());
    assert!(
        matches!(closed, ConnectionError::ApplicationClosed(_)),
        "{closed:?}"
    );
    let connecting = pair.rig.handle(CLIENT).connect_with(config, server(), NAME);
    let refused = pair.rig.block_on(connecting.unwrap()).unwrap_err();
    assert!(
        matches!(refused, ConnectionError::ConnectionClosed(_)),
        "{refused:?}"
    );
    pair.rig.run_for(Duration::from_secs(20));
    assert_eq!(pair.rig.counters(SERVER).connections_current.get(), 0);
}
