//! A lane: one queue pair, the IPv6 host on it, and the transport above.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use hugepages::{Burst, Mbuf, Mempool};
use tracing::warn;

use crate::bridge::{RxBridge, TxBridge, TxPath, Written, prepend_headers};
use crate::counters::{LaneCounters, LaneStats};
use crate::deadline::earlier;
use crate::host::{Audience, Host, HostRole, Route, Verdict};
use crate::idle::SLEEP_MAX;
use crate::offload::{ChecksumVerdict, FrameOffloads, PacingClock, segmentation};
use crate::profile::{Profiler, Stage, enter, within};
use crate::queue::{BURST, QueuePair};
use crate::relay::{RELAYED_MAX, Relay};
use crate::transport::{Datagram, Transmit, Transport};
use crate::wire::{DropReason, MacAddr};

/// Turns between two publications of the counters.
const PUBLISH_TURNS: u64 = 256;
/// Times that the transport is asked for datagrams in one turn and lane, in bursts. Those that find no neighbour take no
/// place in the burst, so the burst alone would not bound the turn.
const PULLED_BURSTS_MAX: usize = 2;
/// Datagrams after which the transport is not asked for more in one turn and lane, in bursts, where several are sent in
/// one mbuf: received frames wait meanwhile.
const DATAGRAM_BURSTS_MAX: usize = 4;
/// Of how many frames of a burst one may be the host's own. The rest is the transport's: neighbours that keep asking cannot
/// silence it.
const HOST_SHARE: usize = 4;
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

    /// Frames that the lanes on other queues of the port handed over.
    #[inline]
    fn receive_relayed(&mut self, now: Instant) -> usize {
        let Some(relay) = &self.relay else { return 0 };
        let mut count = 0;
        while count < RELAYED_MAX
            && let Some(frame) = relay.next()
        {
            self.host.receive_relayed(now, &frame);
            count += 1;
        }
        self.stats.relay_received += count as u64;
        count
    }

    fn receive(&mut self, now: Instant) -> usize {
        let count = within(Stage::Rx, || self.queue.rx.rx_burst(&mut self.received));
        if count == 0 {
            return 0;
        }
        self.stats.rx_frames += count as u64;
        self.rx.begin(&mut self.stats);
        let mut shared = 0;
        enter(Stage::Parse);
        while let Some(mut mbuf) = self.received.pop() {
            match self.offloads.admit(&mut mbuf) {
                Ok(checksum) if mbuf.segment_count() == 1 => {
                    self.take(now, mbuf, checksum, &mut shared);
                }
                Ok(checksum) => self.take_chain(now, mbuf, checksum, &mut shared),
                Err(reason) => {
                    self.stats.drops.count(reason);
                    self.rx.discard(mbuf);
                }
            }
        }
        enter(Stage::Lift);
        self.rx.end();
        enter(Stage::Other);
        count
    }

    #[inline]
    fn take(&mut self, now: Instant, mbuf: Mbuf, checksum: ChecksumVerdict, shared: &mut usize) {
        match self.host.receive_checked(now, mbuf.data(), checksum) {
            Verdict::Udp { path, ecn, payload } => {
                enter(Stage::Lift);
                let payload = self.rx.lift(mbuf, payload, &mut self.stats);
                enter(Stage::Receive);
                self.transport.receive(now, Datagram { path, ecn, payload });
                enter(Stage::Parse);
            }
            other => {
                self.conclude(other, mbuf.data(), shared);
                self.rx.discard(mbuf);
            }
        }
    }

    /// A frame that came in several mbufs is copied into one piece first.
    #[inline(never)]
    fn take_chain(
        &mut self,
        now: Instant,
        mbuf: Mbuf,
        checksum: ChecksumVerdict,
        shared: &mut usize,
    ) {
        let Some(mut frame) = self.rx.linearise(mbuf, self.frame_max) else {
            self.stats.drops.count(DropReason::Chained);
            return;
        };
        match self.host.receive_checked(now, &frame, checksum) {
            Verdict::Udp { path, ecn, payload } => {
                self.stats.rx_bytes += payload.len() as u64;
                self.stats.rx_copied += 1;
                frame.truncate(payload.end);
                frame.advance(payload.start);
                let payload = frame;
                enter(Stage::Receive);
                self.transport.receive(now, Datagram { path, ecn, payload });
                enter(Stage::Parse);
            }
            other => self.conclude(other, &frame, shared),
        }
    }

    /// What is to be done with a frame that is no datagram. `shared` counts those of this turn.
    fn conclude(&mut self, verdict: Verdict, frame: &[u8], shared: &mut usize) {
        match verdict {
            Verdict::Udp { .. } => {}
            Verdict::Consumed => self.stats.rx_icmpv6 += 1,
            Verdict::Shared(audience) => {
                self.stats.rx_icmpv6 += 1;
                *shared += 1;
                self.share(frame, audience, *shared);
            }
            Verdict::Dropped(reason) => self.stats.drops.count(reason),
        }
    }

    /// Hands a frame to the lanes on other queues of the port: it is the `nth` of this turn.
    fn share(&mut self, frame: &[u8], audience: Audience, nth: usize) {
        let Some(relay) = &self.relay else { return };
        if nth > RELAYED_MAX {
            self.stats.relay_full += 1;
            return;
        }
        let refused = relay.send(frame, audience);
        self.stats.relayed += 1;
        self.stats.relay_full += refused as u64;
    }

    fn send(&mut self, now: Instant) -> usize {
        within(Stage::Advance, || self.transport.advance(now));
        let pulled = self.pull_host(now) && within(Stage::Lend, || self.pull_transport(now));
        let no_mbuf = !pulled;
        if self.outgoing.is_empty() {
            self.stats.tx_stalled += u64::from(no_mbuf);
            return 0;
        }
        let sent = within(Stage::Tx, || self.transmit_burst());
        self.stats.tx_stalled += u64::from(no_mbuf || !self.outgoing.is_empty());
        sent
    }

    /// Offers what is outgoing to the device, and counts what it takes.
    #[inline]
    fn transmit_burst(&mut self) -> usize {
        if self.segments_max == 1 {
            let sent = self.queue.tx.tx_burst(&mut self.outgoing);
            self.stats.tx_frames += sent as u64;
            return sent;
        }
        // What the device takes is the device's, and cannot be looked at any more.
        let mut datagrams = [0; BURST];
        for (count, mbuf) in datagrams.iter_mut().zip(self.outgoing.as_slice()) {
            *count = segmentation::frames(mbuf);
        }
        let sent = self.queue.tx.tx_burst(&mut self.outgoing);
        for count in datagrams.into_iter().take(sent) {
            self.stats.tx_frames += count as u64;
            self.stats.tx_segmented += u64::from(count > 1);
        }
        sent
    }

    /// Frames of the host itself: neighbour discovery, echo replies, and datagrams that waited for a neighbour. False when
    /// no mbuf was free.
    fn pull_host(&mut self, now: Instant) -> bool {
        if self.host.timeout().is_none_or(|due| due > now) {
            return true;
        }
        for _ in 0..(self.outgoing.limit() / HOST_SHARE).max(1) {
            if self.outgoing.is_full() {
                break;
            }
            let Some(mut mbuf) = self.tx.blank() else {
                return false;
            };
            let room = mbuf.tailroom();
            let written = mbuf
                .append(room)
                .and_then(|frame| self.host.poll_frame(now, frame));
            let Some(len) = written else {
                self.tx.put_back(mbuf);
                break;
            };
            mbuf.truncate(len);
            if self.offloads.dress_other(&mut mbuf) {
                // There is room, as asked above.
                let _ = self.outgoing.push(mbuf);
            } else {
                self.stats.drops.count(DropReason::TxGrew);
            }
        }
        true
    }

    /// Datagrams of the transport, while the burst has room. False when no mbuf was free.
    #[inline]
    fn pull_transport(&mut self, now: Instant) -> bool {
        let (burst, segments_max) = (self.outgoing.limit(), self.segments_max);
        let mut datagrams = 0;
        for _ in 0..PULLED_BURSTS_MAX * burst {
            if self.outgoing.is_full() || datagrams >= DATAGRAM_BURSTS_MAX * burst {
                break;
            }
            let Some(mbuf) = self.tx.blank() else {
                return false;
            };
            let transport = &mut self.transport;
            let transmit = |buf: &mut Vec<u8>| {
                within(Stage::Transmit, || {
                    transport.transmit(now, buf, segments_max)
                })
            };
            match self.tx.write(mbuf, transmit) {
                Written::Nothing => break,
                Written::Datagram {
                    mbuf,
                    transmit,
                    in_place,
                } => {
                    datagrams += transmit.datagrams();
                    within(Stage::Emit, || self.route(now, mbuf, &transmit, in_place));
                }
                Written::Refused => self.stats.drops.count(DropReason::TxGrew),
            }
        }
        true
    }

    /// Puts headers in front of a datagram, or finds out why it cannot go now.
    #[inline]
    fn route(&mut self, now: Instant, mut mbuf: Mbuf, transmit: &Transmit, in_place: bool) {
        let route = self.host.route(
            now,
            *transmit.destination.ip(),
            transmit.source,
            transmit.datagram_size(),
        );
        let refused = match route {
            Route::Ready { mac, source } => {
                if self.put_headers(&mut mbuf, mac, source, transmit) {
                    self.request(&mut mbuf, transmit);
                    self.count_sent(transmit, in_place);
                    // There is room: the caller has asked.
                    let _ = self.outgoing.push(mbuf);
                    return;
                }
                Some(DropReason::TxGrew)
            }
            Route::Waiting { source } => {
                self.park(now, transmit, source, mbuf.data());
                None
            }
            Route::Refused(reason) => Some(reason),
        };
        if let Some(reason) = refused {
            let datagrams = transmit.datagrams() as u64;
            self.stats.drops.count_many(reason, datagrams);
        }
        self.tx.put_back(mbuf);
    }

    /// Makes a frame of a datagram. False when there is no room in front of it.
    #[inline]
    fn put_headers(
        &self,
        mbuf: &mut Mbuf,
        mac: MacAddr,
        source: Ipv6Addr,
        transmit: &Transmit,
    ) -> bool {
        let Some((headers, payload)) = prepend_headers(mbuf) else {
            return false;
        };
        self.host
            .write_headers(headers, mac, source, transmit, payload);
        self.offloads.dress_datagram(mbuf)
    }

    /// Says in the mbuf what the device is to do with it besides.
    #[inline]
    fn request(&self, mbuf: &mut Mbuf, transmit: &Transmit) {
        if let Some(size) = transmit.segment_size {
            mbuf.set_tx(segmentation::ask(mbuf.tx_offload(), size));
        }
        if let (Some(clock), Some(departure)) = (&self.clock, transmit.departure) {
            clock.stamp(mbuf, departure);
        }
    }

    /// Leaves a payload with the host until its neighbour is known, datagram by datagram: each goes in an mbuf of its own.
    fn park(&mut self, now: Instant, transmit: &Transmit, source: Ipv6Addr, payload: &[u8]) {
        for datagram in payload.chunks(transmit.datagram_size().max(1)) {
            let transmit = Transmit {
                size: datagram.len(),
                segment_size: None,
                ..*transmit
            };
            match self.host.park(now, &transmit, source, datagram) {
                // It goes later, as a copy of the copy that waits.
                Ok(()) => self.count_sent(&transmit, false),
                Err(reason) => self.stats.drops.count(reason),
            }
        }
    }

    #[inline]
    fn count_sent(&mut self, transmit: &Transmit, in_place: bool) {
        let datagrams = transmit.datagrams() as u64;
        self.stats.tx_bytes += transmit.size as u64;
        let way = match in_place {
            true => &mut self.stats.tx_in_place,
            false => &mut self.stats.tx_copied,
        };
        *way += datagrams;
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
