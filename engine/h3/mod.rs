//! HTTP/3 (RFC 9114): the transport traits of the `h3` crate over the connections of this library.
//!
//! [`Connection::new`] wraps an established [`crate::Connection`] whose ALPN is [`ALPN`];
//! `h3::server::Connection` and `h3::client::new` take it from there. The engine itself knows
//! nothing of HTTP: this module is all there is, and the feature `h3` turns it on.
//!
//! ```no_run
//! # async fn serve(connection: stoq::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! use stoq::h3::{Connection, Payload};
//!
//! let mut http = ::h3::server::Connection::new(Connection::new(connection)).await?;
//! while let Some(request) = http.accept().await? {
//!     let (_request, mut stream) = request.resolve_request().await?;
//!     stream.send_response(http::Response::new(())).await?;
//!     stream.send_data(Payload::from("hello\n")).await?;
//!     stream.finish().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is copied
//!
//! Received bodies are not: `recv_data` gives slices of what the engine received. Sent ones are
//! copied once if the body is `Bytes`, because h3 puts a frame header before each buffer and then
//! shows no more than plain slices of the two. A body of [`Payload`] crosses without a copy.
//!
//! # Dropping
//!
//! As the streams below do: a dropped sender is finished. One that is dropped with half a frame
//! sent is reset with `H3_REQUEST_CANCELLED`, for its end would be an error of the connection. A
//! receiver that was not read to its end is stopped with `H3_NO_ERROR`.

mod error;
mod payload;
mod stream;

use std::task::{Context, Poll, ready};

use ::h3::error::Code;
use ::h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use bytes::Buf;

pub use payload::Payload;
pub use stream::{BidiStream, RecvStream, SendStream};

/// ALPN of HTTP/3 (RFC 9114 §3.1), for client and server configurations.
pub const ALPN: &[u8] = b"h3";

/// A connection as h3 wants it: `h3::quic::Connection`.
pub struct Connection {
    connection: crate::Connection,
}

impl Connection {
    /// Wraps a connection. HTTP/3 then has its streams for itself: whoever accepts some of them
    /// through another handle, takes them away from it.
    pub fn new(connection: crate::Connection) -> Self {
        Self { connection }
    }
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = OpenStreams;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.connection.poll_accept_uni(cx)).map_err(error::connection)?;
        Poll::Ready(Ok(RecvStream::new(stream)))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, ConnectionErrorIncoming>> {
        let (send, recv) = ready!(self.connection.poll_accept_bi(cx)).map_err(error::connection)?;
        Poll::Ready(Ok(BidiStream::new(send, recv)))
    }

    fn opener(&self) -> OpenStreams {
        OpenStreams {
            connection: self.connection.clone(),
        }
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        poll_open_bidi(&self.connection, cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        poll_open_send(&self.connection, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(error::code(code.value()), reason);
    }
}

/// What opens streams on a connection: `h3::quic::OpenStreams`, part of every clone of
/// `h3::client::SendRequest`.
#[derive(Clone)]
pub struct OpenStreams {
    connection: crate::Connection,
}

impl<B: Buf> quic::OpenStreams<B> for OpenStreams {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        poll_open_bidi(&self.connection, cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        poll_open_send(&self.connection, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(error::code(code.value()), reason);
    }
}

fn poll_open_bidi<B: Buf>(
    connection: &crate::Connection,
    cx: &mut Context<'_>,
) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
    let (send, recv) = ready!(connection.poll_open_bi(cx)).map_err(error::stream)?;
    Poll::Ready(Ok(BidiStream::new(send, recv)))
}

fn poll_open_send<B: Buf>(
    connection: &crate::Connection,
    cx: &mut Context<'_>,
) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
    let stream = ready!(connection.poll_open_uni(cx)).map_err(error::stream)?;
    Poll::Ready(Ok(SendStream::new(stream)))
}
