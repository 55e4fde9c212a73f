//! What becomes of a shard's events: queues behind the handles are filled, and tasks are woken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use crossbeam_channel::Sender;
use quinn_proto::{Side, StreamId, VarInt};

use super::ConnectionError;
use super::command::Command;
use super::connection::Connection;
use super::event::{Agreed, Batch, Event};
use super::inner::{End, Inner, Phase, State, Stream};
use super::link::Link;
use super::listener::ListenerInner;
use super::waiters::wake;
use crate::app::ConnectionKey;

/// One shard's handles, and what brings them its events.
pub(super) struct Round {
    link: Arc<Link>,
    /// Empty batches go back, so that the shard allocates none.
    empty: Sender<Box<Batch>>,
    /// By index of the key. The shard gives an index away again only after the connection has closed.
    connections: Vec<Option<Arc<Inner>>>,
    /// Those that this shard brings connections.
    listeners: Vec<Weak<ListenerInner>>,
    wakers: Vec<Waker>,
    ended: bool,
}

impl Round {
    pub(super) fn new(link: Arc<Link>, empty: Sender<Box<Batch>>) -> Self {
        Self {
            link,
            empty,
            connections: Vec::new(),
            listeners: Vec::new(),
            wakers: Vec::new(),
            ended: false,
        }
    }

    /// Delivers a batch, then wakes those it is for.
    pub(super) fn deliver(&mut self, mut batch: Box<Batch>) {
        let mut chunks = batch.chunks.drain(..);
        for event in batch.events.drain(..) {
            self.on_event(event, &mut chunks);
        }
        drop(chunks);
        self.wake();
        // Full or closed: one batch less to keep.
        let _ = self.empty.try_send(batch);
    }

    /// The shard has ended: everybody hears of it.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.link.stop(&mut self.wakers);
        for connection in std::mem::take(&mut self.connections).into_iter().flatten() {
            self.closed(&connection, ConnectionError::EngineStopped);
        }
        for listener in self.listeners.drain(..) {
            if let Some(listener) = listener.upgrade() {
                listener.end(1);
            }
        }
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Looks after its tasks after each event, as those may that run meanwhile.
    #[cfg(test)]
    pub(super) fn deliver_slowly(&mut self, batch: &mut Batch, mut meanwhile: impl FnMut()) {
        let mut chunks = std::mem::take(&mut batch.chunks).into_iter();
        for event in batch.events.drain(..) {
            self.on_event(event, &mut chunks);
            meanwhile();
        }
        assert_eq!(chunks.count(), 0, "chunks belong to events");
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            wake(waker);
        }
    }

    fn on_event(&mut self, event: Event, chunks: &mut impl Iterator<Item = Bytes>) {
        match event {
            Event::Room => self.link.room(&mut self.wakers),
            Event::Listened {
                listener,
                reply,
                result,
            } => {
                if result.is_ok() {
                    self.listeners.retain(|known| known.strong_count() > 0);
                    self.listeners.push(Arc::downgrade(&listener));
                }
                let _ = reply.send(result);
            }
            Event::Begun(key, unbegun) => self.begun(key, unbegun.answer()),
            Event::NotBegun(unbegun, error) => {
                unbegun.answer().close(error, &mut self.wakers);
            }
            Event::Connected {
                key,
                early,
                agreed: known,
            } => self.on(key, |inner, state, wakers| {
                state.phase = phase(early);
                // Of nothing, nothing is refused.
                state.accepted_early = !early;
                agreed(inner, early, *known);
                state.phase_waiters.wake_all(wakers);
            }),
            Event::Accepted {
                key,
                listener,
                remote,
                max_datagram,
                early,
                agreed: known,
            } => {
                let inner = Inner::new(Arc::clone(&self.link), Side::Server, remote);
                let _ = inner.key.set(key);
                inner.set_max_datagram(max_datagram);
                agreed(&inner, early, *known);
                let mut state = inner.state();
                state.phase = phase(early);
                state.accepted_early = !early;
                drop(state);
                self.accepted(key, Arc::new(inner), &listener);
            }
            Event::HandshakeDone {
                key,
                accepted,
                agreed: known,
            } => self.on(key, |inner, state, wakers| {
                state.phase = Phase::Established;
                state.accepted_early = accepted;
                agreed(inner, false, *known);
                if !accepted && inner.side == Side::Client {
                    inner.epoch.fetch_add(1, Ordering::Release);
                    inner.alarm();
                    state.forget_streams(wakers);
                }
                state.phase_waiters.wake_all(wakers);
            }),
            Event::Moved(key, remote) => self.on(key, |_, state, _| state.remote = remote),
            Event::MaxDatagram(key, size) => self.on(key, |inner, _, _| {
                inner.set_max_datagram(size);
            }),
            Event::Reserved(key, dir, count) => self.on(key, |_, state, wakers| {
                let opening = state.opening(dir);
                opening.end += u64::from(count);
                opening.asked = opening.asked.saturating_sub(count);
                opening.waiters.wake(count as usize, wakers);
            }),
            Event::Opened(key, id) => self.on(key, |inner, state, wakers| {
                state.streams.insert(id, Stream::new(id, inner.side));
                let accepting = state.accepting(id.dir());
                accepting.ready.push_back(id);
                accepting.waiters.wake(1, wakers);
            }),
            Event::Data(key, id, count) => {
                let mut taken = chunks.by_ref().take(count);
                self.on_stream(key, id, |_, stream, wakers| {
                    if stream.receiver {
                        stream.chunks.extend(&mut taken);
                        wakers.extend(stream.reader.take());
                    }
                });
                taken.for_each(drop);
            }
            Event::Finished(key, id) => self.ended(key, id, End::Finished),
            Event::Reset(key, id, code) => self.ended(key, id, End::Reset(code)),
            Event::Written(key, id, total) => self.on_stream(key, id, |_, stream, wakers| {
                stream.written = total;
                wakers.extend(stream.writer.take());
            }),
            Event::Acknowledged(key, id) => self.on_stream(key, id, |_, stream, wakers| {
                stream.acknowledged = true;
                wakers.extend(stream.stop_waiter.take());
            }),
            Event::Stopped(key, id, code) => self.stopped(key, id, code),
            Event::Datagrams(key, count) => {
                let mut taken = chunks.by_ref().take(count);
                self.on(key, |_, state, wakers| {
                    state.datagrams.extend(&mut taken);
                    state.datagram_waiters.wake(count, wakers);
                });
                taken.for_each(drop);
            }
            Event::DatagramsWritten(key, total) => self.on(key, |_, state, wakers| {
                state.datagram_bytes_written = total;
                state.datagram_room_waiters.wake_all(wakers);
            }),
            Event::Stats(reply, Some(stats)) => {
                let _ = reply.send(*stats);
            }
            Event::Stats(reply, None) => drop(reply),
            Event::Closed(key, reason) => {
                let slot = self.connections.get_mut(key.index as usize);
                if let Some(inner) = slot.and_then(Option::take) {
                    self.closed(&inner, reason);
                }
            }
        }
    }

    /// A connection of ours has a key: what its handles want of it can be told to the shard.
    fn begun(&mut self, key: ConnectionKey, inner: Arc<Inner>) {
        let state = inner.state();
        let _ = inner.key.set(key);
        let abandoned = state.abandoned;
        drop(state);
        if abandoned {
            self.link
                .send(Command::Close(key, VarInt::from_u32(0), Bytes::new()));
        }
        self.insert(key, inner);
    }

    /// What is unread stays readable, and holds no packet memory any more: who knows when it is read, and the engine may
    /// end meanwhile.
    fn closed(&mut self, inner: &Inner, reason: ConnectionError) {
        inner.close(reason, &mut self.wakers);
        inner.state().detach();
    }

    fn accepted(&mut self, key: ConnectionKey, inner: Arc<Inner>, listener: &ListenerInner) {
        self.insert(key, Arc::clone(&inner));
        // Dropped, and so closed, when too many wait or nobody listens any more.
        listener.offer(Connection::new(inner), &mut self.wakers);
    }

    fn insert(&mut self, key: ConnectionKey, inner: Arc<Inner>) {
        let index = key.index as usize;
        if self.connections.len() <= index {
            self.connections.resize(index + 1, None);
        }
        self.connections[index] = Some(inner);
    }

    fn on(&mut self, key: ConnectionKey, apply: impl FnOnce(&Inner, &mut State, &mut Vec<Waker>)) {
        let slot = self.connections.get(key.index as usize);
        if let Some(Some(inner)) = slot {
            let mut state = inner.state();
            apply(inner, &mut state, &mut self.wakers);
        }
    }

    /// What happened on a stream that no handle is for any more concerns nobody.
    fn on_stream(
        &mut self,
        key: ConnectionKey,
        id: StreamId,
        apply: impl FnOnce(&Inner, &mut Stream, &mut Vec<Waker>),
    ) {
        self.on(key, |inner, state, wakers| {
            if let Some(stream) = state.stream(id, inner.side) {
                apply(inner, stream, wakers);
            }
        });
    }

    fn ended(&mut self, key: ConnectionKey, id: StreamId, end: End) {
        self.on_stream(key, id, |_, stream, wakers| {
            stream.end = Some(end);
            wakers.extend(stream.reader.take());
        });
    }

    fn stopped(&mut self, key: ConnectionKey, id: StreamId, code: VarInt) {
        self.on_stream(key, id, |inner, stream, wakers| {
            stream.stopped = Some(code);
            inner.alarm();
            wakers.extend(stream.writer.take());
            wakers.extend(stream.stop_waiter.take());
        });
    }
}

fn phase(early: bool) -> Phase {
    match early {
        true => Phase::Early,
        false => Phase::Established,
    }
}

/// What was agreed on is kept once it is final.
fn agreed(inner: &Inner, early: bool, agreed: Agreed) {
    if !early {
        let _ = inner.agreed.set(agreed);
    }
}
