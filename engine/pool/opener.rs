//! What a pool needs of the world: somebody who opens connections and looks at them. The engine's is in `engine.rs`;
//! tests have their own, with a clock of their own.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use super::slot::Pooled;
use super::{OpenError, PeerKey};

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A new connection.
pub(super) struct Opened<C> {
    pub connection: C,
    /// Of one whose handshake is not complete: whether the server accepts early data, once it is known.
    pub early: Option<Boxed<bool>>,
}

pub(super) trait Opener: Send + Sync + 'static {
    type Connection: Pooled;

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How many shards connections to a peer can be spread over.
    fn shards(&self, key: &PeerKey) -> usize;

    /// Opens a connection, from this shard if that can be.
    fn open(
        &self,
        key: &PeerKey,
        shard: usize,
    ) -> Boxed<Result<Opened<Self::Connection>, OpenError>>;

    /// Ready when the connection is over. May keep it open: the pool drops this future before the connection.
    fn closed(&self, connection: &Self::Connection) -> Boxed<()>;

    /// Datagrams received from the peer so far; `None` when the connection is over.
    fn received(&self, connection: &Self::Connection) -> Boxed<Option<u64>>;

    /// Sends a PING frame.
    fn ping(&self, connection: &Self::Connection);

    /// Closes a connection that does not answer, whoever has it.
    fn give_up(&self, connection: &Self::Connection);
}
