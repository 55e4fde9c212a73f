//! Connections.

use std::fmt;
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use quinn_proto::{ConnectionStats, Side, StreamId, VarInt};

use super::command::{Command, StreamRef};
use super::datagrams::{ReadDatagram, SendDatagram, take_datagram_room};
use super::inner::{Inner, NO_DATAGRAMS, Phase};
use super::link::Stopped;
use super::phases::{Closed, HandshakeDone};
use super::recv_stream::RecvStream;
use super::send_stream::SendStream;
use super::streams::{AcceptBi, AcceptUni, OpenBi, OpenUni};
use super::waiters::{Place, wake};
use super::{ConnectionError, SendDatagramError};
use crate::app::ConnectionKey;
use crate::tls::PeerIdentity;

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
        OpenBi::new(self)
    }

    /// Opens a unidirectional stream, once the peer permits one more. The peer learns of it with the first bytes.
    pub fn open_uni(&self) -> OpenUni {
        OpenUni::new(self)
    }

    /// The next bidirectional stream that the peer opened.
    pub fn accept_bi(&self) -> AcceptBi {
        AcceptBi::new(self)
    }

    /// The next unidirectional stream that the peer opened.
    pub fn accept_uni(&self) -> AcceptUni {
        AcceptUni::new(self)
    }

    // Unreliable datagrams (RFC 9221).

    /// The next unreliable datagram that came.
    pub fn read_datagram(&self) -> ReadDatagram {
        ReadDatagram::new(self)
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
        SendDatagram::new(self, data)
    }

    /// The largest unreliable datagram in bytes; `None` when the peer takes none, or before the handshake has told. It
    /// grows while the path's MTU is found out, and what is sent is compared with what was known last.
    pub fn max_datagram_size(&self) -> Option<usize> {
        match self.inner().max_datagram.load(Ordering::Acquire) {
            0 | NO_DATAGRAMS => None,
            size => Some(size),
        }
    }

    pub(super) fn check_datagram(&self, data: &Bytes) -> Result<(), SendDatagramError> {
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
        Closed::new(self)
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
        HandshakeDone::new(self)
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

    pub(super) fn stream_ref(&self, id: StreamId) -> StreamRef {
        StreamRef {
            key: self.key(),
            id,
            epoch: self.inner().epoch.load(Ordering::Acquire),
        }
    }

    pub(super) fn sender(&self, stream: StreamRef) -> SendStream {
        SendStream::new(self.clone(), stream)
    }

    pub(super) fn both_halves(&self, stream: StreamRef) -> (SendStream, RecvStream) {
        (self.sender(stream), self.receiver(stream))
    }

    pub(super) fn receiver(&self, stream: StreamRef) -> RecvStream {
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
