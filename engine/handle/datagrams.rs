//! Unreliable datagrams (RFC 9221): what waits for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::command::Command;
use super::connection::Connection;
use super::inner::{Inner, State};
use super::link::Stopped;
use super::waiters::{Place, wake};
use super::{ConnectionError, SendDatagramError};

/// The future of [`Connection::read_datagram`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ReadDatagram {
    connection: Connection,
    place: Place,
}

impl ReadDatagram {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            place: Place::default(),
        }
    }
}

impl Future for ReadDatagram {
    type Output = Result<Bytes, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, place } = &mut *self;
        let inner = connection.inner();
        let mut state = inner.state();
        let Some(datagram) = state.datagrams.pop_front() else {
            if let Some(error) = &state.closed {
                return Poll::Ready(Err(error.clone()));
            }
            state.datagram_waiters.register(place, context);
            return Poll::Pending;
        };
        state.datagram_waiters.leave(place);
        let credit = state.datagrams_taken.take_one(inner.link.limits.datagrams);
        drop(state);
        if credit > 0 {
            let key = connection.key();
            inner.link.send(Command::DatagramCredit(key, credit));
        }
        Poll::Ready(Ok(datagram))
    }
}

impl Drop for ReadDatagram {
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let mut state = self.connection.inner().state();
        let there = !state.datagrams.is_empty();
        let next = state.datagram_waiters.give_up(&mut self.place, there);
        drop(state);
        next.into_iter().for_each(wake);
    }
}

/// What a datagram counts beyond its bytes: empty ones take memory, too.
const DATAGRAM_OVERHEAD: usize = 32;

/// What a datagram of `size` bytes counts while it is under way.
pub(super) fn datagram_weight(size: usize) -> u64 {
    (size + DATAGRAM_OVERHEAD) as u64
}

/// Counts a datagram of `size` bytes as under way, if there is room for it.
pub(super) fn take_datagram_room(inner: &Inner, state: &mut State, size: usize) -> bool {
    let under_way = state.datagram_bytes_sent - state.datagram_bytes_written;
    // One always fits, whatever its size.
    let weight = datagram_weight(size);
    if under_way > 0 && under_way + weight > inner.link.limits.datagram_bytes as u64 {
        return false;
    }
    state.datagram_bytes_sent += weight;
    true
}

/// The future of [`Connection::send_datagram_wait`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct SendDatagram {
    connection: Connection,
    data: Option<Bytes>,
    place: Place,
    room: Place,
}

impl SendDatagram {
    pub(super) fn new(connection: &Connection, data: Bytes) -> Self {
        Self {
            connection: connection.clone(),
            data: Some(data),
            place: Place::default(),
            room: Place::default(),
        }
    }
}

impl Future for SendDatagram {
    type Output = Result<(), SendDatagramError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            connection,
            data,
            place,
            room,
        } = &mut *self;
        let Some(bytes) = data.as_ref() else {
            return Poll::Ready(Ok(()));
        };
        connection.check_datagram(bytes)?;
        let inner = connection.inner();
        match inner.link.poll_room(context, room) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(Stopped)) => return Poll::Ready(Err(connection.lost().into())),
            Poll::Ready(Ok(())) => {}
        }
        let mut state = inner.state();
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone().into()));
        }
        if !take_datagram_room(inner, &mut state, bytes.len()) {
            state.datagram_room_waiters.register(place, context);
            return Poll::Pending;
        }
        state.datagram_room_waiters.leave(place);
        let epoch = inner.epoch.load(Ordering::Acquire);
        drop(state);
        if let Some(bytes) = data.take() {
            let command = Command::Datagram(connection.key(), epoch, bytes);
            inner.link.send(command);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SendDatagram {
    fn drop(&mut self) {
        let inner = self.connection.inner();
        if self.place.is_taken() {
            // All who wait are woken at a time, so nobody has to be woken in its place.
            inner.state().datagram_room_waiters.leave(&mut self.place);
        }
        if self.room.is_taken() {
            inner.link.leave(&mut self.room);
        }
    }
}
