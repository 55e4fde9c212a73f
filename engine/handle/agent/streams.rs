//! A stream as the agent sees it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::outbox::Outbox;
use crate::app::{Connection, ConnectionKey, ReadEnd, ReadError, StreamId, VarInt, WriteError};
use crate::handle::event::Event;
use crate::handle::limits::HandleLimits;

/// What the agent keeps of a stream: its halves that are still in use.
pub(super) struct Stream {
    /// Opened ahead of its use, which no handle has asked for yet.
    pub(super) reserved: bool,
    pub(super) send: Option<Send>,
    pub(super) recv: Option<Recv>,
}

/// The half that we send.
#[derive(Default)]
pub(super) struct Send {
    /// What QUIC's send buffer has not taken yet: as many bytes as the handle may have under way.
    queue: VecDeque<Bytes>,
    written: u64,
    /// What of that was told.
    told: u64,
    /// Nothing follows what is in the queue.
    finish: bool,
}

/// The half that we receive.
pub(super) struct Recv {
    /// Bytes that may still be handed on.
    credit: usize,
}

impl Recv {
    pub(super) fn new(limits: &HandleLimits) -> Self {
        Self {
            credit: limits.read_ahead,
        }
    }
}

/// A stream with what it takes to do something on it.
pub(super) struct OnStream<'a, 'c> {
    pub(super) key: ConnectionKey,
    pub(super) id: StreamId,
    pub(super) write_ahead: usize,
    pub(super) stream: &'a mut Stream,
    pub(super) connection: &'a mut Connection<'c>,
    pub(super) outbox: &'a mut Outbox,
}

impl OnStream<'_, '_> {
    // Sending.

    pub(super) fn write(&mut self, mut bytes: Bytes) {
        let Some(send) = &mut self.stream.send else {
            return;
        };
        // Usually there is room: nothing is queued then.
        if send.queue.is_empty()
            && let Ok(written) = self.connection.write_bytes(self.id, &mut bytes)
        {
            send.written += written as u64;
        }
        if !bytes.is_empty() {
            send.queue.push_back(bytes);
        }
        self.writable();
    }

    pub(super) fn finish(&mut self) {
        if let Some(send) = &mut self.stream.send {
            send.finish = true;
            self.writable();
        }
    }

    pub(super) fn reset(&mut self, code: VarInt) {
        if self.stream.send.take().is_some() {
            self.connection.reset(self.id, code);
        }
    }

    pub(super) fn set_priority(&mut self, priority: i32) {
        if self.stream.send.is_some() {
            self.connection.set_priority(self.id, priority);
        }
    }

    /// Writes what waits, as far as QUIC's send buffer takes it.
    pub(super) fn writable(&mut self) {
        let Some(send) = &mut self.stream.send else {
            return;
        };
        while let Some(bytes) = send.queue.front_mut() {
            match self.connection.write_bytes(self.id, bytes) {
                Ok(0) if !bytes.is_empty() => break,
                Ok(written) => {
                    send.written += written as u64;
                    if bytes.is_empty() {
                        send.queue.pop_front();
                    }
                }
                // The callback tells the handle.
                Err(WriteError::Stopped(_)) | Err(WriteError::Closed) => {
                    send.queue.clear();
                    break;
                }
            }
        }
        // A quarter of what may be under way, so that a writer that waits goes on before all is written.
        if send.written - send.told >= (self.write_ahead as u64 / 4).max(1) {
            send.told = send.written;
            self.outbox
                .event(Event::Written(self.key, self.id, send.written));
        }
        if send.finish && send.queue.is_empty() {
            send.finish = false;
            self.connection.finish(self.id);
        }
    }

    /// The peer has all of it.
    pub(super) fn acknowledged(&mut self) {
        if self.stream.send.take().is_some() {
            self.outbox.event(Event::Acknowledged(self.key, self.id));
        }
    }

    /// The peer does not want more of it. That is answered by a reset (RFC 9000 §3.5).
    pub(super) fn stopped(&mut self, code: VarInt) {
        if self.stream.send.take().is_some() {
            self.connection.reset(self.id, code);
            self.outbox.event(Event::Stopped(self.key, self.id, code));
        }
    }

    // Receiving.

    pub(super) fn credit(&mut self, bytes: usize) {
        if let Some(recv) = &mut self.stream.recv {
            recv.credit += bytes;
            self.readable();
        }
    }

    pub(super) fn take_all(&mut self) {
        if let Some(recv) = &mut self.stream.recv {
            recv.credit = usize::MAX;
            self.readable();
        }
    }

    pub(super) fn stop(&mut self, code: VarInt) {
        if self.stream.recv.take().is_some() {
            self.connection.stop(self.id, code);
        }
    }

    /// Hands on what there is, as far as there is credit.
    pub(super) fn readable(&mut self) {
        let Some(recv) = &mut self.stream.recv else {
            return;
        };
        let (mut chunks, mut bytes) = (0, 0);
        let outbox = &mut *self.outbox;
        let end = self.connection.read_with(self.id, recv.credit, |chunk| {
            chunks += 1;
            bytes += chunk.len();
            outbox.chunk(chunk);
        });
        recv.credit -= bytes;
        if chunks > 0 {
            outbox.event(Event::Data(self.key, self.id, chunks));
        }
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => return,
            Ok(ReadEnd::Finished) => outbox.event(Event::Finished(self.key, self.id)),
            Err(ReadError::Reset(code)) => outbox.event(Event::Reset(self.key, self.id, code)),
            Err(ReadError::Closed) => {}
        }
        self.stream.recv = None;
    }
}

#[cfg(test)]
impl Stream {
    pub(super) fn waiting(&self) -> usize {
        let send = self.send.as_ref();
        send.map_or(0, |send| send.queue.iter().map(Bytes::len).sum())
    }
}
