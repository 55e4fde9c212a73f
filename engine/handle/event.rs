//! What a shard tells its handles, in one batch a turn.

use std::net::SocketAddrV6;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use quinn_proto::{ConnectionStats, Dir, StreamId, VarInt};

use super::command::Unbegun;
use super::listener::ListenerInner;
use super::{ConnectionError, ListenError};
use crate::app::ConnectionKey;
use crate::tls::PeerIdentity;

/// What happened on a shard in a turn, in its order.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    /// Received bytes; events say how many of them are theirs, in their order.
    pub(super) chunks: Vec<Bytes>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// What the handshake has agreed on.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) alpn: Vec<u8>,
    pub(super) identity: Option<PeerIdentity>,
}

/// One thing that happened.
pub(super) enum Event {
    /// The queue of commands has room again.
    Room,
    /// A listener is there, or not.
    Listened {
        listener: Arc<ListenerInner>,
        reply: oneshot::Sender<Result<(), ListenError>>,
        result: Result<(), ListenError>,
    },
    /// A connection was begun, and its key is known.
    Begun(ConnectionKey, Unbegun),
    /// A connection could not be begun.
    NotBegun(Unbegun, ConnectionError),
    /// A client's connection is ready, before the end of the handshake if `early`.
    Connected {
        key: ConnectionKey,
        early: bool,
        agreed: Box<Agreed>,
    },
    /// A client has come.
    Accepted {
        key: ConnectionKey,
        listener: Arc<ListenerInner>,
        remote: SocketAddrV6,
        /// As in [`MaxDatagram`](Self::MaxDatagram).
        max_datagram: Option<usize>,
        early: bool,
        agreed: Box<Agreed>,
    },
    /// The handshake of a connection that was ready early is complete. When `accepted` is false, all streams are gone.
    HandshakeDone {
        key: ConnectionKey,
        accepted: bool,
        agreed: Box<Agreed>,
    },
    /// The peer has another address.
    Moved(ConnectionKey, SocketAddrV6),
    /// The largest unreliable datagram has another size; nothing: the peer takes none.
    MaxDatagram(ConnectionKey, Option<usize>),
    /// So many more streams of ours are open.
    Reserved(ConnectionKey, Dir, u32),
    /// The peer opened a stream.
    Opened(ConnectionKey, StreamId),
    /// So many chunks came on a stream.
    Data(ConnectionKey, StreamId, usize),
    /// The peer has finished a stream, after what came before.
    Finished(ConnectionKey, StreamId),
    /// The peer has reset a stream.
    Reset(ConnectionKey, StreamId, VarInt),
    /// So many bytes of a stream are written in all.
    Written(ConnectionKey, StreamId, u64),
    /// The peer has acknowledged all of a stream that we finished.
    Acknowledged(ConnectionKey, StreamId),
    /// The peer does not want more of a stream.
    Stopped(ConnectionKey, StreamId, VarInt),
    /// So many chunks are unreliable datagrams that came.
    Datagrams(ConnectionKey, usize),
    /// So many bytes of unreliable datagrams are written, or dropped, in all.
    DatagramsWritten(ConnectionKey, u64),
    /// What was asked for; nothing when the connection is gone.
    Stats(
        oneshot::Sender<ConnectionStats>,
        Option<Box<ConnectionStats>>,
    ),
    /// The connection is gone.
    Closed(ConnectionKey, ConnectionError),
}
