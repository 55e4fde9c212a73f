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
//! What HTTP/3 offers is what h3 makes of it: version 0.0.8 compresses headers without a dynamic
//! table (QPACK), and has neither server push nor priorities (RFC 9218).
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
mod open;
mod payload;
mod stream;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h3::error::Code;
use ::h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use bytes::Buf;

use crate::handle::{AcceptBi, AcceptUni};

pub use open::OpenStreams;
pub use payload::Payload;
pub use stream::{BidiStream, RecvStream, SendStream};

/// ALPN of HTTP/3 (RFC 9114 §3.1), for client and server configurations.
pub const ALPN: &[u8] = b"h3";

/// A connection as h3 wants it: `h3::quic::Connection`.
pub struct Connection {
    opener: OpenStreams,
    accept_bi: AcceptBi,
    accept_uni: AcceptUni,
}

impl Connection {
    /// Wraps a connection. HTTP/3 then has its streams for itself: whoever accepts some of them
    /// through another handle, takes them away from it.
    pub fn new(connection: crate::Connection) -> Self {
        Self {
            accept_bi: connection.accept_bi(),
            accept_uni: connection.accept_uni(),
            opener: OpenStreams::new(connection),
        }
    }
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = OpenStreams;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let accepted = ready!(Pin::new(&mut self.accept_uni).poll(cx));
        self.accept_uni = self.opener.connection().accept_uni();
        Poll::Ready(accepted.map(RecvStream::new).map_err(error::connection))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, ConnectionErrorIncoming>> {
        let accepted = ready!(Pin::new(&mut self.accept_bi).poll(cx));
        self.accept_bi = self.opener.connection().accept_bi();
        Poll::Ready(accepted.map(BidiStream::new).map_err(error::connection))
    }

    fn opener(&self) -> OpenStreams {
        self.opener.clone()
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}
