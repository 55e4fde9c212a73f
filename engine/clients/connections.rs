//! The connections of a client.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::results::{ClientError, Report};
use crate::app::{ConnectTarget, ConnectionError, ConnectionKey, Context};

/// A client's connections, numbered from 0.
#[derive(Debug)]
pub(crate) struct Connections {
    target: ConnectTarget,
    links: Vec<Link>,
    numbers: FxHashMap<ConnectionKey, usize>,
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
            turn: 0,
        }
    }

    /// Starts all of them. Those that cannot be started are failures; returns how many that are.
    pub(crate) fn connect(&mut self, shard: &mut Context<'_>, report: &mut Report) -> usize {
        for (number, link) in self.links.iter_mut().enumerate() {
            match shard.connect(&self.target) {
                Ok(key) => {
                    link.key = Some(key);
                    self.numbers.insert(key, number);
                }
                Err(source) => report.fail(ClientError::Connect {
                    remote: self.target.remote,
                    source,
                }),
            }
        }
        self.links.len() - self.numbers.len()
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
    pub(crate) fn ready(&mut self, key: ConnectionKey) {
        if let Some(link) = self.number(key).and_then(|n| self.links.get_mut(n)) {
            link.ready = true;
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

    /// True when no connection is left, and none is under way.
    pub(crate) fn all_gone(&self) -> bool {
        self.numbers.is_empty()
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
