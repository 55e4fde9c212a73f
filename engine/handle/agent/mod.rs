//! The agent: the application that speaks for the handles on a shard.
//!
//! It does what the queue of commands says, a bounded number in each turn, and gathers what happens into one batch,
//! which goes to the courier at the end of the agent's part of the turn. When the courier is behind, the batch waits
//! and grows. What bounds it is credit: nothing is read from a connection beyond what its handles have given credit for.

mod conn;
mod outbox;
mod streams;

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use self::conn::Conn;
pub(super) use self::outbox::Outbox;
use super::command::{Command, Listen, StreamRef, Unbegun};
use super::event::{Agreed, Event};
use super::limits::HandleLimits;
use super::link::Commands;
use super::listener::ListenerInner;
use super::{ConnectionError, ListenError};
use crate::app::{
    self, Application, ConnectTarget, Connection, ConnectionKey, Context, Dir, Side, StreamId,
    VarInt,
};

/// Commands done in a turn, at most: what is left waits for the next one, while datagrams are received and sent.
const COMMANDS_MAX: usize = 256;
/// How many commands a new connection counts for.
const CONNECT_COST: usize = 32;

/// The application that speaks for the handles on a shard.
pub(crate) struct Agent {
    commands: Commands,
    outbox: Outbox,
    limits: HandleLimits,
    /// By index of the key.
    connections: Vec<Option<Box<Conn>>>,
    listeners: FxHashMap<u16, Arc<ListenerInner>>,
    /// The time of the last turn.
    now: Instant,
}

impl Agent {
    pub(super) fn new(commands: Commands, outbox: Outbox, limits: HandleLimits) -> Self {
        Self {
            commands,
            outbox,
            limits,
            connections: Vec::new(),
            listeners: FxHashMap::default(),
            now: Instant::now(),
        }
    }

    fn obey_some(&mut self, shard: &mut Context<'_>, count: usize) {
        let mut left = count;
        while left > 0
            && let Ok(command) = self.commands.queue.try_recv()
        {
            // A connection costs a TLS session, so few are begun in a turn.
            let cost = match command {
                Command::Connect(..) => CONNECT_COST,
                _ => 1,
            };
            self.obey(shard, command);
            left = left.saturating_sub(cost);
        }
    }

    fn obey(&mut self, shard: &mut Context<'_>, command: Command) {
        match command {
            Command::Connect(target, unbegun) => self.connect(shard, &target, unbegun),
            Command::Listen(listen) => self.listen(shard, *listen),
            Command::Unlisten(listener) => self.unlisten(shard, &listener),
            Command::Reserve(key, dir, count) => self.on(shard, key, |conn, connection, outbox| {
                conn.reserve(connection, dir, count, outbox);
            }),
            Command::Write(stream, bytes) => self.on_stream(shard, stream, |on| on.write(bytes)),
            Command::Finish(stream) => self.on_stream(shard, stream, |on| on.finish()),
            Command::Reset(stream, code) => self.on_stream(shard, stream, |on| on.reset(code)),
            Command::Stop(stream, code) => self.on_stream(shard, stream, |on| on.stop(code)),
            Command::Priority(stream, priority) => {
                self.on_stream(shard, stream, |on| on.set_priority(priority))
            }
            Command::ReadCredit(stream, bytes) => {
                self.on_stream(shard, stream, |on| on.credit(bytes))
            }
            Command::AcceptCredit(key, dir, count) => {
                self.on(shard, key, |conn, connection, outbox| {
                    conn.accept_credit(connection, dir, count, outbox)
                })
            }
            Command::DatagramCredit(key, count) => {
                self.on(shard, key, |conn, connection, outbox| {
                    conn.datagram_credit(connection, count, outbox);
                })
            }
            Command::Datagram(key, epoch, bytes) => {
                self.on(shard, key, |conn, connection, outbox| {
                    conn.send_datagram(connection, epoch, bytes, outbox);
                })
            }
            Command::Ping(key) => self.on(shard, key, |_, connection, _| connection.ping()),
            Command::Close(key, code, reason) => shard.close(key, code, reason),
            Command::Stats(key, reply) => {
                let mut stats = None;
                self.on(shard, key, |_, connection, _| {
                    stats = Some(Box::new(connection.stats()));
                });
                // Without an answer, too: to drop it wakes whoever waits, which is not for the lcore to do.
                self.outbox.event(Event::Stats(reply, stats));
            }
        }
    }

    fn connect(&mut self, shard: &mut Context<'_>, target: &ConnectTarget, unbegun: Unbegun) {
        match shard.connect(target) {
            Ok(key) => {
                self.insert(Conn::new(key, target.remote, &self.limits));
                self.outbox.event(Event::Begun(key, unbegun));
            }
            Err(error) => self.outbox.event(Event::NotBegun(unbegun, error.into())),
        }
    }

    fn listen(&mut self, shard: &mut Context<'_>, listen: Listen) {
        let early_data = listen.early_data;
        let alpns = listen.alpns.into_iter().map(|alpn| (alpn, early_data));
        let result = shard.listen(
            listen.udp_port,
            listen.server,
            alpns.collect(),
            listen.streams,
        );
        let listener = listen.listener;
        if result.is_ok() {
            let listener = Arc::clone(&listener);
            self.listeners.insert(listen.udp_port, listener);
        }
        self.outbox.event(Event::Listened {
            listener,
            reply: listen.reply,
            result: result.map_err(|error| ListenError::from_shard(&error)),
        });
    }

    /// Somebody else may have the UDP port by now, or have had it before.
    fn unlisten(&mut self, shard: &mut Context<'_>, listener: &Arc<ListenerInner>) {
        let udp_port = listener.udp_port();
        let known = self.listeners.get(&udp_port);
        if known.is_some_and(|known| Arc::ptr_eq(known, listener)) {
            shard.unlisten(udp_port);
            self.listeners.remove(&udp_port);
        }
    }

    fn insert(&mut self, conn: Conn) {
        let index = conn.key.index as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Box::new(conn));
    }

    /// The courier was dropped: handles hear nothing any more, so nobody has connections or listens.
    #[cold]
    fn abandon(&mut self, shard: &mut Context<'_>) {
        self.outbox.clear();
        for (udp_port, _) in self.listeners.drain() {
            shard.unlisten(udp_port);
        }
        for conn in std::mem::take(&mut self.connections).into_iter().flatten() {
            shard.close(conn.key, VarInt::from_u32(0), bytes::Bytes::new());
        }
    }

    /// Does something with a connection, if it is still there.
    fn on(
        &mut self,
        shard: &mut Context<'_>,
        key: ConnectionKey,
        apply: impl FnOnce(&mut Conn, &mut Connection<'_>, &mut Outbox),
    ) {
        if let Some(conn) = find(&mut self.connections, key)
            && let Some(mut connection) = shard.connection(key)
        {
            apply(conn, &mut connection, &mut self.outbox);
        }
    }

    fn on_stream(
        &mut self,
        shard: &mut Context<'_>,
        stream: StreamRef,
        apply: impl FnOnce(&mut streams::OnStream<'_, '_>),
    ) {
        self.on(shard, stream.key, |conn, connection, outbox| {
            conn.on_stream(connection, stream.id, Some(stream.epoch), outbox, apply);
        });
    }

    /// The connection that a callback is for.
    fn called(
        &mut self,
        connection: &mut Connection<'_>,
        apply: impl FnOnce(&mut Conn, &mut Connection<'_>, &mut Outbox),
    ) {
        let key = connection.key();
        self.now = connection.now();
        if let Some(conn) = find(&mut self.connections, key) {
            apply(conn, connection, &mut self.outbox);
        }
    }
}

#[cfg(test)]
impl Agent {
    /// Streams that handles use, or may accept; and those that were opened ahead.
    pub(super) fn streams(&self) -> (usize, usize) {
        let counts = self.connections.iter().flatten().map(|conn| conn.streams());
        counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Bytes that wait for QUIC's send buffers.
    pub(super) fn waiting(&self) -> usize {
        self.connections
            .iter()
            .flatten()
            .map(|conn| conn.waiting())
            .sum()
    }
}

/// The connection of that key, if it is still there.
fn find(connections: &mut [Option<Box<Conn>>], key: ConnectionKey) -> Option<&mut Conn> {
    let conn = connections.get_mut(key.index as usize)?.as_deref_mut()?;
    (conn.key == key).then_some(conn)
}

fn agreed(connection: &Connection<'_>) -> Box<Agreed> {
    Box::new(Agreed {
        alpn: connection.alpn().to_vec(),
        identity: connection.peer_identity().cloned(),
    })
}

impl Application for Agent {
    // Whoever sees that a connection is ready sees how large its datagrams may be: that is told first.

    fn connected(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        let early = connection.is_early_data();
        if connection.side() == Side::Client {
            self.called(connection, |conn, connection, outbox| {
                conn.look(connection, outbox);
            });
            let agreed = agreed(connection);
            self.outbox.event(Event::Connected { key, early, agreed });
            return;
        }
        let Some(listener) = self.listeners.get(&connection.local_udp_port()) else {
            // It was closed while the handshake ran.
            connection.close(VarInt::from_u32(0), bytes::Bytes::new());
            return;
        };
        let listener = Arc::clone(listener);
        if self.outbox.is_swamped() {
            listener.turn_away();
            connection.close(VarInt::from_u32(0), bytes::Bytes::new());
            return;
        }
        self.now = connection.now();
        let remote = connection.remote_address();
        let max_datagram = connection.max_datagram_size();
        let mut conn = Conn::new(key, remote, &self.limits);
        conn.max_datagram = Some(max_datagram);
        self.insert(conn);
        self.outbox.event(Event::Accepted {
            key,
            listener,
            remote,
            max_datagram,
            early,
            agreed: agreed(connection),
        });
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        let accepted = connection.accepted_early_data();
        let agreed = agreed(connection);
        let refused = !accepted && connection.side() == Side::Client;
        self.called(connection, |conn, connection, outbox| {
            if refused {
                conn.forget_streams();
            }
            conn.look(connection, outbox);
        });
        self.outbox.event(Event::HandshakeDone {
            key,
            accepted,
            agreed,
        });
    }

    // Whoever takes what came sees where it came from.

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.called(connection, |conn, connection, outbox| {
            conn.look(connection, outbox);
            conn.accept(connection, dir, outbox);
        });
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.called(connection, |conn, connection, outbox| {
            conn.look(connection, outbox);
            conn.on_stream(connection, id, None, outbox, |on| on.readable());
        });
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.called(connection, |conn, connection, outbox| {
            conn.on_stream(connection, id, None, outbox, |on| on.writable());
        });
    }

    fn finished(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.called(connection, |conn, connection, outbox| {
            conn.on_stream(connection, id, None, outbox, |on| on.acknowledged());
        });
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        self.called(connection, |conn, connection, outbox| {
            conn.on_stream(connection, id, None, outbox, |on| on.stopped(code));
        });
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.called(connection, |conn, connection, outbox| {
            conn.reserve(connection, dir, 0, outbox);
        });
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        self.called(connection, |conn, connection, outbox| {
            conn.look(connection, outbox);
            conn.read_datagrams(connection, outbox);
        });
    }

    fn datagrams_unblocked(&mut self, connection: &mut Connection<'_>) {
        self.called(connection, |conn, connection, outbox| {
            conn.write_datagrams(connection, outbox);
        });
    }

    fn ending(&mut self, connection: &mut Connection<'_>) {
        self.called(connection, |conn, connection, outbox| {
            conn.take_all(connection, outbox);
        });
    }

    fn closed(&mut self, key: ConnectionKey, reason: &app::ConnectionError) {
        if find(&mut self.connections, key).is_some() {
            self.connections[key.index as usize] = None;
            let reason = ConnectionError::from(reason.clone());
            self.outbox.event(Event::Closed(key, reason));
        }
    }

    fn timeout(&self) -> Option<Instant> {
        let waits = !self.outbox.is_empty() || !self.commands.queue.is_empty();
        waits.then_some(self.now)
    }

    fn every_turn(&self) -> bool {
        true
    }

    /// What handles have asked for until now is still done, so that the drain waits for it.
    fn stop(&mut self, shard: &mut Context<'_>) {
        self.obey_some(shard, self.commands.queue.len() * CONNECT_COST);
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.now = shard.now();
        if self.outbox.is_abandoned() {
            return self.abandon(shard);
        }
        self.obey_some(shard, COMMANDS_MAX);
        if self.commands.room_wanted() {
            self.outbox.event(Event::Room);
        }
        self.outbox.flush();
    }
}
