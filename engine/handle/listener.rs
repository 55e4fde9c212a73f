//! Listeners.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::command::Command;
use super::connection::Connection;
use super::link::Link;
use super::waiters::{Place, Waiters, wake};

/// Connections that clients make to a UDP port, on all shards of the engine.
///
/// Dropped or [closed](Self::close), newcomers are refused; connections that were accepted go on.
pub struct Listener {
    inner: Arc<ListenerInner>,
    links: Vec<Arc<Link>>,
}

/// What a listener and the couriers share.
pub(super) struct ListenerInner {
    udp_port: u16,
    backlog: usize,
    turned_away: AtomicU64,
    state: Mutex<State>,
}

struct State {
    ready: VecDeque<Connection>,
    waiters: Waiters,
    /// Shards that may still bring connections.
    shards: usize,
}

impl Listener {
    pub(super) fn new(inner: Arc<ListenerInner>, links: Vec<Arc<Link>>) -> Self {
        Self { inner, links }
    }

    /// The next connection: its handshake is complete, unless the configuration takes 0-RTT data. `None` when the
    /// listener was closed, or the engine has stopped. Cancel-safe.
    pub fn accept(&self) -> AcceptConnection {
        AcceptConnection {
            listener: Arc::clone(&self.inner),
            place: Place::default(),
        }
    }

    /// The UDP port.
    pub fn udp_port(&self) -> u16 {
        self.inner.udp_port
    }

    /// Connections that were closed at once because as many waited as the
    /// [backlog](super::ServerConfig::backlog) permits.
    pub fn turned_away(&self) -> u64 {
        self.inner.turned_away.load(Ordering::Relaxed)
    }

    /// Refuses newcomers from now on. Connections that wait are still handed out, then [`accept`](Self::accept) says
    /// `None`.
    pub fn close(&self) {
        for link in &self.links {
            link.send(Command::Unlisten(Arc::clone(&self.inner)));
        }
        self.inner.end(usize::MAX);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
        self.inner.abandon();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("udp_port", &self.udp_port())
            .finish_non_exhaustive()
    }
}

impl ListenerInner {
    pub(super) fn new(udp_port: u16, backlog: usize, shards: usize) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiters: Waiters::default(),
            shards,
        };
        Self {
            udp_port,
            backlog,
            turned_away: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    pub(super) fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// A connection has come.
    pub(super) fn offer(&self, connection: Connection, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        if state.shards == 0 {
            drop(state);
            return; // Which closes it.
        }
        if state.ready.len() >= self.backlog {
            self.turn_away();
            drop(state);
            return;
        }
        state.ready.push_back(connection);
        state.waiters.wake(1, wakers);
    }

    /// Counts a connection that is closed because too much waits.
    pub(super) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// So many shards bring no connections any more.
    pub(super) fn end(&self, shards: usize) {
        let mut wakers = Vec::new();
        let mut state = self.state();
        state.shards = state.shards.saturating_sub(shards);
        if state.shards == 0 {
            state.waiters.wake_all(&mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(wake);
    }

    /// Nobody will accept what waits.
    fn abandon(&self) {
        let waiting = std::mem::take(&mut self.state().ready);
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future of [`Listener::accept`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct AcceptConnection {
    listener: Arc<ListenerInner>,
    place: Place,
}

impl Future for AcceptConnection {
    type Output = Option<Connection>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Connection>> {
        let Self { listener, place } = &mut *self;
        let mut state = listener.state();
        if let Some(connection) = state.ready.pop_front() {
            state.waiters.leave(place);
            return Poll::Ready(Some(connection));
        }
        if state.shards == 0 {
            return Poll::Ready(None);
        }
        state.waiters.register(place, context);
        Poll::Pending
    }
}

impl Drop for AcceptConnection {
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let mut state = self.listener.state();
        let there = !state.ready.is_empty();
        let next = state.waiters.give_up(&mut self.place, there);
        drop(state);
        next.into_iter().for_each(wake);
    }
}
