//! What handles of one connection and the courier share.
//!
//! The courier fills it from the shard's events; handles take from it. The shard itself never sees it.

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId, VarInt};
use rustc_hash::FxHashMap;

use super::ConnectionError;
use super::event::Agreed;
use super::link::Link;
use super::waiters::Waiters;
use crate::app::ConnectionKey;

/// A connection as its handles see it.
pub(super) struct Inner {
    pub(super) link: Arc<Link>,
    pub(super) side: Side,
    /// Known once the shard has begun the connection.
    pub(super) key: OnceLock<ConnectionKey>,
    /// Known once the handshake is complete.
    pub(super) agreed: OnceLock<Agreed>,
    /// See [`StreamRef`](super::command::StreamRef::epoch).
    pub(super) epoch: AtomicU8,
    /// Counts what makes a stream unfit for writing, so that writers look at the state only when it has changed.
    pub(super) alarms: AtomicU32,
    /// The largest unreliable datagram in bytes; 0 before the handshake; [`NO_DATAGRAMS`] when the peer takes none.
    pub(super) max_datagram: AtomicUsize,
    /// Set after [`State::closed`], for those who only ask whether.
    pub(super) gone: AtomicBool,
    state: Mutex<State>,
}

/// The peer takes no unreliable datagrams.
pub(super) const NO_DATAGRAMS: usize = usize::MAX;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake runs.
    Handshaking,
    /// The handshake runs, and 0-RTT data may be sent (client) or is received (server).
    Early,
    /// The handshake is complete.
    Established,
}

/// The part of [`Inner`] behind its lock.
pub(super) struct State {
    pub(super) phase: Phase,
    /// Whether what was sent before the end of the handshake counts: also when nothing was.
    pub(super) accepted_early: bool,
    /// All handles were dropped before the key was known.
    pub(super) abandoned: bool,
    pub(super) remote: SocketAddrV6,
    pub(super) closed: Option<ConnectionError>,
    /// Who waits for the handshake, or for the end.
    pub(super) phase_waiters: Waiters,
    pub(super) close_waiters: Waiters,
    /// By direction.
    pub(super) opening: [Opening; 2],
    pub(super) accepting: [Accepting; 2],
    pub(super) datagrams: VecDeque<Bytes>,
    pub(super) datagrams_taken: Taken,
    pub(super) datagram_waiters: Waiters,
    /// Bytes of datagrams that handles sent, and that the shard wrote.
    pub(super) datagram_bytes_sent: u64,
    pub(super) datagram_bytes_written: u64,
    pub(super) datagram_room_waiters: Waiters,
    pub(super) streams: FxHashMap<StreamId, Stream>,
}

/// Streams of ours that are open and not in use yet: their indices.
#[derive(Default)]
pub(super) struct Opening {
    pub(super) next: u64,
    pub(super) end: u64,
    /// How many more were asked for.
    pub(super) asked: u32,
    pub(super) waiters: Waiters,
}

/// Streams of the peer that nobody has accepted yet.
#[derive(Default)]
pub(super) struct Accepting {
    pub(super) ready: VecDeque<StreamId>,
    pub(super) taken: Taken,
    pub(super) waiters: Waiters,
}

/// How many of the things that may wait were taken since credit for them was given.
#[derive(Default)]
pub(super) struct Taken(u32);

impl Taken {
    /// One more is taken, of as many as may wait. Credit is given by quarters of that: how much is due now.
    pub(super) fn take_one(&mut self, limit: u32) -> u32 {
        self.0 += 1;
        match self.0 >= (limit / 4).max(1) {
            true => std::mem::take(&mut self.0),
            false => 0,
        }
    }
}

/// A stream that at least one handle is for, or that waits to be accepted.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) sender: bool,
    pub(super) receiver: bool,
    /// What has come and was not taken.
    pub(super) chunks: VecDeque<Bytes>,
    pub(super) end: Option<End>,
    pub(super) reader: Option<Waker>,
    /// Bytes that the shard has written.
    pub(super) written: u64,
    pub(super) stopped: Option<VarInt>,
    pub(super) acknowledged: bool,
    pub(super) writer: Option<Waker>,
    pub(super) stop_waiter: Option<Waker>,
}

/// How a received stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer finished it.
    Finished,
    /// The peer reset it.
    Reset(VarInt),
}

impl Inner {
    pub(super) fn new(link: Arc<Link>, side: Side, remote: SocketAddrV6) -> Self {
        Self {
            link,
            side,
            key: OnceLock::new(),
            agreed: OnceLock::new(),
            epoch: AtomicU8::new(0),
            alarms: AtomicU32::new(0),
            max_datagram: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            state: Mutex::new(State::new(remote)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest unreliable datagram in bytes; nothing: none may be sent.
    pub(super) fn set_max_datagram(&self, size: Option<usize>) {
        let size = size.unwrap_or(NO_DATAGRAMS);
        self.max_datagram.store(size, Ordering::Release);
    }

    /// Something happened that makes a stream unfit for writing.
    pub(super) fn alarm(&self) {
        self.alarms.fetch_add(1, Ordering::Release);
    }

    /// The connection is gone: everybody hears of it. False when they have before.
    pub(super) fn close(&self, reason: ConnectionError, wakers: &mut Vec<Waker>) -> bool {
        let mut state = self.state();
        if state.closed.is_some() {
            return false;
        }
        state.closed = Some(reason);
        self.gone.store(true, Ordering::Release);
        self.alarm();
        state.wake_everybody(wakers);
        true
    }
}

impl State {
    fn new(remote: SocketAddrV6) -> Self {
        Self {
            phase: Phase::Handshaking,
            accepted_early: false,
            abandoned: false,
            remote,
            closed: None,
            phase_waiters: Waiters::default(),
            close_waiters: Waiters::default(),
            opening: Default::default(),
            accepting: Default::default(),
            datagrams: VecDeque::new(),
            datagrams_taken: Taken::default(),
            datagram_waiters: Waiters::default(),
            datagram_bytes_sent: 0,
            datagram_bytes_written: 0,
            datagram_room_waiters: Waiters::default(),
            streams: FxHashMap::default(),
        }
    }

    /// Streams in a direction that we open.
    pub(super) fn opening(&mut self, dir: Dir) -> &mut Opening {
        &mut self.opening[dir as usize]
    }

    /// Streams in a direction that the peer opens.
    pub(super) fn accepting(&mut self, dir: Dir) -> &mut Accepting {
        &mut self.accepting[dir as usize]
    }

    /// A stream that a handle is for, or that may still get one: one that was opened ahead the peer takes for open when
    /// a later one is used (RFC 9000 §3.2), and it may use it first.
    pub(super) fn stream(&mut self, id: StreamId, side: Side) -> Option<&mut Stream> {
        let opening = &self.opening[id.dir() as usize];
        let ahead = opening.next..opening.end;
        if id.initiator() == side && ahead.contains(&id.index()) {
            let stream = || Stream::new(id, side);
            return Some(self.streams.entry(id).or_insert_with(stream));
        }
        self.streams.get_mut(&id)
    }

    /// 0-RTT data was refused: its streams are gone, and those who wait for something on them hear of it.
    pub(super) fn forget_streams(&mut self, wakers: &mut Vec<Waker>) {
        for stream in self.streams.values_mut() {
            stream.wake(wakers);
        }
        self.streams.clear();
        for opening in &mut self.opening {
            opening.next = 0;
            opening.end = 0;
            opening.asked = 0;
            opening.waiters.wake_all(wakers);
        }
        self.datagram_bytes_sent = 0;
        self.datagram_bytes_written = 0;
        self.datagram_room_waiters.wake_all(wakers);
    }

    fn wake_everybody(&mut self, wakers: &mut Vec<Waker>) {
        self.phase_waiters.wake_all(wakers);
        self.close_waiters.wake_all(wakers);
        self.datagram_waiters.wake_all(wakers);
        self.datagram_room_waiters.wake_all(wakers);
        for opening in &mut self.opening {
            opening.waiters.wake_all(wakers);
        }
        for accepting in &mut self.accepting {
            accepting.waiters.wake_all(wakers);
        }
        for stream in self.streams.values_mut() {
            stream.wake(wakers);
        }
    }

    /// Copies what nobody has read out of packet memory.
    pub(super) fn detach(&mut self) {
        let copy = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
        self.datagrams.iter_mut().for_each(copy);
        for stream in self.streams.values_mut() {
            stream.chunks.iter_mut().for_each(copy);
        }
    }
}

impl Stream {
    /// A stream with handles for what `id` allows on `side`.
    pub(super) fn new(id: StreamId, side: Side) -> Self {
        let ours = id.initiator() == side;
        Self {
            sender: id.dir() == Dir::Bi || ours,
            receiver: id.dir() == Dir::Bi || !ours,
            ..Self::default()
        }
    }

    fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
        wakers.extend(self.stop_waiter.take());
    }
}
