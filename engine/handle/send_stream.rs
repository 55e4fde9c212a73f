//! The sending half of a stream.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn_proto::{StreamId, VarInt};

use super::command::{Command, StreamRef};
use super::connection::Connection;
use super::link::Stopped;
use super::waiters::Place;
use super::{ClosedStream, ConnectionError, StoppedError, WriteError};

/// The sending half of a stream.
///
/// What is written waits in two places: up to [`write_ahead`](super::HandleLimits::write_ahead) bytes on the way to the
/// shard, then in QUIC's send buffer (`send_window`, of all streams of the connection) until the peer has acknowledged
/// them. When both are full, writing waits.
///
/// Dropped, the stream is finished, as quinn does it: what was written still goes out. [`reset`](Self::reset) it to give
/// up.
pub struct SendStream {
    connection: Connection,
    stream: StreamRef,
    /// Bytes handed to the shard, and those of them that it had written when we looked last.
    sent: u64,
    written: u64,
    /// The alarms of the connection when we looked last.
    alarms: u32,
    /// Finished or reset.
    closed: bool,
    reset: bool,
    /// A priority that found the queue of commands full, and goes with what is sent next; [`NO_PRIORITY`] for none.
    priority: AtomicI64,
    room: Place,
}

/// No priority, which has 32 bits.
const NO_PRIORITY: i64 = i64::MAX;

impl SendStream {
    pub(super) fn new(connection: Connection, stream: StreamRef) -> Self {
        Self {
            connection,
            stream,
            sent: 0,
            written: 0,
            // Look at the first write.
            alarms: u32::MAX,
            closed: false,
            reset: false,
            priority: AtomicI64::new(NO_PRIORITY),
            room: Place::default(),
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

    /// Writes the beginning of `data`, as much as there is room for, and says how much that was. It is copied once;
    /// [`write_chunk`](Self::write_chunk) copies nothing.
    ///
    /// Cancel-safe: when it has not returned, nothing was written.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        poll_fn(|context| self.poll_write(context, data)).await
    }

    /// Writes all of `data`. Not cancel-safe: a part may have been written.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_all(&mut self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let written = self.write(data).await?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Writes all of `data`, without copying it. Not cancel-safe: a part may have been written.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_chunk(&mut self, mut data: Bytes) -> Result<(), WriteError> {
        while !data.is_empty() {
            poll_fn(|context| self.poll_write_bytes(context, &mut data)).await?;
        }
        Ok(())
    }

    /// Writes all of several pieces, without copying them. Not cancel-safe.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_all_chunks(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        for piece in pieces {
            self.write_chunk(std::mem::take(piece)).await?;
        }
        Ok(())
    }

    /// As [`write`](Self::write), for futures made by hand.
    pub fn poll_write(
        &mut self,
        context: &Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, WriteError>> {
        let room = ready!(self.poll_ready(context))?;
        let size = data.len().min(room);
        self.send(Bytes::copy_from_slice(&data[..size]));
        Poll::Ready(Ok(size))
    }

    /// Writes the beginning of `data`, as much as there is room for, without copying, and takes it off `data`.
    pub fn poll_write_bytes(
        &mut self,
        context: &Context<'_>,
        data: &mut Bytes,
    ) -> Poll<Result<usize, WriteError>> {
        let room = ready!(self.poll_ready(context))?;
        let size = data.len().min(room);
        self.send(data.split_to(size));
        Poll::Ready(Ok(size))
    }

    /// Ready when something can be written: so many bytes at once.
    pub fn poll_ready(&mut self, context: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        if self.closed {
            return Poll::Ready(Err(WriteError::ClosedStream));
        }
        let inner = self.connection.inner();
        let limit = inner.link.limits.write_ahead as u64;
        let alarms = inner.alarms.load(Ordering::Acquire);
        if alarms != self.alarms || self.sent - self.written >= limit {
            let mut state = inner.state();
            if self.stream.epoch != inner.epoch.load(Ordering::Acquire) {
                return Poll::Ready(Err(WriteError::ZeroRttRejected));
            }
            if let Some(error) = &state.closed {
                return Poll::Ready(Err(error.clone().into()));
            }
            if let Some(stream) = state.streams.get_mut(&self.stream.id) {
                if let Some(code) = stream.stopped {
                    return Poll::Ready(Err(WriteError::Stopped(code)));
                }
                self.written = stream.written;
                if self.sent - self.written >= limit {
                    stream.writer = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
            self.alarms = alarms;
        }
        match ready!(inner.link.poll_room(context, &mut self.room)) {
            Ok(()) => Poll::Ready(Ok((limit - (self.sent - self.written)) as usize)),
            Err(Stopped) => Poll::Ready(Err(self.connection.lost().into())),
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if *self.priority.get_mut() != NO_PRIORITY {
            self.send_priority();
        }
        self.sent += bytes.len() as u64;
        let command = Command::Write(self.stream, bytes);
        self.connection.inner().link.send(command);
    }

    /// Says that nothing more will be written. What was written goes on to be sent; [`stopped`](Self::stopped) waits
    /// for it.
    ///
    /// # Errors
    /// It was finished or reset before.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        if std::mem::replace(&mut self.closed, true) {
            return Err(ClosedStream);
        }
        self.send_priority();
        let command = Command::Finish(self.stream);
        self.connection.inner().link.send(command);
        Ok(())
    }

    /// Gives up the stream at once (RFC 9000 §19.4): what the peer does not have may never arrive. Also after
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// It was reset before, the peer stopped it or has all of it, or it is gone with its connection.
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        self.closed = true;
        if std::mem::replace(&mut self.reset, true) {
            return Err(ClosedStream);
        }
        let inner = self.connection.inner();
        let state = inner.state();
        let stream = state.streams.get(&self.stream.id);
        let over = stream.is_none_or(|stream| stream.acknowledged || stream.stopped.is_some());
        if over || state.closed.is_some() || self.is_forgotten() {
            return Err(ClosedStream);
        }
        drop(state);
        inner.link.send(Command::Reset(self.stream, code));
        Ok(())
    }

    /// Sets the priority among the streams of the connection: what has a higher one is sent first, equal ones take
    /// turns. 0 at the start. It concerns what is written from now on.
    pub fn set_priority(&self, priority: i32) {
        let link = &self.connection.inner().link;
        self.priority.store(i64::from(priority), Ordering::Relaxed);
        if !link.is_full() {
            self.send_priority();
        }
    }

    fn send_priority(&self) {
        let priority = self.priority.swap(NO_PRIORITY, Ordering::Relaxed);
        if let Ok(priority) = i32::try_from(priority) {
            let command = Command::Priority(self.stream, priority);
            self.connection.inner().link.send(command);
        }
    }

    /// Waits until the peer has acknowledged all of the stream, after [`finish`](Self::finish): `None`; or until it does
    /// not want more of it: the code that it gave. After [`reset`](Self::reset) there is nothing to wait for: `None`.
    ///
    /// # Errors
    /// See [`StoppedError`].
    pub async fn stopped(&mut self) -> Result<Option<VarInt>, StoppedError> {
        poll_fn(|context| self.poll_stopped(context)).await
    }

    /// As [`stopped`](Self::stopped), for futures made by hand.
    pub fn poll_stopped(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Result<Option<VarInt>, StoppedError>> {
        let inner = self.connection.inner();
        let mut state = inner.state();
        if self.is_forgotten() {
            return Poll::Ready(Err(StoppedError::ZeroRttRejected));
        }
        let closed = state.closed.clone();
        if let Some(stream) = state.streams.get_mut(&self.stream.id) {
            if stream.acknowledged || stream.stopped.is_some() {
                return Poll::Ready(Ok(stream.stopped));
            }
            if self.reset {
                return Poll::Ready(Ok(None));
            }
            if closed.is_none() {
                stream.stop_waiter = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let error = closed.unwrap_or(ConnectionError::EngineStopped);
        Poll::Ready(Err(error.into()))
    }

    /// Whether it was opened as 0-RTT data that was refused.
    fn is_forgotten(&self) -> bool {
        self.stream.epoch != self.connection.inner().epoch.load(Ordering::Acquire)
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let _ = self.finish();
        let inner = self.connection.inner();
        if self.room.is_taken() {
            inner.link.leave(&mut self.room);
        }
        let mut state = inner.state();
        // Under the lock: else the number may name a new stream by now.
        if self.is_forgotten() {
            return;
        }
        if let Some(stream) = state.streams.get_mut(&self.stream.id) {
            stream.sender = false;
            if !stream.receiver {
                state.streams.remove(&self.stream.id);
            }
        }
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream")
            .field("id", &self.stream.id)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
