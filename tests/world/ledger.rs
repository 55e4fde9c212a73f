//! What applications did and saw, written down as it happens, and held against what must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn_proto::TransportErrorCode;
use stoq::app::{ConnectionError, ConnectionKey, StreamId};

use crate::pattern;
use crate::server::ABORTED;
use crate::trace::say;

/// Streams are named by the connection's number (bits 32 and up), the attempt at it (16 bits: 0-RTT may be refused),
/// and their place in the plan (16 bits).
pub fn tag(number: u32, attempt: u16, index: u16) -> u64 {
    u64::from(number) << 32 | u64::from(attempt) << 16 | u64::from(index)
}

/// The connection that a stream belongs to.
pub fn number(tag: u64) -> u32 {
    (tag >> 32) as u32
}

/// The direction of stream data or an unreliable datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Up,
    Down,
}

/// How one direction of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Finished,
    /// The sender gave up.
    Reset(u64),
    /// The receiver gave up.
    Stopped,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub struct Flow {
    /// Bytes in full, as the sender announced.
    pub size: u64,
    pub received: u64,
    /// How the sender ended it.
    pub sent: Option<End>,
    /// How the receiver saw it end.
    pub end: Option<End>,
}

/// A connection as its client sees it.
#[derive(Debug, Default)]
pub struct Opened {
    /// It began with 0-RTT data. Then quinn-proto 0.11.19 may come to a stop: when both sides have filled their first
    /// congestion windows by the time the handshake is complete, neither has room to acknowledge, and the server's probe
    /// timer does not run.
    pub early: bool,
    /// Data came from the server: by then it knows the client's address.
    pub heard: bool,
    /// Everything planned was done.
    pub done: bool,
    /// It was planned to end before.
    pub cut: bool,
    /// The network did something to it that it need not survive.
    pub excused: bool,
    pub end: Option<ConnectionError>,
}

/// A connection as its server sees it.
#[derive(Debug, Default)]
pub struct Accepted {
    /// The client's number, once a stream or a datagram told.
    pub number: Option<u32>,
    pub established: bool,
    pub end: Option<ConnectionError>,
}

/// What the world lets happen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Nothing happens that would excuse a failure.
    pub gentle: bool,
    /// But a handshake may fail, where datagrams are changed or misplaced, for two faults of quinn-proto 0.11.19. One
    /// Retry packet that was changed on its way makes it discard all that follow. And when copies of an Initial packet
    /// make two shards answer, it acknowledges to one what the other sent, which is a protocol violation there.
    pub fragile: bool,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub rules: Rules,
    pub violations: Vec<String>,
    pub opened: BTreeMap<u32, Opened>,
    /// By shard and key.
    pub accepted: BTreeMap<(usize, ConnectionKey), Accepted>,
    pub flows: BTreeMap<(u64, Way), Flow>,
    /// Streams of early data that was refused: to be begun again under other names.
    void: BTreeSet<u64>,
    datagrams: BTreeSet<(u64, Way)>,
}

/// The ledger, shared by the applications of a world.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<Ledger>>);

impl Book {
    pub fn new(rules: Rules) -> Self {
        let ledger = Ledger {
            rules,
            ..Ledger::default()
        };
        Self(Arc::new(Mutex::new(ledger)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    pub fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    fn flow(&mut self, tag: u64, way: Way) -> &mut Flow {
        self.flows.entry((tag, way)).or_default()
    }

    /// The sender begins a direction of `size` bytes.
    pub fn begin(&mut self, tag: u64, way: Way, size: u64) {
        self.flow(tag, way).size = size;
    }

    /// The sender has ended it.
    pub fn sent(&mut self, tag: u64, way: Way, end: End) {
        self.flow(tag, way).sent = Some(end);
    }

    /// The receiver read the next bytes.
    pub fn received(&mut self, tag: u64, way: Way, data: &[u8]) {
        let flow = self.flow(tag, way);
        let at = flow.received;
        flow.received += data.len() as u64;
        let (size, end) = (flow.size, flow.end);
        if let Some(record) = self.opened.get_mut(&number(tag)) {
            record.heard |= way == Way::Down;
        }
        let name = if way == Way::Up { tag } else { !tag };
        if !pattern::is(name, at, data) {
            self.violate(format!("stream {tag:x} {way:?}: wrong bytes at {at}"));
        }
        if at + data.len() as u64 > size || end.is_some() {
            self.violate(format!(
                "stream {tag:x} {way:?}: bytes behind the end: {at} of {size}, {end:?}"
            ));
        }
    }

    /// The receiver saw the end.
    pub fn ended(&mut self, tag: u64, way: Way, end: End) {
        let flow = self.flow(tag, way);
        let before = flow.end.replace(end);
        let (received, size, sent) = (flow.received, flow.size, flow.sent);
        if before.is_some() {
            self.violate(format!("stream {tag:x} {way:?}: ended twice"));
        }
        let right = match end {
            End::Finished => received == size && sent == Some(End::Finished),
            // The server's answer to a reset or a stop, of which it may know no more than that.
            End::Reset(code) => sent == Some(end) || code == ABORTED.into_inner(),
            End::Stopped => true,
        };
        if !right {
            self.violate(format!(
                "stream {tag:x} {way:?}: {end:?} after {received} of {size} bytes, sent {sent:?}"
            ));
        }
    }

    /// 0-RTT data was refused.
    pub fn void(&mut self, tags: impl Iterator<Item = u64>) {
        self.void.extend(tags);
    }

    pub fn is_void(&self, tag: u64) -> bool {
        self.void.contains(&tag)
    }

    /// A server learns which connection it serves, and by which stream: each comes once.
    pub fn serves(&mut self, shard: usize, key: ConnectionKey, tag: u64, id: StreamId) {
        let number = number(tag);
        let Some(record) = self.accepted.get_mut(&(shard, key)) else {
            return self.violate(format!("{key:?} of shard {shard}: stream {id} of nobody"));
        };
        if record.number.is_some_and(|known| known != number) {
            self.violate(format!("stream {tag:x} came on another connection"));
        } else {
            record.number = Some(number);
        }
    }

    /// An unreliable datagram came: at most once.
    pub fn datagram(&mut self, tag: u64, way: Way) {
        if !self.datagrams.insert((tag, way)) {
            self.violate(format!("datagram {tag:x} {way:?} came twice"));
        }
    }

    /// Unreliable datagrams that came.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// A callback for a server's connection: between `connected` and `closed` only.
    pub fn at_server(&mut self, shard: usize, key: ConnectionKey) {
        let record = self.accepted.get(&(shard, key));
        if record.is_none_or(|record| record.end.is_some()) {
            self.violate(format!("{key:?} of shard {shard}: called out of its life"));
        }
    }

    /// A callback for a client's connection: before `closed` only.
    pub fn at_client(&mut self, number: u32) {
        let record = self.opened.get(&number);
        if record.is_none_or(|record| record.end.is_some()) {
            self.violate(format!("connection {number}: called out of its life"));
        }
    }

    /// A server's connection ended.
    pub fn server_closed(&mut self, shard: usize, key: ConnectionKey, reason: &ConnectionError) {
        say(|| format!("{key:?} of shard {shard} closed: {reason}"));
        let Some(record) = self.accepted.get_mut(&(shard, key)) else {
            return self.violate(format!("{key:?} of shard {shard}: closed, never begun"));
        };
        let twice = record.end.replace(reason.clone()).is_some();
        let (established, number) = (record.established, record.number);
        if twice {
            self.violate(format!("{key:?} of shard {shard}: closed twice"));
        }
        let client = number.and_then(|number| self.opened.get(&number));
        let young = client.is_none_or(|client| !client.heard);
        let over = client.is_some_and(|client| client.end.is_some() || client.may_end(self.rules));
        // Without a stream it cannot be told who the client was.
        let silent = matches!(reason, ConnectionError::TimedOut | ConnectionError::Reset);
        if silent && self.rules.gentle && established && number.is_some() && !over {
            self.violate(format!(
                "server's side of connection {number:?} ended without cause: {reason}"
            ));
        }
        self.check(reason, "a server's connection", young);
    }

    /// A client's connection ended.
    pub fn client_closed(&mut self, number: u32, reason: &ConnectionError) {
        say(|| format!("connection {number} closed: {reason}"));
        let Some(record) = self.opened.get_mut(&number) else {
            return self.violate(format!("connection {number}: closed, never begun"));
        };
        let twice = record.end.replace(reason.clone()).is_some();
        let (excused, heard) = (record.may_end(self.rules), record.heard);
        if twice {
            self.violate(format!("connection {number}: closed twice"));
        }
        // One that carried no stream may have been any client's.
        let peer = |peer: &Accepted| peer.number.is_none_or(|of| of == number);
        let mut peers = self.accepted.values();
        let over = peers.any(|accepted| peer(accepted) && accepted.end.is_some());
        let silent = matches!(reason, ConnectionError::TimedOut | ConnectionError::Reset);
        if silent && self.rules.gentle && !excused && !over {
            self.violate(format!("connection {number} ended without cause: {reason}"));
        }
        // A server may give up a handshake, of which its application never hears.
        if *reason == ConnectionError::Reset && heard && !over && !excused {
            self.violate(format!(
                "connection {number}: reset by a server that had not lost it"
            ));
        }
        self.check(reason, "a client's connection", !heard);
    }

    /// Ends for which nothing in any world is a reason; `young`: the handshake may not have been complete.
    fn check(&mut self, reason: &ConnectionError, whose: &str, young: bool) {
        let fragile = self.rules.fragile && young;
        let violation = TransportErrorCode::PROTOCOL_VIOLATION;
        let known = match reason {
            ConnectionError::ApplicationClosed(close) => {
                [0, 7, 8, 9].contains(&close.error_code.into_inner())
            }
            ConnectionError::ConnectionClosed(close) => match close.error_code {
                TransportErrorCode::NO_ERROR
                | TransportErrorCode::CONNECTION_REFUSED
                | TransportErrorCode::INVALID_TOKEN
                | TransportErrorCode::APPLICATION_ERROR => true,
                code => fragile && code == violation,
            },
            ConnectionError::TransportError(error) => fragile && error.code == violation,
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => false,
            ConnectionError::Reset | ConnectionError::TimedOut | ConnectionError::LocallyClosed => {
                true
            }
        };
        if !known {
            self.violate(format!("{whose} ended by: {reason}"));
        }
    }
}

impl Opened {
    /// Whether it may end in silence: it has nothing more to do, or something happened that it need not survive.
    pub fn may_end(&self, rules: Rules) -> bool {
        self.done || self.excused || self.early || rules.fragile && !self.heard
    }
}
