//! Connections that are kept and shared.
//!
//! A [`Pool`] opens connections by a [`Handle`] when they are asked for, lends them, and keeps them for the next caller.
//! QUIC's connections carry many streams, so one is lent to many at once: the one with the fewest leases first. When all
//! to a peer are busy, another is opened beside them, from another shard of the engine.
//!
//! ```
//! use stoq::pool::{PeerKey, Pool, PoolConfig};
//! use stoq::{ClientConfig, Engine, Identity, ServerConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().link().start()?;
//! let handle = engine.handle();
//! let identity = Identity::self_signed(["localhost"])?;
//! let listener = handle.listen(4433, ServerConfig::new(&identity, ["hello"])?).await?;
//! # let server = tokio::spawn(async move {
//! #     let connection = listener.accept().await.unwrap();
//! #     while let Ok((mut send, _receive)) = connection.accept_bi().await {
//! #         send.write_all(b"hello").await.unwrap();
//! #     }
//! # });
//! handle.set_default_client_config(ClientConfig::new(&identity.trust(), ["hello"])?);
//!
//! let pool = Pool::new(handle, PoolConfig::default())?;
//! let server = PeerKey::new("[fd00:5701::2]:4433".parse()?, "localhost");
//! for _ in 0..3 {
//!     let connection = pool.get(&server).await?;
//!     let (mut send, mut receive) = connection.open_bi().await?;
//!     send.write_all(b"who is there?").await?;
//!     send.finish()?;
//!     assert_eq!(receive.read_to_end(100).await?, b"hello");
//! }
//! let stats = pool.stats();
//! assert_eq!((stats.opens, stats.hits, stats.misses), (1, 2, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What a lease is
//! A [`Lease`] is a [`Connection`] by `Deref`, and is returned when it is dropped. Hold it for as long as you work with the
//! connection: leases are what the load is counted by. Streams, and clones of the connection, may outlive it, and keep the
//! connection open even when the pool has evicted it; but the pool takes one that is not lent for idle. A lease that is
//! never dropped (`mem::forget`) counts for ever, and so does one that a future of [`get`](Pool::get) was told of and that
//! nobody polls any more: drop futures that you do not want.
//!
//! # What it costs
//! With a connection that has room, a lease from a [`Peer`] takes a few atomic operations and a look at each connection of
//! the peer, from any number of threads, and neither a lock nor an allocation. By key, the peer has to be found first: that
//! takes a read lock on one of 16 parts of the table of peers. Without room, the caller waits in a
//! queue: first come, first served. A future that is dropped while it waits leaves it; a connection that is being opened
//! is opened all the same.
//!
//! # What goes, and when
//! Connections that end, that nobody takes for [`idle_timeout`](PoolConfig::idle_timeout), or that do not answer
//! ([`Health`]) are evicted, and opened again when they are needed. After a failure the peer is left alone for a while
//! ([`BackOff`]). [`PoolStats`] counts it all.
//!
//! Each pool has one thread, which opens and watches connections and looks at the time. It ends with the last clone of the
//! [`Pool`] and the last [`Peer`].

mod back_off;
mod config;
mod engine;
mod error;
mod health;
mod keeper;
mod key;
mod opener;
mod peer;
mod roster;
mod shared;
mod slot;
mod state;
mod stats;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::net::SocketAddrV6;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

pub use self::config::{BackOff, Health, PoolConfig};
use self::engine::EngineOpener;
pub use self::error::{NewPoolError, OpenError, PoolError};
use self::keeper::Keeper;
pub use self::key::{ClientId, PeerKey};
use self::roster::Roster;
use self::shared::Shared;
use self::slot::Held;
pub use self::stats::PoolStats;
use crate::handle::{ClientConfig, Connection, Handle};
use crate::random;

/// A pool of connections. Clones are the same pool. See the [module](self).
#[derive(Clone)]
pub struct Pool(Arc<Owner>);

/// Ends the pool when the last of its handles is dropped.
struct Owner {
    shared: Arc<Shared<EngineOpener>>,
    stop: Arc<AtomicBool>,
    keeper: Thread,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
        self.stop.store(true, Ordering::Release);
        self.keeper.unpark();
    }
}

impl Pool {
    /// A pool of connections that `handle` opens.
    ///
    /// # Errors
    /// The configuration makes no sense, or the system gives no thread.
    pub fn new(handle: Handle, config: PoolConfig) -> Result<Self, NewPoolError> {
        let config = config.checked()?;
        let seed = random::bytes().map_err(|_| NewPoolError::Random)?;
        let opener = EngineOpener::new(handle, config.early_data);
        let shared = Shared::new(opener, config, u64::from_ne_bytes(seed));
        let stop = Arc::<AtomicBool>::default();
        let keeper = Keeper::new(Arc::clone(&shared)).spawn(Arc::clone(&stop))?;
        Ok(Self(Arc::new(Owner {
            shared,
            stop,
            keeper,
        })))
    }

    /// Makes a client configuration known, to be named in a [`PeerKey`]. Peers with different configurations share no
    /// connections. There may be 1024 of them; `None` is returned for one more.
    pub fn register(&self, config: ClientConfig) -> Option<ClientId> {
        self.0.shared.opener.register(config)
    }

    /// A connection to a peer: at once if one has room, else as soon as there is one.
    ///
    /// Cancel-safe: dropped, the future leaves nothing behind.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub async fn get(&self, peer: &PeerKey) -> Result<Lease, PoolError> {
        self.0.shared.get_by_key(peer).await.map(Lease)
    }

    /// A peer to get connections to again and again, with the engine's default client configuration.
    ///
    /// # Errors
    /// [`PoolError::TooManyPeers`], or the pool is closed.
    pub fn peer(&self, remote: SocketAddrV6, server_name: &str) -> Result<Peer, PoolError> {
        self.peer_of(&PeerKey::new(remote, server_name))
    }

    /// The same by its key.
    ///
    /// # Errors
    /// [`PoolError::TooManyPeers`], or the pool is closed.
    pub fn peer_of(&self, key: &PeerKey) -> Result<Peer, PoolError> {
        Ok(Peer {
            roster: self.0.shared.peer(key)?,
            pool: self.clone(),
        })
    }

    /// The figures as of now. Not for every request: it takes the lock that connections are opened under.
    pub fn stats(&self) -> PoolStats {
        self.0.shared.stats()
    }

    /// Gives up all connections, as soon as they are returned, and lends no more. Who waits gets [`PoolError::Closed`].
    pub fn close(&self) {
        self.0.shared.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.stats()).finish()
    }
}

/// One peer of a pool: gets connections without looking the peer up. Clones are the same peer.
///
/// A peer is remembered for as long as one of these is held, so drop those that are not needed any more.
#[derive(Clone)]
pub struct Peer {
    roster: Arc<Roster<Connection>>,
    pool: Pool,
}

impl Peer {
    /// A connection to the peer: at once if one has room, else as soon as there is one.
    ///
    /// Cancel-safe: dropped, the future leaves nothing behind.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub async fn get(&self) -> Result<Lease, PoolError> {
        self.pool.0.shared.get(&self.roster).await.map(Lease)
    }

    /// A connection to the peer, if one has room and nobody waits for it. Nothing is waited for; the pool may open one more
    /// beside it, as [`PoolConfig::open_at`] says.
    pub fn try_get(&self) -> Option<Lease> {
        self.pool.0.shared.try_get(&self.roster).map(Lease)
    }

    /// What the peer is known by.
    pub fn key(&self) -> &PeerKey {
        &self.roster.key
    }

    /// The pool it is of.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(self.key()).finish()
    }
}

/// A connection on loan, which goes back to its pool when this is dropped.
///
/// With [`PoolConfig::early_data`], its handshake may not be complete: [`Connection::is_early_data`] tells, and
/// [`Connection::handshake_done`] waits for it.
#[must_use = "a lease that is dropped is returned"]
pub struct Lease(Held<Connection>);

impl Lease {
    /// The shard that the connection runs on: a number among the shards of its port.
    pub fn shard(&self) -> usize {
        self.0.slot().shard
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&**self).finish()
    }
}
