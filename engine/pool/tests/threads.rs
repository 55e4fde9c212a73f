//! Many threads at once, with a keeper's thread and the real time.

use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::super::opener::{Boxed, Opened, Opener};
use super::super::slot::Pooled;
use super::*;

const THREADS: usize = 8;
const ROUNDS: usize = 2000;

/// Opens connections at once, and runs on the real clock.
#[derive(Default)]
struct Prompt {
    alive: Arc<AtomicUsize>,
    /// The keeper panics instead.
    panics: bool,
}

/// Counts who has it.
struct Counted {
    leases: AtomicUsize,
    most: AtomicUsize,
    closed: AtomicBool,
    alive: Arc<AtomicUsize>,
}

impl Pooled for Counted {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn is_fault(&self) -> bool {
        false
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Opener for Prompt {
    type Connection = Counted;

    fn shards(&self, _: &PeerKey) -> usize {
        2
    }

    fn open(&self, _: &PeerKey, _: usize) -> Boxed<Result<Opened<Counted>, OpenError>> {
        assert!(!self.panics, "meant to: the test is of what follows");
        self.alive.fetch_add(1, Ordering::SeqCst);
        let connection = Counted {
            leases: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            alive: Arc::clone(&self.alive),
        };
        Box::pin(std::future::ready(Ok(Opened {
            connection,
            early: None,
        })))
    }

    fn closed(&self, _: &Counted) -> Boxed<()> {
        Box::pin(std::future::pending())
    }

    fn received(&self, _: &Counted) -> Boxed<Option<u64>> {
        Box::pin(std::future::ready(None))
    }

    fn ping(&self, _: &Counted) {}

    fn give_up(&self, _: &Counted) {}
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// A turn of a thread: a lease, looked at while it is out.
fn use_one(lease: &Held<Counted>, close: bool) {
    let out = lease.leases.fetch_add(1, Ordering::SeqCst) + 1;
    lease.most.fetch_max(out, Ordering::SeqCst);
    if close {
        lease.closed.store(true, Ordering::SeqCst);
    }
    thread::yield_now();
    lease.leases.fetch_sub(1, Ordering::SeqCst);
}

fn run(config: PoolConfig, peers: u16, leases: usize) {
    let opener = Prompt::default();
    let alive = Arc::clone(&opener.alive);
    let shared = Shared::new(opener, config.checked().unwrap(), 1);
    let stop = Arc::new(AtomicBool::new(false));
    let keeper = Keeper::new(Arc::clone(&shared))
        .spawn(Arc::clone(&stop))
        .unwrap();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let peer = (number + round) as u16 % peers;
                    let peer = shared.peer(&key(peer)).unwrap();
                    let mut call = std::pin::pin!(shared.get(&peer));
                    if round % 7 == number % 7 {
                        // Polled once and given up.
                        let mut context = Context::from_waker(Waker::noop());
                        let _ = call.as_mut().poll(&mut context);
                        continue;
                    }
                    let lease = block_on(call).unwrap();
                    use_one(&lease, round % 97 == 0);
                    assert!(lease.most.load(Ordering::SeqCst) <= leases);
                }
            });
        }
    });
    let stats = shared.stats();
    assert_eq!((stats.waiters, stats.leases), (0, 0), "{stats:?}");
    assert_eq!(stats.timed_out, 0, "{stats:?}");
    assert!(
        stats.hits + stats.misses >= (THREADS * ROUNDS) as u64,
        "{stats:?}"
    );
    stop.store(true, Ordering::SeqCst);
    keeper.unpark();
    // The last reference is the keeper's.
    let weak = Arc::downgrade(&shared);
    drop(shared);
    while weak.strong_count() > 0 {
        thread::yield_now();
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn threads_that_share_a_few_connections() {
    let config = PoolConfig::default().leases_per_connection(3).open_at(1);
    run(config, 1, 3);
}

#[test]
fn threads_that_wait_for_an_exclusive_one() {
    let config = PoolConfig::default()
        .leases_per_connection(1)
        .connections_per_peer(2);
    run(config, 1, 1);
}

#[test]
fn threads_whose_peers_crowd_each_other_out() {
    let config = PoolConfig::default()
        .connections(2)
        .leases_per_connection(2);
    run(config, 5, 2);
}

#[test]
fn a_keeper_that_panics_leaves_nobody_waiting() {
    let opener = Prompt {
        panics: true,
        ..Prompt::default()
    };
    let shared = Shared::new(opener, PoolConfig::default().checked().unwrap(), 1);
    let stop = Arc::<AtomicBool>::default();
    Keeper::new(Arc::clone(&shared)).spawn(stop).unwrap();
    let peer = shared.peer(&key(1)).unwrap();
    let error = block_on(shared.get(&peer)).err();
    assert!(matches!(error, Some(PoolError::Closed)));
}
