//! HTTP/0.9 over QUIC, ALPN `hq-interop`: a client sends `GET /path` on a bidirectional stream, the server sends the
//! file and finishes the stream.
//!
//! HTTP/0.9 has no status: a request that is not answered has its stream reset with one of the [codes](code). What may
//! be asked for is in [`request`], how files are opened and read in [`files`].
//!
//! Files from 64 KiB on are mapped, and go from the page cache into packets without another copy. A file that becomes
//! shorter while it is sent costs its own stream ([`code::TRUNCATED`]): the shard throws away the datagram during whose
//! making the missing page was touched, and calls [`Application::page_faults`].
//!
//! Opening and reading files blocks the lcore for as long as the file system takes: microseconds from the page cache,
//! unbounded from a network file system. Serve from local, preferably warm, file systems.

pub mod files;
pub mod request;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::files::{Body, FileError, Root};
use self::request::{RequestError, RequestLine};
use super::ServiceCounters;
use super::table::StreamTable;
use crate::app::{
    Application, Connection, ConnectionError, ConnectionKey, Context, Dir, ReadEnd, ReadError,
    StreamId, VarInt, WriteError,
};

/// The protocol's ALPN.
pub const ALPN: &[u8] = b"hq-interop";

/// The codes with which this service resets streams. The protocol defines none.
pub mod code {
    use crate::app::VarInt;

    /// The answer is not wanted any more.
    pub const CANCELLED: VarInt = VarInt::from_u32(0);
    /// Not a request of HTTP/0.9, or longer than permitted.
    pub const BAD_REQUEST: VarInt = VarInt::from_u32(1);
    /// No such file, or not one that may be served: which of both is not told.
    pub const NOT_FOUND: VarInt = VarInt::from_u32(2);
    /// Too many requests are waiting.
    pub const BUSY: VarInt = VarInt::from_u32(3);
    /// The file became shorter while it was sent.
    pub const TRUNCATED: VarInt = VarInt::from_u32(4);
    /// The file could not be read.
    pub const READ_FAILED: VarInt = VarInt::from_u32(5);
}

/// Parameters of the service.
#[derive(Debug, Clone)]
pub struct HqServer {
    /// The directory whose files are served.
    pub root: PathBuf,
    /// Files open at a time on one shard; further requests wait. A file is open until it is in the send buffer, a
    /// mapped one until it is acknowledged, so clients that do not read hold theirs: the idle time-out and the stream
    /// limit per connection bound for how long and how many.
    pub open_files_max: usize,
    /// Requests waiting for that at a time on one shard; further ones are refused with [`code::BUSY`].
    pub waiting_max: usize,
}

impl HqServer {
    /// Serves `root` with the usual limits: 1024 open files, 16384 waiting requests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            open_files_max: 1024,
            waiting_max: 16384,
        }
    }

    /// The application for one shard, counting into `counters`. Fails when the directory cannot be opened.
    pub fn service(&self, counters: Arc<ServiceCounters>) -> Result<HqService, FileError> {
        Ok(HqService {
            root: Root::open(&self.root)?,
            open_files_max: self.open_files_max.max(1),
            waiting_max: self.waiting_max,
            exchanges: StreamTable::default(),
            waiting: VecDeque::new(),
            open_files: 0,
            started: None,
            read_error_logged: false,
            counters,
        })
    }
}

/// The HTTP/0.9 server. See the [module](self).
#[derive(Debug)]
pub struct HqService {
    root: Root,
    open_files_max: usize,
    waiting_max: usize,
    exchanges: StreamTable<Exchange>,
    /// Requests waiting for an open file to be closed, oldest first. Entries whose stream is gone are skipped.
    waiting: VecDeque<(ConnectionKey, StreamId)>,
    open_files: usize,
    /// A time that has passed, to ask for the next turn with.
    started: Option<Instant>,
    read_error_logged: bool,
    counters: Arc<ServiceCounters>,
}

/// A request and its response: one stream.
#[derive(Debug)]
struct Exchange {
    /// Until the client's half of the stream has ended.
    receiving: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request line is being received.
    Request(RequestLine),
    /// The request waits for its turn to open a file.
    Waiting(PathBuf),
    /// The file is being written to the stream.
    Sending(Sending),
    /// All is written, and the mapping is still being sent from.
    Unacknowledged(Body),
    /// Nothing more to send.
    Done,
}

#[derive(Debug)]
struct Sending {
    body: Body,
    /// How much of the body has been taken from it.
    taken: u64,
    /// What was taken and is not written yet.
    piece: Bytes,
}

impl HqService {
    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(exchange) = self.exchanges.get_mut(key, id) else {
            return;
        };
        let state = &mut exchange.state;
        let end = connection.read_with(id, usize::MAX, |chunk| {
            if let State::Request(line) = state {
                line.take(&chunk); // What comes after the line is of no interest.
            }
        });
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => {}
            Ok(ReadEnd::Finished) => {
                exchange.receiving = false;
                if let State::Request(line) = &mut exchange.state {
                    line.end();
                }
            }
            Err(ReadError::Reset(_) | ReadError::Closed) => {
                exchange.receiving = false;
                if let State::Request(_) = exchange.state {
                    return self.refuse(connection, id, code::CANCELLED);
                }
            }
        }
        self.interpret(connection, id);
    }

    /// Looks at the request line, once it is complete.
    fn interpret(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(exchange) = self.exchanges.get_mut(key, id) else {
            return;
        };
        let State::Request(line) = &exchange.state else {
            return self.forget_if_over(key, id);
        };
        let path = match line.path() {
            None => return,
            Some(Ok(path)) => path.to_owned(),
            Some(Err(RequestError::Path(_))) => {
                return self.refuse(connection, id, code::NOT_FOUND);
            }
            Some(Err(_)) => return self.refuse(connection, id, code::BAD_REQUEST),
        };
        if self.open_files < self.open_files_max && self.waiting.is_empty() {
            self.begin(connection, id, path);
        } else if self.waiting.len() < self.waiting_max {
            exchange.state = State::Waiting(path);
            self.waiting.push_back((key, id));
        } else {
            self.refuse(connection, id, code::BUSY);
        }
    }

    fn begin(&mut self, connection: &mut Connection<'_>, id: StreamId, path: PathBuf) {
        let key = connection.key();
        let body = match self.root.body(&path) {
            Ok(body) => body,
            Err(FileError::Missing { .. } | FileError::NotServed { .. }) => {
                return self.refuse(connection, id, code::NOT_FOUND);
            }
            Err(error) => {
                // Once: a peer must not be able to fill the log.
                if !std::mem::replace(&mut self.read_error_logged, true) {
                    tracing::warn!("hq-interop: {error}; further such errors are only counted");
                }
                self.counters.read_failed.add(1);
                return self.refuse(connection, id, code::READ_FAILED);
            }
        };
        self.counters.requests.add(1);
        if let Body::Read { .. } = body {
            self.counters.unmapped.add(1);
        }
        let Some(exchange) = self.exchanges.get_mut(key, id) else {
            return;
        };
        self.open_files += 1;
        exchange.state = State::Sending(Sending {
            body,
            taken: 0,
            piece: Bytes::new(),
        });
        self.write(connection, id);
    }

    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(exchange) = self.exchanges.get_mut(key, id) else {
            return;
        };
        let State::Sending(sending) = &mut exchange.state else {
            return;
        };
        match sending.send(|piece| connection.write_bytes(id, piece)) {
            Ok(false) => {} // `writable` follows.
            Ok(true) => {
                connection.finish(id);
                self.counters.answered.add(1);
                let state = std::mem::replace(&mut exchange.state, State::Done);
                match state {
                    State::Sending(Sending { body, .. }) if body.is_mapped() => {
                        exchange.state = State::Unacknowledged(body);
                    }
                    _ => {
                        self.open_files -= 1;
                        self.forget_if_over(key, id);
                    }
                }
            }
            Err(code) => self.abort(connection, id, code),
        }
    }

    /// Answers a request with a reset, before anything of a file was sent.
    fn refuse(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        self.counters.refused.add(1);
        self.end(connection, id, code);
    }

    /// Gives up a response on the way.
    fn abort(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        self.counters.aborted.add(1);
        if code == code::TRUNCATED {
            self.counters.truncated.add(1);
        }
        self.end(connection, id, code);
    }

    fn end(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        connection.reset(id, code);
        if let Some(exchange) = self.exchanges.remove(connection.key(), id) {
            if exchange.receiving {
                connection.stop(id, code);
            }
            self.release(&exchange);
        }
    }

    /// Counts the open file of an exchange that is no more.
    fn release(&mut self, exchange: &Exchange) {
        if let State::Sending(_) | State::Unacknowledged(_) = exchange.state {
            self.open_files -= 1;
        }
    }

    fn forget_if_over(&mut self, key: ConnectionKey, id: StreamId) {
        if let Some(Exchange {
            receiving: false,
            state: State::Done,
        }) = self.exchanges.get_mut(key, id)
        {
            self.exchanges.remove(key, id);
        }
    }
}

impl Application for HqService {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            if dir == Dir::Uni {
                connection.stop(id, code::BAD_REQUEST);
                continue;
            }
            let exchange = Exchange {
                receiving: true,
                state: State::Request(RequestLine::default()),
            };
            self.exchanges.insert(connection.key(), id, exchange);
            self.read(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.write(connection, id);
    }

    fn finished(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        if let Some(exchange) = self.exchanges.get_mut(key, id)
            && let State::Unacknowledged(_) = exchange.state
        {
            exchange.state = State::Done;
            self.open_files -= 1;
            self.forget_if_over(key, id);
        }
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        match self.exchanges.get_mut(connection.key(), id) {
            None
            | Some(Exchange {
                state: State::Done, ..
            }) => connection.reset(id, code),
            Some(_) => self.abort(connection, id, code::CANCELLED),
        }
    }

    fn closed(&mut self, key: ConnectionKey, _reason: &ConnectionError) {
        for (_, exchange) in self.exchanges.remove_connection(key) {
            self.release(&exchange);
            if let State::Sending(_) | State::Waiting(_) = exchange.state {
                self.counters.aborted.add(1);
            }
        }
    }

    fn timeout(&self) -> Option<Instant> {
        let next = !self.waiting.is_empty() && self.open_files < self.open_files_max;
        self.started.filter(|_| next)
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.started.get_or_insert(shard.now());
        while self.open_files < self.open_files_max
            && let Some((key, id)) = self.waiting.pop_front()
        {
            let Some(exchange) = self.exchanges.get_mut(key, id) else {
                continue;
            };
            let State::Waiting(path) = &mut exchange.state else {
                continue;
            };
            let path = std::mem::take(path);
            if let Some(mut connection) = shard.connection(key) {
                self.begin(&mut connection, id, path);
            }
        }
    }

    fn page_faults(&mut self, shard: &mut Context<'_>) {
        let mut poisoned = Vec::new();
        for (key, id, exchange) in self.exchanges.iter_mut() {
            if let State::Sending(Sending { body, .. }) | State::Unacknowledged(body) =
                &exchange.state
                && body.is_poisoned()
            {
                poisoned.push((key, id));
            }
        }
        for (key, id) in poisoned {
            if let Some(mut connection) = shard.connection(key) {
                self.abort(&mut connection, id, code::TRUNCATED);
            }
        }
    }
}

impl Sending {
    /// Writes until all is written (true) or the stream takes no more (false). Fails with the code to reset with.
    fn send(
        &mut self,
        mut write: impl FnMut(&mut Bytes) -> Result<usize, WriteError>,
    ) -> Result<bool, VarInt> {
        loop {
            if self.piece.is_empty() {
                self.piece = self.body.piece(self.taken).map_err(code_of)?;
                self.taken += self.piece.len() as u64;
            }
            if self.piece.is_empty() {
                return Ok(true);
            }
            if write(&mut self.piece).map_err(|_| code::CANCELLED)? == 0 {
                return Ok(false);
            }
        }
    }
}

/// The code to reset a stream with whose file failed.
fn code_of(error: FileError) -> VarInt {
    match error {
        FileError::Truncated => code::TRUNCATED,
        _ => code::READ_FAILED,
    }
}
