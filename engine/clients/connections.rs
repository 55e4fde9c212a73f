//! The connections of a client.
//!
//! With early data the first one is made alone: without a ticket there is no 0-RTT. The others follow when the server
//! has had time to send tickets; each ticket serves one connection, so those beyond their number go the long way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::results::{ClientError, Report};
use crate::app::{ConnectTarget, Connection, ConnectionError, ConnectionKey, Context};

/// The least time that the server has to send tickets. It sends them when the client's handshake is complete there, a
/// round trip after it is complete here.
const TICKET_WAIT: Duration = Duration::from_millis(50);

/// A client's connections, numbered from 0.
#[derive(Debug)]
pub(crate) struct Connections {
    target: ConnectTarget,
    links: Vec<Link>,
    numbers: FxHashMap<ConnectionKey, usize>,
    /// How many have been started.
    started: usize,
    /// When to start the others.
    start_at: Option<Instant>,
    /// Where the search for a connection with room begins next: equal turns.
    turn: usize,
}

/// One connection.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    key: Option<ConnectionKey>,
    ready: bool,
}

impl Connections {
    /// `count` connections to be made to `target`.
    pub(crate) fn new(target: ConnectTarget, count: usize) -> Self {
        Self {
            target,
            links: vec![Link::default(); count],
            numbers: FxHashMap::default(),
            started: 0,
            start_at: None,
            turn: 0,
        }
    }

    /// Starts those that are due; to be called by every run. Those that cannot be started are failures; returns how many
    /// that are.
    pub(crate) fn connect(&mut self, shard: &mut Context<'_>, report: &mut Report) -> usize {
        let mut failed = 0;
        while let Some(number) = self.next(shard.now()) {
            match shard.connect(&self.target) {
                Ok(key) => {
                    if let Some(link) = self.links.get_mut(number) {
                        link.key = Some(key);
                    }
                    self.numbers.insert(key, number);
                }
                Err(source) => {
                    failed += 1;
                    report.fail(ClientError::Connect {
                        remote: self.target.remote,
                        source,
                    });
                }
            }
        }
        failed
    }

    /// The number of a connection to start now, which counts as started from here on.
    fn next(&mut self, now: Instant) -> Option<usize> {
        if self.started == self.links.len() {
            self.start_at = None;
            return None;
        }
        let waits = self.target.early_data && self.start_at.is_none_or(|at| at > now);
        // If the first one is gone already, there is no ticket to wait for.
        if waits && !self.numbers.is_empty() {
            return None;
        }
        self.started += 1;
        Some(self.started - 1)
    }

    /// When to run next, to start connections.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.start_at
    }

    /// The server.
    pub(crate) fn target(&self) -> &ConnectTarget {
        &self.target
    }

    /// The number of a connection of ours that is not closed.
    pub(crate) fn number(&self, key: ConnectionKey) -> Option<usize> {
        self.numbers.get(&key).copied()
    }

    /// A connection can be used now.
    pub(crate) fn ready(&mut self, connection: &Connection<'_>) {
        let number = self.number(connection.key());
        if let Some(link) = number.and_then(|n| self.links.get_mut(n)) {
            link.ready = true;
        }
        if self.started < self.links.len() {
            let wait = TICKET_WAIT.max(2 * connection.stats().path.rtt);
            self.start_at.get_or_insert(connection.now() + wait);
        }
    }

    /// A connection is gone. Unless `expected`, that is a failure.
    pub(crate) fn gone(
        &mut self,
        key: ConnectionKey,
        reason: &ConnectionError,
        expected: bool,
        report: &mut Report,
    ) {
        let Some(number) = self.number(key) else {
            return;
        };
        self.forget(key);
        if !expected {
            report.fail(ClientError::Connection {
                number,
                remote: self.target.remote,
                reason: reason.clone(),
            });
        }
    }

    /// A connection will not be used any more.
    pub(crate) fn forget(&mut self, key: ConnectionKey) {
        if let Some(link) = self
            .numbers
            .remove(&key)
            .and_then(|n| self.links.get_mut(n))
        {
            *link = Link::default();
        }
    }

    /// True when no connection is left, none is under way, and none is to be started.
    pub(crate) fn all_gone(&self) -> bool {
        self.numbers.is_empty() && self.started == self.links.len()
    }

    /// How many there are, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// The `offset`-th connection from the one whose turn it is, if it is ready.
    pub(crate) fn in_turn(&self, offset: usize) -> Option<ConnectionKey> {
        let number = (self.turn + offset).checked_rem(self.links.len())?;
        let link = self.links.get(number)?;
        link.key.filter(|_| link.ready)
    }

    /// The connection at this offset had its turn.
    pub(crate) fn had_turn(&mut self, offset: usize) {
        self.turn = (self.turn + offset + 1)
            .checked_rem(self.links.len())
            .unwrap_or(0);
    }

    /// Closes all of them: the work is done.
    pub(crate) fn close(&self, shard: &mut Context<'_>) {
        for key in self.numbers.keys() {
            if let Some(mut connection) = shard.connection(*key) {
                connection.close(super::DONE, Bytes::from_static(b"done"));
            }
        }
    }
}
