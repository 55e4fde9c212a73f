//! Connections that tests open, answer for and close, and a clock that they move.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::pool::opener::{Boxed, Opened, Opener};
use crate::pool::slot::Pooled;
use crate::pool::{OpenError, PeerKey};

/// A value that somebody waits for.
pub struct Promise<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Send + 'static> Promise<T> {
    pub fn keep(&self, value: T) {
        let waker = {
            let mut inner = self.0.lock().unwrap();
            inner.0 = Some(value);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn future(&self) -> Boxed<T> {
        let inner = Arc::clone(&self.0);
        Box::pin(poll_fn(move |context| {
            let mut inner = inner.lock().unwrap();
            match inner.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

/// What of a connection outlives it.
#[derive(Default)]
pub struct Facts {
    pub number: usize,
    pub shard: usize,
    closed: AtomicBool,
    local: AtomicBool,
    received: AtomicU64,
    /// Answers to pings.
    deaf: AtomicBool,
    pub pings: AtomicU64,
    /// Nobody has it any more.
    pub dropped: AtomicBool,
    over: Promise<()>,
    pub early: Promise<bool>,
}

impl Facts {
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The peer closes it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.over.keep(());
    }

    /// Closed, and the pool does not hear of it.
    pub fn close_silently(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub fn close_locally(&self) {
        self.local.store(true, Ordering::SeqCst);
        self.close();
    }

    pub fn turn_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

/// The pool's handle of a connection: the last one dropped ends it.
pub struct FakeConnection {
    pub facts: Arc<Facts>,
    counted: Arc<AtomicUsize>,
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.facts.dropped.store(true, Ordering::SeqCst);
        self.counted.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pooled for FakeConnection {
    fn is_closed(&self) -> bool {
        self.facts.is_closed()
    }

    fn is_fault(&self) -> bool {
        !self.facts.local.load(Ordering::SeqCst)
    }
}

/// An attempt to open a connection.
pub struct Attempt {
    pub shard: usize,
    promise: Promise<Result<Opened<FakeConnection>, OpenError>>,
}

#[derive(Default)]
pub struct Inner {
    now: Mutex<Option<Instant>>,
    pub attempts: Mutex<Vec<Attempt>>,
    /// All there ever were.
    pub made: Mutex<Vec<Arc<Facts>>>,
    /// Those that somebody still has.
    pub alive: Arc<AtomicUsize>,
    /// Attempts succeed at once.
    pub eager: AtomicBool,
    pub shards: AtomicUsize,
}

/// Opens connections when the test says so.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Inner>);

impl Fake {
    pub fn new(shards: usize) -> Self {
        let fake = Self::default();
        *fake.0.now.lock().unwrap() = Some(Instant::now());
        fake.0.shards.store(shards, Ordering::SeqCst);
        fake
    }

    pub fn advance(&self, time: Duration) {
        *self.0.now.lock().unwrap().as_mut().unwrap() += time;
    }

    pub fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    pub fn waiting(&self) -> usize {
        self.0.attempts.lock().unwrap().len()
    }

    pub fn made(&self, number: usize) -> Arc<Facts> {
        Arc::clone(&self.0.made.lock().unwrap()[number])
    }

    fn connection(&self, shard: usize) -> FakeConnection {
        let mut made = self.0.made.lock().unwrap();
        let facts = Arc::new(Facts {
            number: made.len(),
            shard,
            ..Facts::default()
        });
        made.push(Arc::clone(&facts));
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        FakeConnection {
            facts,
            counted: Arc::clone(&self.0.alive),
        }
    }

    /// The attempt at this place succeeds.
    pub fn accept(&self, place: usize) -> Arc<Facts> {
        self.accept_as(place, false)
    }

    pub fn accept_early(&self, place: usize) -> Arc<Facts> {
        self.accept_as(place, true)
    }

    fn accept_as(&self, place: usize, early: bool) -> Arc<Facts> {
        let attempt = self.0.attempts.lock().unwrap().remove(place);
        let connection = self.connection(attempt.shard);
        let facts = Arc::clone(&connection.facts);
        attempt.promise.keep(Ok(Opened {
            connection,
            early: early.then(|| facts.early.future()),
        }));
        facts
    }

    /// The attempt at this place fails.
    pub fn refuse(&self, place: usize) {
        self.refuse_with(
            place,
            OpenError::TimedOut {
                after: Duration::from_secs(1),
            },
        );
    }

    pub fn refuse_with(&self, place: usize, error: OpenError) {
        let attempt = self.0.attempts.lock().unwrap().remove(place);
        attempt.promise.keep(Err(error));
    }
}

impl Opener for Fake {
    type Connection = FakeConnection;

    fn now(&self) -> Instant {
        self.0.now.lock().unwrap().unwrap()
    }

    fn shards(&self, _: &PeerKey) -> usize {
        self.0.shards.load(Ordering::SeqCst)
    }

    fn open(&self, _: &PeerKey, shard: usize) -> Boxed<Result<Opened<FakeConnection>, OpenError>> {
        let promise = Promise::default();
        let future = promise.future();
        if self.0.eager.load(Ordering::SeqCst) {
            promise.keep(Ok(Opened {
                connection: self.connection(shard),
                early: None,
            }));
        } else {
            self.0
                .attempts
                .lock()
                .unwrap()
                .push(Attempt { shard, promise });
        }
        future
    }

    fn closed(&self, connection: &FakeConnection) -> Boxed<()> {
        connection.facts.over.future()
    }

    fn received(&self, connection: &FakeConnection) -> Boxed<Option<u64>> {
        let received = connection.facts.received.load(Ordering::SeqCst);
        Box::pin(async move { Some(received) })
    }

    fn ping(&self, connection: &FakeConnection) {
        let facts = &connection.facts;
        facts.pings.fetch_add(1, Ordering::SeqCst);
        if !facts.deaf.load(Ordering::SeqCst) {
            facts.received.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn give_up(&self, connection: &FakeConnection) {
        connection.facts.close_locally();
    }
}
