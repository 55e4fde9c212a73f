//! What a pool did, in figures.

/// A snapshot of a pool's figures. Counters run from the pool's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Leases given at once.
    pub hits: u64,
    /// Calls that found no connection with room: they waited or were refused.
    pub misses: u64,
    /// Connections that were begun to be opened.
    pub opens: u64,
    /// Of the connections opened, those that were lent before their handshake was complete.
    pub opens_early: u64,
    /// Of those, the ones whose early data the server did not take.
    pub early_refused: u64,
    /// Attempts that led to no connection, or to one that ended as soon as it was open.
    pub open_failures: u64,
    /// Connections closed because nobody took them.
    pub evicted_idle: u64,
    /// Connections closed to make room for another peer's.
    pub evicted_crowded: u64,
    /// Connections that ended by themselves.
    pub evicted_broken: u64,
    /// Connections closed because nothing was heard from them.
    pub evicted_unhealthy: u64,
    /// Peers forgotten to make room for others, or because nobody asked for them.
    pub peers_forgotten: u64,
    /// Calls refused: too many waited, too many peers, or the peer is backed off from.
    pub refused: u64,
    /// Calls that waited and failed with the connection that they waited for.
    pub failed: u64,
    /// Calls that waited in vain until their time was over.
    pub timed_out: u64,
    /// Calls that were given up while they waited.
    pub cancelled: u64,
    /// Peers remembered now.
    pub peers: usize,
    /// Connections now.
    pub connections: usize,
    /// Connections being opened now.
    pub opening: usize,
    /// Leases out now, of connections that are not evicted.
    pub leases: usize,
    /// Calls that wait now.
    pub waiters: usize,
    /// The most that waited at once.
    pub waiters_max: usize,
}
