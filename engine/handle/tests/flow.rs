//! Backpressure: who is ahead waits, and what waits is bounded.

use std::rc::Rc;

use bytes::Bytes;
use quinn_proto::StreamId;

use super::rig::{CLIENT, Pair, Random, SERVER, Setup, shared};
use crate::handle::{Connection, HandleLimits};
use crate::transport::TransportSettings;

const KB: usize = 1_000;

fn small() -> HandleLimits {
    HandleLimits {
        read_ahead: 20 * KB,
        write_ahead: 10 * KB,
        ..HandleLimits::default()
    }
}

fn small_windows() -> TransportSettings {
    TransportSettings {
        stream_receive_window: 40 * KB as u64,
        receive_window: 1_000 * KB as u64,
        send_window: 70 * KB as u64,
        idle_timeout: None,
        ..TransportSettings::default()
    }
}

/// Bytes of a stream that the courier has brought and nobody has taken.
fn brought(connection: &Connection, id: StreamId) -> usize {
    let state = connection.inner().state();
    let stream = state.streams.get(&id);
    stream.map_or(0, |stream| stream.chunks.iter().map(Bytes::len).sum())
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_up() {
    let mut pair = Pair::new(Setup {
        limits: [small(); 2],
        settings: [small_windows(), small_windows()],
        ..Setup::default()
    });
    let mut send = pair.rig.block_on(pair.client.open_uni()).unwrap();
    let id = send.id();
    let accepted = shared(0);
    let count = Rc::clone(&accepted);
    let writer = pair.rig.spawn("writer", async move {
        for number in 0..500_u64 {
            let piece = Bytes::copy_from_slice(&number.to_be_bytes().repeat(125));
            send.write_chunk(piece).await.unwrap();
            count.set(count.get() + KB);
        }
    });
    pair.rig.settle();
    // Read ahead there, QUIC's windows in between, written ahead here.
    let most = (20 + 40 + 70 + 10 + 1) * KB;
    let held = accepted.get();
    assert!(held >= 60 * KB && held <= most, "{held} bytes accepted");
    assert_eq!(brought(&pair.server, id), 20 * KB);
    assert!(pair.rig.agent(CLIENT, |agent| agent.waiting()) <= 10 * KB);
    pair.rig.settle();
    assert_eq!(accepted.get(), held, "it does not move");

    // A slow reader: what is ahead of it stays bounded.
    let (server, clock) = (pair.server.clone(), pair.rig.clock());
    let looked = pair.server.clone();
    let reader = pair.rig.spawn("reader", async move {
        let mut recv = server.accept_uni().await.unwrap();
        let mut buffer = [0; KB];
        for number in 0..500_u64 {
            recv.read_exact(&mut buffer).await.unwrap();
            assert_eq!(buffer[..8], number.to_be_bytes());
            assert!(brought(&looked, recv.id()) <= 20 * KB);
            if number < 100 {
                clock.sleep(std::time::Duration::from_millis(3)).await;
            }
        }
        assert_eq!(recv.read(&mut buffer).await, Ok(None));
    });
    pair.rig.join(&reader);
    assert!(writer.is_done());
}

#[test]
fn bounds_of_one_byte_slow_down_and_nothing_else() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        commands: 1,
        read_ahead: 1,
        write_ahead: 1,
        streams: 1,
        datagrams: 1,
        datagram_bytes: 1,
    }));
    echo_some(&mut pair, 2, 30);
}

#[test]
fn bounds_of_nothing_are_taken_for_one() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        commands: 0,
        read_ahead: 0,
        write_ahead: 0,
        streams: 0,
        datagrams: 0,
        datagram_bytes: 0,
    }));
    echo_some(&mut pair, 2, 5);
}

/// Echoes a number of bytes on several streams, one by one.
fn echo_some(pair: &mut Pair, streams: usize, bytes: usize) {
    for stream in 0..streams {
        let server = pair.server.clone();
        pair.rig.spawn(format!("echo {stream}"), async move {
            let (mut send, mut recv) = server.accept_bi().await.unwrap();
            while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                send.write_chunk(chunk).await.unwrap();
            }
        });
        let client = pair.client.clone();
        pair.rig.spawn(format!("client {stream}"), async move {
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            let data: Vec<u8> = (0..bytes as u8).collect();
            send.write_all(&data).await.unwrap();
            send.finish().unwrap();
            assert_eq!(recv.read_to_end(bytes).await.unwrap(), data);
        });
    }
    pair.rig.finish();
}

#[test]
fn a_queue_of_a_few_commands_loses_nothing_and_keeps_the_order() {
    for commands in 1..=4 {
        let mut pair = Pair::new(Setup {
            limits: [HandleLimits {
                commands,
                ..HandleLimits::default()
            }; 2],
            chaos: true,
            seed: commands as u64,
            ..Setup::default()
        });
        const TASKS: usize = 40;
        const WRITES: u32 = 60;
        for task in 0..TASKS {
            let client = pair.client.clone();
            pair.rig.spawn(format!("writer {task}"), async move {
                let mut send = client.open_uni().await.unwrap();
                for number in 0..WRITES {
                    send.write_all(&number.to_be_bytes()).await.unwrap();
                    if number % 16 == 3 {
                        client.stats().await.unwrap();
                    }
                }
                send.finish().unwrap();
                assert_eq!(send.stopped().await, Ok(None));
            });
            let server = pair.server.clone();
            pair.rig.spawn(format!("reader {task}"), async move {
                let mut recv = server.accept_uni().await.unwrap();
                let all = recv.read_to_end(1 << 20).await.unwrap();
                let expected: Vec<u8> = (0..WRITES).flat_map(u32::to_be_bytes).collect();
                assert!(all == expected, "{} bytes", all.len());
            });
        }
        pair.rig.finish();
        // At most one finish and one write of each handle can stand behind the queue, or so.
        let most = pair.client.inner().link.most_behind();
        assert!(most <= 3 * TASKS, "{most} commands stood behind the queue");
    }
}

#[test]
fn streams_that_nobody_accepts_hold_the_peer_up() {
    // Tiny ones, which are complete when they arrive.
    let mut pair = Pair::new(Setup {
        limits: [HandleLimits {
            streams: 4,
            ..HandleLimits::default()
        }; 2],
        settings: [(); 2].map(|()| TransportSettings {
            uni_streams: 8,
            idle_timeout: None,
            ..TransportSettings::default()
        }),
        ..Setup::default()
    });
    let opened = shared(0_u64);
    let (client, count) = (pair.client.clone(), Rc::clone(&opened));
    let driver = pair.rig.spawn("driver", async move {
        for number in 0..200_u64 {
            let mut send = client.open_uni().await.unwrap();
            count.set(number + 1);
            send.write_all(&number.to_be_bytes()).await.unwrap();
        }
    });
    pair.rig.settle();
    pair.rig.settle();
    // Four wait at the handles; eight more the peer permits itself.
    let held = opened.get();
    assert!((8..=12).contains(&held), "{held} streams");
    let waiting = pair.server.inner().state().accepting[1].ready.len();
    assert_eq!(waiting, 4);
    assert_eq!(pair.rig.counters(SERVER).streams_accepted.get(), 4);

    let server = pair.server.clone();
    pair.rig.block_on(async move {
        for number in 0..200_u64 {
            let mut recv = server.accept_uni().await.unwrap();
            assert_eq!(recv.read_to_end(8).await.unwrap(), number.to_be_bytes());
        }
    });
    assert!(driver.is_done());
}

#[test]
fn many_streams_at_once_share_a_bad_link() {
    let mut pair = Pair::new(Setup {
        limits: [HandleLimits {
            commands: 8,
            ..small()
        }; 2],
        settings: [small_windows(), small_windows()],
        loss: 0.02,
        chaos: true,
        seed: 77,
        ..Setup::default()
    });
    let server = pair.server.clone();
    let spawner = pair.rig.tasks.spawner();
    pair.rig.spawn("accept", async move {
        for number in 0..20 {
            let (mut send, mut recv) = server.accept_bi().await.unwrap();
            spawner.spawn(format!("echo {number}"), async move {
                while let Some(chunk) = recv.read_chunk(777).await.unwrap() {
                    send.write_chunk(chunk).await.unwrap();
                }
            });
        }
    });
    for number in 0..20_u64 {
        let client = pair.client.clone();
        let spawner = pair.rig.tasks.spawner();
        pair.rig.spawn(format!("client {number}"), async move {
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            let mut random = Random::new(number);
            let data: Bytes = (0..50_000).map(|_| random.next() as u8).collect();
            let copy = data.clone();
            spawner.spawn(format!("write {number}"), async move {
                send.write_chunk(copy).await.unwrap();
            });
            assert!(recv.read_to_end(50_000).await.unwrap() == data);
        });
    }
    pair.rig.finish();
}

#[test]
fn all_that_came_before_the_end_can_be_read() {
    let mut pair = Pair::new(Setup::limits(HandleLimits {
        read_ahead: 10 * KB,
        streams: 1,
        datagrams: 1,
        ..HandleLimits::default()
    }));
    let (client, server) = (pair.client.clone(), pair.server.clone());
    let data = |number: usize| Bytes::from(vec![number as u8; 300 * KB]);
    pair.rig.block_on(async move {
        for number in 0..5 {
            let mut send = client.open_uni().await.unwrap();
            send.write_chunk(data(number)).await.unwrap();
            send.finish().unwrap();
            // All of it is there, read or not.
            assert_eq!(send.stopped().await, Ok(None));
            client
                .send_datagram(Bytes::from(vec![number as u8; 9]))
                .unwrap();
        }
    });
    pair.rig.settle();
    assert_eq!(server.inner().state().accepting[1].ready.len(), 1);
    pair.client.close(0_u32.into(), b"that was all");
    pair.rig.settle();
    assert!(server.close_reason().is_some());
    pair.rig.block_on(async move {
        for number in 0..5 {
            let mut recv = server.accept_uni().await.unwrap();
            assert!(recv.read_to_end(300 * KB).await.unwrap() == data(number));
        }
        for number in 0..5 {
            let datagram = server.read_datagram().await.unwrap();
            assert_eq!(datagram, [number; 9][..]);
        }
        server.accept_bi().await.map(drop).unwrap_err();
        server.read_datagram().await.unwrap_err();
    });
}
