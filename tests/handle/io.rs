//! Streams as byte streams of tokio and futures.

#[cfg(feature = "tokio")]
mod tokio_io {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

    use crate::shared::{code, connect, handle, run};

    #[test]
    fn copies() {
        run(async {
            let (server, client, _listener) = connect(&handle()).await;
            let echo = tokio::spawn(async move {
                let (mut send, mut recv) = server.accept_bi().await.unwrap();
                let copied = copy(&mut recv, &mut send).await.unwrap();
                send.shutdown().await.unwrap();
                // A second time does no harm.
                send.shutdown().await.unwrap();
                assert_eq!(send.stopped().await, Ok(None));
                copied
            });
            let data: Vec<u8> = (0..1_000_000_u32)
                .map(|number| (number / 7) as u8)
                .collect();
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            let copy = data.clone();
            let write = tokio::spawn(async move {
                AsyncWriteExt::write_all(&mut send, &copy).await.unwrap();
                send.flush().await.unwrap();
                send.shutdown().await.unwrap();
            });
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut recv, &mut all)
                .await
                .unwrap();
            assert!(all == data);
            assert_eq!(AsyncReadExt::read(&mut recv, &mut [0; 9]).await.unwrap(), 0);
            write.await.unwrap();
            assert_eq!(echo.await.unwrap(), 1_000_000);
        });
    }

    #[test]
    fn errors_have_kinds() {
        run(async {
            let (server, client, _listener) = connect(&handle()).await;
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            AsyncWriteExt::write_all(&mut send, b"x").await.unwrap();
            let (mut back, mut there) = server.accept_bi().await.unwrap();
            back.reset(code(5)).unwrap();
            let error = AsyncReadExt::read(&mut recv, &mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            there.stop(code(6)).unwrap();
            send.stopped().await.unwrap();
            let error = AsyncWriteExt::write(&mut send, b"x").await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            let mut own = client.open_uni().await.unwrap();
            own.finish().unwrap();
            let error = AsyncWriteExt::write(&mut own, b"x").await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
            server.close(code(1), b"");
            let lost = client.closed().await;
            let error = std::io::Error::from(lost);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        });
    }
}

#[cfg(feature = "futures-io")]
mod futures {
    use std::future::poll_fn;
    use std::pin::Pin;

    use futures_io::{AsyncRead, AsyncWrite};

    use crate::shared::{connect, handle, run};

    #[test]
    fn writes_closes_and_reads() {
        run(async {
            let (server, client, _listener) = connect(&handle()).await;
            let writer = tokio::spawn(async move {
                let mut send = client.open_uni().await.unwrap();
                let data = vec![9; 2_000_000];
                let mut sent = 0;
                while sent < data.len() {
                    let stream = &mut send;
                    let rest = &data[sent..];
                    let write = |context: &mut std::task::Context<'_>| {
                        AsyncWrite::poll_write(Pin::new(&mut *stream), context, rest)
                    };
                    sent += poll_fn(write).await.unwrap();
                }
                poll_fn(|context| AsyncWrite::poll_flush(Pin::new(&mut send), context))
                    .await
                    .unwrap();
                poll_fn(|context| AsyncWrite::poll_close(Pin::new(&mut send), context))
                    .await
                    .unwrap();
                assert_eq!(send.stopped().await, Ok(None));
            });
            let mut recv = server.accept_uni().await.unwrap();
            let (mut read, mut buffer) = (0, vec![0; 10_000]);
            loop {
                let (stream, buffer) = (&mut recv, &mut buffer[..]);
                let poll = |context: &mut std::task::Context<'_>| {
                    AsyncRead::poll_read(Pin::new(&mut *stream), context, buffer)
                };
                match poll_fn(poll).await.unwrap() {
                    0 => break,
                    count => {
                        assert!(buffer[..count].iter().all(|byte| *byte == 9));
                        read += count;
                    }
                }
            }
            assert_eq!(read, 2_000_000);
            writer.await.unwrap();
        });
    }
}
