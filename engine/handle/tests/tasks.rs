//! Tasks on one thread, polled when they were woken and at no other time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The tasks of a test.
#[derive(Default)]
pub(super) struct Tasks {
    inner: Rc<RefCell<Inner>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Inner {
    all: Vec<Option<Running>>,
    live: usize,
}

struct Running {
    name: String,
    /// Nobody waits for it.
    background: bool,
    /// Absent while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    flag: Arc<Flag>,
}

type Woken = Mutex<VecDeque<usize>>;

struct Flag {
    index: usize,
    set: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.set.swap(true, Ordering::Relaxed) {
            self.woken.lock().unwrap().push_back(self.index);
        }
    }
}

/// Begins tasks, from within others, too.
#[derive(Clone)]
pub(super) struct Spawner {
    inner: Rc<RefCell<Inner>>,
    woken: Arc<Woken>,
}

/// A task that was begun. It goes on when this is dropped.
pub(super) struct Task<T> {
    index: usize,
    result: Rc<RefCell<Option<T>>>,
    spawner: Spawner,
}

impl Tasks {
    pub(super) fn spawner(&self) -> Spawner {
        Spawner {
            inner: Rc::clone(&self.inner),
            woken: Arc::clone(&self.woken),
        }
    }

    /// The names of those that are not done.
    pub(super) fn names(&self) -> String {
        let inner = self.inner.borrow();
        let tasks = inner.all.iter().flatten().filter(|task| !task.background);
        let names = tasks.map(|task| task.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Polls once each of those that are woken now and that `choose` chooses. True when any was woken.
    pub(super) fn poll(&mut self, mut choose: impl FnMut() -> bool) -> bool {
        let woken = std::mem::take(&mut *self.woken.lock().unwrap());
        let any = !woken.is_empty();
        for index in woken {
            match choose() {
                true => self.poll_one(index),
                false => self.woken.lock().unwrap().push_back(index),
            }
        }
        any
    }

    /// Puts those that are woken into another order.
    pub(super) fn shuffle(&mut self, mut below: impl FnMut(usize) -> usize) {
        let mut woken = self.woken.lock().unwrap();
        for last in (1..woken.len()).rev() {
            woken.swap(last, below(last + 1));
        }
    }

    fn poll_one(&mut self, index: usize) {
        let task = {
            let mut inner = self.inner.borrow_mut();
            let Some(task) = &mut inner.all[index] else {
                return;
            };
            task.flag.set.store(false, Ordering::Relaxed);
            task.future
                .take()
                .map(|future| (future, Arc::clone(&task.flag)))
        };
        let Some((mut future, flag)) = task else {
            return;
        };
        let waker = Waker::from(flag);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut inner = self.inner.borrow_mut();
        // It may have been cancelled while it was polled.
        if let Some(task) = &mut inner.all[index] {
            match polled {
                Poll::Pending => task.future = Some(future),
                Poll::Ready(()) => {
                    let waited_for = !task.background;
                    inner.all[index] = None;
                    inner.live -= usize::from(waited_for);
                }
            }
        }
    }
}

impl Spawner {
    pub(super) fn spawn<T: 'static>(
        &self,
        name: impl Into<String>,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        let result = Rc::new(RefCell::new(None));
        let mut inner = self.inner.borrow_mut();
        let index = inner.all.len();
        let flag = Arc::new(Flag {
            index,
            set: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        Arc::clone(&flag).wake();
        inner.all.push(Some(Running {
            name: name.into(),
            background: false,
            future: Some(Box::pin({
                let result = Rc::clone(&result);
                async move {
                    let value = future.await;
                    *result.borrow_mut() = Some(value);
                }
            })),
            flag,
        }));
        inner.live += 1;
        Task {
            index,
            result,
            spawner: self.clone(),
        }
    }

    /// Begins a task that may never end.
    pub(super) fn spawn_background(&self, name: &str, future: impl Future<Output = ()> + 'static) {
        let task = self.spawn(name, future);
        let mut inner = self.inner.borrow_mut();
        inner.live -= 1;
        if let Some(task) = &mut inner.all[task.index] {
            task.background = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inner.borrow().live == 0
    }
}

impl<T> Task<T> {
    pub(super) fn is_done(&self) -> bool {
        self.result.borrow().is_some()
    }

    #[track_caller]
    pub(super) fn take(&self) -> T {
        self.result.borrow_mut().take().expect("it is done")
    }

    /// Drops its future.
    pub(super) fn cancel(self) {
        let task = self.spawner.inner.borrow_mut().all[self.index].take();
        if task.is_some() {
            self.spawner.inner.borrow_mut().live -= 1;
        }
        drop(task);
    }
}

/// The virtual clock.
#[derive(Clone)]
pub(super) struct Clock(Rc<RefCell<Sleepers>>);

struct Sleepers {
    now: Instant,
    sleeping: Vec<(Instant, Waker)>,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        let sleeping = Vec::new();
        Self(Rc::new(RefCell::new(Sleepers { now, sleeping })))
    }

    pub(super) fn now(&self) -> Instant {
        self.0.borrow().now
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.borrow().sleeping.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn set(&self, now: Instant) {
        let mut sleepers = self.0.borrow_mut();
        sleepers.now = now;
        let due = sleepers.sleeping.extract_if(.., |(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, waker)| waker).collect();
        drop(sleepers);
        due.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let until = self.now() + time;
        std::future::poll_fn(|context| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            let mut sleepers = self.0.borrow_mut();
            sleepers.sleeping.push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Lets everything else happen once.
pub(super) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A future that a test polls by hand.
pub(super) struct Manual<F> {
    future: Pin<Box<F>>,
    woken: Arc<ByHand>,
}

#[derive(Default)]
struct ByHand(AtomicBool);

impl Wake for ByHand {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<F: Future> Manual<F> {
    pub(super) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            woken: Arc::default(),
        }
    }

    pub(super) fn poll(&mut self) -> Poll<F::Output> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Whether it was woken and not polled since.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }
}
