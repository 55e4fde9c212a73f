//! Streams: what is written arrives, and how they end.

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::{Dir, Side, VarInt};

use super::rig::{CLIENT, Pair, Random, SERVER, Setup};
use super::tasks::pause;
use crate::handle::{
    ClosedStream, HandleLimits, ReadError, ReadExactError, ReadToEndError, RecvStream, SendStream,
    WriteError,
};

/// A stream from the client to the server, which has its first byte and both halves of it on each side.
fn stream(pair: &mut Pair) -> (SendStream, RecvStream, SendStream, RecvStream) {
    let (client, server) = (pair.client.clone(), pair.server.clone());
    pair.rig.block_on(async move {
        let (mut to_server, from_server) = client.open_bi().await.unwrap();
        to_server.write_all(b"!").await.unwrap();
        let (to_client, mut from_client) = server.accept_bi().await.unwrap();
        from_client.read_exact(&mut [0]).await.unwrap();
        (to_server, from_server, to_client, from_client)
    })
}

fn pattern(seed: u64, size: usize) -> Bytes {
    let mut random = Random::new(seed);
    (0..size).map(|_| random.next() as u8).collect()
}

#[test]
fn much_arrives_in_both_directions_over_a_bad_link() {
    const SIZE: usize = 3_000_000;
    let mut pair = Pair::new(Setup::default());
    pair.rig.loss = 0.02;
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let echo = pair.rig.spawn("echo", async move {
        let (mut send, mut recv) = server.accept_bi().await.unwrap();
        while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
            send.write_chunk(chunk).await.unwrap();
        }
        send.finish().unwrap();
        send.stopped().await.unwrap()
    });
    let (mut send, mut recv) = pair.rig.block_on(client.open_bi()).unwrap();
    let write = pair.rig.spawn("write", async move {
        send.write_all(&pattern(1, SIZE)).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap()
    });
    let all = pair
        .rig
        .spawn("read", async move { recv.read_to_end(SIZE).await.unwrap() });
    pair.rig.finish();
    assert!(all.take() == pattern(1, SIZE), "not what was sent");
    assert_eq!((echo.take(), write.take()), (None, None));
    assert!(client.close_reason().is_none());
}

#[test]
fn pieces_arrive_in_their_order_whatever_their_size() {
    let mut pair = Pair::new(Setup::default());
    let server = pair.server.clone();
    let mut send = pair.rig.block_on(pair.client.open_uni()).unwrap();
    assert_eq!(send.id().dir(), Dir::Uni);
    assert_eq!(send.id().initiator(), Side::Client);
    let all = pair.rig.spawn("read", async move {
        let mut recv = server.accept_uni().await.unwrap();
        recv.read_to_end(1 << 20).await.unwrap()
    });
    let data = pattern(2, 300_000);
    let copy = data.clone();
    pair.rig.block_on(async move {
        let (mut rest, mut size) = (copy, 0);
        while !rest.is_empty() {
            size = (size * 2 + 1) % 50_000;
            let piece = rest.split_to(size.min(rest.len()));
            match size % 3 {
                0 => send.write_all(&piece).await.unwrap(),
                1 => send.write_chunk(piece).await.unwrap(),
                _ => send
                    .write_all_chunks(&mut [piece, Bytes::new()])
                    .await
                    .unwrap(),
            }
        }
        // Dropped, and so finished.
    });
    assert!(pair.rig.join(&all) == data);
}

#[test]
fn reading_in_every_way() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    pair.rig.block_on(async move {
        send.write_all(b"0123456789abcdefghij").await.unwrap();
        let mut small = [0; 4];
        recv.read_exact(&mut small).await.unwrap();
        assert_eq!(&small, b"0123");
        assert_eq!(recv.read_chunk(2).await.unwrap().unwrap(), "45");
        assert_eq!(recv.read(&mut []).await, Ok(Some(0)));
        let mut large = [0; 100];
        assert_eq!(recv.read(&mut large).await, Ok(Some(14)));
        assert_eq!(&large[..14], b"6789abcdefghij");
        // Several chunks at once.
        for piece in ["one", "two", "three"] {
            send.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut chunks = vec![Bytes::new(); 8];
        let mut all = Vec::new();
        while all.len() < 11 {
            let count = recv.read_chunks(&mut chunks).await.unwrap().unwrap();
            assert!(count > 0);
            chunks[..count]
                .iter()
                .for_each(|chunk| all.extend_from_slice(chunk));
        }
        assert_eq!(all, b"onetwothree");
        send.write_all(b"end").await.unwrap();
        send.finish().unwrap();
        let mut too_large = [0; 4];
        let early = recv.read_exact(&mut too_large).await;
        assert_eq!(early, Err(ReadExactError::FinishedEarly(3)));
        assert_eq!(&too_large[..3], b"end");
        // The end stays the end.
        assert_eq!(recv.read(&mut too_large).await, Ok(None));
        assert_eq!(recv.read_chunk(1).await, Ok(None));
        assert_eq!(recv.read_chunks(&mut chunks).await, Ok(None));
        assert_eq!(recv.read_to_end(0).await, Ok(Vec::new()));
        assert_eq!(recv.stop(VarInt::from_u32(1)), Err(ClosedStream));
    });
}

#[test]
fn read_to_end_has_a_limit() {
    for (limit, fits) in [(999, false), (1_000, true)] {
        let mut pair = Pair::new(Setup::default());
        let (mut send, _r, _s, mut recv) = stream(&mut pair);
        let read = pair.rig.block_on(async move {
            send.write_all(&[7; 1_000]).await.unwrap();
            send.finish().unwrap();
            recv.read_to_end(limit).await
        });
        match fits {
            true => assert_eq!(read.unwrap().len(), 1_000),
            false => assert_eq!(read, Err(ReadToEndError::TooLong)),
        }
    }
}

#[test]
fn a_dropped_sender_finishes() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    let read = pair.rig.block_on(async move {
        send.write_all(b"last words").await.unwrap();
        drop(send);
        recv.read_to_end(100).await
    });
    assert_eq!(read.unwrap(), b"last words");
}

#[test]
fn a_dropped_receiver_stops_with_code_0() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, recv) = stream(&mut pair);
    drop(recv);
    pair.rig.block_on(async move {
        assert_eq!(send.stopped().await, Ok(Some(VarInt::from_u32(0))));
        let write = send.write(b"more").await;
        assert_eq!(write, Err(WriteError::Stopped(VarInt::from_u32(0))));
    });
}

#[test]
fn a_receiver_dropped_at_the_end_stops_nothing() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    pair.rig.block_on(async move {
        send.finish().unwrap();
        assert_eq!(recv.read_chunk(1).await, Ok(None));
        drop(recv);
        assert_eq!(send.stopped().await, Ok(None));
    });
}

#[test]
fn stopped_says_that_all_is_acknowledged() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, _recv) = stream(&mut pair);
    let early = pair.rig.spawn("stopped", async move {
        let stopped = send.stopped().await;
        (send, stopped)
    });
    pair.rig.settle();
    assert!(!early.is_done(), "it is not finished");
    early.cancel();
    let (mut send, _r, _s, _recv) = stream(&mut pair);
    let stopped = pair.rig.block_on(async move {
        send.write_all(&[0; 10_000]).await.unwrap();
        send.finish().unwrap();
        let first = send.stopped().await;
        (first, send.stopped().await, send.reset(VarInt::from_u32(1)))
    });
    assert_eq!(stopped, (Ok(None), Ok(None), Err(ClosedStream)));
}

#[test]
fn a_stop_reaches_the_writer_that_waits() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    let writer = pair.rig.spawn("writer", async move {
        let written = send.write_all(&vec![0; 100_000_000]).await;
        (
            written,
            send.write(b"x").await,
            send.finish(),
            send.reset(VarInt::from_u32(1)),
        )
    });
    pair.rig.settle();
    assert!(!writer.is_done());
    recv.stop(VarInt::from_u32(77)).unwrap();
    let stopped = WriteError::Stopped(VarInt::from_u32(77));
    let (written, again, finish, reset) = pair.rig.join(&writer);
    assert_eq!(written, Err(stopped.clone()));
    assert_eq!(again, Err(stopped));
    assert_eq!(finish, Ok(()));
    assert_eq!(reset, Err(ClosedStream));
    pair.rig.block_on(async move {
        assert_eq!(recv.read_chunk(1).await, Err(ReadError::ClosedStream));
        assert_eq!(recv.read(&mut [0]).await, Err(ReadError::ClosedStream));
        assert_eq!(recv.stop(VarInt::from_u32(1)), Err(ClosedStream));
    });
}

#[test]
fn a_reset_reaches_the_reader() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    let reader = pair.rig.spawn("reader", async move {
        let mut any = Vec::new();
        loop {
            match recv.read_chunk(usize::MAX).await {
                Ok(Some(chunk)) => any.extend_from_slice(&chunk),
                other => return (any.len(), other, recv.read(&mut [0]).await),
            }
        }
    });
    pair.rig.block_on(async move {
        send.write_all(&[1; 10]).await.unwrap();
        send.reset(VarInt::from_u32(9)).unwrap();
        assert_eq!(send.write(b"x").await, Err(WriteError::ClosedStream));
        assert_eq!(send.finish(), Err(ClosedStream));
        assert_eq!(send.reset(VarInt::from_u32(1)), Err(ClosedStream));
        // Nothing is left to wait for.
        send.stopped().await.unwrap();
    });
    let (read, end, again) = pair.rig.join(&reader);
    assert!(read <= 10);
    assert_eq!(end, Err(ReadError::Reset(VarInt::from_u32(9))));
    assert_eq!(again, Err(ReadError::Reset(VarInt::from_u32(9))));
}

#[test]
fn a_finished_stream_can_still_be_reset() {
    let mut pair = Pair::new(Setup::default());
    let (mut send, _r, _s, mut recv) = stream(&mut pair);
    // More than the peer takes, so that the end is not acknowledged.
    let writer = pair.rig.spawn("writer", async move {
        let size = HandleLimits::default().write_ahead;
        send.write_all(&vec![0; size]).await.unwrap();
        pause().await;
        send.finish().unwrap();
        assert_eq!(send.write(b"x").await, Err(WriteError::ClosedStream));
        assert_eq!(send.finish(), Err(ClosedStream));
        send.reset(VarInt::from_u32(5)).unwrap();
        send.stopped().await.unwrap();
    });
    pair.rig.join(&writer);
    let end = pair.rig.block_on(async move {
        loop {
            match recv.read_chunk(usize::MAX).await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    });
    assert_eq!(end, Err(ReadError::Reset(VarInt::from_u32(5))));
}

#[test]
fn priorities_decide_who_goes_first() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let first = pair.rig.spawn("accept", async move {
        let mut left = Vec::new();
        for _ in 0..2 {
            let mut recv = server.accept_uni().await.unwrap();
            let mut tag = [0];
            recv.read_exact(&mut tag).await.unwrap();
            left.push((tag[0], recv));
        }
        left.sort_by_key(|(tag, _)| *tag);
        let (_, mut low) = left.remove(0);
        let (_, mut high) = left.remove(0);
        let mut taken = 0;
        while high.read_chunk(usize::MAX).await.unwrap().is_some() {}
        // What of the other one has come until then.
        loop {
            let mut buffer = [0; 1_000];
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(match low.poll_read(context, &mut buffer) {
                    std::task::Poll::Ready(Ok(Some(count))) => count,
                    _ => 0,
                })
            });
            match polled.await {
                0 => return taken,
                count => taken += count,
            }
        }
    });
    pair.rig.block_on(async move {
        let mut low = client.open_uni().await.unwrap();
        let mut high = client.open_uni().await.unwrap();
        high.set_priority(1);
        low.write_all(&[0]).await.unwrap();
        high.write_all(&[1]).await.unwrap();
        low.write_all(&[0; 400_000]).await.unwrap();
        high.write_all(&[1; 400_000]).await.unwrap();
    });
    let taken = pair.rig.join(&first);
    assert!(taken < 200_000, "{taken} bytes of the other came before");
}

#[test]
fn nothing_is_left_of_streams_that_are_over() {
    let mut pair = Pair::new(Setup::default());
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let serve = pair.rig.spawn("serve", async move {
        for number in 0..40 {
            let (mut send, mut recv) = server.accept_bi().await.unwrap();
            match number % 4 {
                0 => drop((send, recv)),
                1 => drop((recv.read_to_end(100).await, send)),
                2 => recv.stop(VarInt::from_u32(1)).unwrap_or(()),
                _ => send.reset(VarInt::from_u32(1)).unwrap_or(()),
            }
        }
    });
    let drive = pair.rig.spawn("drive", async move {
        for number in 0..40 {
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            send.write_all(&[0; 50]).await.unwrap_or(());
            match number % 5 {
                0 => {
                    send.finish().unwrap();
                    drop(recv.read_to_end(100).await);
                }
                1 => recv.stop(VarInt::from_u32(2)).unwrap_or(()),
                2 => send.reset(VarInt::from_u32(2)).unwrap_or(()),
                _ => {}
            }
        }
    });
    pair.rig.join(&serve);
    pair.rig.join(&drive);
    pair.rig.settle();
    for side in [SERVER, CLIENT] {
        assert_eq!(pair.rig.agent(side, |agent| agent.streams().0), 0);
        assert_eq!(pair.rig.agent(side, |agent| agent.waiting()), 0);
    }
    for end in [&pair.client, &pair.server] {
        assert!(end.inner().state().streams.is_empty());
    }
    // The peer is let go on, too.
    pair.rig.run_for(Duration::from_secs(1));
    pair.rig.block_on(pair.client.open_bi()).unwrap();
}
