//! What the handles of a pool and its keeper share, and the way of a call that asks for a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread::Thread;

use super::config::PoolConfig;
use super::opener::Opener;
use super::peer::WaiterKey;
use super::roster::{Directory, Drawn, Roster};
use super::slot::{Held, Home, PeerId};
use super::state::{Chores, Got, Outbox, State};
use super::{PeerKey, PoolError, PoolStats};
use crate::handle::waiters::wake;

pub(super) struct Shared<O: Opener> {
    pub(super) opener: O,
    state: Mutex<State<O::Connection>>,
    directory: Arc<Directory<O::Connection>>,
    keeper: OnceLock<Thread>,
    leases_max: usize,
    open_at: usize,
}

type Outcome<O> = Result<Held<<O as Opener>::Connection>, PoolError>;

impl<O: Opener> Shared<O> {
    /// `config` must have been checked. `seed` is for jitter.
    pub fn new(opener: O, config: PoolConfig, seed: u64) -> Arc<Self> {
        let config = Arc::new(config);
        Arc::new_cyclic(|home: &std::sync::Weak<Self>| {
            let directory = Arc::<Directory<O::Connection>>::default();
            Self {
                state: Mutex::new(State::new(
                    Arc::clone(&config),
                    Arc::clone(&directory),
                    home.clone(),
                    seed,
                )),
                opener,
                directory,
                keeper: OnceLock::new(),
                leases_max: config.leases_per_connection,
                open_at: config.open_at,
            }
        })
    }

    /// Whom to rouse when there is something to do that callers do not do themselves.
    pub fn set_keeper(&self, thread: Thread) {
        let _ = self.keeper.set(thread);
    }

    pub fn peer(&self, key: &PeerKey) -> Result<Arc<Roster<O::Connection>>, PoolError> {
        if let Some(roster) = self.directory.with(key, Arc::clone) {
            return Ok(roster);
        }
        let shards = self.opener.shards(key);
        self.with_state(|state| state.register(self.opener.now(), key, shards))
    }

    /// A lease by the key of the peer.
    pub async fn get_by_key(self: &Arc<Self>, key: &PeerKey) -> Outcome<O> {
        // The usual way counts no reference to the peer. What takes the state's lock is done after the directory's.
        let drawn = (self.directory).with(key, |roster| roster.draw(self.leases_max, self.open_at));
        match drawn {
            Some(Drawn::Lent { held, grow: false }) => Ok(held),
            Some(Drawn::Lent { held, grow: true }) => {
                self.grow(held.slot().peer);
                Ok(held)
            }
            Some(Drawn::Broken(_) | Drawn::Full) | None => self.get(&self.peer(key)?).await,
        }
    }

    /// A lease, at once or when one is to be had.
    pub async fn get(self: &Arc<Self>, roster: &Arc<Roster<O::Connection>>) -> Outcome<O> {
        if let Some(held) = self.try_get(roster) {
            return Ok(held);
        }
        match self.with_state(|state| state.get(self.opener.now(), roster.id)) {
            Got::Lease(held) => Ok(held),
            Got::Refused(error) => Err(error),
            Got::Wait(waiter) => {
                Waiting {
                    shared: self,
                    waiter: Some(waiter),
                }
                .await
            }
        }
    }

    /// A lease if a connection has room.
    pub fn try_get(&self, roster: &Roster<O::Connection>) -> Option<Held<O::Connection>> {
        match roster.draw(self.leases_max, self.open_at) {
            Drawn::Lent { held, grow: false } => Some(held),
            Drawn::Full => None,
            other => self.finish(roster, other),
        }
    }

    /// The seldom ends of a look for a connection.
    #[cold]
    fn finish(
        &self,
        roster: &Roster<O::Connection>,
        mut drawn: Drawn<O::Connection>,
    ) -> Option<Held<O::Connection>> {
        loop {
            match drawn {
                Drawn::Full => return None,
                Drawn::Lent { held, grow } => {
                    if grow {
                        self.grow(roster.id);
                    }
                    return Some(held);
                }
                Drawn::Broken(slot) => {
                    self.with_state(|state| state.ended(self.opener.now(), slot.peer, slot.id));
                    drawn = roster.draw(self.leases_max, self.open_at);
                }
            }
        }
    }

    #[cold]
    fn grow(&self, peer: PeerId) {
        self.with_state(|state| state.grow(self.opener.now(), peer));
    }

    pub fn stats(&self) -> PoolStats {
        self.with_state(|state| state.stats())
    }

    pub fn close(&self) {
        self.with_state(|state| state.close(self.opener.now()));
    }

    pub fn take_chores(&self) -> Chores<O::Connection> {
        self.with_state(|state| std::mem::take(&mut state.chores))
    }

    /// Runs `change` under the lock, and what it leaves to be done outside after it.
    pub fn with_state<R>(&self, change: impl FnOnce(&mut State<O::Connection>) -> R) -> R {
        let (result, outbox) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut state);
            (result, std::mem::take(&mut state.outbox))
        };
        self.carry_out(outbox);
        result
    }

    fn carry_out(&self, outbox: Outbox<O::Connection>) {
        if outbox.rouse
            && let Some(keeper) = self.keeper.get()
        {
            keeper.unpark();
        }
        for slot in outbox.unhealthy {
            self.opener.give_up(slot.connection());
        }
        drop((outbox.buried, outbox.stale));
        for waker in outbox.wakers {
            wake(waker);
        }
    }
}

impl<O: Opener> Home for Shared<O> {
    fn returned(&self, peer: PeerId) {
        self.with_state(|state| state.returned(self.opener.now(), peer));
    }
}

/// Somebody who waits for a connection. Given up when this is dropped.
struct Waiting<'a, O: Opener> {
    shared: &'a Shared<O>,
    /// Until it is ready.
    waiter: Option<WaiterKey>,
}

impl<O: Opener> Future for Waiting<'_, O> {
    type Output = Outcome<O>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(waiter) = self.waiter else {
            return Poll::Ready(Err(PoolError::Closed));
        };
        let outcome = self.shared.with_state(|state| state.poll(waiter, context));
        if outcome.is_ready() {
            self.waiter = None;
        }
        outcome
    }
}

impl<O: Opener> Drop for Waiting<'_, O> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            let found = self
                .shared
                .with_state(|state| state.cancel(self.shared.opener.now(), waiter));
            drop(found);
        }
    }
}
