//! The connections of a shard and the lists they stand in, without the applications.
//!
//! Kept apart from the applications so that both can be borrowed at a time: an application is called with the core.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use poll::profile::{Stage, within};
use quinn_proto::{ConnectError, ConnectionHandle, VarInt};
use slab::Slab;

use super::applications::Applications;
use super::config::ShardLimits;
use super::counters::ShardCounters;
use super::dispatch::Delivery;
use super::entry::{Entry, Phase, any};
use super::gate::Gate;
use super::responses::Responses;
use super::samples::{Round, note};
use super::setup::Endpoints;
use super::streams::Grants;
use super::timers::Timers;
use crate::app::{ConnectTarget, Connection, ConnectionKey, PANICKED};
use crate::steering::{CID_LEN, PortChoice, Steering};
use crate::transport::StreamLimits;

/// An endpoint: all connections of one listener, or all that clients opened.
pub(crate) struct Endpoint {
    pub(crate) udp_ports: RangeInclusive<u16>,
    pub(crate) quinn: quinn_proto::Endpoint,
    pub(crate) services: Vec<Service>,
    /// How many listeners had this endpoint before the present one.
    pub(crate) generation: u32,
    /// Streams that clients may have open; nothing: as the shard's limits say.
    pub(crate) streams: Option<StreamLimits>,
    /// The application that listens here, if it does so of its own accord; it may stop to.
    pub(crate) owner: Option<u16>,
    /// It listened, and does not any more: its connections live on, and nobody else gets in.
    pub(crate) closed: bool,
    /// Index of our entry by quinn-proto's handle, which is an index too.
    pub(crate) routes: Vec<u32>,
}

/// A protocol of a listener and the application that speaks it.
pub(crate) struct Service {
    pub(crate) alpn: Vec<u8>,
    pub(crate) early_data: bool,
    pub(crate) application: u16,
}

/// Where outgoing connections begin.
pub(crate) struct Clients {
    /// Index of their endpoint.
    pub(crate) endpoint: u16,
    pub(crate) udp_ports: PortChoice,
}

/// See the module.
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) limits: ShardLimits,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Makes more of them.
    pub(super) maker: Endpoints,
    pub(crate) clients: Option<Clients>,
    pub(crate) steering: Option<Steering>,
    /// The device sends what it is given at the time that it is told.
    pub(crate) paced_by_device: bool,
    /// The length of connection IDs that endpoints give out.
    pub(crate) cid_len: usize,
    pub(crate) entries: Slab<Entry>,
    pub(crate) gate: Gate,
    pub(crate) timers: Timers,
    pub(crate) responses: Responses,
    /// Connections whose events are to be looked at, each once.
    pub(crate) dirty: VecDeque<u32>,
    /// Connections that may have something to send, each once. The first has its turn.
    pub(crate) ready: VecDeque<u32>,
    /// Incoming handshakes in flight.
    pub(crate) incoming: usize,
    /// Handshakes in flight, both sides.
    handshaking: usize,
    /// Connections that are not [`Phase::Closed`].
    pub(crate) live: usize,
    /// The shard shuts down: nothing new is begun, and what comes to rest is closed.
    pub(crate) stopping: bool,
    pub(super) round: Round,
    serial: u64,
}

/// Timers that fire in a turn, at most. What is left is due in the next one.
const TIMERS_MAX: usize = 256;
/// The length of quinn-proto's own connection IDs.
const UNSTEERED_CID_LEN: usize = 8;

impl Core {
    pub(super) fn new(
        now: Instant,
        limits: ShardLimits,
        counters: Arc<ShardCounters>,
        steering: Option<Steering>,
        maker: Endpoints,
        gate: Gate,
    ) -> Self {
        Self {
            now,
            gate,
            counters,
            endpoints: Vec::new(),
            maker,
            clients: None,
            cid_len: steering.as_ref().map_or(UNSTEERED_CID_LEN, |_| CID_LEN),
            steering,
            paced_by_device: false,
            // Address space only: pages are touched as connections come, and none is ever moved.
            entries: Slab::with_capacity(limits.connections),
            timers: Timers::default(),
            responses: Responses::new(limits.responses),
            dirty: VecDeque::with_capacity(limits.connections),
            ready: VecDeque::with_capacity(limits.connections),
            incoming: 0,
            handshaking: 0,
            live: 0,
            stopping: false,
            round: Round::new(now),
            serial: 0,
            limits,
        }
    }

    // Connections come.

    /// Begins an outgoing connection.
    pub(crate) fn connect(
        &mut self,
        target: &ConnectTarget,
        application: u16,
    ) -> Result<ConnectionKey, ConnectError> {
        let clients = match &mut self.clients {
            Some(clients) if !self.stopping => clients,
            _ => return Err(ConnectError::EndpointStopping),
        };
        if self.entries.len() >= self.limits.connections {
            return Err(ConnectError::CidsExhausted);
        }
        let endpoint = clients.endpoint;
        let (handle, connection) = self.endpoints[usize::from(endpoint)].quinn.connect(
            self.now,
            target.config.clone(),
            any(target.remote),
            &target.server_name,
        )?;
        let (udp_port, source) = clients.udp_ports.choose(target.remote);
        self.counters.connections_opened.add(1);
        let entry = self.insert(endpoint, udp_port, handle, connection, target.streams);
        entry.source = source;
        entry.application = Some(application);
        entry.early_data = target.early_data;
        Ok(entry.key)
    }

    pub(super) fn insert(
        &mut self,
        endpoint: u16,
        udp_port: u16,
        handle: ConnectionHandle,
        connection: quinn_proto::Connection,
        streams: Option<StreamLimits>,
    ) -> &mut Entry {
        let slot = self.entries.vacant_entry();
        let index = slot.key() as u32;
        self.serial += 1;
        let serial = self.serial;
        let key = ConnectionKey { index, serial };
        let generation = self.endpoints[usize::from(endpoint)].generation;
        let grants = Grants::new(streams.unwrap_or(self.limits.streams));
        let entry = slot.insert(Entry::new(
            key, endpoint, udp_port, handle, connection, grants,
        ));
        entry.touched = true;
        entry.generation = generation;
        mark(&mut entry.dirty, &mut self.dirty, index);
        let routes = &mut self.endpoints[usize::from(endpoint)].routes;
        if routes.len() <= handle.0 {
            routes.resize(handle.0 + 1, u32::MAX);
        }
        routes[handle.0] = index;
        self.live += 1;
        self.handshaking += 1;
        self.counters
            .connections_peak
            .raise(self.entries.len() as u64);
        self.count_states();
        &mut self.entries[index as usize]
    }

    // Connections are.

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
        entry.touched = true;
        mark(&mut entry.dirty, &mut self.dirty, key.index);
        Some(Connection::new(entry, &self.counters, self.now))
    }

    /// Ends a connection of an application, however far it is.
    pub(crate) fn close(
        &mut self,
        key: ConnectionKey,
        application: u16,
        code: VarInt,
        reason: Bytes,
    ) {
        if let Some(entry) = self.entries.get_mut(key.index as usize)
            && entry.key == key
            && entry.application == Some(application)
            && entry.phase != Phase::Closed
        {
            close(entry, self.now, code, reason, &mut self.dirty);
        }
    }

    /// Fires the timers that are due, so many of them in a turn: after a pause, all connections may have one.
    pub(crate) fn fire_timers(&mut self) {
        for _ in 0..TIMERS_MAX {
            let Some(index) = self.timers.pop_due(self.now) else {
                break;
            };
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            match entry.quinn.poll_timeout() {
                Some(at) if at > self.now => self.timers.no_later_than(index, at),
                Some(_) => {
                    within(Stage::ProtocolEvents, || {
                        entry.quinn.handle_timeout(self.now)
                    });
                    entry.touched = true;
                    mark(&mut entry.dirty, &mut self.dirty, index);
                }
                None => {}
            }
        }
    }

    /// Looks at what happened on all connections that are marked.
    pub(crate) fn settle(&mut self, applications: &mut Applications) {
        while let Some(index) = self.dirty.pop_front() {
            self.settle_one(index, applications);
        }
    }

    fn settle_one(&mut self, index: u32, applications: &mut Applications) {
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        let endpoint = &mut self.endpoints[usize::from(entry.endpoint)];
        entry.dirty = false;
        within(Stage::ProtocolEvents, || {
            forward(entry, &mut endpoint.quinn)
        });
        let was_incoming = entry.is_incoming();
        let was_handshaking = entry.is_handshaking();
        let was_live = entry.phase != Phase::Closed;
        let delivered = Delivery {
            entry,
            services: &endpoint.services,
            generation: endpoint.generation,
            applications,
            counters: &self.counters,
            now: self.now,
        }
        .run();
        if self.stopping && entry.phase != Phase::Closed && entry.is_idle() {
            shut_down(entry, self.now, &mut self.dirty);
        }
        if was_incoming && !entry.is_incoming() {
            self.incoming -= 1;
            // One that times out is drained already, and costs its place among those in flight.
            if !entry.established && !entry.drained && !self.stopping {
                self.gate.charge_handshake(self.now);
            }
        }
        let ended = was_live && entry.phase == Phase::Closed;
        let decided = was_handshaking && !entry.is_handshaking();
        self.live -= usize::from(ended);
        self.handshaking -= usize::from(decided);
        let application = entry.application;
        if entry.touched || delivered {
            entry.touched = false;
            mark(&mut entry.ready, &mut self.ready, index);
        }
        if ended || decided {
            self.count_states();
        }
        if delivered && let Some(application) = application {
            applications.refresh(application, self);
        }
    }

    // Connections go.

    /// Closes all connections that are still open, and those of which the handshake runs.
    pub(crate) fn close_all(&mut self) {
        for (_, entry) in &mut self.entries {
            shut_down(entry, self.now, &mut self.dirty);
        }
    }

    /// Closes the connections of an application that failed.
    pub(crate) fn close_all_of(&mut self, application: u16) {
        for (_, entry) in &mut self.entries {
            if entry.application == Some(application) {
                let reason = Bytes::from_static(b"internal error");
                close(entry, self.now, PANICKED, reason, &mut self.dirty);
            }
        }
    }

    /// Marks all connections, so that those at rest are closed when the shard shuts down.
    pub(crate) fn mark_all(&mut self) {
        for (_, entry) in &mut self.entries {
            mark(&mut entry.dirty, &mut self.dirty, entry.key.index);
        }
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.timers.remove(index);
        if let Some(entry) = self.entries.try_remove(index as usize) {
            note(&self.counters, &entry, &entry.quinn.stats());
        }
        self.count_states();
    }

    /// Brings the counters of connections by state up to date.
    fn count_states(&self) {
        let counters = &self.counters;
        let connections = self.entries.len();
        counters.connections_current.set(connections as u64);
        counters
            .connections_handshaking
            .set(self.handshaking as u64);
        counters
            .connections_closing
            .set(connections.saturating_sub(self.live) as u64);
    }
}

/// Puts `index` at the end of `list` unless `flag` says that it is there.
#[inline]
pub(super) fn mark(flag: &mut bool, list: &mut VecDeque<u32>, index: u32) {
    if !std::mem::replace(flag, true) {
        list.push_back(index);
    }
}

/// Passes a connection's events to its endpoint and back, and learns whether the endpoint has dropped it.
fn forward(entry: &mut Entry, endpoint: &mut quinn_proto::Endpoint) {
    while let Some(event) = entry.quinn.poll_endpoint_events() {
        if entry.drained {
            continue;
        }
        entry.drained = event.is_drained();
        if let Some(reply) = endpoint.handle_event(entry.handle, event) {
            entry.quinn.handle_event(reply);
        }
    }
}

/// Closes a connection because the shard shuts down.
fn shut_down(entry: &mut Entry, now: Instant, dirty: &mut VecDeque<u32>) {
    if entry.phase != Phase::Closed && !entry.closing {
        let reason = Bytes::from_static(b"shutting down");
        close(entry, now, VarInt::from_u32(0), reason, dirty);
    }
}

/// Closes a connection, and marks it so that its application hears of it and the peer, too.
pub(super) fn close(
    entry: &mut Entry,
    now: Instant,
    code: VarInt,
    reason: Bytes,
    dirty: &mut VecDeque<u32>,
) {
    entry.closing = true;
    entry.quinn.close(now, code, reason);
    entry.touched = true;
    mark(&mut entry.dirty, dirty, entry.key.index);
}
