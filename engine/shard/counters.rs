//! What a shard counts, readable from other threads without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Incoming connections that we began a handshake with.
    pub connections_accepted: Counter,
    /// Outgoing connections that we began a handshake with.
    pub connections_opened: Counter,
    /// Connections held now, closing ones included.
    pub connections_current: Counter,
    /// The most connections held at a time.
    pub connections_peak: Counter,
    /// Incoming connections answered with CONNECTION_REFUSED: at a limit, or shutting down.
    pub connections_refused: Counter,
    /// Connections that ended by a time-out, a stateless reset or a transport error, and outgoing ones that never
    /// came to be. A close by either application is none of these.
    pub connections_lost: Counter,
    /// Handshakes completed, both sides.
    pub handshakes: Counter,
    /// Incoming connections that ended before their handshake was complete.
    pub handshakes_failed: Counter,
    /// Connections whose 0-RTT data was accepted, both sides.
    pub early_data_accepted: Counter,

    /// UDP datagrams taken in by the shard.
    pub udp_received: Counter,
    /// UDP datagrams built by the shard.
    pub udp_sent: Counter,
    /// Stateless answers sent: version negotiation, Retry, refusal, stateless reset.
    pub responses: Counter,
    /// Of `responses`: Retry packets (RFC 9000 §8.1.2).
    pub retries: Counter,
    /// Stateless answers dropped because too many were waiting.
    pub dropped_response_queue_full: Counter,
    /// Datagrams dropped because no endpoint uses their UDP port.
    pub dropped_unknown_udp_port: Counter,
    /// Datagrams that QUIC neither takes nor answers: too short, malformed, or of no connection of ours.
    pub dropped_quic_ignored: Counter,
    /// Datagrams built and thrown away because a mapped file was truncated while they were filled.
    pub discarded_page_fault: Counter,
    /// Panics caught in applications.
    pub application_panics: Counter,

    /// QUIC packets declared lost, of ended connections, and of all at [`Shard::publish`](super::Shard::publish).
    pub lost_packets: Counter,
    /// Congestion events, counted like `lost_packets`.
    pub congestion_events: Counter,
    /// The largest UDP payload that MTU discovery reached on any connection, in bytes.
    pub mtu: Counter,
    /// 1 once there is at least one client and all say they have finished.
    pub clients_finished: Counter,
}
