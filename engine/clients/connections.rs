//! The connections of a client.
//!
//! Only so many handshakes are under way at a time: a server bounds those that it takes part in, and lets the rest wait
//! for a repetition.
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

/// Handshakes under way at a time: half of those after which an engine's listener, by default, asks clients to prove
/// their addresses, which takes a round trip more.
const DIALING_MAX: usize = 64;

/// A client's connections, numbered from 0.
#[derive(Debug)]
pub(crate) struct Connections {
    target: ConnectTarget,
    links: Vec<Link>,
    numbers: FxHashMap<ConnectionKey, usize>,
    /// How many have been started.
    started: usize,
    /// How many of them are neither ready nor gone.
    dialing: usize,
    /// With early data, when the server has had time to send tickets to the first.
    tickets_at: Option<Instant>,
    /// When to start more.
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
            dialing: 0,
            tickets_at: None,
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
                    self.dialing -= 1;
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
        self.start_at = None;
        // Those that become ready, or go, ask for another run.
        if self.started == self.links.len() || self.dialing >= DIALING_MAX {
            return None;
        }
        let waits = self.target.early_data && self.tickets_at.is_none_or(|at| at > now);
        // If the first one is gone already, there is no ticket to wait for.
        if waits && !self.numbers.is_empty() {
            self.start_at = self.tickets_at;
            return None;
        }
        self.started += 1;
        self.dialing += 1;
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
        let (key, now) = (connection.key(), connection.now());
        self.set_ready(key, now, 2 * connection.stats().path.rtt);
    }

    fn set_ready(&mut self, key: ConnectionKey, now: Instant, tickets: Duration) {
        let number = self.number(key);
        if let Some(link) = number.and_then(|n| self.links.get_mut(n))
            && !std::mem::replace(&mut link.ready, true)
        {
            self.dialing -= 1;
        }
        if self.started < self.links.len() {
            let tickets_at = *self
                .tickets_at
                .get_or_insert(now + TICKET_WAIT.max(tickets));
            self.start_at = Some(match self.target.early_data {
                true => tickets_at,
                false => now,
            });
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
            self.dialing -= usize::from(!link.ready);
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;
    use crate::tls::{ClientTls, Trust, client_config};

    fn connections(count: usize, early_data: bool) -> Connections {
        let tls = ClientTls {
            trust: &Trust::Insecure,
            identity: None,
            alpns: vec![b"test".to_vec()],
            early_data,
        };
        let target = ConnectTarget {
            remote: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 0),
            streams: None,
            server_name: "localhost".to_owned(),
            config: client_config(tls).unwrap(),
            early_data,
        };
        Connections::new(target, count)
    }

    fn key(number: usize) -> ConnectionKey {
        let index = number as u32;
        ConnectionKey { index, serial: 1 }
    }

    /// Starts what is due; returns how many that are.
    fn start(connections: &mut Connections, now: Instant) -> usize {
        let mut started = 0;
        while let Some(number) = connections.next(now) {
            connections.links[number].key = Some(key(number));
            connections.numbers.insert(key(number), number);
            started += 1;
        }
        started
    }

    #[test]
    fn handshakes_under_way_are_bounded() {
        let now = Instant::now();
        let mut connections = connections(DIALING_MAX + 10, false);
        assert_eq!(start(&mut connections, now), DIALING_MAX);
        assert_eq!(connections.timeout(), None, "somebody has to become ready");
        connections.set_ready(key(0), now, Duration::ZERO);
        connections.set_ready(key(0), now, Duration::ZERO); // Early data, refused: it counts once.
        connections.forget(key(1));
        assert_eq!(connections.timeout(), Some(now));
        assert_eq!(start(&mut connections, now), 2);
        (2..10).for_each(|n| connections.forget(key(n)));
        connections.forget(key(0)); // It was ready: no place becomes free.
        assert_eq!(start(&mut connections, now), 8);
        assert_eq!(start(&mut connections, now), 0);
        assert_eq!(connections.started, connections.len());
    }

    #[test]
    fn with_early_data_the_others_wait_for_tickets() {
        let now = Instant::now();
        let mut connections = connections(3, true);
        assert_eq!(start(&mut connections, now), 1);
        connections.set_ready(key(0), now, Duration::ZERO);
        assert_eq!(connections.timeout(), Some(now + TICKET_WAIT));
        assert_eq!(start(&mut connections, now), 0);
        assert_eq!(connections.timeout(), Some(now + TICKET_WAIT));
        assert_eq!(start(&mut connections, now + TICKET_WAIT), 2);
        assert_eq!(connections.timeout(), None);
    }
}
