//! Streams that are opened, and that the peer opened: what waits for them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use quinn_proto::{Dir, StreamId};

use super::ConnectionError;
use super::command::{Command, StreamRef};
use super::connection::Connection;
use super::inner::{State, Stream};
use super::recv_stream::RecvStream;
use super::send_stream::SendStream;
use super::waiters::{Place, wake};

/// Streams opened ahead of their use, at first; twice as many whenever that was too few.
const OPEN_AHEAD: u64 = 8;
/// ... at most.
const OPEN_AHEAD_MAX: u64 = 128;

/// Waits for a stream of ours.
struct Open {
    connection: Connection,
    dir: Dir,
    place: Place,
}

impl Open {
    fn new(connection: &Connection, dir: Dir) -> Self {
        Self {
            connection: connection.clone(),
            dir,
            place: Place::default(),
        }
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<StreamRef, ConnectionError>> {
        let inner = self.connection.inner();
        let mut state = inner.state();
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        let opening = state.opening(self.dir);
        let available = opening.end - opening.next;
        let ready = opening.waiters.may_take(&self.place, available);
        if ready {
            opening.waiters.leave(&mut self.place);
        } else {
            opening.waiters.register(&mut self.place, context);
        }
        let ahead = opening.ahead(ready);
        opening.asked += ahead;
        let id = StreamId::new(inner.side, self.dir, opening.next);
        if ready {
            opening.next += 1;
            // The peer may have used it first: it takes it for open when a later one is used (RFC 9000 §3.2).
            let stream = || Stream::new(id, inner.side);
            state.streams.entry(id).or_insert_with(stream);
        }
        // The courier changes the epoch under the lock, too: this is the one that the number is of.
        let stream = self.connection.stream_ref(id);
        drop(state);
        if ahead > 0 {
            let command = Command::Reserve(stream.key, self.dir, ahead);
            inner.link.send(command);
        }
        match ready {
            true => Poll::Ready(Ok(stream)),
            false => Poll::Pending,
        }
    }
}

impl super::inner::Opening {
    /// How many more streams to ask for: so many ahead, twice as many whenever none was left.
    fn ahead(&mut self, ready: bool) -> u32 {
        let left = (self.end - self.next) + u64::from(self.asked);
        let wanted = match self.end {
            0 => OPEN_AHEAD,
            // As many as were used, in the end.
            used => used.clamp(OPEN_AHEAD, OPEN_AHEAD_MAX),
        };
        // One more for whoever waits: each asks once.
        let waiting = u64::from(!ready);
        if left >= wanted / 2 + waiting {
            return 0;
        }
        (wanted + waiting - left) as u32
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let mut state = self.connection.inner().state();
        let opening = state.opening(self.dir);
        let there = opening.next < opening.end;
        let next = opening.waiters.give_up(&mut self.place, there);
        drop(state);
        next.into_iter().for_each(wake);
    }
}

/// Waits for a stream of the peer.
struct Accept {
    connection: Connection,
    dir: Dir,
    place: Place,
}

impl Accept {
    fn new(connection: &Connection, dir: Dir) -> Self {
        Self {
            connection: connection.clone(),
            dir,
            place: Place::default(),
        }
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<StreamRef, ConnectionError>> {
        let inner = self.connection.inner();
        let mut state = inner.state();
        let State {
            accepting, closed, ..
        } = &mut *state;
        let accepting = &mut accepting[self.dir as usize];
        // What came before the end is still handed out.
        let Some(id) = accepting.ready.pop_front() else {
            if let Some(error) = closed {
                return Poll::Ready(Err(error.clone()));
            }
            accepting.waiters.register(&mut self.place, context);
            return Poll::Pending;
        };
        accepting.waiters.leave(&mut self.place);
        let credit = accepting.taken.take_one(inner.link.limits.streams);
        let stream = self.connection.stream_ref(id);
        drop(state);
        if credit > 0 {
            let command = Command::AcceptCredit(stream.key, self.dir, credit);
            inner.link.send(command);
        }
        Poll::Ready(Ok(stream))
    }
}

impl Drop for Accept {
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let mut state = self.connection.inner().state();
        let accepting = state.accepting(self.dir);
        let there = !accepting.ready.is_empty();
        let next = accepting.waiters.give_up(&mut self.place, there);
        drop(state);
        next.into_iter().for_each(wake);
    }
}

/// The future of [`Connection::open_bi`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct OpenBi(Open);

impl OpenBi {
    pub(super) fn new(connection: &Connection) -> Self {
        Self(Open::new(connection, Dir::Bi))
    }
}

impl Future for OpenBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let open = &mut self.0;
        let opened = open.poll(context);
        opened.map_ok(|stream| open.connection.both_halves(stream))
    }
}

/// The future of [`Connection::open_uni`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct OpenUni(Open);

impl OpenUni {
    pub(super) fn new(connection: &Connection) -> Self {
        Self(Open::new(connection, Dir::Uni))
    }
}

impl Future for OpenUni {
    type Output = Result<SendStream, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let open = &mut self.0;
        let opened = open.poll(context);
        opened.map_ok(|stream| open.connection.sender(stream))
    }
}

/// The future of [`Connection::accept_bi`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct AcceptBi(Accept);

impl AcceptBi {
    pub(super) fn new(connection: &Connection) -> Self {
        Self(Accept::new(connection, Dir::Bi))
    }
}

impl Future for AcceptBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let accept = &mut self.0;
        let accepted = accept.poll(context);
        accepted.map_ok(|stream| accept.connection.both_halves(stream))
    }
}

/// The future of [`Connection::accept_uni`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct AcceptUni(Accept);

impl AcceptUni {
    pub(super) fn new(connection: &Connection) -> Self {
        Self(Accept::new(connection, Dir::Uni))
    }
}

impl Future for AcceptUni {
    type Output = Result<RecvStream, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let accept = &mut self.0;
        let accepted = accept.poll(context);
        accepted.map_ok(|stream| accept.connection.receiver(stream))
    }
}
