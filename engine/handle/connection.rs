//! Connections.

use std::fmt;
use std::future::Future;
use std::net::SocketAddrV6;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use quinn_proto::{ConnectionStats, Dir, Side, StreamId, VarInt};

use super::command::{Command, StreamRef};
use super::inner::{Inner, NO_DATAGRAMS, Phase, State, Stream};
use super::link::Stopped;
use super::recv_stream::RecvStream;
use super::send_stream::SendStream;
use super::waiters::{Place, wake};
use super::{ConnectionError, SendDatagramError};
use crate::app::ConnectionKey;
use crate::tls::PeerIdentity;

/// Streams opened ahead of their use, at first; twice as many whenever that was too few.
const OPEN_AHEAD: u64 = 8;
/// ... at most.
const OPEN_AHEAD_MAX: u64 = 128;

/// A QUIC connection.
///
/// Clones are the same connection. When the last of them is gone, and the last of its streams, it is closed with code 0
/// and no reason, whatever is still unsent: wait for what matters before ([`SendStream::stopped`]).
///
/// Futures of this type are cancel-safe: what is not waited for any more is there for the next one.
#[derive(Clone)]
pub struct Connection(Arc<Handles>);

/// Closes the connection when the last handle goes.
struct Handles(Arc<Inner>);

impl Drop for Handles {
    fn drop(&mut self) {
        let inner = &self.0;
        let mut state = inner.state();
        if state.closed.is_some() {
            return;
        }
        match inner.key.get() {
            Some(&key) => {
                drop(state);
                let code = VarInt::from_u32(0);
                inner.link.send(Command::Close(key, code, Bytes::new()));
            }
            // The courier closes it when it learns the key.
            None => state.abandoned = true,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.stable_id())
            .field("side", &self.side())
            .field("remote", &self.remote_address())
            .finish()
    }
}

impl Connection {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(Arc::new(Handles(inner)))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0.0
    }

    // Streams.

    /// Opens a bidirectional stream, once the peer permits one more. The peer learns of it with the first bytes.
    pub fn open_bi(&self) -> OpenBi {
        OpenBi(Open::new(self, Dir::Bi))
    }

    /// Opens a unidirectional stream, once the peer permits one more. The peer learns of it with the first bytes.
    pub fn open_uni(&self) -> OpenUni {
        OpenUni(Open::new(self, Dir::Uni))
    }

    /// The next bidirectional stream that the peer opened.
    pub fn accept_bi(&self) -> AcceptBi {
        AcceptBi(Accept::new(self, Dir::Bi))
    }

    /// The next unidirectional stream that the peer opened.
    pub fn accept_uni(&self) -> AcceptUni {
        AcceptUni(Accept::new(self, Dir::Uni))
    }

    // Unreliable datagrams (RFC 9221).

    /// The next unreliable datagram that came.
    pub fn read_datagram(&self) -> ReadDatagram {
        ReadDatagram {
            connection: self.clone(),
            place: Place::default(),
        }
    }

    /// Sends an unreliable datagram, unless as many wait as may.
    ///
    /// # Errors
    /// See [`SendDatagramError`]. One that is [`Blocked`](SendDatagramError::Blocked) comes back; quinn drops older ones
    /// instead.
    pub fn send_datagram(&self, data: Bytes) -> Result<(), SendDatagramError> {
        let inner = self.inner();
        self.check_datagram(&data)?;
        let mut state = inner.state();
        if let Some(error) = &state.closed {
            return Err(error.clone().into());
        }
        if inner.link.is_full() || !take_datagram_room(inner, &mut state, data.len()) {
            return Err(SendDatagramError::Blocked(data));
        }
        // The courier forgets what is under way and changes the epoch under the same lock.
        let epoch = inner.epoch.load(Ordering::Acquire);
        drop(state);
        inner.link.send(Command::Datagram(self.key(), epoch, data));
        Ok(())
    }

    /// Sends an unreliable datagram as soon as there is room for it.
    pub fn send_datagram_wait(&self, data: Bytes) -> SendDatagram {
        SendDatagram {
            connection: self.clone(),
            data: Some(data),
            place: Place::default(),
            room: Place::default(),
        }
    }

    /// The largest unreliable datagram in bytes; `None` when the peer takes none, or before the handshake has told. It
    /// grows while the path's MTU is found out, and what is sent is compared with what was known last.
    pub fn max_datagram_size(&self) -> Option<usize> {
        match self.inner().max_datagram.load(Ordering::Acquire) {
            0 | NO_DATAGRAMS => None,
            size => Some(size),
        }
    }

    fn check_datagram(&self, data: &Bytes) -> Result<(), SendDatagramError> {
        match self.inner().max_datagram.load(Ordering::Acquire) {
            NO_DATAGRAMS => Err(SendDatagramError::Unsupported),
            max if data.len() > max => Err(SendDatagramError::TooLarge(max)),
            _ => Ok(()),
        }
    }

    // The connection itself.

    /// Closes the connection at once, whatever is still unsent. The peer gets `code` and as much of `reason` as fits a
    /// packet.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        let inner = self.inner();
        let mut wakers = Vec::new();
        if !inner.close(ConnectionError::LocallyClosed, &mut wakers) {
            return;
        }
        let mut state = inner.state();
        match inner.key.get() {
            Some(&key) => {
                drop(state);
                let reason = Bytes::copy_from_slice(reason);
                inner.link.send(Command::Close(key, code, reason));
            }
            None => {
                state.abandoned = true;
                drop(state);
            }
        }
        wakers.into_iter().for_each(wake);
    }

    /// Waits until the connection is gone, and says why.
    pub fn closed(&self) -> Closed {
        Closed {
            connection: self.clone(),
            place: Place::default(),
        }
    }

    /// Why the connection is gone; `None` while it is there.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.inner().state().closed.clone()
    }

    /// Whether the connection is gone, without a lock.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.inner().gone.load(Ordering::Acquire)
    }

    /// Sends a PING frame (RFC 9000 §19.2). On a live path [`stats`](Self::stats) tell of received datagrams soon.
    pub(crate) fn ping(&self) {
        let inner = self.inner();
        if let Some(&key) = inner.key.get() {
            inner.link.send(Command::Ping(key));
        }
    }

    /// Waits until the handshake is complete: at once, except for a connection that was handed out early, with 0-RTT
    /// data. False when the server refused that data: all streams opened until then are gone.
    pub fn handshake_done(&self) -> HandshakeDone {
        HandshakeDone {
            connection: self.clone(),
            place: Place::default(),
        }
    }

    /// True while the handshake runs: what is received or sent is 0-RTT data, which an attacker can replay (RFC 9001
    /// §9.2).
    pub fn is_early_data(&self) -> bool {
        self.inner().state().phase == Phase::Early
    }

    /// What the transport has counted for this connection: asked of its shard.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn stats(&self) -> Result<ConnectionStats, ConnectionError> {
        let inner = self.inner();
        if let Some(error) = self.close_reason() {
            return Err(error);
        }
        let mut room = Room::new(self);
        std::future::poll_fn(|context| room.poll(context))
            .await
            .map_err(|Stopped| ConnectionError::EngineStopped)?;
        let (reply, answer) = oneshot::channel();
        inner.link.send(Command::Stats(self.key(), reply));
        match answer.await {
            Ok(stats) => Ok(stats),
            // The shard has ended the connection, or has ended itself: the courier says which.
            Err(oneshot::Canceled) => Err(self.closed().await),
        }
    }

    /// Where the peer is; it changes when the peer moves (RFC 9000 §9).
    pub fn remote_address(&self) -> SocketAddrV6 {
        self.inner().state().remote
    }

    /// The negotiated application protocol; empty until the handshake is complete.
    pub fn alpn(&self) -> &[u8] {
        let agreed = self.inner().agreed.get();
        agreed.map_or(&[], |agreed| &agreed.alpn)
    }

    /// Who the peer is, from its verified certificate; `None` when it showed none, or before the handshake is complete.
    pub fn peer_identity(&self) -> Option<&PeerIdentity> {
        self.inner().agreed.get()?.identity.as_ref()
    }

    /// Whether we are its client or its server.
    pub fn side(&self) -> Side {
        self.inner().side
    }

    /// A number that no other live connection of the process has.
    pub fn stable_id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Whether `other` is the same connection.
    pub fn same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The key, which every connection that was handed out has.
    pub(super) fn key(&self) -> ConnectionKey {
        *self.inner().key.get().expect("known since it was begun")
    }

    /// Why nothing comes any more.
    pub(super) fn lost(&self) -> ConnectionError {
        self.close_reason()
            .unwrap_or(ConnectionError::EngineStopped)
    }

    fn stream_ref(&self, id: StreamId) -> StreamRef {
        StreamRef {
            key: self.key(),
            id,
            epoch: self.inner().epoch.load(Ordering::Acquire),
        }
    }

    fn sender(&self, stream: StreamRef) -> SendStream {
        SendStream::new(self.clone(), stream)
    }

    fn receiver(&self, stream: StreamRef) -> RecvStream {
        RecvStream::new(self.clone(), stream)
    }
}

/// Waits for room in the queue of commands.
struct Room<'a> {
    connection: &'a Connection,
    place: Place,
}

impl<'a> Room<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            place: Place::default(),
        }
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<(), Stopped>> {
        let link = &self.connection.inner().link;
        link.poll_room(context, &mut self.place)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.place.is_taken() {
            self.connection.inner().link.leave(&mut self.place);
        }
    }
}

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
        let mut wakers = Vec::new();
        let mut state = self.connection.inner().state();
        let opening = state.opening(self.dir);
        if opening.waiters.leave(&mut self.place) && opening.next < opening.end {
            opening.waiters.wake(1, &mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(wake);
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
        accepting.taken += 1;
        let credit = match accepting.taken >= (inner.link.limits.streams / 4).max(1) {
            true => std::mem::take(&mut accepting.taken),
            false => 0,
        };
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
        let mut wakers = Vec::new();
        let mut state = self.connection.inner().state();
        let accepting = state.accepting(self.dir);
        if accepting.waiters.leave(&mut self.place) && !accepting.ready.is_empty() {
            accepting.waiters.wake(1, &mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(wake);
    }
}

/// The future of [`Connection::open_bi`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct OpenBi(Open);

impl Future for OpenBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let open = &mut self.0;
        let opened = open.poll(context);
        opened.map_ok(|stream| {
            let connection = &open.connection;
            (connection.sender(stream), connection.receiver(stream))
        })
    }
}

/// The future of [`Connection::open_uni`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct OpenUni(Open);

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

impl Future for AcceptBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let accept = &mut self.0;
        let accepted = accept.poll(context);
        accepted.map_ok(|stream| {
            let connection = &accept.connection;
            (connection.sender(stream), connection.receiver(stream))
        })
    }
}

/// The future of [`Connection::accept_uni`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct AcceptUni(Accept);

impl Future for AcceptUni {
    type Output = Result<RecvStream, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let accept = &mut self.0;
        let accepted = accept.poll(context);
        accepted.map_ok(|stream| accept.connection.receiver(stream))
    }
}

/// The future of [`Connection::read_datagram`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ReadDatagram {
    connection: Connection,
    place: Place,
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
        state.datagrams_taken += 1;
        let credit = match state.datagrams_taken >= (inner.link.limits.datagrams / 4).max(1) {
            true => std::mem::take(&mut state.datagrams_taken),
            false => 0,
        };
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
        let mut wakers = Vec::new();
        let mut state = self.connection.inner().state();
        if state.datagram_waiters.leave(&mut self.place) && !state.datagrams.is_empty() {
            state.datagram_waiters.wake(1, &mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(wake);
    }
}

/// What a datagram counts beyond its bytes: empty ones take memory, too.
const DATAGRAM_OVERHEAD: usize = 32;

/// What a datagram of `size` bytes counts while it is under way.
pub(super) fn datagram_weight(size: usize) -> u64 {
    (size + DATAGRAM_OVERHEAD) as u64
}

/// Counts a datagram of `size` bytes as under way, if there is room for it.
fn take_datagram_room(inner: &Inner, state: &mut State, size: usize) -> bool {
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

/// The future of [`Connection::closed`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Closed {
    connection: Connection,
    place: Place,
}

impl Future for Closed {
    type Output = ConnectionError;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, place } = &mut *self;
        let mut state = connection.inner().state();
        match &state.closed {
            Some(error) => Poll::Ready(error.clone()),
            None => {
                state.close_waiters.register(place, context);
                Poll::Pending
            }
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let mut state = self.connection.inner().state();
            state.close_waiters.leave(&mut self.place);
        }
    }
}

/// The future of [`Connection::handshake_done`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct HandshakeDone {
    connection: Connection,
    place: Place,
}

impl HandshakeDone {
    /// Waits for the end of the handshake, or, with `early`, for the time from which 0-RTT data may be sent.
    pub(super) fn poll_phase(
        &mut self,
        context: &Context<'_>,
        early: bool,
    ) -> Poll<Result<bool, ConnectionError>> {
        let mut state = self.connection.inner().state();
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        match state.phase {
            Phase::Established => Poll::Ready(Ok(state.accepted_early)),
            Phase::Early if early => Poll::Ready(Ok(false)),
            Phase::Early | Phase::Handshaking => {
                state.phase_waiters.register(&mut self.place, context);
                Poll::Pending
            }
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Future for HandshakeDone {
    type Output = Result<bool, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_phase(context, false)
    }
}

impl Drop for HandshakeDone {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let mut state = self.connection.inner().state();
            state.phase_waiters.leave(&mut self.place);
        }
    }
}
