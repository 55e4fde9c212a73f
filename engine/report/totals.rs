//! What was counted in a run: the input of the report.

use std::time::Duration;

use poll::profile::ProfileStats;

use super::Latency;

/// Counters of a whole run, summed over shards and ports.
#[derive(Debug, Clone, Default)]
pub struct RunTotals {
    /// From the start of the shards to the end of the run, without the drain.
    pub elapsed: Duration,
    /// The part of it at the start that goodput leaves out.
    pub warmup: Duration,
    /// Application bytes received after the warm-up.
    pub bytes_received_measured: u64,
    /// Application bytes received, warm-up included.
    pub bytes_received: u64,
    /// Application bytes sent, warm-up included.
    pub bytes_sent: u64,
    /// QUIC connections.
    pub connections: ConnectionTotals,
    /// Latency of all clients that measured it: [`Latency::of`] their joined histograms.
    pub latency: Option<Latency>,
    /// Frames received.
    pub rx: RxTotals,
    /// Frames sent.
    pub tx: TxTotals,
    /// Drops by reason; reasons of sending start with `tx_`. Zeros may be there.
    pub dropped: Vec<(&'static str, u64)>,
    /// Packet memory, counted after the drain.
    pub mbufs: MbufTotals,
    /// What QUIC noticed of the path.
    pub quic: QuicTotals,
    /// Lcores: one entry for each shard.
    pub lcores: Vec<LcoreTotals>,
    /// What emulated NICs counted, by the names of their ports and of the counters. Zeros may be there.
    pub nics: Vec<(String, Vec<(&'static str, u64)>)>,
    /// How datagrams found their shards: one entry for each port, by its name.
    pub steering: Vec<(String, &'static str)>,
    /// Ticks of the time stamp counter a second, when the run was profiled.
    pub profile: Option<u64>,
}

/// QUIC connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionTotals {
    /// Accepted by listeners.
    pub accepted: u64,
    /// Opened by clients.
    pub opened: u64,
    /// Most at a time, summed over shards.
    pub peak: u64,
    /// Refused.
    pub refused: u64,
    /// Ended by a time-out, a reset or an error.
    pub lost: u64,
    /// Handshakes completed, both sides counted.
    pub handshakes: u64,
}

/// Frames received.
#[derive(Debug, Clone, Copy, Default)]
pub struct RxTotals {
    /// All frames, dropped ones among them.
    pub frames: u64,
    /// Datagrams handed on in the mbuf they arrived in.
    pub zero_copy: u64,
    /// Datagrams handed on as copies.
    pub copied: u64,
}

/// Frames sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct TxTotals {
    /// All frames.
    pub frames: u64,
    /// Datagrams built in their mbuf.
    pub in_place: u64,
    /// Datagrams copied into their mbuf.
    pub copied: u64,
    /// mbufs of several datagrams that devices segmented.
    pub segmented: u64,
    /// Turns in which sending waited.
    pub stalled: u64,
}

/// Packet memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MbufTotals {
    /// mbufs of all pools.
    pub capacity: u64,
    /// mbufs not given back after the drain.
    pub in_use_at_exit: u64,
}

/// What QUIC noticed of the path.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuicTotals {
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Times a congestion window was reduced.
    pub congestion_events: u64,
    /// Largest UDP payload reached, bytes.
    pub mtu: u16,
}

/// An lcore with one of its shards.
#[derive(Debug, Clone, Default)]
pub struct LcoreTotals {
    /// DPDK's number of the lcore.
    pub id: u32,
    /// The shard's name.
    pub shard: String,
    /// Time in turns with work.
    pub busy: Duration,
    /// Time in all.
    pub elapsed: Duration,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Datagrams handed over to the shards that they belong to.
    pub handed_over: u64,
    /// Datagrams taken over from other shards.
    pub taken_over: u64,
    /// Datagrams dropped because too many waited at the shards that they belong to.
    pub handover_full: u64,
    /// Timed turns, when the run was profiled.
    pub profile: ProfileStats,
}
