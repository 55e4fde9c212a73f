//! The thread of a pool: it opens connections, watches them, and looks at the time. A caller who gives up does not stop
//! a connection from being opened: somebody else may want it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use slab::Slab;

use super::OpenError;
use super::opener::{Boxed, Opened, Opener};
use super::peer::OpenId;
use super::shared::Shared;
use super::slot::{PeerId, Slot, SlotId};

/// The time is not looked at more often: many callers whose waits end one after the other are told in groups.
const GRAIN: Duration = Duration::from_millis(5);

/// A future of the keeper, and what it says.
enum Work<C> {
    Open(PeerId, OpenId, Boxed<Result<Opened<C>, OpenError>>),
    Closed(PeerId, SlotId, Boxed<()>),
    Early(PeerId, SlotId, Boxed<bool>),
    Received(Arc<Slot<C>>, Boxed<Option<u64>>),
}

impl<C> Work<C> {
    fn slot(&self) -> Option<SlotId> {
        match self {
            Self::Open(..) => None,
            Self::Closed(_, slot, _) | Self::Early(_, slot, _) => Some(*slot),
            Self::Received(slot, _) => Some(slot.id),
        }
    }
}

struct Task<C> {
    work: Work<C>,
    waker: Waker,
}

/// The tasks that were woken.
#[derive(Default)]
struct Woken {
    tasks: Mutex<Vec<usize>>,
    keeper: std::sync::OnceLock<Thread>,
}

/// The waker of a task. One that outlives its task wakes another in vain.
struct TaskWaker {
    task: usize,
    /// Stands in the list.
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut tasks = (self.woken.tasks.lock()).unwrap_or_else(PoisonError::into_inner);
        tasks.push(self.task);
        drop(tasks);
        if let Some(keeper) = self.woken.keeper.get() {
            keeper.unpark();
        }
    }
}

/// Closes the pool when it is dropped.
struct CloseAtEnd<O: Opener>(Arc<Shared<O>>);

impl<O: Opener> Drop for CloseAtEnd<O> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// See the module.
pub(super) struct Keeper<O: Opener> {
    shared: Arc<Shared<O>>,
    tasks: Slab<(Task<O::Connection>, Arc<TaskWaker>)>,
    woken: Arc<Woken>,
}

impl<O: Opener> Keeper<O> {
    pub fn new(shared: Arc<Shared<O>>) -> Self {
        Self {
            shared,
            tasks: Slab::new(),
            woken: Arc::default(),
        }
    }

    /// Runs it on a thread of its own until `stop` is set and the thread unparked.
    pub fn spawn(mut self, stop: Arc<AtomicBool>) -> io::Result<Thread> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name("stoq-pool".to_owned())
            .spawn(move || {
                let _ = self.woken.keeper.set(thread::current());
                // However it ends, nobody waits in vain.
                let _closed = CloseAtEnd(Arc::clone(&self.shared));
                while !stop.load(Ordering::Acquire) {
                    let now = self.shared.opener.now();
                    match self.turn(now) {
                        Some(due) => {
                            thread::park_timeout(due.saturating_duration_since(now).max(GRAIN));
                        }
                        None => thread::park(),
                    }
                }
            })?
            .thread()
            .clone();
        shared.set_keeper(thread.clone());
        // It may have begun to wait before anybody could rouse it.
        thread.unpark();
        Ok(thread)
    }

    /// Does what there is to do. Returns when to come again, if nothing happens before.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        self.poll_woken(now);
        let due = self.shared.with_state(|state| {
            if state.due.is_some_and(|due| due <= now) {
                state.sweep(now);
            }
            state.due
        });
        self.do_chores(now);
        due
    }

    #[cfg(test)]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn do_chores(&mut self, now: Instant) {
        let chores = self.shared.take_chores();
        for order in chores.open {
            let future = self.shared.opener.open(&order.key, order.shard);
            self.start(now, Work::Open(order.peer, order.id, future));
        }
        for slot in chores.ask {
            let future = self.shared.opener.received(slot.connection());
            self.start(now, Work::Received(slot, future));
        }
        for id in chores.abandon {
            self.stop(|work| matches!(work, Work::Open(_, open, _) if *open == id));
        }
        for id in chores.forget {
            self.stop(|work| work.slot() == Some(id));
        }
    }

    fn start(&mut self, now: Instant, work: Work<O::Connection>) {
        let entry = self.tasks.vacant_entry();
        let task = entry.key();
        let waker = Arc::new(TaskWaker {
            task,
            listed: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        entry.insert((
            Task {
                work,
                waker: Waker::from(Arc::clone(&waker)),
            },
            waker,
        ));
        self.poll(now, task);
    }

    fn stop(&mut self, which: impl Fn(&Work<O::Connection>) -> bool) {
        self.tasks.retain(|_, (task, _)| !which(&task.work));
    }

    fn poll_woken(&mut self, now: Instant) {
        let mut tasks = self
            .woken
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let woken = std::mem::take(&mut *tasks);
        drop(tasks);
        for task in woken {
            self.poll(now, task);
        }
    }

    fn poll(&mut self, now: Instant, key: usize) {
        let Some((task, waker)) = self.tasks.get_mut(key) else {
            return;
        };
        waker.listed.store(false, Ordering::Release);
        let mut context = Context::from_waker(&task.waker);
        match &mut task.work {
            Work::Open(peer, id, future) => {
                let (peer, id) = (*peer, *id);
                if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
                    self.tasks.remove(key);
                    self.opened(now, peer, id, result);
                }
            }
            Work::Closed(peer, slot, future) => {
                let (peer, slot) = (*peer, *slot);
                if future.as_mut().poll(&mut context).is_ready() {
                    self.tasks.remove(key);
                    self.shared.with_state(|state| state.ended(now, peer, slot));
                }
            }
            Work::Early(peer, slot, future) => {
                let (peer, slot) = (*peer, *slot);
                if let Poll::Ready(accepted) = future.as_mut().poll(&mut context) {
                    self.tasks.remove(key);
                    (self.shared).with_state(|state| state.confirmed(now, peer, slot, accepted));
                }
            }
            Work::Received(slot, future) => {
                let slot = Arc::clone(slot);
                if let Poll::Ready(received) = future.as_mut().poll(&mut context) {
                    self.tasks.remove(key);
                    self.received(now, &slot, received);
                }
            }
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: OpenId,
        result: Result<Opened<O::Connection>, OpenError>,
    ) {
        let opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                (self.shared).with_state(|state| state.failed(now, peer, id, error));
                return;
            }
        };
        let early = opened.early.is_some();
        let slot = self
            .shared
            .with_state(|state| state.opened(now, peer, id, opened.connection, early));
        let Ok(slot) = slot else {
            return;
        };
        // One that is evicted already is forgotten with the chores, which are yet to come.
        let closed = self.shared.opener.closed(slot.connection());
        self.start(now, Work::Closed(peer, slot.id, closed));
        if let Some(early) = opened.early {
            self.start(now, Work::Early(peer, slot.id, early));
        }
    }

    fn received(&mut self, now: Instant, slot: &Arc<Slot<O::Connection>>, received: Option<u64>) {
        // Without figures it is over, and that is heard of elsewhere.
        let Some(received) = received else {
            return;
        };
        let ping = self
            .shared
            .with_state(|state| state.examined(now, slot.peer, slot.id, received));
        if ping {
            self.shared.opener.ping(slot.connection());
        }
    }
}
