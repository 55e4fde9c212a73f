//! The client of the echo service: round trips, ALPN `echo`.
//!
//! With streams, each connection opens some bidirectional streams, and a message has come back when as many bytes as
//! it has were received behind those of the messages before. With unreliable datagrams (RFC 9221), each carries a
//! number, and one that does not come back in time is counted as lost.
//!
//! *Closed loop* (no rate): one message under way on each stream, or as many datagrams on each connection.
//! *Open loop* (a rate): messages are due on a schedule that nothing delays, over connections and streams in turn;
//! latency counts from the scheduled time ([`LatencyFrom::Schedule`]).

mod datagrams;
mod streams;

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use self::datagrams::{Payloads, Window};
use self::streams::{Broken, Streams};
use super::connections::Connections;
use super::pacer::Pacer;
use super::results::{ClientError, ClientHandle, LatencyFrom, Report};
use super::schedule::Rate;
use crate::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir,
    SendDatagramError, StreamId, VarInt,
};

pub use self::datagrams::SMALLEST as DATAGRAM_MIN;
pub use crate::services::echo::ALPN;

/// How long is waited for MTU discovery when unreliable datagrams do not fit yet.
pub const MTU_WAIT: Duration = Duration::from_secs(3);

/// How often it is looked whether they fit.
const MTU_POLL: Duration = Duration::from_millis(20);

/// The code with which streams are given up.
const CANCELLED: VarInt = VarInt::from_u32(0);

/// Parameters of the client.
#[derive(Debug, Clone)]
pub struct EchoClient {
    /// The server.
    pub target: ConnectTarget,
    /// Connections to it.
    pub connections: usize,
    /// Streams on each connection; with datagrams and without a rate, datagrams under way on each connection.
    pub streams: usize,
    /// Bytes in a message: 1 or more on streams, [`DATAGRAM_MIN`] or more in datagrams.
    pub size: usize,
    /// Send unreliable datagrams instead of stream data.
    pub datagrams: bool,
    /// Messages a second, over all connections.
    pub rate: Option<Rate>,
    /// Messages to send in all.
    pub requests: Option<u64>,
    /// Time to send messages for, from the first connection that is ready.
    pub duration: Option<Duration>,
    /// After this time a datagram that has not come back is lost.
    pub datagram_timeout: Duration,
}

impl EchoClient {
    /// The application for one shard, and the handle to watch it with. Fails when the messages are too small.
    pub fn application(self) -> Result<(EchoRun, ClientHandle), ClientError> {
        let smallest = if self.datagrams { DATAGRAM_MIN } else { 1 };
        if self.size < smallest {
            return Err(ClientError::MessageSize {
                size: self.size,
                smallest,
            });
        }
        let handle = ClientHandle::new();
        handle.counters().total.set(self.requests.unwrap_or(0));
        let run = EchoRun {
            connections: Connections::new(self.target.clone(), self.connections),
            report: Report::new(handle.clone(), LatencyFrom::of(self.rate)),
            pacer: Pacer::new(self.rate, self.duration, self.requests),
            payloads: Payloads::new(self.size),
            parameters: self,
            links: FxHashMap::default(),
            under_way: 0,
            look_at: None,
        };
        Ok((run, handle))
    }
}

/// The running client. See the [module](self).
#[derive(Debug)]
pub struct EchoRun {
    parameters: EchoClient,
    connections: Connections,
    report: Report,
    pacer: Pacer,
    payloads: Payloads,
    links: FxHashMap<ConnectionKey, Link>,
    /// Messages under way on all connections.
    under_way: u64,
    /// When datagrams are looked through for lost ones, and those that did not fit are tried again.
    look_at: Option<Instant>,
}

/// What is under way on a connection.
#[derive(Debug)]
enum Link {
    /// Until when it is waited for the path to carry datagrams of this size.
    Narrow(Instant),
    Datagrams {
        window: Window,
        /// The send buffer is full.
        blocked: bool,
    },
    Streams(Streams),
}

impl EchoRun {
    /// Sends on a connection what is due and it takes.
    fn fill(&mut self, connection: &mut Connection<'_>) {
        while self.begin(connection) {}
    }

    /// Sends one message; false when none is due or the connection takes none.
    fn begin(&mut self, connection: &mut Connection<'_>) -> bool {
        let Some(begin) = self.pacer.next(connection.now()) else {
            return false;
        };
        match self.links.get_mut(&connection.key()) {
            Some(Link::Streams(_)) => self.begin_on_stream(connection, begin),
            Some(Link::Datagrams { blocked: false, .. }) => self.begin_datagram(connection, begin),
            _ => false,
        }
    }

    fn begin_on_stream(&mut self, connection: &mut Connection<'_>, begin: Instant) -> bool {
        let limit = match self.pacer.has_rate() {
            true => streams::UNDER_WAY_MAX,
            false => 1,
        };
        let size = self.parameters.size;
        let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) else {
            return false;
        };
        let Some(id) = streams.begin(begin, size, limit) else {
            return false;
        };
        self.pacer.count_begun();
        self.under_way += 1;
        self.write(connection, id);
        true
    }

    fn begin_datagram(&mut self, connection: &mut Connection<'_>, begin: Instant) -> bool {
        let limit = match self.pacer.has_rate() {
            true => datagrams::UNDER_WAY_MAX,
            false => self.parameters.streams,
        };
        let now = connection.now();
        let Some(Link::Datagrams { window, blocked }) = self.links.get_mut(&connection.key())
        else {
            return false;
        };
        if window.under_way() >= limit || window.is_full() {
            return false;
        }
        let payload = self.payloads.make(window.next_number());
        match connection.send_datagram(payload) {
            Ok(()) => {
                window.push(begin, now);
                self.under_way += 1;
                let counters = self.report.counters();
                counters.bytes_sent.add(self.parameters.size as u64);
                let timeout = now + self.parameters.datagram_timeout;
                self.look_at.get_or_insert(timeout);
            }
            Err(SendDatagramError::Blocked(_)) => {
                *blocked = true; // `datagrams_unblocked` follows.
                return false;
            }
            // The path has become too narrow since it was looked at.
            Err(_) => {
                self.report.datagrams_lost += window.under_way() as u64;
                self.unlink(connection.key());
                self.narrow(connection.key(), now, now + MTU_WAIT);
                return false;
            }
        }
        self.pacer.count_begun();
        true
    }

    /// Sends what is due, over the connections in turn.
    fn begin_due(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        while self.pacer.next(now).is_some() && self.begin_somewhere(shard) {}
        self.pacer.sleep(now);
    }

    fn begin_somewhere(&mut self, shard: &mut Context<'_>) -> bool {
        for offset in 0..self.connections.len() {
            if let Some(key) = self.connections.in_turn(offset)
                && let Some(mut connection) = shard.connection(key)
                && self.begin(&mut connection)
            {
                self.connections.had_turn(offset);
                return true;
            }
        }
        false
    }

    fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        if let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) {
            match streams.write(connection, id) {
                Ok(written) => self.report.counters().bytes_sent.add(written),
                Err(broken) => self.broken(connection, id, broken),
            }
        }
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let now = connection.now();
        let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) else {
            return;
        };
        let (report, under_way) = (&mut self.report, &mut self.under_way);
        let read = streams.read(connection, id, self.parameters.size, |begin| {
            report.complete(begin, now);
            *under_way -= 1;
        });
        match read {
            Ok(bytes) => self.report.counters().bytes_received.add(bytes),
            Err(broken) => self.broken(connection, id, broken),
        }
        self.fill(connection);
        self.check(now);
    }

    /// A stream cannot be used any more, and what was under way on it will not come back.
    fn broken(&mut self, connection: &mut Connection<'_>, id: StreamId, broken: Broken) {
        connection.reset(id, CANCELLED);
        connection.stop(id, CANCELLED);
        let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) else {
            return;
        };
        let Some(lost) = streams.remove(id) else {
            return;
        };
        let useless = streams.is_empty();
        self.under_way -= lost;
        let what = format!("echo on {id}");
        self.report.fail(match broken {
            Broken::Reset(code) => ClientError::Reset { what, code },
            Broken::Stopped(code) => ClientError::Stopped { what, code },
            Broken::Ended => ClientError::Ended { what },
        });
        if useless {
            self.leave(connection);
        }
    }

    /// A connection is of no use any more, for a reason that is a failure already.
    fn leave(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        self.connections.forget(key);
        self.unlink(key);
        connection.close(super::DONE, bytes::Bytes::new());
        self.pacer.wake();
    }

    /// Forgets what is under way on a connection.
    fn unlink(&mut self, key: ConnectionKey) {
        self.under_way -= match self.links.remove(&key) {
            Some(Link::Streams(streams)) => streams.under_way(),
            Some(Link::Datagrams { window, .. }) => window.under_way() as u64,
            Some(Link::Narrow(_)) | None => 0,
        };
    }

    /// Gets a connection ready to send messages on.
    fn link(&mut self, connection: &mut Connection<'_>) {
        let (key, now) = (connection.key(), connection.now());
        if !self.parameters.datagrams {
            let mut streams = Streams::default();
            streams.open(connection, self.parameters.streams);
            self.links.insert(key, Link::Streams(streams));
        } else {
            let by = match self.links.get(&key) {
                Some(Link::Narrow(by)) => *by,
                _ => now + MTU_WAIT,
            };
            let size = self.parameters.size;
            let remote = self.connections.target().remote;
            let error = match connection.max_datagram_size() {
                Some(largest) if size <= largest => {
                    let window = Window::default();
                    let blocked = false;
                    self.links.insert(key, Link::Datagrams { window, blocked });
                    None
                }
                Some(_) if now < by => {
                    return self.narrow(key, now, by);
                }
                Some(largest) => Some(ClientError::DatagramSize {
                    size,
                    largest,
                    remote,
                }),
                None => Some(ClientError::NoDatagrams { remote }),
            };
            if let Some(error) = error {
                self.report.fail(error);
                return self.leave(connection);
            }
        }
        self.connections.ready(key);
        self.report.start(now);
        self.pacer.start(now);
        if !self.pacer.has_rate() {
            self.fill(connection); // At a rate, `run` shares the messages out.
        }
        self.check(now);
    }

    /// Waits for a connection's path to become wide enough, until `by`.
    fn narrow(&mut self, key: ConnectionKey, now: Instant, by: Instant) {
        self.links.insert(key, Link::Narrow(by));
        let next = now + MTU_POLL;
        self.look_at = Some(self.look_at.map_or(next, |at| at.min(next)));
    }

    /// Looks for lost datagrams, and for paths that have become wide enough.
    fn look(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.look_at = None;
        let timeout = self.parameters.datagram_timeout;
        let mut narrow = Vec::new();
        let mut next: Option<Instant> = None;
        for (key, link) in &mut self.links {
            match link {
                Link::Narrow(_) => narrow.push(*key),
                Link::Datagrams { window, .. } => {
                    let lost = window.expire(now, timeout);
                    self.report.datagrams_lost += lost;
                    self.under_way -= lost;
                    let oldest = window.oldest().map(|at| at + timeout);
                    next = next.into_iter().chain(oldest).min();
                }
                Link::Streams(_) => {}
            }
        }
        self.look_at = next;
        for key in narrow {
            if let Some(mut connection) = shard.connection(key) {
                self.link(&mut connection);
            }
        }
    }

    fn check(&mut self, now: Instant) {
        let alone = self.connections.all_gone();
        self.pacer.check(now, self.under_way, alone);
    }

    fn finish(&mut self, shard: &mut Context<'_>) {
        if self.pacer.finish() {
            self.report.unanswered = self.pacer.waiting(shard.now()) + self.under_way;
            self.connections.close(shard);
            self.report.hand_over(shard.now());
        }
    }
}

impl Application for EchoRun {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.link(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        if !connection.accepted_early_data() {
            // What was sent is gone. These messages are not sent again: they count as unanswered at a rate, and are
            // begun anew without.
            self.unlink(connection.key());
            self.link(connection);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.write(connection, id);
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        self.broken(connection, id, Broken::Stopped(code));
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        if dir == Dir::Bi
            && let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key())
        {
            streams.open(connection, self.parameters.streams);
            self.fill(connection);
        }
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        let now = connection.now();
        while let Some(datagram) = connection.recv_datagram() {
            let Some(Link::Datagrams { window, .. }) = self.links.get_mut(&connection.key()) else {
                continue;
            };
            let counters = self.report.counters();
            counters.bytes_received.add(datagram.len() as u64);
            if datagram.len() == self.parameters.size
                && let Some(begin) = window.returned(&datagram)
            {
                self.under_way -= 1;
                self.report.complete(begin, now);
            }
        }
        self.fill(connection);
        self.check(now);
    }

    fn datagrams_unblocked(&mut self, connection: &mut Connection<'_>) {
        if let Some(Link::Datagrams { blocked, .. }) = self.links.get_mut(&connection.key()) {
            *blocked = false;
            self.fill(connection);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        let over = self.pacer.is_over();
        (self.connections).gone(key, reason, over, &mut self.report);
        self.unlink(key);
        self.pacer.wake();
    }

    fn timeout(&self) -> Option<Instant> {
        let look_at = self.look_at.filter(|_| !self.pacer.is_over());
        self.pacer.timeout().into_iter().chain(look_at).min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        if self.pacer.first_run(now) {
            self.connections.connect(shard, &mut self.report);
        }
        self.look(shard);
        self.begin_due(shard);
        self.check(now);
        if self.pacer.is_over() {
            self.finish(shard);
        }
    }

    fn stop(&mut self, shard: &mut Context<'_>) {
        self.finish(shard);
    }

    fn is_finished(&self) -> bool {
        self.pacer.is_finished()
    }
}
