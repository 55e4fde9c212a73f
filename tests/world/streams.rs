//! The two directions of a stream, as both applications of a world handle them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use stoq::app::{Connection, ReadEnd, ReadError, StreamId, VarInt, WriteError};

use crate::ledger::{Book, End, Way};
use crate::pattern;

/// Bytes that a slow reader reads at a time.
const SLOW_READ: usize = 3_000;
/// How long it waits until it reads again, and how long it holds on to what it read.
pub const SLOW_PAUSE: Duration = Duration::from_millis(3);

/// What a client wants of a stream: the first bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub tag: u64,
    pub upload: u32,
    pub download: u32,
    /// The server stops the request after so many bytes; [`NEVER`].
    pub stop_at: u32,
    /// The server resets its response after so many bytes; [`NEVER`].
    pub reset_at: u32,
    /// The server reads slowly, and holds on to what it reads.
    pub slow: bool,
    /// The server closes the connection when the response has arrived.
    pub close: bool,
}

pub const NEVER: u32 = u32::MAX;

impl Header {
    pub const LEN: usize = 8 + 4 * 4 + 1;

    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend(self.tag.to_be_bytes());
        for number in [self.upload, self.download, self.stop_at, self.reset_at] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.push(u8::from(self.slow) | u8::from(self.close) << 1);
        Bytes::from(bytes)
    }

    pub fn decode(mut bytes: &[u8]) -> Self {
        let tag = bytes.get_u64();
        let [upload, download, stop_at, reset_at] = [(); 4].map(|()| bytes.get_u32());
        let flags = bytes.get_u8();
        Self {
            tag,
            upload,
            download,
            stop_at,
            reset_at,
            slow: flags & 1 != 0,
            close: flags & 2 != 0,
        }
    }
}

/// `at`, unless it is [`NEVER`].
pub fn limit(at: u32) -> Option<u64> {
    (at != NEVER).then_some(u64::from(at))
}

/// A direction that we send on.
#[derive(Debug)]
pub struct Outbound {
    tag: u64,
    way: Way,
    header: Bytes,
    size: u64,
    sent: u64,
    /// Reset after so many bytes, with this code.
    reset: Option<(u64, VarInt)>,
    over: bool,
}

impl Outbound {
    pub fn new(
        book: &Book,
        tag: u64,
        way: Way,
        header: Bytes,
        size: u64,
        reset: Option<(u64, VarInt)>,
    ) -> Self {
        book.lock().begin(tag, way, size);
        Self {
            tag,
            way,
            header,
            size,
            sent: 0,
            reset: reset.map(|(at, code)| (at.min(size), code)),
            over: false,
        }
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Writes what goes, and ends it when all is written.
    pub fn pump(&mut self, connection: &mut Connection<'_>, id: StreamId, book: &Book) {
        if self.over {
            return;
        }
        match self.write(connection, id) {
            Ok(false) => return,
            Ok(true) => {}
            // `stopped` is called, too.
            Err(WriteError::Stopped(_)) => return,
            Err(WriteError::Closed) => {
                let (tag, way) = (self.tag, self.way);
                book.lock()
                    .violate(format!("stream {tag:x} {way:?}: closed to writing"));
                return;
            }
        }
        self.over = true;
        match self.reset {
            Some((_, code)) => self.give_up(connection, id, book, code),
            None => {
                book.lock().sent(self.tag, self.way, End::Finished);
                connection.finish(id);
            }
        }
    }

    /// Resets it.
    pub fn give_up(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        book: &Book,
        code: VarInt,
    ) {
        self.over = true;
        let end = End::Reset(code.into_inner());
        book.lock().sent(self.tag, self.way, end);
        connection.reset(id, code);
    }

    /// True when all is written.
    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) -> Result<bool, WriteError> {
        while !self.header.is_empty() {
            if connection.write_bytes(id, &mut self.header)? == 0 {
                return Ok(false);
            }
        }
        let name = if self.way == Way::Up {
            self.tag
        } else {
            !self.tag
        };
        let end = self.reset.map_or(self.size, |(at, _)| at);
        while self.sent < end {
            let mut piece = pattern::piece(name, self.sent, end - self.sent);
            // Both ways to write: moved in, and copied.
            let written = match self.tag & 1 {
                0 => connection.write_bytes(id, &mut piece)?,
                _ => connection.write(id, &piece)?,
            };
            if written == 0 {
                return Ok(false);
            }
            self.sent += written as u64;
        }
        Ok(true)
    }
}

/// What slow readers hold on to, and until when.
pub type Held = VecDeque<(Instant, Bytes)>;

/// A direction that we receive.
#[derive(Debug)]
pub struct Inbound {
    pub tag: Option<u64>,
    way: Way,
    /// The first bytes of the stream, and how many of them are not data.
    pub header: Vec<u8>,
    header_len: usize,
    received: u64,
    pub stop: Option<(u64, VarInt)>,
    pub slow: bool,
}

/// What became of an [`Inbound`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// More will come.
    Open,
    /// There may be more to read, later.
    Pause,
    /// The header is complete: to be called again.
    Header,
    /// The end; also after a stop of ours.
    Over(End),
}

impl Inbound {
    pub fn new(tag: Option<u64>, way: Way, header_len: usize) -> Self {
        Self {
            tag,
            way,
            header: Vec::new(),
            header_len,
            received: 0,
            stop: None,
            slow: false,
        }
    }

    /// Reads what there is.
    pub fn read(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        book: &Book,
        held: &mut Held,
    ) -> State {
        let now = connection.now();
        let missing = self.header_len - self.header.len();
        let max = match (missing, self.slow) {
            (0, true) => SLOW_READ,
            (0, false) => usize::MAX,
            (missing, _) => missing,
        };
        let end = connection.read_with(id, max, |chunk| {
            if missing > 0 {
                self.header.extend_from_slice(&chunk);
                return;
            }
            self.received += chunk.len() as u64;
            if let Some(tag) = self.tag {
                book.lock().received(tag, self.way, &chunk);
            }
            if self.slow {
                held.push_back((now + SLOW_PAUSE, chunk));
            }
        });
        let end = match end {
            Ok(ReadEnd::Finished) => End::Finished,
            Err(ReadError::Reset(code)) => End::Reset(code.into_inner()),
            Ok(_) | Err(ReadError::Closed) => match self.stop {
                Some((at, code)) if self.received >= at => {
                    connection.stop(id, code);
                    End::Stopped
                }
                _ if missing > 0 && self.header.len() == self.header_len => return State::Header,
                _ if end == Ok(ReadEnd::Limit) => return State::Pause,
                _ => return State::Open,
            },
        };
        match self.tag {
            Some(tag) => book.lock().ended(tag, self.way, end),
            None if end == End::Finished => book.lock().violate(format!("stream {id}: no header")),
            None => {}
        }
        State::Over(end)
    }
}
