//! Engines that end, each in a process of its own.

use std::time::Duration;

use bytes::Bytes;
use stoq::handle::{ConnectError, ListenError, ReadError, SendDatagramError, WriteError};
use stoq::{ConnectionError, Engine};

use crate::program::alone;
use crate::shared::{NAME, client_config, code, connect, right, run, server_config};

fn ended(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::LocallyClosed | ConnectionError::EngineStopped
    )
}

#[test]
fn handles_after_the_end() {
    alone("lives::handles_after_the_end", || {
        let engine = Engine::builder().link().start().unwrap();
        let handle = engine.handle();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (server, client, listener) = runtime.block_on(connect(&handle));
        let (mut send, mut recv) = runtime.block_on(client.open_bi()).unwrap();
        runtime.block_on(send.write_all(b"x")).unwrap();
        engine.shutdown().unwrap();
        assert!(handle.is_stopped());
        runtime.block_on(async {
            let refused = handle.connect_with(client_config(), right(1), NAME);
            assert!(matches!(refused, Err(ConnectError::EngineStopped)));
            let refused = handle.listen(1, server_config()).await;
            assert!(matches!(refused, Err(ListenError::EngineStopped)));
            assert!(listener.accept().await.is_none());
            for end in [&client, &server] {
                end.closed().await;
                let reason = end.close_reason().unwrap();
                assert_eq!(end.open_bi().await.map(drop).unwrap_err(), reason);
                assert_eq!(end.accept_uni().await.map(drop).unwrap_err(), reason);
                assert_eq!(end.stats().await.unwrap_err(), reason);
                let datagram = end.send_datagram(Bytes::new());
                assert!(matches!(
                    datagram,
                    Err(SendDatagramError::ConnectionLost(_))
                ));
                end.close(code(1), b"");
            }
            let write = send.write(b"x").await;
            assert!(
                matches!(write, Err(WriteError::ConnectionLost(_))),
                "{write:?}"
            );
            let read = recv.read_chunk(1).await;
            assert!(
                matches!(read, Err(ReadError::ConnectionLost(_))),
                "{read:?}"
            );
        });
    });
}

#[test]
fn an_engine_dropped_while_tasks_wait() {
    alone("lives::an_engine_dropped_while_tasks_wait", || {
        let engine = Engine::builder().link().start().unwrap();
        let handle = engine.handle();
        run(async move {
            let (server, client, listener) = connect(&handle).await;
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            let mut tasks = Vec::new();
            let own = client.clone();
            tasks.push(tokio::spawn(async move { drop(own.accept_bi().await) }));
            let own = client.clone();
            tasks.push(tokio::spawn(async move { drop(own.read_datagram().await) }));
            let own = server.clone();
            tasks.push(tokio::spawn(async move { drop(own.closed().await) }));
            tasks.push(tokio::spawn(async move { drop(recv.read_chunk(1).await) }));
            tasks.push(tokio::spawn(async move {
                drop(send.write_all(&vec![0; 1 << 30]).await)
            }));
            let own = client.clone();
            tasks.push(tokio::spawn(
                async move { while own.stats().await.is_ok() {} },
            ));
            tasks.push(tokio::spawn(async move {
                while listener.accept().await.is_some() {}
            }));
            let own = handle.clone();
            tasks.push(tokio::spawn(async move {
                // Connections that come and go until there is no engine.
                while let Ok(connecting) = own.connect_with(client_config(), right(9), NAME) {
                    let waited = tokio::time::timeout(Duration::from_millis(1), connecting).await;
                    match waited {
                        Ok(Err(error)) => assert!(ended(&error), "{error:?}"),
                        Ok(Ok(_)) => panic!("nobody listens there"),
                        Err(_) => {}
                    }
                }
            }));
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::task::spawn_blocking(move || drop(engine))
                .await
                .unwrap();
            for task in tasks {
                task.await.unwrap();
            }
            assert!(handle.is_stopped());
        });
    });
}

#[test]
fn what_was_written_before_a_shutdown_arrives() {
    alone("lives::what_was_written_before_a_shutdown_arrives", || {
        let engine = Engine::builder().link().start().unwrap();
        let handle = engine.handle();
        run(async move {
            let (server, client, _listener) = connect(&handle).await;
            let reader = tokio::spawn(async move {
                let mut recv = server.accept_uni().await.unwrap();
                recv.read_to_end(1 << 24).await.unwrap()
            });
            let mut send = client.open_uni().await.unwrap();
            send.write_all(&vec![7; 3 << 20]).await.unwrap();
            send.finish().unwrap();
            let report = tokio::task::spawn_blocking(|| engine.shutdown()).await;
            let report = report.unwrap().unwrap();
            assert_eq!(reader.await.unwrap(), vec![7; 3 << 20]);
            // This program has no allocator for packets.
            assert_eq!(report.rx.zero_copy, 0);
            assert!(report.rx.copied > 1_000, "{}", report.rx.copied);
            assert_eq!(report.mbufs.in_use_at_exit, 0);
        });
    });
}

#[test]
fn a_program_with_an_allocator_of_its_own() {
    alone("lives::a_program_with_an_allocator_of_its_own", || {
        let engine = Engine::builder().link().start().unwrap();
        assert!(!engine.is_zero_copy());
        run(async { drop(connect(&engine.handle()).await) });
        assert!(!engine.has_ended());
        let report = engine.shutdown().unwrap();
        assert_eq!((report.rx.zero_copy, report.tx.in_place), (0, 0));
        assert!(report.rx.copied > 0);
    });
}

#[test]
fn a_runtime_that_ends_after_the_engine() {
    alone("lives::a_runtime_that_ends_after_the_engine", || {
        let engine = Engine::builder().link().start().unwrap();
        let handle = engine.handle();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ends = runtime.block_on(connect(&handle));
        runtime.spawn(async move {
            let _ = ends.0.accept_bi().await;
            std::future::pending::<()>().await;
            drop(ends);
        });
        drop(engine);
        drop(runtime);
        drop(handle);
    });
}

#[test]
fn a_courier_in_the_program() {
    alone("lives::a_courier_in_the_program", || {
        let mut engine = Engine::builder()
            .link()
            .courier_in_program()
            .start()
            .unwrap();
        let courier = engine.take_courier().unwrap();
        assert!(engine.take_courier().is_none());
        let handle = engine.handle();
        run(async move {
            let courier = tokio::spawn(courier);
            let (server, client, _listener) = connect(&handle).await;
            let mut send = client.open_uni().await.unwrap();
            let write = tokio::spawn(async move { send.write_all(&vec![7; 1 << 22]).await });
            let mut recv = server.accept_uni().await.unwrap();
            assert_eq!(recv.read_to_end(1 << 23).await.unwrap().len(), 1 << 22);
            write.await.unwrap().unwrap();
            let waits = tokio::spawn(async move { client.accept_bi().await.map(drop) });
            tokio::task::spawn_blocking(|| engine.shutdown())
                .await
                .unwrap()
                .unwrap();
            courier.await.unwrap();
            waits.await.unwrap().unwrap_err();
            assert!(handle.is_stopped());
        });
    });
}

#[test]
fn a_courier_that_is_dropped() {
    alone("lives::a_courier_that_is_dropped", || {
        let mut engine = Engine::builder()
            .link()
            .courier_in_program()
            .start()
            .unwrap();
        let courier = engine.take_courier().unwrap();
        let handle = engine.handle();
        run(async move {
            let courier = tokio::spawn(courier);
            let (server, client, listener) = connect(&handle).await;
            let waits = tokio::spawn(async move { client.accept_bi().await.map(drop) });
            courier.abort();
            // As if the engine had stopped.
            let error = waits.await.unwrap().unwrap_err();
            assert!(matches!(error, ConnectionError::EngineStopped), "{error:?}");
            assert!(listener.accept().await.is_none());
            server.closed().await;
            let refused = handle.connect_with(client_config(), right(1), NAME);
            assert!(matches!(refused, Err(ConnectError::EngineStopped)));
            tokio::task::spawn_blocking(|| engine.shutdown())
                .await
                .unwrap()
                .unwrap();
        });
    });
}

#[test]
fn several_shards_and_threads() {
    alone("lives::several_shards_and_threads", || {
        // Two queues on each end: connections are spread over the shards, and a listener is on all of them.
        for_threads(2);
    });
}

#[test]
fn several_shards_of_one_courier() {
    alone("lives::several_shards_of_one_courier", || for_threads(1));
}

fn for_threads(couriers: usize) {
    let cpus = core_affinity::get_core_ids().map_or(1, |cpus| cpus.len());
    let lcores: Vec<u32> = (0..cpus.min(2) as u32).collect();
    let engine = Engine::builder()
        .link_on(2, &lcores)
        .courier_threads(couriers);
    let engine = engine.start().unwrap();
    let handle = engine.handle();
    run(async move {
        let listener = handle.listen(4_433, server_config()).await.unwrap();
        let again = handle.listen(4_433, server_config()).await;
        assert!(matches!(again, Err(ListenError::UdpPortInUse(4_433))));
        let accept = tokio::spawn(async move {
            for _ in 0..20 {
                let connection = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                        tokio::spawn(async move {
                            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                                send.write_chunk(chunk).await.unwrap();
                            }
                        });
                    }
                });
            }
            listener
        });
        let mut clients = Vec::new();
        for number in 0..20_u8 {
            let handle = handle.clone();
            clients.push(tokio::spawn(async move {
                let connecting = handle.connect_with(client_config(), right(4_433), NAME);
                let client = connecting.unwrap().await.unwrap();
                let mut streams = Vec::new();
                for _ in 0..10 {
                    let client = client.clone();
                    streams.push(tokio::spawn(async move {
                        let (mut send, mut recv) = client.open_bi().await.unwrap();
                        let write = tokio::spawn(async move {
                            send.write_all(&[number; 50_000]).await.unwrap();
                        });
                        let all = recv.read_to_end(50_000).await.unwrap();
                        assert!(all.len() == 50_000 && all.iter().all(|byte| *byte == number));
                        write.await.unwrap();
                    }));
                }
                for stream in streams {
                    stream.await.unwrap();
                }
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        drop(accept.await.unwrap());
        let report = tokio::task::spawn_blocking(|| engine.shutdown()).await;
        let report = report.unwrap().unwrap();
        assert_eq!(report.connections.accepted, 20);
        assert_eq!(report.mbufs.in_use_at_exit, 0);
    });
}
