//! The connections of a shard and the lists they stand in, without the applications.
//!
//! Kept apart from the applications so that both can be borrowed at a time: an application is called with the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::{ConnectError, ConnectionHandle};
use slab::Slab;

use super::counters::ShardCounters;
use super::entry::{Entry, Phase, any};
use crate::app::{ConnectTarget, Connection, ConnectionKey};

/// An endpoint: all connections of one UDP port.
pub(crate) struct Endpoint {
    pub(crate) udp_port: u16,
    pub(crate) quinn: quinn_proto::Endpoint,
    /// Index of our entry by quinn-proto's handle, which is an index too.
    pub(crate) entries: Vec<u32>,
}

/// See the module.
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// The endpoint of outgoing connections.
    pub(crate) client_endpoint: Option<u16>,
    pub(crate) entries: Slab<Entry>,
    pub(crate) connections_max: usize,
    /// Connections whose events are to be looked at, each once.
    pub(crate) dirty: VecDeque<u32>,
    /// Connections that may have something to send, each once.
    pub(crate) ready: VecDeque<u32>,
    /// Connections that are not [`Phase::Closed`].
    pub(crate) live: usize,
    /// A stop was requested; what is still open at this time is closed.
    pub(crate) drain_deadline: Option<Instant>,
    serial: u64,
}

impl Core {
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn connect(
        &mut self,
        target: &ConnectTarget,
        application: u16,
    ) -> Result<ConnectionKey, ConnectError> {
        let endpoint = match self.client_endpoint {
            Some(endpoint) if self.drain_deadline.is_none() => endpoint,
            _ => return Err(ConnectError::EndpointStopping),
        };
        if self.entries.len() >= self.connections_max {
            return Err(ConnectError::CidsExhausted);
        }
        let (handle, connection) = self.endpoints[usize::from(endpoint)].quinn.connect(
            self.now,
            target.config.clone(),
            any(target.remote),
            &target.server_name,
        )?;
        self.counters.connections_opened.add(1);
        let index = self.insert(endpoint, handle, connection);
        let entry = &mut self.entries[index as usize];
        entry.application = Some(application);
        entry.early_data = target.early_data;
        Ok(entry.key)
    }

    /// Lends a live connection to its application. What the application does to it is looked at later in the turn.
    pub(crate) fn connection(
        &mut self,
        key: ConnectionKey,
        application: u16,
    ) -> Option<Connection<'_>> {
        let entry = self.entries.get_mut(key.index as usize)?;
        let belongs = entry.key == key && entry.application == Some(application);
        if !belongs || !matches!(entry.phase, Phase::Early | Phase::Open) {
            return None;
        }
        mark(&mut entry.dirty, &mut self.dirty, key.index);
        Some(Connection::new(entry, &self.counters, self.now))
    }

    /// Takes a new connection in.
    pub(crate) fn insert(
        &mut self,
        endpoint: u16,
        handle: ConnectionHandle,
        connection: quinn_proto::Connection,
    ) -> u32 {
        let slot = self.entries.vacant_entry();
        let index = slot.key() as u32;
        self.serial += 1;
        slot.insert(Entry::new(
            ConnectionKey {
                index,
                serial: self.serial,
            },
            endpoint,
            handle,
            connection,
        ));
        let routes = &mut self.endpoints[usize::from(endpoint)].entries;
        if routes.len() <= handle.0 {
            routes.resize(handle.0 + 1, u32::MAX);
        }
        routes[handle.0] = index;
        self.live += 1;
        let current = self.entries.len() as u64;
        self.counters.connections_current.set(current);
        self.counters.connections_peak.raise(current);
        self.mark_dirty(index);
        index
    }

    /// Asks for a look at a connection's events.
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            mark(&mut entry.dirty, &mut self.dirty, index);
        }
    }
}

/// Puts `index` at the end of `list` unless `flag` says that it is there.
pub(crate) fn mark(flag: &mut bool, list: &mut VecDeque<u32>, index: u32) {
    if !std::mem::replace(flag, true) {
        list.push_back(index);
    }
}
