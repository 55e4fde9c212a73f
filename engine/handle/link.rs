//! The way from handles to a shard: one bounded queue of commands, and who waits for room in it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::command::Command;
use super::limits::HandleLimits;
use super::waiters::{Place, Waiters};

/// The end of handles: they send commands to a shard.
///
/// Who writes asks for room first ([`poll_room`](Self::poll_room)), and waits without it. What must not wait (finishing
/// a stream, closing a connection, credit) is sent in any case: when the queue is full it stands behind the queue, and
/// the courier brings it over when there is room. How much can stand there is bounded by the handles there are: each
/// has at most one of each kind under way.
pub(super) struct Link {
    commands: Sender<Command>,
    /// The other end, for what the shard has left in the queue.
    left: Receiver<Command>,
    pub(super) limits: HandleLimits,
    /// Asks the shard to say when the queue has room.
    wanted: Arc<AtomicBool>,
    /// Commands stand behind the queue.
    congested: AtomicBool,
    /// The shard has ended.
    stopped: AtomicBool,
    behind: Mutex<Behind>,
}

#[derive(Default)]
struct Behind {
    commands: VecDeque<Command>,
    waiters: Waiters,
    /// Commands that stood there at a time.
    #[cfg(test)]
    most: usize,
}

/// The end of the shard.
pub(super) struct Commands {
    pub(super) queue: Receiver<Command>,
    wanted: Arc<AtomicBool>,
}

/// The shard has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// A way to a shard.
pub(super) fn link(limits: HandleLimits) -> (Arc<Link>, Commands) {
    let (commands, queue) = bounded(limits.commands);
    let wanted = Arc::<AtomicBool>::default();
    let link = Link {
        commands,
        left: queue.clone(),
        limits,
        wanted: Arc::clone(&wanted),
        congested: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        behind: Mutex::default(),
    };
    (Arc::new(link), Commands { queue, wanted })
}

impl Commands {
    /// True once after somebody found the queue full: it has room now, and that has to be told.
    #[inline]
    pub(super) fn room_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::AcqRel)
    }
}

impl Link {
    /// Ready when the queue had room a moment ago.
    #[inline]
    pub(super) fn poll_room(
        &self,
        context: &Context<'_>,
        place: &mut Place,
    ) -> Poll<Result<(), Stopped>> {
        if self.is_stopped() {
            return Poll::Ready(Err(Stopped));
        }
        if !self.is_full() {
            if place.is_taken() {
                self.leave(place);
            }
            return Poll::Ready(Ok(()));
        }
        let mut behind = self.behind();
        // The courier says that it has stopped before it looks at the waiters for the last time.
        if self.is_stopped() {
            return Poll::Ready(Err(Stopped));
        }
        behind.waiters.register(place, context);
        self.wanted.store(true, Ordering::Release);
        Poll::Pending
    }

    /// True when whoever can wait should.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.congested.load(Ordering::Acquire) || self.commands.is_full()
    }

    /// True when so many commands stand behind the queue that none is to be added without need.
    pub(super) fn is_swamped(&self) -> bool {
        let congested = self.congested.load(Ordering::Acquire);
        congested && self.behind().commands.len() >= self.limits.commands
    }

    /// True when the shard has ended.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        // Who has sent a command looks after that whether the shard has ended, and who says that it has looks for
        // commands after that: one of the two sees the other.
        self.stopped.load(Ordering::SeqCst)
    }

    /// Gives up a place among those who wait for room.
    pub(super) fn leave(&self, place: &mut Place) {
        self.behind().waiters.leave(place);
    }

    /// Sends a command, behind the queue if that is full. After the shard's end it does nothing.
    #[inline]
    pub(super) fn send(&self, command: Command) {
        let command = match self.congested.load(Ordering::Acquire) {
            true => command,
            false => match self.commands.try_send(command) {
                Ok(()) if self.is_stopped() => return self.discard(),
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(command)) => command,
            },
        };
        self.send_behind(command);
    }

    #[cold]
    fn send_behind(&self, command: Command) {
        let mut behind = self.behind();
        if self.is_stopped() {
            return;
        }
        behind.commands.push_back(command);
        #[cfg(test)]
        {
            behind.most = behind.most.max(behind.commands.len());
        }
        self.congested.store(true, Ordering::Release);
        self.wanted.store(true, Ordering::Release);
    }

    /// The queue has room: what stands behind it moves up, and those who wait may go on.
    pub(super) fn room(&self, wakers: &mut Vec<Waker>) {
        let mut behind = self.behind();
        while let Some(command) = behind.commands.pop_front() {
            if let Err(TrySendError::Full(command)) = self.commands.try_send(command) {
                behind.commands.push_front(command);
                self.wanted.store(true, Ordering::Release);
                return;
            }
        }
        self.congested.store(false, Ordering::Release);
        behind.waiters.wake_all(wakers);
    }

    /// The shard has ended: nobody waits any more.
    pub(super) fn stop(&self, wakers: &mut Vec<Waker>) {
        self.stopped.store(true, Ordering::SeqCst);
        let mut behind = self.behind();
        behind.waiters.wake_all(wakers);
        let commands = std::mem::take(&mut behind.commands);
        drop(behind);
        // Some of them tell handles that they are not done, so not under the lock.
        drop(commands);
        self.discard();
    }

    /// Drops what nobody will do any more, so that those who wait for an answer hear that there is none.
    #[cold]
    fn discard(&self) {
        while self.left.try_recv().is_ok() {}
    }

    /// How many commands have stood behind the queue at a time.
    #[cfg(test)]
    pub(super) fn most_behind(&self) -> usize {
        self.behind().most
    }

    fn behind(&self) -> MutexGuard<'_, Behind> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ConnectionKey;

    fn credit(count: u32) -> Command {
        let key = ConnectionKey {
            index: 0,
            serial: 0,
        };
        Command::DatagramCredit(key, count)
    }

    fn received(commands: &Commands) -> Vec<u32> {
        let of = |command| match command {
            Command::DatagramCredit(_, count) => count,
            _ => unreachable!("nothing else was sent"),
        };
        commands.queue.try_iter().map(of).collect()
    }

    #[test]
    fn nothing_is_lost_and_the_order_is_kept_when_the_queue_is_full() {
        let limits = HandleLimits {
            commands: 2,
            ..HandleLimits::default()
        };
        let (link, commands) = link(limits);
        let context = Context::from_waker(Waker::noop());
        let mut place = Place::default();
        assert!(link.poll_room(&context, &mut place).is_ready());
        for count in 1..=5 {
            link.send(credit(count));
        }
        assert!(link.poll_room(&context, &mut place).is_pending());
        let mut all = received(&commands);
        assert!(commands.room_wanted() && !commands.room_wanted());
        // A sender that comes before the courier does not overtake.
        link.send(credit(6));
        let mut wakers = Vec::new();
        while all.len() < 6 {
            link.room(&mut wakers);
            all.extend(received(&commands));
        }
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
        assert!(commands.room_wanted(), "the courier asked again");
        link.room(&mut wakers);
        assert_eq!(wakers.len(), 1);
        assert!(link.poll_room(&context, &mut place).is_ready());
        link.send(credit(7));
        assert_eq!(received(&commands), [7]);
    }

    #[test]
    fn the_end_wakes_those_who_wait() {
        let limits = HandleLimits {
            commands: 1,
            ..HandleLimits::default()
        };
        let (link, commands) = link(limits);
        link.send(credit(1));
        let context = Context::from_waker(Waker::noop());
        let mut place = Place::default();
        assert!(link.poll_room(&context, &mut place).is_pending());
        let mut wakers = Vec::new();
        link.stop(&mut wakers);
        assert_eq!(wakers.len(), 1);
        assert_eq!(
            link.poll_room(&context, &mut place),
            Poll::Ready(Err(Stopped))
        );
        link.send(credit(2));
        assert!(received(&commands).is_empty(), "nothing is left lying");
    }
}
