//! What can go wrong with a pool.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::handle::{ConnectError, ConnectionError};

/// Why there is no pool.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NewPoolError {
    /// A bound or a time of the configuration is zero.
    #[error("pool: {name} is 0, and nothing would ever be lent; take at least 1")]
    Zero {
        /// Of the configuration.
        name: &'static str,
    },
    /// More leases of a connection than can be counted.
    #[error("pool: leases_per_connection is {asked}; take {max} at most")]
    TooManyLeases {
        /// As configured.
        asked: usize,
        /// The most there may be.
        max: usize,
    },
    /// The longest delay is shorter than the first.
    #[error("pool: back_off.max ({max:?}) is less than back_off.base ({base:?}); swap them")]
    BackOff {
        /// The first delay.
        base: Duration,
        /// The longest.
        max: Duration,
    },
    /// The system gave no thread.
    #[error("pool: the system gave no thread to run it on: {0}")]
    Thread(#[from] io::Error),
    /// The system gave no random numbers.
    #[error("pool: the system gave no random numbers")]
    Random,
}

/// Why no connection is lent.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The connection that was opened for this failed, and there is no other.
    #[error("no connection to the peer: {0}")]
    OpenFailed(#[source] OpenError),
    /// Connections to the peer failed, and the next attempt is not due yet.
    #[error(
        "no connection to the peer, nor an attempt for {next:?}; failures so far: {failures}, the last: {last}"
    )]
    BackingOff {
        /// Until connections are opened again.
        next: Duration,
        /// One after the other.
        failures: u32,
        /// What came of the last attempt.
        #[source]
        last: OpenError,
    },
    /// None became free in time.
    #[error(
        "no connection became free within {after:?}; raise the pool's bounds or its wait_timeout"
    )]
    WaitTimeout {
        /// As configured.
        after: Duration,
    },
    /// As many wait as may.
    #[error("{limit} wait for a connection already; raise the pool's bounds or ask less")]
    TooManyWaiters {
        /// Of the peer, or of the whole pool.
        limit: usize,
    },
    /// As many peers are remembered as may be, and all are in use.
    #[error("{limit} peers are in use already; raise the pool's peers or drop Peer handles")]
    TooManyPeers {
        /// As configured.
        limit: usize,
    },
    /// The pool was closed.
    #[error("the pool is closed")]
    Closed,
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It could not be begun.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its handshake failed.
    #[error("the handshake failed: {0}")]
    Handshake(#[source] ConnectionError),
    /// The handshake took too long.
    #[error("no handshake within {after:?}")]
    TimedOut {
        /// As configured.
        after: Duration,
    },
    /// The client configuration of the key is not one of this pool's.
    #[error("the client configuration was not registered with this pool; see Pool::register")]
    UnknownClient,
    /// The connection was opened, and ended before it had lasted as long as `settle` of the configuration.
    #[error("the connection ended as soon as it was open")]
    ShortLived,
}

impl OpenError {
    /// Whether it is of no use to try again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            // A router may show up.
            Self::Connect(error) => !matches!(error, ConnectError::NoRoute(_)),
            Self::Handshake(error) => *error == ConnectionError::EngineStopped,
            Self::UnknownClient => true,
            Self::TimedOut { .. } | Self::ShortLived => false,
        }
    }
}
