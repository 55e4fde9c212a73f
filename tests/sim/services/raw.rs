//! A client that sends given bytes on streams, and writes down what comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, ReadEnd,
    ReadError, StreamId, VarInt,
};

/// A stream to open.
#[derive(Debug, Clone)]
pub struct Script {
    pub dir: Dir,
    pub data: Bytes,
    pub finish: bool,
    /// Reset our half after the data.
    pub reset: bool,
    /// Stop the answer after this many bytes.
    pub stop_after: Option<u64>,
}

impl Script {
    pub fn new(dir: Dir, data: impl Into<Bytes>) -> Self {
        Self {
            dir,
            data: data.into(),
            finish: true,
            reset: false,
            stop_after: None,
        }
    }
}

/// What became of a stream.
#[derive(Debug, Default)]
pub struct Seen {
    pub written: usize,
    pub read: Vec<u8>,
    pub end: Option<Result<(), ReadError>>,
    pub stopped: Option<VarInt>,
}

#[derive(Debug, Default)]
pub struct RawState {
    pub streams: BTreeMap<StreamId, Seen>,
    pub closed: Option<ConnectionError>,
    /// Nothing is read while this is set.
    pub hold: bool,
    /// Close the connection at the next look.
    pub close: bool,
}

#[derive(Debug, Clone, Default)]
pub struct RawLog(Arc<Mutex<RawState>>);

impl RawLog {
    pub fn lock(&self) -> MutexGuard<'_, RawState> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How a stream ended, if it has, and how much was read from it.
    pub fn end(&self, id: StreamId) -> Option<(usize, Result<(), ReadError>)> {
        let state = self.lock();
        let seen = state.streams.get(&id)?;
        Some((seen.read.len(), seen.end?))
    }

    /// True when that many streams have ended.
    pub fn all_ended(&self, count: usize) -> bool {
        let state = self.lock();
        let ended = state.streams.values().filter(|seen| seen.end.is_some());
        ended.count() >= count
    }
}

pub struct Raw {
    target: ConnectTarget,
    scripts: Vec<Script>,
    log: RawLog,
    key: Option<ConnectionKey>,
    unwritten: BTreeMap<StreamId, Script>,
    next: Option<Instant>,
}

impl Raw {
    pub fn new(log: &RawLog, target: ConnectTarget, scripts: Vec<Script>) -> Self {
        Self {
            target,
            scripts,
            log: log.clone(),
            key: None,
            unwritten: BTreeMap::new(),
            next: None,
        }
    }

    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let Some(script) = self.unwritten.get_mut(&id) else {
            return;
        };
        while !script.data.is_empty() {
            match connection.write_bytes(id, &mut script.data) {
                Ok(0) => return,
                Ok(written) => {
                    self.log.lock().streams.entry(id).or_default().written += written;
                }
                Err(_) => break,
            }
        }
        if script.reset {
            connection.reset(id, VarInt::from_u32(77));
        } else if script.finish {
            connection.finish(id);
        }
        script.finish = false;
        script.reset = false;
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let mut state = self.log.lock();
        let ours = id.dir() == Dir::Uni && id.initiator() == connection.side();
        if state.hold || ours {
            return;
        }
        let seen = state.streams.entry(id).or_default();
        if seen.end.is_some() {
            return;
        }
        let end = connection.read_with(id, usize::MAX, |chunk| seen.read.extend_from_slice(&chunk));
        match end {
            Ok(ReadEnd::Finished) => seen.end = Some(Ok(())),
            Ok(_) => {}
            Err(error) => seen.end = Some(Err(error)),
        }
        let limit = self.unwritten.get(&id).and_then(|script| script.stop_after);
        if limit.is_some_and(|limit| seen.read.len() as u64 >= limit) && seen.end.is_none() {
            connection.stop(id, VarInt::from_u32(78));
            seen.end = Some(Err(ReadError::Closed));
        }
    }
}

impl Application for Raw {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        for script in std::mem::take(&mut self.scripts) {
            let id = connection.open(script.dir).expect("streams are permitted");
            self.unwritten.insert(id, script);
            self.write(connection, id);
        }
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
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
        self.log.lock().streams.entry(id).or_default().stopped = Some(code);
    }

    fn closed(&mut self, _key: ConnectionKey, reason: &ConnectionError) {
        self.log.lock().closed = Some(reason.clone());
        self.key = None;
    }

    fn timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Looks every 10 ms whether the test has changed its mind.
    fn run(&mut self, shard: &mut Context<'_>) {
        if self.next.is_none() {
            self.key = shard.connect(&self.target).ok();
        }
        self.next = Some(shard.now() + Duration::from_millis(10));
        let Some(mut connection) = self.key.and_then(|key| shard.connection(key)) else {
            return;
        };
        if self.log.lock().close {
            connection.close(VarInt::from_u32(0), Bytes::new());
            return;
        }
        let ids: Vec<_> = self.log.lock().streams.keys().copied().collect();
        for id in ids {
            self.read(&mut connection, id);
        }
    }
}
