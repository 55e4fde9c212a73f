//! One emulated NIC: it takes mbufs from the transmit queues of its port, and gives it mbufs with what arrives.

use std::sync::Arc;

use dpdk_sys as sys;
use hugepages::{Burst, DynField, Mbuf, Mempool};

use super::counters::NicCounters;
use super::kit::Kit;
use super::receive::{Receiver, Verdict};
use super::transmit::{Layout, Request, Transmitter};
use crate::queue::BURST;
use crate::ring::FarQueue;

/// mbufs taken from a transmit queue in one step, at most.
const TRANSMIT_MAX: usize = 2 * BURST;
/// Frames whose time is further away than this are sent at once, nanoseconds: one wrong timestamp must not stop a queue.
const HOLD_MAX: u64 = 1_000_000_000;

/// One emulated NIC.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) transmitter: Transmitter,
    pub(super) receiver: Receiver,
    /// Where the field for the time of departure is, if mbufs have one.
    pub(super) timestamps: Option<DynField>,
    /// It waits for that time, where that is granted.
    pub(super) heeds_timestamps: bool,
    /// It receives into chains.
    pub(super) scatter: bool,
    pub(super) port: u16,
    /// Where received frames are put.
    pub(super) pool: Mempool,
    pub(super) queues: Vec<Queue>,
    pub(super) kit: Kit,
    pub(super) counters: Arc<NicCounters>,
}

/// A queue pair, seen from the NIC.
#[derive(Debug)]
pub(super) struct Queue {
    far: FarQueue,
    /// Taken from the port, and not sent yet: the first may wait for its time, and the others behind it. As on hardware,
    /// timestamps do not reorder a queue.
    sending: Burst<BURST>,
    /// The time that the first one waits for.
    held: Option<u64>,
    received: Burst<BURST>,
}

impl Queue {
    pub(super) fn new(far: FarQueue) -> Self {
        Self {
            far,
            sending: Burst::new(),
            held: None,
            received: Burst::new(),
        }
    }
}

impl Device {
    /// Takes frames from the transmit queues and gives what becomes of them, with the time of departure, to `wire`. Returns
    /// how many were taken.
    pub(super) fn transmit(
        &mut self,
        now: u64,
        mut wire: impl FnMut(Vec<u8>, u64, &mut Kit),
    ) -> usize {
        let mut taken = 0;
        for index in 0..self.queues.len() {
            for _ in 0..TRANSMIT_MAX {
                let Some((mbuf, at)) = self.next_to_send(index, now) else {
                    break;
                };
                let (request, frame) = self.read(&mbuf);
                // As a NIC does when it has read the frame.
                drop(mbuf);
                let to_wire = |frame, kit: &mut Kit| wire(frame, at, kit);
                self.transmitter
                    .process(frame, &request, &mut self.kit, to_wire);
                taken += 1;
            }
        }
        taken
    }

    /// When the next frame that waits for its time may leave.
    pub(super) fn next_departure(&self) -> Option<u64> {
        self.queues.iter().filter_map(|queue| queue.held).min()
    }

    /// Puts a frame from the wire into mbufs, and those into a receive queue.
    pub(super) fn receive(&mut self, frame: &mut Vec<u8>) {
        let Some(verdict) = self.receiver.examine(frame, &mut self.kit) else {
            return;
        };
        let Some(mut mbuf) = self.fill(frame) else {
            return;
        };
        self.describe(&mut mbuf, &verdict);
        // RSS names queues that exist: its table was made for them.
        let Some(queue) = self.queues.get_mut(usize::from(verdict.queue)) else {
            self.kit.stats.rx_missed += 1;
            return;
        };
        if queue.received.is_full() {
            deliver(queue, &mut self.kit);
        }
        // There is room, as seen above.
        let _ = queue.received.push(mbuf);
    }

    /// To be called when no further frame is received for now, and once in every step.
    pub(super) fn end_step(&mut self) {
        for queue in &mut self.queues {
            deliver(queue, &mut self.kit);
        }
        self.counters.publish(&self.kit.stats);
    }

    /// The next frame of a queue that may leave now, with its time of departure: that of its timestamp if it has waited
    /// for it, however late the step is.
    fn next_to_send(&mut self, index: usize, now: u64) -> Option<(Mbuf, u64)> {
        let queue = self.queues.get_mut(index)?;
        if queue.sending.is_empty() && queue.far.take(&mut queue.sending) == 0 {
            return None;
        }
        if let Some(at) = queue.held {
            if at > now {
                return None;
            }
            queue.held = None;
            return Some((queue.sending.pop()?, at));
        }
        let first = queue.sending.as_slice().first()?;
        let time = self.timestamps.and_then(|field| first.timestamp(field));
        let granted = self.transmitter.granted & sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP != 0;
        self.kit.stats.tx_not_granted += u64::from(time.is_some() && !granted);
        if let Some(at) = time.filter(|_| granted && self.heeds_timestamps) {
            match at.checked_sub(now) {
                None => self.kit.stats.tx_late += 1,
                Some(0) => {}
                Some(wait) if wait > HOLD_MAX => self.kit.stats.tx_far += 1,
                Some(_) => {
                    self.kit.stats.tx_held += 1;
                    queue.held = Some(at);
                    return None;
                }
            }
        }
        Some((queue.sending.pop()?, now))
    }

    /// Reads a frame and what its mbuf asks for.
    fn read(&mut self, mbuf: &Mbuf) -> (Request, Vec<u8>) {
        let offload = mbuf.tx_offload();
        let request = Request {
            flags: offload.flags,
            layout: Layout {
                l2: offload.l2_len.into(),
                l3: offload.l3_len.into(),
                l4: offload.l4_len.into(),
                segment: offload.tso_segsz.into(),
            },
            vlan_tci: mbuf.vlan_tci(),
        };
        let bits = self.transmitter.granted;
        let granted = |bit| bits & bit != 0;
        let fast_free = granted(sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
        let stats = &mut self.kit.stats;
        stats.tx_mbufs += 1;
        stats.tx_fast_free_broken += u64::from(fast_free && !mbuf.is_direct_single());
        let mut frame = self.kit.take();
        if granted(sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS) {
            mbuf.segments()
                .for_each(|part| frame.extend_from_slice(part));
        } else {
            self.kit.stats.tx_not_granted += u64::from(mbuf.segment_count() != 1);
            frame.extend_from_slice(mbuf.data());
        }
        (request, frame)
    }

    /// A frame in an mbuf, or in several where scatter is granted. Nothing when it does not fit, or there is no mbuf.
    fn fill(&mut self, frame: &[u8]) -> Option<Mbuf> {
        let mut head = self.blank()?;
        let room = head.tailroom();
        if frame.len() <= room {
            head.append(frame.len())?.copy_from_slice(frame);
            return Some(head);
        }
        if !self.scatter || room == 0 {
            self.kit.stats.rx_no_scatter += 1;
            return None;
        }
        let (first, rest) = frame.split_at_checked(room)?;
        head.append(first.len())?.copy_from_slice(first);
        for part in rest.chunks(room) {
            let mut next = self.blank()?;
            next.append(part.len())?.copy_from_slice(part);
            head.chain(next).ok()?;
        }
        self.kit.stats.rx_scattered += 1;
        Some(head)
    }

    fn blank(&mut self) -> Option<Mbuf> {
        let mbuf = Mbuf::alloc(self.pool);
        self.kit.stats.rx_no_mbuf += u64::from(mbuf.is_none());
        mbuf
    }

    fn describe(&self, mbuf: &mut Mbuf, verdict: &Verdict) {
        mbuf.set_port(self.port);
        mbuf.set_flags(verdict.flags);
        mbuf.set_vlan_tci(verdict.vlan_tci);
        mbuf.set_rss_hash(verdict.rss_hash);
    }
}

/// Hands what was received to the port. What its queue has no room for is lost.
fn deliver(queue: &mut Queue, kit: &mut Kit) {
    if queue.received.is_empty() {
        return;
    }
    let bytes = |burst: &Burst<BURST>| -> u64 {
        let mbufs = burst.as_slice().iter();
        mbufs.map(|mbuf| mbuf.packet_len() as u64).sum()
    };
    let all = bytes(&queue.received);
    let given = queue.far.give(&mut queue.received);
    kit.stats.rx_frames += given as u64;
    kit.stats.rx_bytes += all - bytes(&queue.received);
    kit.stats.rx_missed += queue.received.len() as u64;
    queue.received.clear();
}
