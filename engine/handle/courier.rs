//! Couriers: they bring the events of shards to the handles.
//!
//! A shard hands over one batch a turn and goes on. What takes locks and wakes tasks happens here, off the lcores: on a
//! thread of the control plane, or wherever the program polls a [`Courier`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::event::Batch;
use super::round::Round;
use super::waiters::wake;

/// Batches of a shard that may wait for its courier. While as many wait, the next one grows.
const BATCHES: usize = 8;
/// Batches that a courier delivers before it lets other tasks run.
const BATCHES_A_POLL: usize = 8;

/// Brings the events of shards to their handles.
///
/// Usually the engine has [threads](crate::Builder::courier_threads) for that, and nobody sees this type. A program that
/// asks for it ([`courier_in_program`](crate::Builder::courier_in_program)) gets this future, and polls it where its
/// tasks run: then waking them costs no switch between threads. Nothing reaches the handles while it is not polled. When
/// it is dropped they find the engine stopped, and the shards close the connections of handles. It ends when the engine
/// does.
#[must_use = "handles hear nothing while nobody polls it"]
pub struct Courier {
    posts: Receiver<Post>,
    rounds: Vec<Round>,
    bell: Arc<Bell>,
    spins: bool,
}

/// What a shard hands over.
struct Post {
    /// Its index among the courier's shards.
    shard: usize,
    batch: Box<Batch>,
    /// Nothing follows.
    last: bool,
}

/// Wakes a courier that is a future, if it sleeps.
#[derive(Default)]
struct Bell {
    /// Nobody hears it any more.
    gone: AtomicBool,
    asleep: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    #[inline]
    fn ring(&self) {
        // The batch was sent before this, and the courier looks for one after it has said that it sleeps: with a fence
        // between the two on both sides, one of them sees the other.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Acquire)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.waker.take()
        {
            wake(waker);
        }
    }

    fn sleep(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

/// A shard's end of the way to its courier.
pub(super) struct Mailbox {
    shard: usize,
    posts: Sender<Post>,
    empty: Receiver<Box<Batch>>,
    /// The last, so that the courier is woken to find the channel closed.
    bell: Rope,
}

/// Rings the bell once more when it is dropped.
struct Rope(Arc<Bell>);

impl Drop for Rope {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// A courier for shards with these links, and the mailbox of each.
pub(super) fn courier(links: Vec<Arc<super::link::Link>>) -> (Courier, Vec<Mailbox>) {
    let (posts, received) = bounded(BATCHES * links.len().max(1));
    let bell = Arc::<Bell>::default();
    let mut mailboxes = Vec::new();
    let rounds = links.into_iter().enumerate().map(|(shard, link)| {
        let (back, empty) = bounded(BATCHES + 1);
        mailboxes.push(Mailbox {
            shard,
            posts: posts.clone(),
            empty,
            bell: Rope(Arc::clone(&bell)),
        });
        Round::new(link, back)
    });
    let courier = Courier {
        rounds: rounds.collect(),
        posts: received,
        bell,
        spins: false,
    };
    (courier, mailboxes)
}

impl Mailbox {
    /// An empty batch that was used before, if there is one.
    #[inline]
    pub(super) fn empty(&self) -> Option<Box<Batch>> {
        self.empty.try_recv().ok()
    }

    /// Hands over a batch, or gives it back when the courier is behind.
    #[inline]
    pub(super) fn post(&self, batch: Box<Batch>) -> Result<(), Box<Batch>> {
        let (shard, last) = (self.shard, false);
        match self.posts.try_send(Post { shard, batch, last }) {
            Ok(()) => self.bell.0.ring(),
            Err(TrySendError::Full(post)) => return Err(post.batch),
            // The courier was dropped, which the next turn sees.
            Err(TrySendError::Disconnected(_)) => {}
        }
        Ok(())
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.posts.is_full()
    }

    /// True when the courier was dropped: nobody is told anything any more.
    #[inline]
    pub(super) fn is_abandoned(&self) -> bool {
        self.bell.0.gone.load(Ordering::Relaxed)
    }

    /// Hands over the last batch. The courier is woken when this is dropped.
    pub(super) fn close(&self, batch: Box<Batch>) {
        let (shard, last) = (self.shard, true);
        let post = Post { shard, batch, last };
        let _ = self.posts.send_timeout(post, LAST_WORDS_MAX);
    }
}

/// How long the end of an agent waits for a courier that is behind: its shard may live on.
const LAST_WORDS_MAX: std::time::Duration = std::time::Duration::from_millis(100);

impl Courier {
    /// Never sleeps: the task that polls it is always ready to run, and a runtime with such a task never parks. What
    /// happens on a shard is heard of without a system call on either side, at the price of a CPU that is always busy.
    pub fn spinning(mut self) -> Self {
        self.spins = true;
        self
    }

    /// Runs on this thread until all its shards have ended.
    pub(crate) fn run(mut self) {
        while let Ok(post) = self.posts.recv() {
            self.take(post);
        }
    }

    fn take(&mut self, post: Post) {
        let Some(round) = self.rounds.get_mut(post.shard) else {
            return;
        };
        round.deliver(post.batch);
        if post.last {
            round.end();
        }
    }

    fn end(&mut self) {
        self.rounds.iter_mut().for_each(Round::end);
    }

    /// What waits, if anything does; `Err` when nothing follows.
    fn next(&self) -> Result<Option<Post>, ()> {
        match self.posts.try_recv() {
            Ok(post) => Ok(Some(post)),
            Err(TryRecvError::Empty) if self.rounds.iter().all(Round::has_ended) => Err(()),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }
}

impl Future for Courier {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BATCHES_A_POLL {
            match self.next() {
                Ok(Some(post)) => self.take(post),
                Err(()) => {
                    self.end();
                    return Poll::Ready(());
                }
                Ok(None) if self.spins => break,
                Ok(None) => {
                    self.bell.sleep(context);
                    // One that came before the bell was set has not rung it.
                    if self.posts.is_empty() {
                        return Poll::Pending;
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Courier {
    /// Handles that hear nothing any more find the engine stopped.
    fn drop(&mut self) {
        self.bell.gone.store(true, Ordering::Relaxed);
        self.end();
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("shards", &self.rounds.len())
            .field("spins", &self.spins)
            .finish_non_exhaustive()
    }
}

/// A courier without a thread.
#[cfg(test)]
impl Courier {
    /// True when there is something to deliver.
    pub(super) fn waits(&self) -> bool {
        !self.posts.is_empty()
    }

    /// Delivers what is there, and calls `meanwhile` after each event. Says whether anything was there, and whether a
    /// shard lives.
    pub(super) fn pump(&mut self, mut meanwhile: impl FnMut()) -> (bool, bool) {
        let mut any = false;
        loop {
            match self.next() {
                Ok(Some(mut post)) => {
                    self.rounds[post.shard].deliver_slowly(&mut post.batch, &mut meanwhile);
                    self.take(post);
                }
                Ok(None) => return (any, true),
                Err(()) => {
                    self.end();
                    return (true, false);
                }
            }
            any = true;
        }
    }
}
