//! Streams as h3 wants them.

use std::task::{Context, Poll, ready};

use ::h3::error::Code;
use ::h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use bytes::{Buf, Bytes};

use super::{error, payload};
use crate::handle::WriteError;

/// Frames of up to this many bytes, header included, are put together before they are written: to
/// copy that much costs less than to cross to the shard a second time.
const SHORT_MAX: usize = 1024;

/// The sending side of a stream: `h3::quic::SendStream` and `SendStreamUnframed`.
pub struct SendStream<B> {
    stream: crate::SendStream,
    outgoing: Outgoing<B>,
}

/// What h3 has handed over and the stream has not taken yet.
enum Outgoing<B> {
    Nothing,
    /// A short frame, whole.
    Short(Bytes),
    /// A long one: its header, then its payload.
    Frame(WriteBuf<B>),
}

impl<B> SendStream<B> {
    pub(super) fn new(stream: crate::SendStream) -> Self {
        Self {
            stream,
            outgoing: Outgoing::Nothing,
        }
    }
}

impl<B: Buf> SendStream<B> {
    /// Writes what is outgoing.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        loop {
            let left = match &mut self.outgoing {
                Outgoing::Nothing => return Poll::Ready(Ok(())),
                Outgoing::Short(bytes) => {
                    ready!(self.stream.poll_write_bytes(cx, bytes))?;
                    bytes.len()
                }
                Outgoing::Frame(frame) => {
                    ready!(poll_write_buf(&mut self.stream, cx, frame))?;
                    frame.remaining()
                }
            };
            if left == 0 {
                self.outgoing = Outgoing::Nothing;
            }
        }
    }
}

/// Writes some of a buffer, which is not empty, and advances it by as much.
fn poll_write_buf(
    stream: &mut crate::SendStream,
    cx: &mut Context<'_>,
    buffer: &mut impl Buf,
) -> Poll<Result<usize, WriteError>> {
    let (chunk, lent) = payload::chunk_of(buffer);
    let written = match lent {
        Some(mut bytes) => ready!(stream.poll_write_bytes(cx, &mut bytes))?,
        None => ready!(stream.poll_write(cx, chunk))?,
    };
    buffer.advance(written);
    Poll::Ready(Ok(written))
}

impl<B: Buf> quic::SendStream<B> for SendStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let result = ready!(self.poll_flush(cx));
        if result.is_err() {
            self.outgoing = Outgoing::Nothing;
        }
        Poll::Ready(result.map_err(error::write))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if !matches!(self.outgoing, Outgoing::Nothing) {
            let text = "send_data before the frame handed over last was sent (poll_ready)";
            let connection_error = ConnectionErrorIncoming::InternalError(text.into());
            return Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error });
        }
        let mut frame: WriteBuf<B> = data.into();
        self.outgoing = match frame.remaining() {
            0 => Outgoing::Nothing,
            length @ 1..=SHORT_MAX => Outgoing::Short(frame.copy_to_bytes(length)),
            _ => Outgoing::Frame(frame),
        };
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(|closed| StreamErrorIncoming::Unknown(Box::new(closed))))
    }

    fn reset(&mut self, reset_code: u64) {
        self.outgoing = Outgoing::Nothing;
        // Fails on a stream that was reset or stopped before: it is closed, as wanted.
        let _ = self.stream.reset(error::code(reset_code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl<B: Buf> quic::SendStreamUnframed<B> for SendStream<B> {
    fn poll_send<D: Buf>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut D,
    ) -> Poll<Result<usize, StreamErrorIncoming>> {
        ready!(quic::SendStream::poll_ready(self, cx))?;
        if !buffer.has_remaining() {
            return Poll::Ready(Ok(0));
        }
        poll_write_buf(&mut self.stream, cx, buffer).map_err(error::write)
    }
}

impl<B> Drop for SendStream<B> {
    fn drop(&mut self) {
        if !matches!(self.outgoing, Outgoing::Nothing) {
            let _ = self
                .stream
                .reset(error::code(Code::H3_REQUEST_CANCELLED.value()));
        }
    }
}

/// The receiving side of a stream: `h3::quic::RecvStream`.
pub struct RecvStream {
    stream: crate::RecvStream,
}

impl RecvStream {
    pub(super) fn new(stream: crate::RecvStream) -> Self {
        Self { stream }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.stream
            .poll_read_chunk(cx, usize::MAX)
            .map_err(error::read)
    }

    fn stop_sending(&mut self, error_code: u64) {
        // Fails when there is nothing left to stop.
        let _ = self.stream.stop(error::code(error_code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
    }
}

/// A bidirectional stream: `h3::quic::BidiStream`.
pub struct BidiStream<B> {
    send: SendStream<B>,
    recv: RecvStream,
}

impl<B> BidiStream<B> {
    pub(super) fn new((send, recv): (crate::SendStream, crate::RecvStream)) -> Self {
        Self {
            send: SendStream::new(send),
            recv: RecvStream::new(recv),
        }
    }
}

impl<B: Buf> quic::BidiStream<B> for BidiStream<B> {
    type SendStream = SendStream<B>;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream<B>, RecvStream) {
        (self.send, self.recv)
    }
}

impl<B: Buf> quic::SendStream<B> for BidiStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl<B: Buf> quic::SendStreamUnframed<B> for BidiStream<B> {
    fn poll_send<D: Buf>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut D,
    ) -> Poll<Result<usize, StreamErrorIncoming>> {
        self.send.poll_send(cx, buffer)
    }
}

impl<B: Buf> quic::RecvStream for BidiStream<B> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

fn stream_id(id: crate::StreamId) -> StreamId {
    let id = u64::from(id);
    StreamId::try_from(id).expect("a stream ID has 62 bits (RFC 9000 §2.1)")
}
