//! A load on the engine: an application of a shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, ReadEnd,
    StreamId, VarInt,
};

use super::load::{ANSWER, Load, REQUEST, Schedule, Work};

/// How often the client looks whether its load was switched.
const TICK: Duration = Duration::from_millis(1);
/// The code with which streams and connections are ended.
const DONE: VarInt = VarInt::from_u32(0);

/// See the module.
pub struct EngineLoad {
    load: Arc<Load>,
    target: ConnectTarget,
    /// By number; nothing where there is no connection yet, or any more.
    keys: Vec<Option<ConnectionKey>>,
    links: HashMap<ConnectionKey, Link>,
    streams: HashMap<(ConnectionKey, StreamId), Stream>,
    /// Connections begun.
    started: usize,
    /// Handshakes under way.
    dialing: usize,
    was_on: bool,
    schedule: Option<Schedule>,
    wake: Option<Instant>,
    stopping: bool,
}

struct Link {
    number: usize,
    up: bool,
    /// The work is done, and the end that follows is no loss.
    done: bool,
}

struct Stream {
    number: usize,
    due: Instant,
}

impl EngineLoad {
    /// Connections to `target` as `load` says.
    pub fn new(load: Arc<Load>, target: ConnectTarget) -> Self {
        Self {
            keys: vec![None; load.spec.connections],
            load,
            target,
            links: HashMap::new(),
            streams: HashMap::new(),
            started: 0,
            dialing: 0,
            was_on: false,
            schedule: None,
            wake: None,
            stopping: false,
        }
    }

    fn makes_handshakes(&self) -> bool {
        matches!(self.load.spec.work, Work::Handshakes { .. })
    }

    /// Begins handshakes, as many as may be under way.
    fn dial(&mut self, shard: &mut Context<'_>) {
        let endless = self.makes_handshakes();
        while self.load.has_begun()
            && self.dialing < self.load.spec.dialing
            && (self.started < self.load.spec.connections || (endless && self.was_on))
        {
            let number = self.started;
            self.started += 1;
            match shard.connect(&self.target) {
                Ok(key) => {
                    self.dialing += 1;
                    let (up, done) = (false, false);
                    self.links.insert(key, Link { number, up, done });
                }
                Err(_) => {
                    self.load.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// The load was switched.
    fn switched(&mut self, shard: &mut Context<'_>) {
        self.was_on = self.load.is_on();
        self.schedule = Schedule::new(self.load.spec, shard.now()).filter(|_| self.was_on);
        if self.load.spec.work != Work::Bulk {
            return;
        }
        if self.was_on {
            for key in self.keys.iter().flatten().copied().collect::<Vec<_>>() {
                if let Some(mut connection) = shard.connection(key) {
                    let now = connection.now();
                    self.request(&mut connection, now, u64::MAX, 0);
                }
            }
        } else {
            for ((key, id), _) in self.streams.drain() {
                if let Some(mut connection) = shard.connection(key) {
                    connection.stop(id, DONE);
                }
            }
        }
    }

    /// Asks for `answer` bytes, with `upload` bytes behind the header. False when that cannot be done now.
    fn request(
        &mut self,
        connection: &mut Connection<'_>,
        due: Instant,
        answer: u64,
        upload: usize,
    ) -> bool {
        const ZEROES: [u8; REQUEST as usize] = [0; REQUEST as usize];
        let key = connection.key();
        let Some(number) = self.links.get(&key).map(|link| link.number) else {
            return false;
        };
        let Some(id) = connection.open(Dir::Bi) else {
            return false;
        };
        let body = ZEROES.get(..upload).unwrap_or_default();
        let written = [&answer.to_be_bytes()[..], body]
            .iter()
            .all(|part| connection.write(id, part) == Ok(part.len()));
        if !written {
            connection.reset(id, DONE);
            return false;
        }
        connection.finish(id);
        self.streams.insert((key, id), Stream { number, due });
        true
    }

    /// Makes the requests that are due.
    fn make_requests(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        while let Some((due, number)) = self.schedule.as_mut().and_then(|s| s.pop(now)) {
            let key = self.keys.get(number).copied().flatten();
            let begun = key
                .and_then(|key| shard.connection(key))
                .is_some_and(|mut connection| {
                    let upload = (REQUEST - 8) as usize;
                    self.request(&mut connection, due, ANSWER, upload)
                });
            if !begun {
                self.load.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn handshake_done_with(&mut self, connection: &mut Connection<'_>) {
        if let Some(link) = self.links.get_mut(&connection.key()) {
            link.done = true;
        }
        self.dialing = self.dialing.saturating_sub(1);
        self.load.completed.fetch_add(1, Ordering::Relaxed);
        self.wake = Some(connection.now());
        connection.close(DONE, Bytes::new());
    }
}

impl Application for EngineLoad {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        link.up = true;
        let number = link.number;
        if self.makes_handshakes() {
            let now = connection.now();
            self.request(connection, now, 0, 0);
            return;
        }
        if let Some(slot) = self.keys.get_mut(number) {
            *slot = Some(key);
        }
        self.dialing = self.dialing.saturating_sub(1);
        self.load.up.fetch_add(1, Ordering::Relaxed);
        self.wake = Some(connection.now());
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let name = (connection.key(), id);
        let Some(Stream { number, due }) = self.streams.get(&name) else {
            return;
        };
        let mut received = 0;
        let end = connection.read_with(id, usize::MAX, |chunk| received += chunk.len() as u64);
        self.load.received(*number, received);
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => return,
            Ok(ReadEnd::Finished) if self.makes_handshakes() => {
                self.handshake_done_with(connection);
            }
            Ok(ReadEnd::Finished) => self.load.answered(*due, connection.now()),
            Err(_) => {
                self.load.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.streams.remove(&name);
    }

    fn closed(&mut self, key: ConnectionKey, _reason: &ConnectionError) {
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        if link.done || self.stopping {
            return;
        }
        self.load.lost.fetch_add(1, Ordering::Relaxed);
        self.streams.retain(|(of, _), _| *of != key);
        if !link.up || self.makes_handshakes() {
            self.dialing = self.dialing.saturating_sub(1);
        }
        if let Some(slot) = self.keys.get_mut(link.number) {
            *slot = None;
        }
    }

    fn timeout(&self) -> Option<Instant> {
        let due = self.schedule.as_ref().map(Schedule::next_due);
        self.wake.into_iter().chain(due).min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        if self.stopping {
            return;
        }
        self.wake = Some(shard.now() + TICK);
        if self.load.is_on() != self.was_on {
            self.switched(shard);
        }
        self.dial(shard);
        self.make_requests(shard);
    }

    fn stop(&mut self, shard: &mut Context<'_>) {
        self.stopping = true;
        self.wake = None;
        self.schedule = None;
        for key in self.links.keys() {
            if let Some(mut connection) = shard.connection(*key) {
                connection.close(DONE, Bytes::new());
            }
        }
    }
}
