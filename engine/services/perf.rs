//! The server of the QUIC performance protocol (draft-banks-quic-performance), ALPN `perf`.
//!
//! A client's stream begins with eight bytes, big-endian: the size of the response it wants. The rest of the stream
//! is read and thrown away. When its end has come the response follows, on the same stream if that is bidirectional,
//! else on a unidirectional stream of ours (§3 of the draft: process the size, drain, then send). A size of
//! 2^64 - 1 means "until I stop you". A stream that ends before its eight bytes is ignored and closed.
//!
//! Received chunks go back to the port's pool at once; the response is slices of static memory. A peer can ask for
//! unlimited work with eight bytes, so this service is for test beds (see the draft's security considerations).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::table::StreamTable;
use super::{ServiceCounters, pattern};
use crate::app::{
    Application, Connection, ConnectionError, ConnectionKey, Dir, ReadEnd, ReadError, StreamId,
    VarInt, WriteError,
};

/// The protocol's ALPN.
pub const ALPN: &[u8] = b"perf";

/// Responses that may wait on one connection for the client to grant a unidirectional stream. More are refused.
pub const WAITING_MAX: usize = 1024;

/// The code with which we stop or reset streams: the draft defines none.
const CANCELLED: VarInt = VarInt::from_u32(0);

/// The server of the performance protocol. See the [module](self).
#[derive(Debug, Default)]
pub struct PerfService {
    streams: StreamTable<Stream>,
    /// Sizes of responses waiting for a unidirectional stream.
    waiting: FxHashMap<ConnectionKey, VecDeque<u64>>,
    counters: Arc<ServiceCounters>,
}

#[derive(Debug)]
enum Stream {
    Request(Request),
    Response(Response),
}

impl PerfService {
    /// A server that counts into `counters`.
    pub fn new(counters: Arc<ServiceCounters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(Stream::Request(request)) = self.streams.get_mut(key, id) else {
            return;
        };
        match connection.read_with(id, usize::MAX, |chunk| request.take(&chunk)) {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => {}
            Ok(ReadEnd::Finished) => {
                let size = request.size();
                self.streams.remove(key, id);
                self.requested(connection, id, size);
            }
            Err(ReadError::Reset(_) | ReadError::Closed) => {
                self.streams.remove(key, id);
                connection.finish(id);
            }
        }
    }

    /// A request has been received in full. `None`: it ended too early to be one.
    fn requested(&mut self, connection: &mut Connection<'_>, id: StreamId, size: Option<u64>) {
        match (size, id.dir()) {
            (None, _) => {
                self.counters.refused.add(1);
                connection.finish(id);
            }
            (Some(size), Dir::Bi) => {
                self.counters.requests.add(1);
                self.respond(connection, id, size);
            }
            (Some(0), Dir::Uni) => {
                self.counters.requests.add(1);
                self.counters.answered.add(1);
            }
            (Some(size), Dir::Uni) => {
                let waiting = self.waiting.entry(connection.key()).or_default();
                if waiting.len() >= WAITING_MAX {
                    self.counters.refused.add(1);
                    return;
                }
                self.counters.requests.add(1);
                waiting.push_back(size);
                self.respond_to_waiting(connection);
            }
        }
    }

    /// Begins responses on unidirectional streams, as many as the client grants.
    fn respond_to_waiting(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        while let Some(waiting) = self.waiting.get_mut(&key)
            && let Some(&size) = waiting.front()
            && let Some(id) = connection.open(Dir::Uni)
        {
            waiting.pop_front();
            self.respond(connection, id, size);
        }
    }

    fn respond(&mut self, connection: &mut Connection<'_>, id: StreamId, size: u64) {
        let response = Response {
            sent: 0,
            left: size,
        };
        let key = connection.key();
        self.streams.insert(key, id, Stream::Response(response));
        self.write(connection, id);
    }

    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(Stream::Response(response)) = self.streams.get_mut(key, id) else {
            return;
        };
        match response.send(|piece| connection.write_bytes(id, piece)) {
            Ok(false) => return, // `writable` follows.
            Ok(true) => {
                self.counters.answered.add(1);
                connection.finish(id);
            }
            Err(_) => {
                self.counters.aborted.add(1);
                connection.reset(id, CANCELLED);
            }
        }
        self.streams.remove(key, id);
    }
}

impl Application for PerfService {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            let request = Stream::Request(Request::default());
            self.streams.insert(connection.key(), id, request);
            self.read(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.write(connection, id);
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        connection.reset(id, code);
        match self.streams.remove(connection.key(), id) {
            // Nobody wants the answer: what is still to come of the request need not be read either.
            Some(Stream::Request(_)) => connection.stop(id, code),
            Some(Stream::Response(_)) => {}
            None => return,
        }
        self.counters.aborted.add(1);
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        if dir == Dir::Uni {
            self.respond_to_waiting(connection);
        }
    }

    fn closed(&mut self, key: ConnectionKey, _reason: &ConnectionError) {
        let left = self.streams.remove_connection(key).count();
        let waiting = self.waiting.remove(&key).map_or(0, |sizes| sizes.len());
        self.counters.aborted.add((left + waiting) as u64);
    }
}

/// A request being received.
#[derive(Debug, Default)]
struct Request {
    header: [u8; 8],
    received: usize,
}

impl Request {
    /// Takes the next bytes of the stream: of interest are those that belong to the header.
    fn take(&mut self, chunk: &[u8]) {
        for (slot, &byte) in self.header.iter_mut().skip(self.received).zip(chunk) {
            *slot = byte;
            self.received += 1;
        }
    }

    /// The size of the response wanted, in bytes, once it is known.
    fn size(&self) -> Option<u64> {
        (self.received == self.header.len()).then(|| u64::from_be_bytes(self.header))
    }
}

/// A response being sent.
#[derive(Debug)]
struct Response {
    sent: u64,
    left: u64,
}

impl Response {
    /// Writes until all is written (true) or the stream takes no more (false).
    fn send(
        &mut self,
        mut write: impl FnMut(&mut Bytes) -> Result<usize, WriteError>,
    ) -> Result<bool, WriteError> {
        while self.left > 0 {
            match write(&mut pattern::piece(self.sent, self.left))? {
                0 => return Ok(false),
                written => {
                    self.sent += written as u64;
                    self.left = self.left.saturating_sub(written as u64);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_may_come_in_any_pieces() {
        let size = 0x0102_0304_0506_0708u64;
        let mut stream = size.to_be_bytes().to_vec();
        stream.extend([0xff; 20]);
        for split in 0..stream.len() {
            let mut request = Request::default();
            request.take(&stream[..split]);
            assert_eq!(request.size().is_some(), split >= 8);
            request.take(&stream[split..]);
            assert_eq!(request.size(), Some(size));
        }
        let mut request = Request::default();
        stream.iter().for_each(|byte| request.take(&[*byte]));
        assert_eq!(request.size(), Some(size));
    }

    /// Sends a response to a stream that takes `window` bytes at a time, and returns how much came.
    fn sent(size: u64, window: usize) -> u64 {
        let mut response = Response {
            sent: 0,
            left: size,
        };
        let (mut total, mut blocked) = (0u64, false);
        loop {
            let done = response.send(|piece| {
                blocked = !blocked;
                if blocked {
                    return Ok(0);
                }
                let taken = piece.len().min(window);
                total += taken as u64;
                Ok(taken)
            });
            if done == Ok(true) {
                return total;
            }
        }
    }

    #[test]
    fn responses_have_exactly_the_size_wanted() {
        for size in [0, 1, pattern::PIECE as u64, 1_000_003] {
            assert_eq!(sent(size, 10_007), size);
        }
        assert_eq!(sent((1 << 32) + 1, usize::MAX), (1 << 32) + 1);
    }

    #[test]
    fn a_response_is_static_memory() {
        let mut response = Response { sent: 0, left: 100 };
        let mut pointer = None;
        let done = response.send(|piece| {
            pointer = Some(piece.as_ptr());
            Ok(piece.len())
        });
        assert_eq!(done, Ok(true));
        assert_eq!(pointer, Some(pattern::piece(0, 100).as_ptr()));
    }

    #[test]
    fn a_stopped_response_ends() {
        let mut response = Response {
            sent: 0,
            left: u64::MAX,
        };
        let stopped = WriteError::Stopped(CANCELLED);
        assert_eq!(response.send(|_| Err(stopped)), Err(stopped));
    }
}
