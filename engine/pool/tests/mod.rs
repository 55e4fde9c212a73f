//! The pool with connections and a clock of its own.

mod evict;
mod fail;
mod fake;
mod lend;
pub(crate) mod manual;
mod property;
mod threads;
mod wait;

use std::future::Future;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::keeper::Keeper;
use super::roster::Roster;
use super::shared::Shared;
use super::slot::Held;
use super::{BackOff, Health, OpenError, PeerKey, PoolConfig, PoolError, PoolStats};
use fake::{Fake, FakeConnection};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Outcome = Result<Held<FakeConnection>, PoolError>;

/// A pool whose keeper takes a turn when the test says so.
struct Fixture {
    world: Fake,
    shared: Arc<Shared<Fake>>,
    keeper: Keeper<Fake>,
}

/// A call that may have to wait.
struct Call {
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    woken: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Call {
    fn poll(&mut self) -> Poll<Outcome> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn wakes(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn ready(&mut self) -> Outcome {
        match self.poll() {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[track_caller]
    fn lease(&mut self) -> Held<FakeConnection> {
        self.ready().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn error(&mut self) -> PoolError {
        self.ready().err().expect("an error")
    }

    #[track_caller]
    fn waits(&mut self) {
        assert!(self.poll().is_pending(), "it does not wait");
    }
}

fn key(number: u16) -> PeerKey {
    let remote = SocketAddrV6::new(Ipv6Addr::LOCALHOST, number, 0, 0);
    PeerKey::new(remote, "peer.test")
}

impl Fixture {
    fn new(config: PoolConfig) -> Self {
        Self::on_shards(1, config)
    }

    fn on_shards(shards: usize, config: PoolConfig) -> Self {
        let world = Fake::new(shards);
        let shared = Shared::new(world.clone(), config.checked().unwrap(), 1);
        Self {
            world,
            keeper: Keeper::new(Arc::clone(&shared)),
            shared,
        }
    }

    fn peer(&self, number: u16) -> Arc<Roster<FakeConnection>> {
        self.shared.peer(&key(number)).unwrap()
    }

    /// A call that has been polled once.
    fn call(&self, peer: &Arc<Roster<FakeConnection>>) -> Call {
        let shared = Arc::clone(&self.shared);
        let peer = Arc::clone(peer);
        let mut call = Call {
            future: Box::pin(async move { shared.get(&peer).await }),
            woken: Arc::default(),
        };
        // A ready future is polled once only: what it says is kept.
        if let Poll::Ready(outcome) = call.poll() {
            call.future = Box::pin(std::future::ready(outcome));
        }
        call
    }

    /// The keeper's turns, until there is nothing to do but wait.
    fn turn(&mut self) {
        for _ in 0..4 {
            self.keeper.turn(self.world_now());
        }
    }

    fn advance(&mut self, time: Duration) {
        self.world.advance(time);
        self.turn();
    }

    fn world_now(&self) -> std::time::Instant {
        use super::opener::Opener;
        self.world.now()
    }

    fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    /// A lease of a connection that is opened for it.
    #[track_caller]
    fn open(&mut self, peer: &Arc<Roster<FakeConnection>>) -> Held<FakeConnection> {
        let mut call = self.call(peer);
        call.waits();
        self.turn();
        self.world.accept(0);
        self.turn();
        call.lease()
    }
}
