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
mod messages;
mod streams;

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use self::datagrams::{Payloads, Window};
use self::streams::{Broken, Streams};
use super::connections::Connections;
use super::course::{Course, Requests};
use super::pacer::Pacer;
use super::results::{ClientError, ClientHandle, LatencyFrom, Report};
use super::schedule::Rate;
use crate::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, StreamId,
    VarInt,
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
            course: Course::new(
                Connections::new(self.target.clone(), self.connections),
                Report::new(handle.clone(), LatencyFrom::of(self.rate)),
                Pacer::new(self.rate, self.duration, self.requests),
            ),
            payloads: Payloads::new(self.size),
            parameters: self,
            links: FxHashMap::default(),
            look_at: None,
        };
        Ok((run, handle))
    }
}

/// The running client. See the [module](self).
#[derive(Debug)]
pub struct EchoRun {
    parameters: EchoClient,
    course: Course,
    payloads: Payloads,
    links: FxHashMap<ConnectionKey, Link>,
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
            let counters = self.course.report.counters();
            counters.bytes_received.add(datagram.len() as u64);
            if datagram.len() == self.parameters.size
                && let Some(begin) = window.returned(&datagram)
            {
                self.course.under_way -= 1;
                self.course.report.complete(begin, now);
            }
        }
        self.fill(connection);
        self.course.check(now, 0);
    }

    fn datagrams_unblocked(&mut self, connection: &mut Connection<'_>) {
        if let Some(Link::Datagrams { blocked, .. }) = self.links.get_mut(&connection.key()) {
            *blocked = false;
            self.fill(connection);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.course.gone(key, reason);
        self.unlink(key);
    }

    fn timeout(&self) -> Option<Instant> {
        self.course.timeout(self.look_at)
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        // Connections that cannot be started are failures in the report.
        self.course.run(shard);
        self.look(shard);
        self.begin_due(shard);
        self.course.check(shard.now(), 0);
        if self.course.pacer.is_over() {
            self.course.finish(shard, 0);
        }
    }

    fn stop(&mut self, shard: &mut Context<'_>) {
        self.course.finish(shard, 0);
    }

    fn is_finished(&self) -> bool {
        self.course.pacer.is_finished()
    }
}
