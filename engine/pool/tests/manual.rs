//! A pool over handles whose clock and keeper somebody else runs.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::super::engine::EngineOpener;
use super::super::keeper::Keeper;
use super::super::opener::{Boxed, Opened, Opener};
use super::super::shared::Shared;
use super::super::{Lease, OpenError, PeerKey, PoolConfig, PoolError, PoolStats};
use crate::handle::{Connection, Handle};

/// The keeper's side.
pub(crate) struct Manual {
    keeper: Keeper<Clocked>,
    now: Arc<Mutex<Instant>>,
}

/// The callers' side.
#[derive(Clone)]
pub(crate) struct ManualPool(Arc<Shared<Clocked>>);

pub(crate) fn manual(now: Instant, handle: Handle, config: PoolConfig) -> (Manual, ManualPool) {
    let config = config.checked().unwrap();
    let now = Arc::new(Mutex::new(now));
    let opener = Clocked {
        engine: EngineOpener::new(handle, config.early_data),
        now: Arc::clone(&now),
    };
    let shared = Shared::new(opener, config, 1);
    let keeper = Keeper::new(Arc::clone(&shared));
    (Manual { keeper, now }, ManualPool(shared))
}

impl Manual {
    pub(crate) fn turn(&mut self, now: Instant) {
        *self.now.lock().unwrap() = now;
        self.keeper.turn(now);
    }
}

impl ManualPool {
    pub(crate) async fn get(&self, key: &PeerKey) -> Result<Lease, PoolError> {
        self.0.get_by_key(key).await.map(Lease)
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.0.stats()
    }
}

/// The engine's opener with another clock.
struct Clocked {
    engine: EngineOpener,
    now: Arc<Mutex<Instant>>,
}

impl Opener for Clocked {
    type Connection = Connection;

    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn shards(&self, key: &PeerKey) -> usize {
        self.engine.shards(key)
    }

    fn open(&self, key: &PeerKey, shard: usize) -> Boxed<Result<Opened<Connection>, OpenError>> {
        self.engine.open(key, shard)
    }

    fn closed(&self, connection: &Connection) -> Boxed<()> {
        self.engine.closed(connection)
    }

    fn received(&self, connection: &Connection) -> Boxed<Option<u64>> {
        self.engine.received(connection)
    }

    fn ping(&self, connection: &Connection) {
        self.engine.ping(connection);
    }

    fn give_up(&self, connection: &Connection) {
        self.engine.give_up(connection);
    }
}
