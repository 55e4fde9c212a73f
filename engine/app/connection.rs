//! A connection as its application works with it.

use std::net::SocketAddrV6;
use std::time::Instant;

use bytes::Bytes;
use poll::profile::{Stage, within};
use quinn_proto::{ConnectionStats, Dir, SendDatagramError, Side, StreamId, VarInt};
use thiserror::Error;

#[cfg(doc)]
use super::Application;
use super::ConnectionKey;
use crate::shard::{Entry, ShardCounters};
use crate::tls::PeerIdentity;

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

    /// The UDP port of ours that the connection uses.
    pub fn local_udp_port(&self) -> u16 {
        self.entry.udp_port
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
        let id = self.reserve(dir)?;
        self.claim(id);
        Some(id)
    }

    /// Opens a stream ahead of its use, for an application that hands out streams without a look at the connection;
    /// `None` as with [`open`](Self::open). It counts as in use when it is [claimed](Self::claim), and is not to be
    /// touched before. Reserved streams do not hold up a shutdown, and end with the connection or with early data that
    /// is refused.
    ///
    /// They are to be claimed in about the order in which they were reserved: a peer that sees one of them in use takes
    /// the earlier ones of its kind for open, too (RFC 9000 §3.2).
    pub fn reserve(&mut self, dir: Dir) -> Option<StreamId> {
        let id = self.entry.quinn.streams().open(dir)?;
        self.entry.reserved += 1;
        Some(id)
    }

    /// Says that a [reserved](Self::reserve) stream is in use from now on: to be called once for each.
    pub fn claim(&mut self, id: StreamId) {
        self.entry.reserved = self.entry.reserved.saturating_sub(1);
        self.counters.streams_opened.add(1);
        self.entry.awaited += u32::from(id.dir() == Dir::Bi);
    }

    /// Takes the next stream that the peer opened.
    pub fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        let entry = &mut *self.entry;
        let id = entry.quinn.streams().accept(dir)?;
        entry.grants.accepted(&mut entry.quinn, id, self.now);
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
            match within(Stage::ProtocolEvents, || chunks.next(left)) {
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
        let _ = within(Stage::ProtocolEvents, || chunks.finalize());
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
        let mut stream = self.entry.quinn.send_stream(id);
        let written = within(Stage::ProtocolEvents, || stream.write(data));
        self.written(written)
    }

    /// Moves into a stream's send buffer what it takes of `data`, without copying, and advances `data` past it;
    /// returns how much that was. 0 means blocked, and [`Application::writable`] follows.
    pub fn write_bytes(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        self.check_send(id)?;
        let chunks = std::slice::from_mut(data);
        let mut stream = self.entry.quinn.send_stream(id);
        let written = within(Stage::ProtocolEvents, || stream.write_chunks(chunks));
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
        let mut datagrams = self.entry.quinn.datagrams();
        let sent = within(Stage::ProtocolEvents, || datagrams.send(data, false));
        if !matches!(sent, Ok(()) | Err(SendDatagramError::Blocked(_))) {
            self.counters.datagrams_refused.add(1);
        }
        sent?;
        self.counters.datagrams_sent.add(1);
        self.counters.bytes_sent.add(size);
        Ok(())
    }

    /// Takes the next unreliable datagram that arrived.
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        let mut datagrams = self.entry.quinn.datagrams();
        let data = within(Stage::ProtocolEvents, || datagrams.recv())?;
        self.counters.datagrams_received.add(1);
        self.counters.bytes_received.add(data.len() as u64);
        Some(data)
    }

    /// The largest unreliable datagram that can be sent now, in bytes; `None` when the peer takes none, or they are
    /// switched off on this side. It grows as MTU discovery climbs, and falls when the path narrows.
    pub fn max_datagram_size(&mut self) -> Option<usize> {
        let own = self.entry.datagram_max;
        let max = self.entry.quinn.datagrams().max_size()?;
        (own > 0).then(|| max.min(own))
    }

    /// Ends the connection at once, whatever is still unsent. [`Application::closed`] follows.
    pub fn close(&mut self, code: VarInt, reason: Bytes) {
        self.entry.closing = true;
        self.entry.quinn.close(self.now, code, reason);
    }

    /// Sends a PING frame, which the peer acknowledges (RFC 9000 §19.2).
    pub fn ping(&mut self) {
        self.entry.quinn.ping();
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
