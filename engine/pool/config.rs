//! How a pool behaves, and its bounds.

use std::time::Duration;

use super::NewPoolError;

/// The most leases that a connection may ever have out at once.
const LEASES_MAX: usize = 32_767;
/// Longer times mean this one: a year, so that no sum of times overflows.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a pool may hold and how long it waits: see each method for its default.
///
/// ```
/// use std::time::Duration;
/// use stoq::pool::{BackOff, PoolConfig};
///
/// let config = PoolConfig::default()
///     .connections_per_peer(2)
///     .leases_per_connection(64)
///     .idle_timeout(Duration::from_secs(30))
///     .back_off(BackOff::default().wait(true));
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct PoolConfig {
    pub(super) peers: usize,
    pub(super) connections: usize,
    pub(super) connections_per_peer: usize,
    pub(super) leases_per_connection: usize,
    pub(super) open_at: usize,
    pub(super) waiters: usize,
    pub(super) waiters_per_peer: usize,
    pub(super) wait_timeout: Duration,
    pub(super) open_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) settle: Duration,
    pub(super) health: Option<Health>,
    pub(super) back_off: BackOff,
    pub(super) early_data: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            peers: 1024,
            connections: 1024,
            connections_per_peer: 4,
            leases_per_connection: 100,
            open_at: 16,
            waiters: 16_384,
            waiters_per_peer: 1024,
            wait_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            settle: Duration::from_millis(500),
            health: Some(Health::default()),
            back_off: BackOff::default(),
            early_data: false,
        }
    }
}

impl PoolConfig {
    /// Peers remembered at once: 1024. One more takes the place of the one that was used least recently and of which
    /// nothing is lent and no [`Peer`](super::Peer) is held.
    #[must_use]
    pub fn peers(mut self, count: usize) -> Self {
        self.peers = count;
        self
    }

    /// Connections in all, those being opened among them: 1024. At the bound, an idle connection to another peer is
    /// closed for one that is waited for: the one idle for longest, to a quarter of
    /// [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// Connections to one peer, those being opened among them: 4.
    #[must_use]
    pub fn connections_per_peer(mut self, count: usize) -> Self {
        self.connections_per_peer = count;
        self
    }

    /// Leases of one connection at once, up to 32,767: 100. One makes connections exclusive.
    #[must_use]
    pub fn leases_per_connection(mut self, count: usize) -> Self {
        self.leases_per_connection = count;
        self
    }

    /// With so many leases out of each connection to a peer, one more is opened beside them, up to the bounds: 16. More
    /// than [`leases_per_connection`](Self::leases_per_connection) means as many.
    #[must_use]
    pub fn open_at(mut self, leases: usize) -> Self {
        self.open_at = leases;
        self
    }

    /// Who may wait for a connection at once, in all: 16,384. More are refused.
    #[must_use]
    pub fn waiters(mut self, count: usize) -> Self {
        self.waiters = count;
        self
    }

    /// Who may wait for a connection to one peer at once: 1024. More are refused.
    #[must_use]
    pub fn waiters_per_peer(mut self, count: usize) -> Self {
        self.waiters_per_peer = count;
        self
    }

    /// How long to wait for a connection: 10 s.
    #[must_use]
    pub fn wait_timeout(mut self, time: Duration) -> Self {
        self.wait_timeout = time;
        self
    }

    /// How long a handshake may take, with early data as well: 10 s.
    #[must_use]
    pub fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// A connection that nobody takes for so long is closed, at most a quarter later: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// A connection that the other side or the network ends within so long counts as one that could not be opened:
    /// 500 ms.
    #[must_use]
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// Whether and how connections are asked for signs of life: [`Health::default`].
    #[must_use]
    pub fn health(mut self, health: Option<Health>) -> Self {
        self.health = health;
        self
    }

    /// What happens after connections could not be opened: [`BackOff::default`].
    #[must_use]
    pub fn back_off(mut self, back_off: BackOff) -> Self {
        self.back_off = back_off;
        self
    }

    /// Whether connections are lent before their handshake is complete, when the peer was connected to before: no. What
    /// is sent until then can be replayed by an attacker (RFC 9001 §9.2): only for requests that may be carried out
    /// twice. The client configuration must allow early data too. Of a lease,
    /// [`Connection::is_early_data`](crate::Connection::is_early_data) tells.
    #[must_use]
    pub fn early_data(mut self, allowed: bool) -> Self {
        self.early_data = allowed;
        self
    }

    /// What can be worked with; `open_at` within its bound.
    pub(super) fn checked(mut self) -> Result<Self, NewPoolError> {
        let counts = [
            ("peers", self.peers),
            ("connections", self.connections),
            ("connections_per_peer", self.connections_per_peer),
            ("leases_per_connection", self.leases_per_connection),
            ("open_at", self.open_at),
            ("waiters", self.waiters),
            ("waiters_per_peer", self.waiters_per_peer),
        ];
        let times = [
            ("wait_timeout", Some(self.wait_timeout)),
            ("open_timeout", Some(self.open_timeout)),
            ("idle_timeout", Some(self.idle_timeout)),
            ("health.interval", self.health.map(|health| health.interval)),
            ("health.deadline", self.health.map(|health| health.deadline)),
            ("back_off.base", Some(self.back_off.base)),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(NewPoolError::Zero { name });
            }
        }
        for (name, time) in times {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(NewPoolError::Zero { name });
            }
        }
        if self.leases_per_connection > LEASES_MAX {
            return Err(NewPoolError::TooManyLeases {
                asked: self.leases_per_connection,
                max: LEASES_MAX,
            });
        }
        if self.back_off.max < self.back_off.base {
            return Err(NewPoolError::BackOff {
                base: self.back_off.base,
                max: self.back_off.max,
            });
        }
        self.open_at = self.open_at.min(self.leases_per_connection);
        for time in [
            &mut self.wait_timeout,
            &mut self.open_timeout,
            &mut self.idle_timeout,
            &mut self.settle,
            &mut self.back_off.base,
            &mut self.back_off.max,
        ] {
            *time = TIME_MAX.min(*time);
        }
        if let Some(health) = &mut self.health {
            health.interval = TIME_MAX.min(health.interval);
            health.deadline = TIME_MAX.min(health.deadline);
        }
        Ok(self)
    }
}

/// How connections are asked for signs of life. One from which nothing came for an interval is sent a PING frame (RFC
/// 9000 §19.2), whose acknowledgement must arrive within the deadline; else it is closed, and those who have leases of
/// it see that at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub(super) interval: Duration,
    pub(super) deadline: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            deadline: Duration::from_secs(5),
        }
    }
}

impl Health {
    /// How often each connection is looked at: 15 s.
    #[must_use]
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// How long an answer may take: 5 s. Several round trips, and time for a lost datagram to be sent again.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }
}

/// How long no connection to a peer is opened after one could not be: a random time between half of a delay and all of
/// it, and the delay doubles from `base` to `max` with each failure, until a connection lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    pub(super) base: Duration,
    pub(super) max: Duration,
    pub(super) wait: bool,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(30),
            wait: false,
        }
    }
}

impl BackOff {
    /// The first delay: 100 ms.
    #[must_use]
    pub fn base(mut self, time: Duration) -> Self {
        self.base = time;
        self
    }

    /// The longest delay: 30 s.
    #[must_use]
    pub fn max(mut self, time: Duration) -> Self {
        self.max = time;
        self
    }

    /// Whether callers wait for the next attempt, as long as `wait_timeout` allows: no. Otherwise, with no connection
    /// left, they get [`PoolError::OpenFailed`](super::PoolError) or [`PoolError::BackingOff`](super::PoolError) at
    /// once.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }
}
