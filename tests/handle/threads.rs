//! Handles on many threads at once, and without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use stoq::Engine;
use stoq::handle::HandleLimits;

use crate::program::alone;
use crate::shared::{NAME, client_config, connect, handle, right, run, server_config};

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// All that it takes to wait for a handle.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn no_runtime_is_needed() {
    let (server, client, _listener) = block_on(connect(&handle()));
    let echo = thread::spawn(move || {
        block_on(async move {
            let (mut send, mut recv) = server.accept_bi().await.unwrap();
            while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                send.write_chunk(chunk).await.unwrap();
            }
            drop(send);
            server.closed().await
        })
    });
    let (mut send, mut recv) = block_on(client.open_bi()).unwrap();
    let reader = thread::spawn(move || block_on(recv.read_to_end(1 << 20)).unwrap());
    block_on(send.write_all(&[5; 300_000])).unwrap();
    send.finish().unwrap();
    assert_eq!(reader.join().unwrap(), [5; 300_000]);
    drop((send, client));
    echo.join().unwrap();
}

#[test]
fn many_tasks_on_threads_with_hardly_any_room() {
    alone(
        "threads::many_tasks_on_threads_with_hardly_any_room",
        || {
            // Every queue is full all the time, so that whatever can race does.
            let limits = HandleLimits {
                commands: 2,
                read_ahead: 3_000,
                write_ahead: 2_000,
                streams: 2,
                datagrams: 2,
                datagram_bytes: 2_000,
            };
            let engine = Engine::builder().link().handle_limits(limits);
            let engine = engine.start().unwrap();
            let handle = engine.handle();
            run(async move {
                let listener = handle.listen(4_433, server_config()).await.unwrap();
                tokio::spawn(async move {
                    while let Some(connection) = listener.accept().await {
                        tokio::spawn(async move {
                            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                                tokio::spawn(async move {
                                    while let Some(chunk) = recv.read_chunk(700).await.unwrap() {
                                        send.write_chunk(chunk).await.unwrap();
                                    }
                                });
                            }
                        });
                    }
                });
                let mut connections = Vec::new();
                for _ in 0..4 {
                    let connecting = handle.connect_with(client_config(), right(4_433), NAME);
                    connections.push(connecting.unwrap().await.unwrap());
                }
                let mut tasks = Vec::new();
                for number in 0..80_usize {
                    let client = connections[number % 4].clone();
                    tasks.push(tokio::spawn(async move {
                        let (mut send, mut recv) = client.open_bi().await.unwrap();
                        let data: Bytes = (0..20_000).map(|at| (at * 7 + number) as u8).collect();
                        let copy = data.clone();
                        let write = tokio::spawn(async move {
                            for piece in copy.chunks(333) {
                                send.write_all(piece).await.unwrap();
                            }
                            send.finish().unwrap();
                            assert_eq!(send.stopped().await, Ok(None));
                        });
                        for _ in 0..10 {
                            client.stats().await.unwrap();
                            client
                                .send_datagram_wait(Bytes::from_static(b"x"))
                                .await
                                .unwrap();
                        }
                        assert!(recv.read_to_end(20_000).await.unwrap() == data);
                        write.await.unwrap();
                    }));
                }
                for task in tasks {
                    task.await.unwrap();
                }
                drop(connections);
                tokio::task::spawn_blocking(|| engine.shutdown())
                    .await
                    .unwrap()
                    .unwrap();
            });
        },
    );
}
