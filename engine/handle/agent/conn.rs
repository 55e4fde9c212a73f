//! A connection as the agent sees it.

use std::collections::VecDeque;
use std::net::SocketAddrV6;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::outbox::Outbox;
use super::streams::{OnStream, Recv, Send, Stream};
use crate::app::{Connection, ConnectionKey, Dir, SendDatagramError, StreamId};
use crate::handle::datagrams::datagram_weight;
use crate::handle::event::Event;
use crate::handle::limits::HandleLimits;

/// What the agent keeps of a connection.
pub(super) struct Conn {
    pub(super) key: ConnectionKey,
    /// See [`StreamRef`](crate::handle::command::StreamRef::epoch).
    epoch: u8,
    limits: HandleLimits,
    streams: FxHashMap<StreamId, Stream>,
    /// By direction: streams that handles asked for and the peer does not permit yet.
    wanted: [u32; 2],
    /// By direction: streams of the peer that may still be handed on.
    accept_credit: [u32; 2],
    /// Datagrams that may still be handed on.
    datagram_credit: u32,
    /// Datagrams that wait for room in QUIC's send buffer: as many bytes as handles may have under way.
    datagrams: VecDeque<Bytes>,
    datagram_bytes_written: u64,
    /// What was told of the connection.
    remote: SocketAddrV6,
    pub(super) max_datagram: Option<Option<usize>>,
}

impl Conn {
    pub(super) fn new(key: ConnectionKey, remote: SocketAddrV6, limits: &HandleLimits) -> Self {
        Self {
            key,
            epoch: 0,
            limits: *limits,
            streams: FxHashMap::default(),
            wanted: [0; 2],
            accept_credit: [limits.streams; 2],
            datagram_credit: limits.datagrams,
            datagrams: VecDeque::new(),
            datagram_bytes_written: 0,
            remote,
            max_datagram: None,
        }
    }

    /// Tells what has changed of the connection itself.
    pub(super) fn look(&mut self, connection: &mut Connection<'_>, outbox: &mut Outbox) {
        let remote = connection.remote_address();
        if remote != self.remote {
            self.remote = remote;
            outbox.event(Event::Moved(self.key, remote));
        }
        let size = connection.max_datagram_size();
        if self.max_datagram != Some(size) {
            self.max_datagram = Some(size);
            outbox.event(Event::MaxDatagram(self.key, size));
        }
    }

    /// 0-RTT data was refused: what was opened and sent is gone.
    pub(super) fn forget_streams(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.streams.clear();
        self.wanted = [0; 2];
        self.datagrams.clear();
        self.datagram_bytes_written = 0;
    }

    // Streams.

    /// Opens `count` more streams, and those that were wanted before, as far as the peer permits.
    pub(super) fn reserve(
        &mut self,
        connection: &mut Connection<'_>,
        dir: Dir,
        count: u32,
        outbox: &mut Outbox,
    ) {
        let wanted = &mut self.wanted[dir as usize];
        *wanted = wanted.saturating_add(count);
        let mut opened = 0;
        while *wanted > 0
            && let Some(id) = connection.reserve(dir)
        {
            *wanted -= 1;
            opened += 1;
            let stream = Stream {
                reserved: true,
                send: Some(Send::default()),
                recv: (dir == Dir::Bi).then(|| Recv::new(&self.limits)),
            };
            self.streams.insert(id, stream);
        }
        if opened > 0 {
            outbox.event(Event::Reserved(self.key, dir, opened));
        }
    }

    /// Takes streams that the peer opened, as far as there is credit.
    pub(super) fn accept(
        &mut self,
        connection: &mut Connection<'_>,
        dir: Dir,
        outbox: &mut Outbox,
    ) {
        while self.accept_credit[dir as usize] > 0
            && let Some(id) = connection.accept(dir)
        {
            self.accept_credit[dir as usize] -= 1;
            let stream = Stream {
                reserved: false,
                send: (dir == Dir::Bi).then(Send::default),
                recv: Some(Recv::new(&self.limits)),
            };
            self.streams.insert(id, stream);
            outbox.event(Event::Opened(self.key, id));
            // It may hold data already, for which no callback follows.
            self.on_stream(connection, id, None, outbox, |on| on.readable());
        }
    }

    pub(super) fn accept_credit(
        &mut self,
        connection: &mut Connection<'_>,
        dir: Dir,
        count: u32,
        outbox: &mut Outbox,
    ) {
        self.accept_credit[dir as usize] += count;
        self.accept(connection, dir, outbox);
    }

    /// Does something on a stream, if it is still there. Handles give the epoch that they know the stream from.
    pub(super) fn on_stream(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        epoch: Option<u8>,
        outbox: &mut Outbox,
        apply: impl FnOnce(&mut OnStream<'_, '_>),
    ) {
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // By a handle, or by the peer, which takes it for open when a later one is used (RFC 9000 §3.2).
        if std::mem::take(&mut stream.reserved) {
            connection.claim(id);
        }
        let mut on = OnStream {
            key: self.key,
            id,
            write_ahead: self.limits.write_ahead,
            stream,
            connection,
            outbox,
        };
        apply(&mut on);
        if stream.send.is_none() && stream.recv.is_none() {
            self.streams.remove(&id);
        }
    }

    /// Takes all that has come, whatever credit there is: the connection has ended, so it does not become more.
    pub(super) fn take_all(&mut self, connection: &mut Connection<'_>, outbox: &mut Outbox) {
        self.limits.read_ahead = usize::MAX;
        self.accept_credit = [u32::MAX; 2];
        self.datagram_credit = u32::MAX;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.on_stream(connection, id, None, outbox, |on| on.take_all());
        }
        for dir in [Dir::Bi, Dir::Uni] {
            self.accept(connection, dir, outbox);
        }
        self.read_datagrams(connection, outbox);
    }

    // Datagrams.

    pub(super) fn datagram_credit(
        &mut self,
        connection: &mut Connection<'_>,
        count: u32,
        outbox: &mut Outbox,
    ) {
        self.datagram_credit += count;
        self.read_datagrams(connection, outbox);
    }

    /// Takes datagrams that came, as far as there is credit. QUIC's buffer drops the oldest of the others.
    pub(super) fn read_datagrams(&mut self, connection: &mut Connection<'_>, outbox: &mut Outbox) {
        let mut taken = 0;
        while self.datagram_credit > 0
            && let Some(datagram) = connection.recv_datagram()
        {
            self.datagram_credit -= 1;
            taken += 1;
            outbox.chunk(datagram);
        }
        if taken > 0 {
            outbox.event(Event::Datagrams(self.key, taken));
        }
    }

    pub(super) fn send_datagram(
        &mut self,
        connection: &mut Connection<'_>,
        epoch: u8,
        datagram: Bytes,
        outbox: &mut Outbox,
    ) {
        if epoch != self.epoch {
            return;
        }
        self.datagrams.push_back(datagram);
        self.write_datagrams(connection, outbox);
        self.look(connection, outbox);
    }

    /// Puts datagrams into QUIC's send buffer until it is full.
    pub(super) fn write_datagrams(&mut self, connection: &mut Connection<'_>, outbox: &mut Outbox) {
        let before = self.datagram_bytes_written;
        while let Some(datagram) = self.datagrams.pop_front() {
            let size = datagram_weight(datagram.len());
            match connection.send_datagram(datagram) {
                Err(SendDatagramError::Blocked(datagram)) => {
                    self.datagrams.push_front(datagram);
                    break;
                }
                // The path has become narrower in the meantime: lost, as datagrams may be.
                Ok(()) | Err(_) => self.datagram_bytes_written += size,
            }
        }
        if self.datagram_bytes_written != before {
            outbox.event(Event::DatagramsWritten(
                self.key,
                self.datagram_bytes_written,
            ));
        }
    }
}

#[cfg(test)]
impl Conn {
    pub(super) fn streams(&self) -> (usize, usize) {
        let reserved = self.streams.values().filter(|stream| stream.reserved);
        let reserved = reserved.count();
        (self.streams.len() - reserved, reserved)
    }

    pub(super) fn waiting(&self) -> usize {
        let streams = self.streams.values().map(Stream::waiting);
        streams.sum::<usize>() + self.datagrams.iter().map(Bytes::len).sum::<usize>()
    }
}
