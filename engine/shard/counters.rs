//! What a shard counts, readable from other threads without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that one thread writes and any may read.
///
/// Adding is a plain load and store: no locked instruction, because only the owning shard adds.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. To be called by the owner only: two adding threads would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Sets the value. To be called by the owner only.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets the value to `value` if that is more. To be called by the owner only.
    #[inline]
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// The value, as some recent moment had it.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a histogram; the last one is for all that is above [`Buckets::bound`] of the others.
pub const BUCKETS: usize = 26;

/// How often a time fell into each of some fixed ranges. Its upper bounds are powers of two in microseconds, from 1 µs
/// to 16.8 s: some 40 % is how exactly a quantile can be told, at the cost of two words written for each time.
#[derive(Debug, Default)]
pub struct Buckets {
    counts: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl Buckets {
    /// Counts a time. To be called by the owner only.
    #[inline]
    pub fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // 0 up to 1 µs, then the exponent of the next power of two: a time that equals a bound is within it.
        let above_bound = ns.div_ceil(1000).saturating_sub(1);
        let index = (u64::BITS - above_bound.leading_zeros()) as usize;
        if let Some(count) = self.counts.get(index.min(BUCKETS - 1)) {
            count.add(1);
        }
        self.sum_ns.add(ns);
    }

    /// The longest time that bucket `index` counts; `None` for the last one, which has no bound.
    pub fn bound(index: usize) -> Option<Duration> {
        (index + 1 < BUCKETS).then(|| Duration::from_micros(1 << index))
    }

    /// How often each bucket was counted. Words may be some moments apart from each other and from the sum.
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|index| self.counts[index].get())
    }

    /// The sum of all times.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.get())
    }
}

/// What one shard counted since it started.
///
/// Aligned so that no other shard's counters share a cache line (nor the neighbour that the prefetcher pulls in).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Bytes that applications read: stream data and unreliable datagrams.
    pub bytes_received: Counter,
    /// Bytes that applications wrote and the transport took: stream data and unreliable datagrams.
    pub bytes_sent: Counter,
    /// Streams that our applications opened.
    pub streams_opened: Counter,
    /// Streams that peers opened and our applications accepted.
    pub streams_accepted: Counter,
    /// Unreliable datagrams (RFC 9221) taken by applications.
    pub datagrams_received: Counter,
    /// Unreliable datagrams (RFC 9221) queued by applications.
    pub datagrams_sent: Counter,
    /// Unreliable datagrams (RFC 9221) of applications refused: larger than the path carries, or than the send buffer, or
    /// the peer takes none. A handle's is lost then, since the path was wider when it was sent.
    pub datagrams_refused: Counter,

    /// Incoming connections that we began a handshake with.
    pub connections_accepted: Counter,
    /// Outgoing connections that we began a handshake with.
    pub connections_opened: Counter,
    /// Connections held now, closing ones included.
    pub connections_current: Counter,
    /// Of `connections_current`: those whose handshake runs, both sides.
    pub connections_handshaking: Counter,
    /// Of `connections_current`: those that have ended and stay until the peer must have noticed (RFC 9000 §10.2).
    pub connections_closing: Counter,
    /// The most connections held at a time.
    pub connections_peak: Counter,
    /// Incoming connections answered with CONNECTION_REFUSED: `connections` are held, or the shard is shutting down.
    pub connections_refused: Counter,
    /// Connections that ended by a time-out, a stateless reset or a transport error, and outgoing ones that never
    /// came to be. A close by either application is none of these.
    pub connections_lost: Counter,
    /// Handshakes completed, both sides.
    pub handshakes: Counter,
    /// Incoming connections that ended before their handshake was complete.
    pub handshakes_failed: Counter,
    /// Outgoing connections that ended before their handshake was complete, those that we closed among them.
    pub connects_failed: Counter,
    /// Connections whose 0-RTT data was accepted, both sides.
    pub early_data_accepted: Counter,

    /// UDP datagrams that the worker gave to the shard.
    pub udp_received: Counter,
    /// Of `udp_received` and `taken_over`: those of known connections.
    pub udp_to_connections: Counter,
    /// Of `udp_received`: those handed over to the shard that their connection ID names.
    pub handed_over: Counter,
    /// UDP datagrams that other shards handed over to this one: not in its `udp_received`.
    pub taken_over: Counter,
    /// Datagrams dropped because the shard that they belong to has too many waiting for it, or has ended.
    pub dropped_handover_full: Counter,
    /// UDP datagrams built by the shard.
    pub udp_sent: Counter,
    /// Stateless answers sent: version negotiation, Retry, refusal, stateless reset.
    pub responses: Counter,
    /// Of `responses`: Retry packets (RFC 9000 §8.1.2).
    pub retries: Counter,
    /// Stateless answers dropped because too many were waiting.
    pub dropped_response_queue_full: Counter,
    /// Attempts to connect dropped because `incoming` handshakes were in flight.
    pub dropped_incoming_full: Counter,
    /// Attempts to connect dropped because their /64 had begun as many handshakes as it may, though the client had
    /// proved its address.
    pub dropped_prefix_rate: Counter,
    /// Initial packets of unknown connections dropped unopened, because too many before them had led to nothing.
    pub dropped_strangers: Counter,
    /// Datagrams of a handshake in flight that came from another address than its first.
    pub dropped_handshake_moved: Counter,
    /// Version negotiations and stateless resets that were not sent, because too many had been. quinn-proto keeps the
    /// same pace for the resets of an endpoint, and those that it does not even make are in `dropped_quic_ignored`.
    pub dropped_stateless_rate: Counter,
    /// Datagrams dropped because no endpoint uses their UDP port.
    pub dropped_unknown_udp_port: Counter,
    /// Datagrams that QUIC neither takes nor answers: too short, malformed, or of no connection of ours.
    pub dropped_quic_ignored: Counter,
    /// Datagrams built and thrown away because a mapped file was truncated while they were filled.
    pub discarded_page_fault: Counter,
    /// Panics caught in applications.
    pub application_panics: Counter,

    /// QUIC packets declared lost. Connections are looked at in turn, a few at a time, and when they end; all of them at
    /// [`Shard::publish`](super::Shard::publish).
    pub lost_packets: Counter,
    /// Congestion events, counted like `lost_packets`.
    pub congestion_events: Counter,
    /// The largest UDP payload that MTU discovery reached on any connection, in bytes.
    pub mtu: Counter,
    /// Smoothed round-trip times (RFC 9002 §5.3): one of each connection when its handshake is complete and one at its
    /// end, and in between those of a few connections at a time, in turn.
    pub rtt: Buckets,
    /// 1 once there is at least one client and all say they have finished.
    pub clients_finished: Counter,
}

impl ShardCounters {
    /// Datagrams of which it is counted what became of them: one count each. Between two turns of the shard that is
    /// `udp_received` and `taken_over` together.
    pub fn accounted(&self) -> u64 {
        let ways = [
            &self.handed_over,
            &self.dropped_handover_full,
            &self.udp_to_connections,
            &self.connections_accepted,
            &self.responses,
            &self.dropped_response_queue_full,
            &self.dropped_unknown_udp_port,
            &self.dropped_quic_ignored,
            &self.dropped_strangers,
            &self.dropped_incoming_full,
            &self.dropped_prefix_rate,
            &self.dropped_stateless_rate,
            &self.dropped_handshake_moved,
        ];
        ways.iter().map(|counter| counter.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let index_of = |time: Duration| {
            let buckets = Buckets::default();
            buckets.record(time);
            assert_eq!(buckets.sum(), time);
            buckets.counts().iter().position(|count| *count == 1)
        };
        let ns = Duration::from_nanos;
        assert_eq!(index_of(ns(0)), Some(0));
        assert_eq!(index_of(ns(1_000)), Some(0));
        assert_eq!(index_of(ns(1_001)), Some(1));
        assert_eq!(index_of(Duration::from_secs(3600)), Some(BUCKETS - 1));
        for index in 0..BUCKETS - 1 {
            let bound = Buckets::bound(index).unwrap();
            assert_eq!(index_of(bound), Some(index));
            assert_eq!(index_of(bound + ns(1)), Some(index + 1));
        }
        assert_eq!(Buckets::bound(BUCKETS - 1), None);
    }
}
