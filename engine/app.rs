//! What runs on a shard: the application interface.
//!
//! An [`Application`] is a state machine that the shard calls on its lcore: once for each thing that happened to one
//! of its connections, with that [`Connection`] borrowed for the call. It must not block and it never waits; what it
//! cannot do now, it does in the callback that follows. Nothing it writes is built into packets until the driver has
//! room, so a write costs no system call, lock or copy beyond the one into the send buffer.
//!
//! ```text
//!   connected ──> opened / readable / writable / datagrams … ──> closed        for each connection
//!   run (at start, then when timeout() is due)  page_faults  stop              for the application
//! ```

use std::net::SocketAddrV6;
use std::time::Instant;

use bytes::Bytes;
pub use quinn_proto::{
    ConnectError, ConnectionError, ConnectionStats, Dir, SendDatagramError, Side, StreamId, VarInt,
};
use thiserror::Error;

use crate::shard::{Core, Entry, ShardCounters};
use crate::tls::PeerIdentity;

/// What runs on a shard: one instance for each listener service or client, and shard.
///
/// An instance moves once, to the thread of its lcore, hence `Send`. A callback that panics costs the connection it
/// was called for (closed with [`PANICKED`]), not the shard; one that panics outside of a connection's callback
/// costs all connections of the application, and it is not run again.
pub trait Application: Send {
    /// A connection is ready for streams and datagrams. First call for its key, except for a client connection that
    /// failed before (there, [`closed`](Self::closed) is the only one).
    ///
    /// Server: the handshake is complete; if the service allows 0-RTT and the peer uses it, this is called before
    /// ([`Connection::is_early_data`]) and [`handshake_done`](Self::handshake_done) follows. Client: the handshake is
    /// complete; if [`ConnectTarget::early_data`] was asked for and the session is resumable, this is called before.
    ///
    /// Early data can be replayed by an attacker (RFC 9001 §9.2): act on it only where that does no harm.
    fn connected(&mut self, _connection: &mut Connection<'_>) {}

    /// The handshake of a connection that was [`connected`](Self::connected) early is complete now.
    ///
    /// Client: when [`Connection::accepted_early_data`] is false the server has refused the early data; every stream
    /// opened until now is gone without further callbacks, and the application starts again.
    fn handshake_done(&mut self, _connection: &mut Connection<'_>) {}

    /// The peer opened streams: call [`Connection::accept`] until it returns `None`. An accepted stream may already
    /// hold data for which no [`readable`](Self::readable) follows, so read it at once.
    fn opened(&mut self, _connection: &mut Connection<'_>, _dir: Dir) {}

    /// Data, the end, or a reset arrived on a stream. Called once for all that arrived: read until
    /// [`ReadEnd::Blocked`], or come back to it by yourself.
    fn readable(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// A stream on which a write was blocked may take data again.
    fn writable(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// The peer has acknowledged everything of a stream that we finished.
    fn finished(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// The peer does not want more of a stream of ours. Whatever is written to it from now on fails.
    fn stopped(&mut self, _connection: &mut Connection<'_>, _id: StreamId, _code: VarInt) {}

    /// The peer permits more streams: [`Connection::open`] may succeed again.
    fn available(&mut self, _connection: &mut Connection<'_>, _dir: Dir) {}

    /// Unreliable datagrams arrived: call [`Connection::recv_datagram`] until it returns `None`.
    fn datagrams(&mut self, _connection: &mut Connection<'_>) {}

    /// An unreliable datagram that was [blocked](SendDatagramError::Blocked) may be sent now.
    fn datagrams_unblocked(&mut self, _connection: &mut Connection<'_>) {}

    /// The connection is gone: the last call for this key, whoever ended it (after our own
    /// [`close`](Connection::close) the reason is [`ConnectionError::LocallyClosed`]).
    fn closed(&mut self, _key: ConnectionKey, _reason: &ConnectionError) {}

    /// When [`run`](Self::run) is wanted next. Asked again after every call into this application; an instant that
    /// has passed asks for the next turn of the worker's loop.
    fn timeout(&self) -> Option<Instant> {
        None
    }

    /// Called once at the start, and then whenever [`timeout`](Self::timeout) is due.
    fn run(&mut self, _shard: &mut Context<'_>) {}

    /// The number of page faults taken in mapped files moved: a file was truncated while it was sent. The datagram
    /// that was just built is thrown away. Look at which mapping it was, and reset the streams that send from it.
    fn page_faults(&mut self, _shard: &mut Context<'_>) {}

    /// The shard shuts down: start nothing new. Connections without a stream in use are closed at once, others when
    /// their streams are done, all of them when the drain time-out has passed.
    fn stop(&mut self, _shard: &mut Context<'_>) {}

    /// Clients: all work is done. The process ends when every client says so.
    fn is_finished(&self) -> bool {
        false
    }
}

/// The application error code with which a connection is closed whose application panicked.
pub const PANICKED: VarInt = VarInt::from_u32(0x50_41_4e_43);

/// Names a connection of one shard. Never used again while the shard lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) serial: u64,
}

/// A connection, borrowed for the time of one call.
pub struct Connection<'a> {
    entry: &'a mut Entry,
    counters: &'a ShardCounters,
    now: Instant,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(entry: &'a mut Entry, counters: &'a ShardCounters, now: Instant) -> Self {
        Self {
            entry,
            counters,
            now,
        }
    }

    /// The name of this connection, for use after the call.
    pub fn key(&self) -> ConnectionKey {
        self.entry.key
    }

    /// The time of this turn of the loop. There is no other clock on a shard.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether we are the client or the server of this connection.
    pub fn side(&self) -> Side {
        self.entry.quinn.side()
    }

    /// Where the peer is now: it changes when the peer migrates (RFC 9000 §9).
    pub fn remote_address(&self) -> SocketAddrV6 {
        self.entry.remote_address()
    }

    /// The negotiated application protocol; empty before [`Application::connected`] and on an early client connection.
    pub fn alpn(&self) -> &[u8] {
        &self.entry.alpn
    }

    /// Who the peer is, from its verified certificate chain; `None` when it showed no certificate (a server that asks
    /// for none never learns it) or the handshake is not far enough.
    pub fn peer_identity(&self) -> Option<&PeerIdentity> {
        self.entry.peer_identity()
    }

    /// True until the handshake is complete.
    pub fn is_handshaking(&self) -> bool {
        self.entry.quinn.is_handshaking()
    }

    /// True while what is sent or received is 0-RTT data, which an attacker can replay.
    pub fn is_early_data(&self) -> bool {
        self.entry.quinn.is_handshaking() && self.entry.quinn.has_0rtt()
    }

    /// Whether the server accepted 0-RTT data; without meaning before the handshake is complete.
    pub fn accepted_early_data(&self) -> bool {
        self.entry.accepted_early_data()
    }

    /// What the transport counted for this connection until now.
    pub fn stats(&self) -> ConnectionStats {
        self.entry.quinn.stats()
    }

    /// Opens a stream; `None` when the peer permits no more for now ([`Application::available`] follows).
    pub fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let id = self.entry.quinn.streams().open(dir)?;
        self.counters.streams_opened.add(1);
        self.entry.awaited += u32::from(dir == Dir::Bi);
        Some(id)
    }

    /// Takes the next stream that the peer opened.
    pub fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        let id = self.entry.quinn.streams().accept(dir)?;
        self.counters.streams_accepted.add(1);
        Some(id)
    }

    /// Reads the next chunk of a stream, in order, at most `max` bytes, without copying. The chunk may be packet
    /// memory: holding it holds a receive buffer of the port.
    ///
    /// To read all there is, [`read_with`](Self::read_with) is cheaper.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Read, ReadError> {
        let mut chunk = None;
        let end = self.read_while(id, max, |bytes| {
            chunk = Some(bytes);
            false
        })?;
        Ok(match (chunk, end) {
            (Some(bytes), _) => Read::Chunk(bytes),
            (None, ReadEnd::Finished) => Read::Finished,
            (None, ReadEnd::Blocked | ReadEnd::Limit) => Read::Blocked,
        })
    }

    /// Hands the chunks of a stream to `sink`, in order, until `max` bytes are read or no more are there.
    pub fn read_with(
        &mut self,
        id: StreamId,
        max: usize,
        mut sink: impl FnMut(Bytes),
    ) -> Result<ReadEnd, ReadError> {
        self.read_while(id, max, |bytes| {
            sink(bytes);
            true
        })
    }

    fn read_while(
        &mut self,
        id: StreamId,
        max: usize,
        mut sink: impl FnMut(Bytes) -> bool,
    ) -> Result<ReadEnd, ReadError> {
        if id.dir() == Dir::Uni && id.initiator() == self.side() {
            return Err(ReadError::Closed);
        }
        let mut stream = self.entry.quinn.recv_stream(id);
        let mut chunks = stream.read(true).map_err(|_| ReadError::Closed)?;
        let mut left = max;
        let end = loop {
            if left == 0 {
                break Ok(ReadEnd::Limit);
            }
            match chunks.next(left) {
                Ok(Some(chunk)) => {
                    left -= chunk.bytes.len();
                    if !sink(chunk.bytes) {
                        break Ok(ReadEnd::Limit);
                    }
                }
                Ok(None) => break Ok(ReadEnd::Finished),
                Err(quinn_proto::ReadError::Blocked) => break Ok(ReadEnd::Blocked),
                Err(quinn_proto::ReadError::Reset(code)) => break Err(ReadError::Reset(code)),
            }
        };
        // Flow-control credit goes out with the connection's next turn, which every callback is followed by.
        let _ = chunks.finalize();
        if matches!(end, Ok(ReadEnd::Finished) | Err(_)) {
            self.read_ended(id);
        }
        self.counters.bytes_received.add((max - left) as u64);
        end
    }

    /// Nothing more will be read from a stream: said once for each.
    fn read_ended(&mut self, id: StreamId) {
        if id.dir() == Dir::Bi && id.initiator() == self.side() {
            self.entry.awaited = self.entry.awaited.saturating_sub(1);
        }
    }

    /// Copies into a stream's send buffer what it takes of `data`; returns how much that was. 0 means blocked, and
    /// [`Application::writable`] follows.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.check_send(id)?;
        let written = self.entry.quinn.send_stream(id).write(data);
        self.written(written)
    }

    /// Moves into a stream's send buffer what it takes of `data`, without copying, and advances `data` past it;
    /// returns how much that was. 0 means blocked, and [`Application::writable`] follows.
    pub fn write_bytes(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        self.check_send(id)?;
        let chunks = std::slice::from_mut(data);
        let written = self.entry.quinn.send_stream(id).write_chunks(chunks);
        self.written(written.map(|written| written.bytes))
    }

    fn check_send(&self, id: StreamId) -> Result<(), WriteError> {
        match id.dir() == Dir::Uni && id.initiator() != self.side() {
            true => Err(WriteError::Closed),
            false => Ok(()),
        }
    }

    fn written(
        &mut self,
        written: Result<usize, quinn_proto::WriteError>,
    ) -> Result<usize, WriteError> {
        match written {
            Ok(bytes) => {
                self.counters.bytes_sent.add(bytes as u64);
                Ok(bytes)
            }
            Err(quinn_proto::WriteError::Blocked) => Ok(0),
            Err(quinn_proto::WriteError::Stopped(code)) => Err(WriteError::Stopped(code)),
            Err(quinn_proto::WriteError::ClosedStream) => Err(WriteError::Closed),
        }
    }

    /// Says that nothing more will be written to a stream; [`Application::finished`] follows once the peer has
    /// acknowledged all of it. Does nothing on a stream that is closed or was stopped.
    pub fn finish(&mut self, id: StreamId) {
        if self.check_send(id).is_ok() {
            let _ = self.entry.quinn.send_stream(id).finish();
        }
    }

    /// Gives up sending on a stream (RFC 9000 §19.4). Does nothing on a closed one.
    pub fn reset(&mut self, id: StreamId, code: VarInt) {
        if self.check_send(id).is_ok() {
            let _ = self.entry.quinn.send_stream(id).reset(code);
        }
    }

    /// Asks the peer to stop sending on a stream and throws away what is unread (RFC 9000 §19.5). Does nothing on a
    /// closed one.
    pub fn stop(&mut self, id: StreamId, code: VarInt) {
        let ours = id.dir() == Dir::Bi || id.initiator() != self.side();
        if ours && self.entry.quinn.recv_stream(id).stop(code).is_ok() {
            self.read_ended(id);
        }
    }

    /// Sets the priority of a stream we send on: higher ones go first, equal ones take turns. 0 at the start.
    pub fn set_priority(&mut self, id: StreamId, priority: i32) {
        if self.check_send(id).is_ok() {
            let _ = self.entry.quinn.send_stream(id).set_priority(priority);
        }
    }

    /// Queues an unreliable datagram (RFC 9221). When the buffer is full it comes back in
    /// [`SendDatagramError::Blocked`], and [`Application::datagrams_unblocked`] follows.
    pub fn send_datagram(&mut self, data: Bytes) -> Result<(), SendDatagramError> {
        let size = data.len() as u64;
        self.entry.quinn.datagrams().send(data, false)?;
        self.counters.datagrams_sent.add(1);
        self.counters.bytes_sent.add(size);
        Ok(())
    }

    /// Takes the next unreliable datagram that arrived.
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        let data = self.entry.quinn.datagrams().recv()?;
        self.counters.datagrams_received.add(1);
        self.counters.bytes_received.add(data.len() as u64);
        Some(data)
    }

    /// The largest unreliable datagram that can be sent now, in bytes; `None` when the peer takes none. It grows as
    /// MTU discovery climbs, and falls when the path narrows.
    pub fn max_datagram_size(&mut self) -> Option<usize> {
        self.entry.quinn.datagrams().max_size()
    }

    /// Ends the connection at once, whatever is still unsent. [`Application::closed`] follows.
    pub fn close(&mut self, code: VarInt, reason: Bytes) {
        self.entry.closing = true;
        self.entry.quinn.close(self.now, code, reason);
    }

    /// Moves to the next packet protection keys (RFC 9001 §6); does nothing before the handshake is complete or while
    /// an update is under way.
    pub fn force_key_update(&mut self) {
        self.entry.quinn.force_key_update();
    }
}

/// What [`Connection::read`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The next bytes of the stream.
    Chunk(Bytes),
    /// The peer finished the stream, and all of it has been read.
    Finished,
    /// Nothing to read now; [`Application::readable`] follows.
    Blocked,
}

/// Why [`Connection::read_with`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// All that arrived has been read; [`Application::readable`] follows.
    Blocked,
    /// The peer finished the stream, and all of it has been read.
    Finished,
    /// The permitted number of bytes has been read. There may be more, for which no callback follows.
    Limit,
}

/// A stream that cannot be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The peer gave up sending on it.
    #[error("the peer reset the stream with code {0}")]
    Reset(VarInt),
    /// Not open for reading: never opened, finished before, stopped by us, or one that only we send on.
    #[error("the stream is not open for reading")]
    Closed,
}

/// A stream that cannot be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The peer does not want more of it.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(VarInt),
    /// Not open for writing: never opened, finished or reset by us, or one that only the peer sends on.
    #[error("the stream is not open for writing")]
    Closed,
}

/// Where a client connects to, and how.
#[derive(Debug, Clone)]
pub struct ConnectTarget {
    /// The server's address and UDP port.
    pub remote: SocketAddrV6,
    /// The name sent in TLS (SNI), and looked for in the server's certificate.
    pub server_name: String,
    /// TLS and transport settings; [`tls::client_config`](crate::tls::client_config) makes the former.
    pub config: quinn_proto::ClientConfig,
    /// Use 0-RTT when a session with this server can be resumed.
    pub early_data: bool,
}

/// The shard as an application sees it outside of a connection's callback.
pub struct Context<'a> {
    core: &'a mut Core,
    application: u16,
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut Core, application: u16) -> Self {
        Self { core, application }
    }

    /// The time of this turn of the loop.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// Starts a connection. [`Application::connected`] or [`Application::closed`] follows.
    ///
    /// Fails when the target makes no sense, when the shard is at its limit of connections
    /// ([`ConnectError::CidsExhausted`]), and when it is shutting down ([`ConnectError::EndpointStopping`]).
    pub fn connect(&mut self, target: &ConnectTarget) -> Result<ConnectionKey, ConnectError> {
        self.core.connect(target, self.application)
    }

    /// A live connection of this application; `None` when it is closed.
    pub fn connection(&mut self, key: ConnectionKey) -> Option<Connection<'_>> {
        self.core.connection(key, self.application)
    }
}
