//! The receiving half of a stream.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use quinn_proto::{StreamId, VarInt};

use super::command::{Command, StreamRef};
use super::connection::Connection;
use super::inner::End;
use super::{ClosedStream, ReadError, ReadExactError, ReadToEndError};

/// The receiving half of a stream.
///
/// Up to [`read_ahead`](super::HandleLimits::read_ahead) bytes are read ahead; with more unread, the peer is held up by
/// flow control. Chunks are packet memory, mostly: each holds a receive buffer of the port until it is dropped.
///
/// Dropped before its end, the peer is asked to stop sending, with code 0, as quinn does it.
pub struct RecvStream {
    connection: Connection,
    stream: StreamRef,
    /// Taken over from the courier, at one go.
    chunks: VecDeque<Bytes>,
    /// Bytes handed out since credit for them was given.
    consumed: usize,
    end: Option<End>,
    /// Stopped.
    closed: bool,
}

impl RecvStream {
    pub(super) fn new(connection: Connection, stream: StreamRef) -> Self {
        Self {
            connection,
            stream,
            chunks: VecDeque::new(),
            consumed: 0,
            end: None,
            closed: false,
        }
    }

    /// The stream's number.
    pub fn id(&self) -> StreamId {
        self.stream.id
    }

    /// The connection that the stream is of.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads into `buffer` and says how many bytes; `None` at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ReadError> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// Fills `buffer`. Not cancel-safe.
    ///
    /// # Errors
    /// See [`ReadExactError`].
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ReadExactError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                Some(count) => filled += count,
                None => return Err(ReadExactError::FinishedEarly(filled)),
            }
        }
        Ok(())
    }

    /// The next chunk of the stream, at most `max` bytes, without copying; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|context| self.poll_read_chunk(context, max)).await
    }

    /// Fills the beginning of `buffers` with chunks that are there, without copying, after waiting for the first; says
    /// how many; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_chunks(&mut self, buffers: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let mut filled = 0;
        poll_fn(|context| {
            while filled < buffers.len() {
                match self.poll_read_chunk(context, usize::MAX) {
                    Poll::Ready(Ok(Some(chunk))) => {
                        buffers[filled] = chunk;
                        filled += 1;
                    }
                    _ if filled > 0 => break,
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(Some(filled)))
        })
        .await
    }

    /// All the rest of the stream, if it is no more than `limit` bytes. Not cancel-safe.
    ///
    /// # Errors
    /// See [`ReadToEndError`].
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX).await? {
            if chunk.len() > limit - all.len() {
                return Err(ReadToEndError::TooLong);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// As [`read`](Self::read), for futures made by hand.
    pub fn poll_read(
        &mut self,
        context: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, ReadError>> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.poll_read_chunk(context, buffer.len() - filled) {
                Poll::Ready(Ok(Some(chunk))) => {
                    buffer[filled..filled + chunk.len()].copy_from_slice(&chunk);
                    filled += chunk.len();
                }
                _ if filled > 0 => break,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(Some(filled)))
    }

    /// As [`read_chunk`](Self::read_chunk), for futures made by hand.
    pub fn poll_read_chunk(
        &mut self,
        context: &Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if self.closed {
            return Poll::Ready(Err(ReadError::ClosedStream));
        }
        if self.chunks.is_empty() && self.end.is_none() {
            ready!(self.poll_fetch(context))?;
        }
        if let Some(chunk) = self.next_chunk(max) {
            return Poll::Ready(Ok(Some(chunk)));
        }
        Poll::Ready(match self.end {
            Some(End::Reset(code)) => Err(ReadError::Reset(code)),
            Some(End::Finished) | None => Ok(None),
        })
    }

    /// Waits until something has come, and takes all of it over.
    fn poll_fetch(&mut self, context: &Context<'_>) -> Poll<Result<(), ReadError>> {
        let inner = self.connection.inner();
        let mut state = inner.state();
        if self.stream.epoch != inner.epoch.load(Ordering::Acquire) {
            return Poll::Ready(Err(ReadError::ZeroRttRejected));
        }
        let closed = state.closed.clone();
        if let Some(stream) = state.streams.get_mut(&self.stream.id) {
            std::mem::swap(&mut self.chunks, &mut stream.chunks);
            self.end = stream.end;
            if !self.chunks.is_empty() || self.end.is_some() {
                return Poll::Ready(Ok(()));
            }
            if closed.is_none() {
                stream.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        drop(state);
        let error = closed.unwrap_or_else(|| self.connection.lost());
        Poll::Ready(Err(error.into()))
    }

    /// Takes the first chunk, or its beginning, and gives credit for more once half of what may wait was taken.
    fn next_chunk(&mut self, max: usize) -> Option<Bytes> {
        let first = self.chunks.front_mut()?;
        let chunk = match first.len() > max {
            true => first.split_to(max),
            false => std::mem::take(first),
        };
        if !first.has_remaining() {
            self.chunks.pop_front();
        }
        self.consumed += chunk.len();
        let link = &self.connection.inner().link;
        if self.consumed >= (link.limits.read_ahead / 2).max(1) && self.end.is_none() {
            let credit = std::mem::take(&mut self.consumed);
            link.send(Command::ReadCredit(self.stream, credit));
        }
        Some(chunk)
    }

    /// Asks the peer to stop sending (RFC 9000 §19.5), and throws away what has come.
    ///
    /// # Errors
    /// The stream was stopped before, or has ended.
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        if std::mem::replace(&mut self.closed, true) || self.end.is_some() {
            return Err(ClosedStream);
        }
        self.chunks.clear();
        let inner = self.connection.inner();
        let mut state = inner.state();
        if let Some(stream) = state.streams.get_mut(&self.stream.id)
            && self.stream.epoch == inner.epoch.load(Ordering::Acquire)
        {
            stream.receiver = false;
            stream.chunks.clear();
            if stream.end.is_some() {
                return Err(ClosedStream);
            }
        }
        drop(state);
        inner.link.send(Command::Stop(self.stream, code));
        Ok(())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        let _ = self.stop(VarInt::from_u32(0));
        let inner = self.connection.inner();
        let mut state = inner.state();
        if self.stream.epoch != inner.epoch.load(Ordering::Acquire) {
            return;
        }
        if let Some(stream) = state.streams.get_mut(&self.stream.id) {
            stream.receiver = false;
            if !stream.sender {
                state.streams.remove(&self.stream.id);
            }
        }
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream")
            .field("id", &self.stream.id)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
