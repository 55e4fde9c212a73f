//! From quinn-proto's events to the application's callbacks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;
use poll::profile::{Stage, within};
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionError, Dir, Event, Side, StreamEvent, TransportErrorCode};
use tracing::{debug, error};

use super::applications::{Applications, reason};
use super::core::Service;
use super::counters::ShardCounters;
use super::entry::{Entry, Phase};
use crate::app::{Application, Connection, PANICKED, VarInt};

/// The events of one connection on their way to its application.
pub(crate) struct Delivery<'a> {
    pub(crate) entry: &'a mut Entry,
    /// The services of the connection's endpoint.
    pub(crate) services: &'a [Service],
    /// Which of the endpoint's listeners they are of.
    pub(crate) generation: u32,
    pub(crate) applications: &'a mut Applications,
    pub(crate) counters: &'a ShardCounters,
    pub(crate) now: Instant,
}

impl Delivery<'_> {
    /// Delivers all events there are; returns whether there was any. How many there can be is bounded by what was
    /// received since the last time: callbacks make no events.
    pub(crate) fn run(mut self) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.deliver())) {
            Ok(any) => any,
            Err(panic) => {
                let reason = reason(&*panic);
                error!(
                    reason,
                    "an application panicked in a callback; its connection is closed"
                );
                self.panicked();
                true
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let mut any = self.start_early();
        let mut follows = None;
        while let Some(event) = follows.take().or_else(|| self.poll()) {
            any = true;
            if let Event::Stream(StreamEvent::Readable { id }) = event {
                // One such event comes with every packet, but all the data is here: one callback is enough.
                follows = loop {
                    match self.poll() {
                        Some(Event::Stream(StreamEvent::Readable { id: next })) if next == id => {}
                        other => break other,
                    }
                };
            }
            self.on(event);
        }
        if self.entry.quinn.is_closed() && self.entry.phase != Phase::Closed {
            self.end(&ConnectionError::LocallyClosed);
            any = true;
        }
        any
    }

    fn poll(&mut self) -> Option<Event> {
        within(Stage::ProtocolEvents, || self.entry.quinn.poll())
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::HandshakeDataReady => self.protocol_known(),
            Event::Connected => self.connected(),
            Event::ConnectionLost { reason } => self.end(&reason),
            _ if self.entry.closing || self.entry.phase == Phase::Closed => {}
            _ if self.entry.phase == Phase::Handshaking => self.entry.withheld = true,
            Event::Stream(event) => self.stream(event),
            Event::DatagramReceived => self.call(|application, c| application.datagrams(c)),
            Event::DatagramsUnblocked => {
                self.call(|application, c| application.datagrams_unblocked(c))
            }
        }
    }

    fn stream(&mut self, event: StreamEvent) {
        self.call(|application, connection| match event {
            StreamEvent::Opened { dir } => application.opened(connection, dir),
            StreamEvent::Readable { id } => application.readable(connection, id),
            StreamEvent::Writable { id } => application.writable(connection, id),
            StreamEvent::Finished { id } => application.finished(connection, id),
            StreamEvent::Stopped { id, error_code } => {
                application.stopped(connection, id, error_code)
            }
            StreamEvent::Available { dir } => application.available(connection, dir),
        });
    }

    /// A client whose application asked for 0-RTT begins before the server has said anything.
    fn start_early(&mut self) -> bool {
        let entry = &mut *self.entry;
        let early = entry.phase == Phase::Handshaking
            && entry.early_data
            && entry.application.is_some()
            && entry.quinn.is_handshaking()
            && entry.quinn.has_0rtt();
        if early {
            self.begin(Phase::Early);
        }
        early
    }

    /// ALPN is decided: on a server it chooses the service.
    fn protocol_known(&mut self) {
        let data = self.entry.quinn.crypto_session().handshake_data();
        let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
        self.entry.alpn = data.and_then(|data| data.protocol).unwrap_or_default();
        if self.entry.quinn.side() == Side::Client {
            return;
        }
        match self
            .services
            .iter()
            .find(|service| service.alpn == self.entry.alpn)
        {
            Some(service) => {
                self.entry.application = Some(service.application);
                self.entry.early_data = service.early_data;
                self.start_early();
            }
            // TLS refuses protocols that are not on its list, so only a list that differs from the services' ends here.
            None => self.entry.quinn.close(
                self.now,
                VarInt::from_u32(0),
                Bytes::from_static(b"no service"),
            ),
        }
    }

    /// The handshake is complete.
    fn connected(&mut self) {
        self.entry.established = true;
        self.counters.handshakes.add(1);
        self.counters.rtt.record(self.entry.quinn.rtt());
        if self.entry.accepted_early_data() {
            self.counters.early_data_accepted.add(1);
        }
        match self.entry.phase {
            Phase::Handshaking => self.begin(Phase::Open),
            Phase::Early => {
                self.entry.phase = Phase::Open;
                if !self.entry.accepted_early_data() {
                    // quinn-proto has forgotten the early streams.
                    self.entry.awaited = 0;
                    self.entry.reserved = 0;
                }
                self.call(|application, connection| application.handshake_done(connection));
            }
            Phase::Open | Phase::Closed => {}
        }
    }

    /// The application hears of the connection, and of what was withheld from it until now.
    fn begin(&mut self, phase: Phase) {
        if self.entry.generation != self.generation {
            // Another listener has taken the place of the one that it came to, perhaps with other demands.
            let reason = Bytes::from_static(b"listener closed");
            self.entry.closing = true;
            self.entry
                .quinn
                .close(self.now, VarInt::from_u32(0), reason);
            return;
        }
        self.entry.phase = phase;
        self.call(|application, connection| application.connected(connection));
        if std::mem::take(&mut self.entry.withheld) && !self.entry.closing {
            self.call(|application, connection| application.opened(connection, Dir::Bi));
            self.call(|application, connection| application.opened(connection, Dir::Uni));
            self.call(|application, connection| application.datagrams(connection));
        }
    }

    /// The connection has ended.
    fn end(&mut self, reason: &ConnectionError) {
        let was = self.entry.phase;
        if was == Phase::Closed {
            return;
        }
        // Before the phase says so: if it panics, the application still hears of the end.
        if matches!(was, Phase::Early | Phase::Open) && *reason != ConnectionError::LocallyClosed {
            self.call(|application, connection| application.ending(connection));
        }
        self.entry.phase = Phase::Closed;
        let client = self.entry.quinn.side() == Side::Client;
        debug!(%reason, ?was, remote = %self.entry.remote_address(), "connection ended");
        if self.entry.established {
            self.counters.rtt.record(self.entry.quinn.rtt());
        } else if client {
            self.counters.connects_failed.add(1);
        }
        if !client && !self.entry.established {
            self.counters.handshakes_failed.add(1);
        } else if is_loss(reason, self.entry.established) {
            self.counters.connections_lost.add(1);
        }
        // A client has known its key since it connected, a service since the connection was announced to it.
        if client || was != Phase::Handshaking {
            let key = self.entry.key;
            let reason = detached(reason);
            self.call(|application, _| application.closed(key, &reason));
        }
    }

    fn panicked(&mut self) {
        self.counters.application_panics.add(1);
        let reason = Bytes::from_static(b"internal error");
        self.entry.quinn.close(self.now, PANICKED, reason);
        // What else it would have been told is lost; the end it hears of, unless it panics again.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.end(&ConnectionError::LocallyClosed)
        }));
    }

    fn call(&mut self, callback: impl FnOnce(&mut dyn Application, &mut Connection<'_>)) {
        let slot = self
            .entry
            .application
            .and_then(|index| self.applications.application(index));
        if let Some(application) = slot {
            let mut connection = Connection::new(self.entry, self.counters, self.now);
            within(Stage::Application, || {
                callback(application, &mut connection)
            });
        }
    }
}

/// The same reason, but the peer's words in it are copied: they are a slice of the packet that brought them, which an
/// application that keeps the reason would keep, too.
fn detached(reason: &ConnectionError) -> ConnectionError {
    let mut reason = reason.clone();
    match &mut reason {
        ConnectionError::ApplicationClosed(close) => {
            close.reason = Bytes::copy_from_slice(&close.reason);
        }
        ConnectionError::ConnectionClosed(close) => {
            close.reason = Bytes::copy_from_slice(&close.reason);
        }
        _ => {}
    }
    reason
}

/// Whether an end is a loss, rather than a close by either application.
fn is_loss(reason: &ConnectionError, established: bool) -> bool {
    match reason {
        ConnectionError::LocallyClosed => false,
        ConnectionError::ApplicationClosed(_) => !established,
        ConnectionError::ConnectionClosed(close) => {
            !established || close.error_code != TransportErrorCode::NO_ERROR
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::CidsExhausted => true,
    }
}
