//! A lane: one queue pair, the IPv6 host on it, and the transport above.

mod receive;
mod send;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hugepages::{Burst, Mempool};
use tracing::warn;

use crate::bridge::{RxBridge, TxBridge, TxPath};
use crate::counters::{LaneCounters, LaneStats};
use crate::deadline::earlier;
use crate::host::{Host, HostRole};
use crate::idle::SLEEP_MAX;
use crate::offload::{FrameOffloads, PacingClock};
use crate::profile::{Profiler, Stage, within};
use crate::queue::{BURST, QueuePair};
use crate::relay::Relay;
use crate::transport::Transport;

/// Turns between two publications of the counters.
const PUBLISH_TURNS: u64 = 256;
/// How long frames that the device refuses are offered to it after the end of the loop.
const FLUSH_MAX: Duration = Duration::from_millis(50);

/// How a lane moves packets.
#[derive(Debug)]
pub struct LaneConfig {
    /// Where frames to send are built.
    pub pool: Mempool,
    /// Where received frames come from: the port's pool, or on a link that of the other end.
    pub rx_pool: Mempool,
    /// Where a datagram to send is written first.
    pub tx_path: TxPath,
    /// Received payloads shorter than this are copied, bytes.
    pub rx_copybreak: usize,
    /// With fewer free mbufs than this in `rx_pool`, received payloads are copied.
    pub pool_low_mark: usize,
    /// Largest UDP payload to send, bytes; at most the pool's data room without the headers in front.
    pub udp_payload_max: u16,
    /// Datagrams of one size that may be sent in one mbuf, for the device to segment: 1 where it does not. At most as
    /// many of `udp_payload_max` as fit the pool's data room without the headers in front.
    pub segments_max: u16,
    /// The clock by which the device sends frames that are given a departure; none where it sends at once.
    pub clock: Option<PacingClock>,
    /// Frames received, and frames sent, in one turn at most: 1 to [`BURST`], 32 as a rule ([`BURST_DEFAULT`](crate::BURST_DEFAULT)).
    pub burst: usize,
    /// Joins the host with those on the other queues of its port; none on a port with one queue.
    pub relay: Option<Relay>,
}

/// One queue pair, the host on it, and the transport above.
#[derive(Debug)]
pub struct Lane<T> {
    queue: QueuePair,
    host: Host,
    transport: T,
    rx: RxBridge,
    tx: TxBridge,
    offloads: FrameOffloads,
    /// Longest frame that is received in several pieces, bytes.
    frame_max: usize,
    received: Burst<BURST>,
    /// Frames for the device; what it refuses stays first in line.
    outgoing: Burst<BURST>,
    segments_max: usize,
    /// By which frames leave that are given a departure.
    clock: Option<PacingClock>,
    relay: Option<Relay>,
    /// Where frames are built, and where received ones come from.
    pools: [Mempool; 2],
    stats: LaneStats,
    profiler: Option<Profiler>,
    counters: Arc<LaneCounters>,
    started: Option<Instant>,
    /// Address conflicts that were reported.
    conflicts: u64,
}

impl<T: Transport> Lane<T> {
    /// A lane over `queue`.
    pub fn new(
        queue: QueuePair,
        host: Host,
        transport: T,
        config: LaneConfig,
        counters: Arc<LaneCounters>,
    ) -> Self {
        let lanes = config.relay.as_ref().map_or(1, Relay::lanes);
        let offloads = FrameOffloads::new(queue.offloads(), host.tx_checksum());
        Self {
            offloads,
            frame_max: queue.frame_max(),
            queue,
            host,
            transport,
            rx: RxBridge::new(
                config.rx_pool,
                config.rx_copybreak,
                config.pool_low_mark,
                lanes * config.burst,
            ),
            tx: TxBridge::new(
                config.pool,
                config.tx_path,
                usize::from(config.udp_payload_max),
                usize::from(config.segments_max),
                config.burst,
            ),
            received: Burst::with_limit(config.burst),
            outgoing: Burst::with_limit(config.burst),
            segments_max: usize::from(config.segments_max),
            clock: config.clock,
            relay: config.relay,
            pools: [config.pool, config.rx_pool],
            stats: LaneStats::default(),
            profiler: None,
            counters,
            started: None,
            conflicts: 0,
        }
    }

    /// Has some of its turns timed by `profiler`, made on the thread that will drive the lane.
    pub fn profiled_by(mut self, profiler: Profiler) -> Self {
        self.profiler = Some(profiler);
        self
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The counters as they stand now; [`LaneCounters`] are behind by some turns.
    pub fn stats(&self) -> LaneStats {
        let mut stats = self.stats;
        stats.pool_free = u64::from(self.pools[0].free_in_ring());
        stats.rx_pool_free = u64::from(self.pools[1].free_in_ring());
        stats.neighbours = self.host.neighbour_count() as u64;
        stats.host = self.host.counters();
        stats.drops.merge(self.host.drops());
        stats
    }

    /// Receives a burst, then sends a burst. True when a frame was moved.
    #[inline]
    pub fn turn(&mut self, now: Instant) -> bool {
        if let Some(profiler) = &mut self.profiler {
            profiler.begin(&self.stats);
        }
        let relayed = self.receive_relayed(now);
        let received = self.receive(now);
        let sent = self.send(now);
        self.stats.turns += 1;
        relayed + received + sent > 0
    }

    /// When the lane wants its next turn, even if no frame arrives. Soon, while frames wait for the device: it may be
    /// full for a moment, or down for long, and the transport's wish to send does not make it ready.
    pub fn timeout(&mut self, now: Instant) -> Option<Instant> {
        // Asked in every case: for the transport it marks the end of the turn.
        let transport = within(Stage::Advance, || self.transport.timeout());
        if !self.outgoing.is_empty() {
            return Some(now + SLEEP_MAX);
        }
        earlier(transport, self.host.timeout())
    }

    /// The worker's loop begins.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// A stop was requested.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.transport.stop(now);
    }

    /// Adds the time of a turn, and publishes now and then.
    #[inline]
    pub(crate) fn account(&mut self, elapsed: Duration, busy: bool) {
        if busy {
            self.stats.busy_ns += elapsed.as_nanos() as u64;
        }
        if let Some(profiler) = &mut self.profiler {
            profiler.end(&mut self.stats, busy);
        }
        if self.stats.turns.is_multiple_of(PUBLISH_TURNS) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.report_conflicts();
        if let Some(started) = self.started {
            let now = Instant::now();
            self.stats.elapsed_ns = now.duration_since(started).as_nanos() as u64;
            if let Some(clock) = &mut self.clock {
                clock.follow(now);
            }
        }
        self.counters.publish(&self.stats());
    }

    /// Somebody else on the link uses an address of ours. Rare, and worth a line each time it is noticed anew.
    fn report_conflicts(&mut self) {
        // Every host of the port notices, one tells.
        if self.host.role() == HostRole::Secondary {
            return;
        }
        let conflicts = self.host.counters().address_conflicts;
        if conflicts != self.conflicts {
            self.conflicts = conflicts;
            for address in self.host.address_conflicts() {
                warn!(%address, "another host on the link uses this address; give one of the two another");
            }
        }
    }

    /// Offers what is left to the device, for a bounded time, and gives every other mbuf back.
    pub(crate) fn finish(mut self) -> QueuePair {
        let start = Instant::now();
        while !self.outgoing.is_empty() && start.elapsed() < FLUSH_MAX {
            self.transmit_burst();
        }
        self.publish();
        self.queue
    }
}
