//! The messages of the client: when and where each begins, and how it ends.

use std::time::Instant;

use super::datagrams::{self, Window};
use super::streams::{self, Broken, Streams};
use super::{CANCELLED, EchoRun, Link, MTU_POLL, MTU_WAIT};
use crate::app::{Connection, ConnectionKey, Context, SendDatagramError, StreamId};
use crate::clients::DONE;
use crate::clients::course::{Course, Requests};
use crate::clients::results::ClientError;

impl Requests for EchoRun {
    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn is_due(&self, now: Instant) -> bool {
        self.course.pacer.next(now).is_some()
    }

    fn begin(&mut self, connection: &mut Connection<'_>) -> bool {
        let Some(begin) = self.course.pacer.next(connection.now()) else {
            return false;
        };
        match self.links.get_mut(&connection.key()) {
            Some(Link::Streams(_)) => self.begin_on_stream(connection, begin),
            Some(Link::Datagrams { blocked: false, .. }) => self.begin_datagram(connection, begin),
            _ => false,
        }
    }
}

impl EchoRun {
    pub(super) fn begin_on_stream(
        &mut self,
        connection: &mut Connection<'_>,
        begin: Instant,
    ) -> bool {
        let limit = match self.course.pacer.has_rate() {
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
        self.course.pacer.count_begun();
        self.course.under_way += 1;
        self.write(connection, id);
        true
    }

    pub(super) fn begin_datagram(
        &mut self,
        connection: &mut Connection<'_>,
        begin: Instant,
    ) -> bool {
        let limit = match self.course.pacer.has_rate() {
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
                self.course.under_way += 1;
                let counters = self.course.report.counters();
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
                self.course.report.datagrams_lost += window.under_way() as u64;
                self.unlink(connection.key());
                self.narrow(connection.key(), now, now + MTU_WAIT);
                return false;
            }
        }
        self.course.pacer.count_begun();
        true
    }

    pub(super) fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        if let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) {
            match streams.write(connection, id) {
                Ok(written) => self.course.report.counters().bytes_sent.add(written),
                Err(broken) => self.broken(connection, id, broken),
            }
        }
    }

    pub(super) fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let now = connection.now();
        let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) else {
            return;
        };
        let (report, under_way) = (&mut self.course.report, &mut self.course.under_way);
        let read = streams.read(connection, id, self.parameters.size, |begin| {
            report.complete(begin, now);
            *under_way -= 1;
        });
        match read {
            Ok(bytes) => self.course.report.counters().bytes_received.add(bytes),
            Err(broken) => self.broken(connection, id, broken),
        }
        self.fill(connection);
        self.course.check(now, 0);
    }

    /// A stream cannot be used any more, and what was under way on it will not come back.
    pub(super) fn broken(&mut self, connection: &mut Connection<'_>, id: StreamId, broken: Broken) {
        connection.reset(id, CANCELLED);
        connection.stop(id, CANCELLED);
        let Some(Link::Streams(streams)) = self.links.get_mut(&connection.key()) else {
            return;
        };
        let Some(lost) = streams.remove(id) else {
            return;
        };
        let useless = streams.is_empty();
        self.course.under_way -= lost;
        let what = format!("echo on {id}");
        self.course.report.fail(match broken {
            Broken::Reset(code) => ClientError::Reset { what, code },
            Broken::Stopped(code) => ClientError::Stopped { what, code },
            Broken::Ended => ClientError::Ended { what },
        });
        if useless {
            self.leave(connection);
        }
    }

    /// A connection is of no use any more, for a reason that is a failure already.
    pub(super) fn leave(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        self.course.connections.forget(key);
        self.unlink(key);
        connection.close(DONE, bytes::Bytes::new());
        self.course.pacer.wake();
    }

    /// Forgets what is under way on a connection.
    pub(super) fn unlink(&mut self, key: ConnectionKey) {
        self.course.under_way -= match self.links.remove(&key) {
            Some(Link::Streams(streams)) => streams.under_way(),
            Some(Link::Datagrams { window, .. }) => window.under_way() as u64,
            Some(Link::Narrow(_)) | None => 0,
        };
    }

    /// Gets a connection ready to send messages on.
    pub(super) fn link(&mut self, connection: &mut Connection<'_>) {
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
            let remote = self.course.connections.target().remote;
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
                self.course.report.fail(error);
                return self.leave(connection);
            }
        }
        if self.course.ready(connection) {
            self.fill(connection);
        }
        self.course.check(now, 0);
    }

    /// Waits for a connection's path to become wide enough, until `by`.
    pub(super) fn narrow(&mut self, key: ConnectionKey, now: Instant, by: Instant) {
        self.links.insert(key, Link::Narrow(by));
        let next = now + MTU_POLL;
        self.look_at = Some(self.look_at.map_or(next, |at| at.min(next)));
    }

    /// Looks for lost datagrams, and for paths that have become wide enough.
    pub(super) fn look(&mut self, shard: &mut Context<'_>) {
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
                    self.course.report.datagrams_lost += lost;
                    self.course.under_way -= lost;
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
}
