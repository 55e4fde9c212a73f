//! What handles ask of a shard.

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use quinn_proto::{ConnectionStats, Dir, StreamId, VarInt};

use super::ConnectionError;
use super::inner::Inner;
use super::listener::ListenerInner;
use super::waiters::wake;
use crate::app::{ConnectTarget, ConnectionKey};
use crate::transport::StreamLimits;

/// A stream, as handles name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamRef {
    pub(super) key: ConnectionKey,
    pub(super) id: StreamId,
    /// Counts the times that the connection's streams were all forgotten: refused 0-RTT data, once at most.
    pub(super) epoch: u8,
}

/// What handles ask of a shard. The shard does them in their order.
pub(super) enum Command {
    /// Begin a connection.
    Connect(Box<ConnectTarget>, Unbegun),
    /// Accept connections on a UDP port.
    Listen(Box<Listen>),
    /// Accept no more for a listener, if it has the UDP port.
    Unlisten(Arc<ListenerInner>),
    /// Open so many streams, as the peer permits.
    Reserve(ConnectionKey, Dir, u32),
    /// Write all of it.
    Write(StreamRef, Bytes),
    /// Nothing more is written.
    Finish(StreamRef),
    /// Give up sending.
    Reset(StreamRef, VarInt),
    /// Give up receiving.
    Stop(StreamRef, VarInt),
    /// Of streams that want to send, the ones with the highest number go first.
    Priority(StreamRef, i32),
    /// So many more bytes may be read ahead.
    ReadCredit(StreamRef, usize),
    /// So many more streams may wait to be accepted.
    AcceptCredit(ConnectionKey, Dir, u32),
    /// So many more datagrams may wait to be read.
    DatagramCredit(ConnectionKey, u32),
    /// Send an unreliable datagram, unless what was sent until then was refused as 0-RTT data (see
    /// [`StreamRef::epoch`]).
    Datagram(ConnectionKey, u8, Bytes),
    /// Send a PING frame.
    Ping(ConnectionKey),
    /// End the connection.
    Close(ConnectionKey, VarInt, Bytes),
    /// Tell what is counted.
    Stats(ConnectionKey, oneshot::Sender<ConnectionStats>),
}

/// A connection that a shard has not begun, or of which the courier has not heard yet. When the shard ends before, its
/// handles are told.
pub(super) struct Unbegun(Option<Arc<Inner>>);

impl Unbegun {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(Some(inner))
    }

    /// The connection, which the caller answers for now.
    pub(super) fn answer(mut self) -> Arc<Inner> {
        self.0.take().expect("taken by what takes self")
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            let mut wakers = Vec::new();
            inner.close(ConnectionError::EngineStopped, &mut wakers);
            wakers.into_iter().for_each(wake);
        }
    }
}

/// A listener on one shard.
pub(super) struct Listen {
    pub(super) udp_port: u16,
    pub(super) server: quinn_proto::ServerConfig,
    pub(super) alpns: Vec<Vec<u8>>,
    pub(super) early_data: bool,
    pub(super) streams: Option<StreamLimits>,
    pub(super) listener: Arc<ListenerInner>,
    pub(super) reply: oneshot::Sender<Result<(), super::ListenError>>,
}
