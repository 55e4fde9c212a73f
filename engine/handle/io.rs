//! Streams as the byte streams of tokio and futures.

#[cfg(feature = "futures-io")]
mod futures {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use crate::handle::{RecvStream, SendStream};

    impl futures_io::AsyncRead for RecvStream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let read = RecvStream::poll_read(&mut self, context, buffer);
            read.map(|read| Ok(read?.unwrap_or(0)))
        }
    }

    impl futures_io::AsyncWrite for SendStream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = SendStream::poll_write(&mut self, context, buffer);
            written.map_err(Into::into)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(super::finish(&mut self))
        }
    }
}

#[cfg(feature = "tokio")]
mod tokio {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use ::tokio::io::ReadBuf;

    use crate::handle::{RecvStream, SendStream};

    impl ::tokio::io::AsyncRead for RecvStream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            // Chunk by chunk: the buffer need not be initialised for that.
            let mut any = false;
            while buffer.remaining() > 0 {
                match self.poll_read_chunk(context, buffer.remaining()) {
                    Poll::Ready(Ok(Some(chunk))) => buffer.put_slice(&chunk),
                    _ if any => break,
                    other => {
                        ready!(other)?;
                        break;
                    }
                }
                any = true;
            }
            Poll::Ready(Ok(()))
        }
    }

    impl ::tokio::io::AsyncWrite for SendStream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = SendStream::poll_write(&mut self, context, buffer);
            written.map_err(Into::into)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(super::finish(&mut self))
        }
    }
}

/// Closing a byte stream is to finish it: nothing to wait for, and no error when that was done before.
fn finish(stream: &mut super::SendStream) -> std::io::Result<()> {
    let _ = stream.finish();
    Ok(())
}
