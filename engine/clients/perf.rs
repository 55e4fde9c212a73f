//! The client of the QUIC performance protocol (draft-banks-quic-performance), ALPN `perf`.
//!
//! *Closed loop* (no rate): each connection has a fixed number of requests under way, and begins the next when one is
//! answered. Measures throughput, and latency as one such client sees it.
//!
//! *Open loop* (a rate): requests are due on a schedule that nothing delays, and begun as soon after as the server
//! permits streams. Latency counts from the scheduled time ([`LatencyFrom::Schedule`]). After the end, answers are
//! waited for a second more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::connections::Connections;
use super::course::{Course, Requests};
use super::pacer::Pacer;
use super::results::{ClientError, ClientHandle, LatencyFrom, Report};
use super::schedule::Rate;
use crate::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, ReadEnd,
    ReadError, StreamId, VarInt, WriteError,
};
use crate::services::pattern;
use crate::services::table::StreamTable;

pub use crate::services::perf::ALPN;

/// The code with which requests are given up.
const CANCELLED: VarInt = VarInt::from_u32(0);

/// Parameters of the client.
#[derive(Debug, Clone)]
pub struct PerfClient {
    /// The server.
    pub target: ConnectTarget,
    /// Connections to it.
    pub connections: usize,
    /// Requests under way at a time on each connection; of no effect with a `rate`.
    pub streams: usize,
    /// Bytes sent with each request, behind the size wanted.
    pub upload: u64,
    /// Bytes asked for with each request.
    pub download: u64,
    /// Begin a new request for each that is answered, until something below ends it. Without, and without a `rate` or
    /// `requests`, each connection makes `streams` requests.
    pub repeat: bool,
    /// Requests to make in all.
    pub requests: Option<u64>,
    /// Requests a second, over all connections.
    pub rate: Option<Rate>,
    /// Time to make requests for, from the first connection that is ready.
    pub duration: Option<Duration>,
}

impl PerfClient {
    /// The application for one shard, and the handle to watch it with.
    pub fn application(self) -> (PerfRun, ClientHandle) {
        let handle = ClientHandle::new();
        let latency_from = LatencyFrom::of(self.rate);
        let once = self.requests.is_none() && !self.repeat && self.rate.is_none();
        let share = once.then_some(self.streams as u64);
        let total = match share {
            Some(share) => Some(share * self.connections as u64),
            None => self.requests,
        };
        handle.counters().total.set(total.unwrap_or(0));
        let run = PerfRun {
            header: Bytes::copy_from_slice(&self.download.to_be_bytes()),
            course: Course::new(
                Connections::new(self.target.clone(), self.connections),
                Report::new(handle.clone(), latency_from),
                Pacer::new(self.rate, self.duration, total),
            ),
            share,
            parameters: self,
            requests: StreamTable::default(),
            loads: FxHashMap::default(),
            retries: VecDeque::new(),
        };
        (run, handle)
    }
}

/// The running client. See the [module](self).
#[derive(Debug)]
pub struct PerfRun {
    parameters: PerfClient,
    /// How each request begins: made once, so that a request allocates nothing of ours.
    header: Bytes,
    course: Course,
    /// Requests that each connection makes, when they are shared out equally.
    share: Option<u64>,
    requests: StreamTable<Request>,
    loads: FxHashMap<ConnectionKey, Load>,
    /// Requests whose early data the server refused, by the time their latency counts from.
    retries: VecDeque<Instant>,
}

/// What one connection has to do.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Requests under way.
    under_way: usize,
    /// Requests made in all.
    made: u64,
}

/// A request under way.
#[derive(Debug)]
struct Request {
    /// What the latency counts from.
    begin: Instant,
    /// What is still to be sent of the size wanted.
    header: Bytes,
    sent: u64,
    received: u64,
    finished: bool,
}

impl PerfRun {
    /// What the latency of the next request counts from, if a connection with this load may begin it now.
    fn next(&self, load: Load, now: Instant) -> Option<Instant> {
        if !self.course.pacer.has_rate() && load.under_way >= self.parameters.streams {
            return None;
        }
        match self.retries.front() {
            Some(begin) => self.course.pacer.is_running(now).then_some(*begin),
            None if self.share.is_some_and(|share| load.made >= share) => None,
            None => self.course.pacer.next(now),
        }
    }

    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let Some(request) = self.requests.get_mut(connection.key(), id) else {
            return;
        };
        let before = request.sent;
        let end = request.send(self.parameters.upload, connection, id);
        let sent = request.sent - before;
        self.course.report.counters().bytes_sent.add(sent);
        if let Err(WriteError::Stopped(code)) = end {
            self.stopped_by_peer(connection, id, code);
        }
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let Some(request) = self.requests.get_mut(connection.key(), id) else {
            return;
        };
        let before = request.received;
        let end = connection.read_with(id, usize::MAX, |chunk| {
            request.received += chunk.len() as u64;
        });
        let (begin, received) = (request.begin, request.received);
        self.course
            .report
            .counters()
            .bytes_received
            .add(received - before);
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => return,
            Ok(ReadEnd::Finished) if received == self.parameters.download => {
                self.course.report.complete(begin, connection.now());
            }
            Ok(ReadEnd::Finished) => self.course.report.fail(ClientError::Size {
                what: what(id),
                expected: self.parameters.download,
                received,
            }),
            Err(ReadError::Reset(code)) => {
                let what = what(id);
                self.course.report.fail(ClientError::Reset { what, code });
            }
            Err(ReadError::Closed) => {}
        }
        self.end(connection, id);
    }

    fn stopped_by_peer(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        connection.reset(id, code);
        if self.requests.get_mut(connection.key(), id).is_some() {
            let what = what(id);
            self.course.report.fail(ClientError::Stopped { what, code });
            connection.stop(id, CANCELLED);
            self.end(connection, id);
        }
    }

    /// A request is over, answered or not: begin the next.
    fn end(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(request) = self.requests.remove(key, id) else {
            return;
        };
        if !request.finished {
            connection.reset(id, CANCELLED); // The answer came before all of the request was sent.
        }
        self.course.under_way -= 1;
        if let Some(load) = self.loads.get_mut(&key) {
            load.under_way = load.under_way.saturating_sub(1);
        }
        self.fill(connection);
        self.check(connection.now());
    }

    fn check(&mut self, now: Instant) {
        self.course.check(now, self.retries.len() as u64);
    }

    /// Forgets the requests under way on a connection; returns what their latencies counted from.
    fn unload(&mut self, key: ConnectionKey) -> Vec<Instant> {
        let lost = self.requests.remove_connection(key);
        let lost: Vec<Instant> = lost.map(|(_, request)| request.begin).collect();
        self.course.under_way -= lost.len() as u64;
        lost
    }

    /// A connection is gone after `made` requests. Where each has its share, nobody makes up for what is left of it.
    fn lose_share(&mut self, made: u64) {
        if let Some(share) = self.share {
            self.course.pacer.lower_total(share.saturating_sub(made));
        }
    }

    fn finish(&mut self, shard: &mut Context<'_>) {
        self.course.finish(shard, self.retries.len() as u64);
    }
}

impl Requests for PerfRun {
    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn is_due(&self, now: Instant) -> bool {
        self.next(Load::default(), now).is_some()
    }

    fn begin(&mut self, connection: &mut Connection<'_>) -> bool {
        let (key, now) = (connection.key(), connection.now());
        let load = self.loads.get(&key).copied().unwrap_or_default();
        let Some(begin) = self.next(load, now) else {
            return false;
        };
        let Some(id) = connection.open(Dir::Bi) else {
            return false; // `available` follows.
        };
        if self.retries.pop_front().is_none() {
            self.course.pacer.count_begun();
        }
        let load = self.loads.entry(key).or_default();
        load.under_way += 1;
        load.made += 1;
        self.course.under_way += 1;
        let request = Request {
            begin,
            header: self.header.clone(),
            sent: 0,
            received: 0,
            finished: false,
        };
        self.requests.insert(key, id, request);
        self.write(connection, id);
        true
    }
}

impl Application for PerfRun {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        if self.course.ready(connection) {
            self.fill(connection);
        }
        self.check(connection.now());
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        if connection.accepted_early_data() {
            return;
        }
        let key = connection.key();
        let lost = self.unload(key);
        if let Some(load) = self.loads.get_mut(&key) {
            load.under_way = 0;
            load.made = load.made.saturating_sub(lost.len() as u64);
        }
        self.retries.extend(lost);
        self.fill(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.write(connection, id);
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        self.stopped_by_peer(connection, id, code);
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        if dir == Dir::Bi {
            self.fill(connection);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.course.gone(key, reason);
        self.unload(key);
        let load = self.loads.remove(&key).unwrap_or_default();
        self.lose_share(load.made);
    }

    fn timeout(&self) -> Option<Instant> {
        self.course.timeout(None)
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let failed = self.course.run(shard);
        (0..failed).for_each(|_| self.lose_share(0));
        self.begin_due(shard);
        self.check(shard.now());
        if self.course.pacer.is_over() {
            self.finish(shard);
        }
    }

    fn stop(&mut self, shard: &mut Context<'_>) {
        self.finish(shard);
    }

    fn is_finished(&self) -> bool {
        self.course.pacer.is_finished()
    }
}

impl Request {
    /// Writes as much as the stream takes, and finishes it at the end.
    fn send(
        &mut self,
        upload: u64,
        connection: &mut Connection<'_>,
        id: StreamId,
    ) -> Result<(), WriteError> {
        while !self.header.is_empty() {
            if connection.write_bytes(id, &mut self.header)? == 0 {
                return Ok(()); // `writable` follows.
            }
        }
        while self.sent < upload {
            let mut piece = pattern::piece(self.sent, upload - self.sent);
            match connection.write_bytes(id, &mut piece)? {
                0 => return Ok(()),
                written => self.sent += written as u64,
            }
        }
        if !std::mem::replace(&mut self.finished, true) {
            connection.finish(id);
        }
        Ok(())
    }
}

/// How a failure names a request.
fn what(id: StreamId) -> String {
    format!("request on {id}")
}
