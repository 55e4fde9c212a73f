//! The echo server, ALPN `echo`: whatever comes is sent back.
//!
//! * A bidirectional stream is answered on itself, a unidirectional one on a unidirectional stream of ours. While the
//!   answer cannot be written, the stream is not read, so flow control slows the sender down.
//! * An unreliable datagram (RFC 9221) is sent back, or counted and dropped when the send buffer is full: waiting
//!   would make it neither reliable nor fresh.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;

use super::ServiceCounters;
use crate::app::{
    Application, Connection, ConnectionError, ConnectionKey, Dir, ReadEnd, ReadError, StreamId,
    VarInt, WriteError,
};

/// The service's ALPN.
pub const ALPN: &[u8] = b"echo";

/// The most that is read from a stream before it is written back, in bytes.
pub const GATHER_MAX: usize = 64 * 1024;

/// The code with which we stop or reset a stream whose other half has failed.
pub const CANCELLED: VarInt = VarInt::from_u32(1);

/// The echo server. See the [module](self).
#[derive(Debug, Default)]
pub struct EchoService {
    connections: FxHashMap<ConnectionKey, Streams>,
    counters: Arc<ServiceCounters>,
}

/// The streams of a connection.
#[derive(Debug, Default)]
struct Streams {
    /// By the stream that is read.
    echoes: FxHashMap<StreamId, Echo>,
    /// From the unidirectional stream written to the one read.
    sources: FxHashMap<StreamId, StreamId>,
    /// Unidirectional streams that wait for one to answer on: bounded by the streams the peer may open.
    waiting: VecDeque<StreamId>,
}

/// A stream being echoed.
#[derive(Debug)]
struct Echo {
    /// Where the answer goes.
    to: StreamId,
    /// What has been read and not yet written.
    pending: Bytes,
    /// The peer has finished its half.
    ended: bool,
}

/// What became of a stream's echo in one go.
#[derive(Debug, PartialEq, Eq)]
enum Pumped {
    Blocked,
    Done,
    Failed,
}

impl EchoService {
    /// A server that counts into `counters`.
    pub fn new(counters: Arc<ServiceCounters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// Begins to echo `from` on `to`.
    fn begin(&mut self, connection: &mut Connection<'_>, from: StreamId, to: StreamId) {
        self.counters.requests.add(1);
        let streams = self.connections.entry(connection.key()).or_default();
        let echo = Echo {
            to,
            pending: Bytes::new(),
            ended: false,
        };
        streams.echoes.insert(from, echo);
        if from != to {
            streams.sources.insert(to, from);
        }
        self.pump(connection, from);
    }

    /// Answers waiting unidirectional streams, as many as the client grants.
    fn begin_waiting(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        while let Some(streams) = self.connections.get_mut(&key)
            && let Some(&from) = streams.waiting.front()
            && let Some(to) = connection.open(Dir::Uni)
        {
            streams.waiting.pop_front();
            self.begin(connection, from, to);
        }
    }

    fn pump(&mut self, connection: &mut Connection<'_>, from: StreamId) {
        let Some(streams) = self.connections.get_mut(&connection.key()) else {
            return;
        };
        let Some(echo) = streams.echoes.get_mut(&from) else {
            return;
        };
        let to = echo.to;
        match pump(connection, from, echo) {
            Pumped::Blocked => return,
            Pumped::Done => self.counters.answered.add(1),
            Pumped::Failed => self.counters.aborted.add(1),
        }
        streams.echoes.remove(&from);
        streams.sources.remove(&to);
    }
}

/// Reads and writes until one of both is blocked.
fn pump(connection: &mut Connection<'_>, from: StreamId, echo: &mut Echo) -> Pumped {
    loop {
        while !echo.pending.is_empty() {
            match connection.write_bytes(echo.to, &mut echo.pending) {
                Ok(0) => return Pumped::Blocked,
                Ok(_) => {}
                Err(WriteError::Stopped(code)) => {
                    connection.reset(echo.to, code);
                    connection.stop(from, code);
                    return Pumped::Failed;
                }
                Err(WriteError::Closed) => {
                    connection.stop(from, CANCELLED);
                    return Pumped::Failed;
                }
            }
        }
        if echo.ended {
            connection.finish(echo.to);
            return Pumped::Done;
        }
        let mut gathered = Gathered::default();
        match connection.read_with(from, GATHER_MAX, |chunk| gathered.push(chunk)) {
            Ok(ReadEnd::Blocked) if gathered.is_empty() => return Pumped::Blocked,
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => {}
            Ok(ReadEnd::Finished) => echo.ended = true,
            Err(ReadError::Reset(code)) => {
                connection.reset(echo.to, code);
                return Pumped::Failed;
            }
            Err(ReadError::Closed) => {
                connection.reset(echo.to, CANCELLED);
                return Pumped::Failed;
            }
        }
        echo.pending = gathered.into_bytes();
    }
}

impl Application for EchoService {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(from) = connection.accept(dir) {
            match dir {
                Dir::Bi => self.begin(connection, from, from),
                Dir::Uni => {
                    let streams = self.connections.entry(connection.key()).or_default();
                    streams.waiting.push_back(from);
                }
            }
        }
        if dir == Dir::Uni {
            self.begin_waiting(connection);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.pump(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let from = self
            .connections
            .get(&connection.key())
            .and_then(|streams| streams.sources.get(&id).copied());
        self.pump(connection, from.unwrap_or(id));
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        connection.reset(id, code);
        if let Some(streams) = self.connections.get_mut(&connection.key()) {
            let from = streams.sources.remove(&id).unwrap_or(id);
            if streams.echoes.remove(&from).is_some() {
                self.counters.aborted.add(1);
                connection.stop(from, code);
            }
        }
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        if dir == Dir::Uni {
            self.begin_waiting(connection);
        }
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        while let Some(datagram) = connection.recv_datagram() {
            match connection.send_datagram(datagram) {
                Ok(()) => self.counters.datagrams_echoed.add(1),
                Err(_) => self.counters.datagrams_dropped.add(1),
            }
        }
    }

    fn closed(&mut self, key: ConnectionKey, _reason: &ConnectionError) {
        if let Some(streams) = self.connections.remove(&key) {
            self.counters.aborted.add(streams.echoes.len() as u64);
        }
    }
}

/// Chunks read in one go. A single one is passed on as it is; more are joined by copying, which sets the packet
/// memory free and keeps the send buffer short (quinn-proto searches it chunk by chunk).
#[derive(Debug, Default)]
struct Gathered {
    first: Bytes,
    joined: BytesMut,
}

impl Gathered {
    fn push(&mut self, chunk: Bytes) {
        if self.is_empty() {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
        }
        self.joined.extend_from_slice(&chunk);
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn into_bytes(self) -> Bytes {
        match self.joined.is_empty() {
            true => self.first,
            false => self.joined.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_is_passed_on_and_several_are_joined() {
        let chunk = Bytes::from(vec![1, 2, 3]);
        let mut gathered = Gathered::default();
        gathered.push(chunk.clone());
        assert_eq!(gathered.into_bytes().as_ptr(), chunk.as_ptr());

        let mut gathered = Gathered::default();
        for part in [&b"ab"[..], b"c", b"def"] {
            gathered.push(Bytes::from_static(part));
        }
        assert_eq!(gathered.into_bytes(), &b"abcdef"[..]);
        assert!(Gathered::default().into_bytes().is_empty());
    }
}
