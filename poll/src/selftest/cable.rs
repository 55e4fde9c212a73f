//! One way through the cable: frames go in at one end, and are looked at at the other.

use std::time::{Duration, Instant};

use dpdk_sys as sys;
use hugepages::{Burst, Mbuf, Mempool, TxOffload};
use thiserror::Error;

use super::TestEnd;
use super::frame::{self, Draft, Seen};
use crate::offload::{FrameOffloads, PacingClock, segmentation};
use crate::port::Port;
use crate::queue::BURST;
use crate::wire::Checksum;

/// Copies of a frame that are sent at once: a wire may lose some.
const COPIES: usize = 4;
/// How often a question is repeated to which nothing came.
pub(super) const ROUNDS: usize = 8;

/// Questions of all tests of a process, so that no late frame is taken for an answer to the next one.
static QUESTION: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);

/// A frame to send, with what is asked of the device for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub(super) frame: Vec<u8>,
    pub(super) offload: TxOffload,
    /// A VLAN tag to insert.
    pub(super) vlan_tci: u16,
    /// How long after now it is to leave.
    pub(super) delay: Option<Duration>,
    /// Its payload is to be cut into datagrams of so many bytes, asked for as lanes do, in the VLAN of the port.
    pub(super) segment: Option<u16>,
}

/// Why a question could not be asked: nothing is known of the device then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NotSent {
    #[error("a frame of {frame} bytes cannot be built in {room}")]
    TooLong { frame: usize, room: usize },
    #[error("there was no mbuf to build a frame in")]
    NoMbuf,
    #[error("the port did not take all frames")]
    Refused,
}

/// See the module.
pub(super) struct Cable<'a> {
    ends: &'a mut [TestEnd],
    from: usize,
    to: usize,
    patience: Duration,
    turn: &'a mut dyn FnMut(Instant),
    /// The number of the question that is asked now.
    question: u16,
}

impl<'a> Cable<'a> {
    pub(super) fn new(
        ends: &'a mut [TestEnd],
        from: usize,
        to: usize,
        patience: Duration,
        turn: &'a mut dyn FnMut(Instant),
    ) -> Self {
        Self {
            ends,
            from,
            to,
            patience,
            turn,
            question: 0,
        }
    }

    pub(super) fn sender(&self) -> &Port {
        &self.ends[self.from].port
    }

    pub(super) fn receiver(&self) -> &Port {
        &self.ends[self.to].port
    }

    pub(super) fn clock(&self) -> Option<&PacingClock> {
        self.ends[self.from].clock.as_ref()
    }

    /// The largest frame that can be built, bytes.
    pub(super) fn room(&self) -> usize {
        let pool: Mempool = self.ends[self.from].pool;
        usize::from(pool.data_room()).saturating_sub(sys::RTE_PKTMBUF_HEADROOM as usize)
    }

    /// Begins the next question: frames of those before it are not looked at any more.
    pub(super) fn ask(&mut self) {
        self.question = QUESTION.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// The number of the present question.
    pub(super) fn question(&self) -> u16 {
        self.question
    }

    /// A frame of the present question.
    pub(super) fn frame(&self, src_port: u16, checksum: Checksum, payload: &[u8]) -> Vec<u8> {
        let draft = Draft {
            src_mac: self.sender().mac(),
            dst_mac: self.receiver().mac(),
            question: self.question,
            src_port,
            checksum,
        };
        frame::bytes(draft, payload)
    }

    /// Sends copies of a frame, again and again until one comes out, and returns that one.
    pub(super) fn first(
        &mut self,
        make: impl Fn(&Self) -> Outgoing,
    ) -> Result<Option<Seen>, NotSent> {
        for _ in 0..ROUNDS {
            self.ask();
            let frames = vec![make(self); COPIES];
            let seen = self.exchange(&frames, |seen| !seen.is_empty())?;
            if !seen.is_empty() {
                return Ok(seen.into_iter().next());
            }
        }
        Ok(None)
    }

    /// Sends frames, and collects what comes of them until there is `enough`, or patience ends.
    pub(super) fn exchange(
        &mut self,
        frames: &[Outgoing],
        enough: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, NotSent> {
        let start = Instant::now();
        let mut waiting = frames.iter().peekable();
        let mut burst = Burst::<BURST>::new();
        let mut seen = Vec::new();
        loop {
            let now = Instant::now();
            while !burst.is_full()
                && let Some(outgoing) = waiting.peek()
                && let Some(mbuf) = self.build(outgoing, start)?
            {
                let _ = burst.push(mbuf);
                waiting.next();
            }
            let starved = burst.is_empty() && waiting.len() > 0;
            self.ends[self.from].queues[0].tx.tx_burst(&mut burst);
            (self.turn)(now);
            self.collect(now, &mut seen);
            let sent = burst.is_empty() && waiting.len() == 0;
            if sent && enough(&seen) {
                return Ok(seen);
            }
            if now.duration_since(start) > self.patience {
                return match (sent, starved) {
                    (true, _) => Ok(seen),
                    (false, true) => Err(NotSent::NoMbuf),
                    (false, false) => Err(NotSent::Refused),
                };
            }
            std::thread::yield_now();
        }
    }

    /// A frame in an mbuf; nothing while there is none.
    fn build(&self, outgoing: &Outgoing, start: Instant) -> Result<Option<Mbuf>, NotSent> {
        let Some(mut mbuf) = Mbuf::alloc(self.ends[self.from].pool) else {
            return Ok(None);
        };
        let too_long = NotSent::TooLong {
            frame: outgoing.frame.len(),
            room: mbuf.tailroom(),
        };
        let Some(bytes) = mbuf.append(outgoing.frame.len()) else {
            return Err(too_long);
        };
        bytes.copy_from_slice(&outgoing.frame);
        mbuf.set_tx(outgoing.offload);
        mbuf.set_vlan_tci(outgoing.vlan_tci);
        if let Some(size) = outgoing.segment {
            let offloads = FrameOffloads::new(self.sender().offloads(), Checksum::Segmented);
            if !offloads.dress_datagram(&mut mbuf) {
                return Err(too_long);
            }
            mbuf.set_tx(segmentation::ask(mbuf.tx_offload(), size));
        }
        if let (Some(delay), Some(clock)) = (outgoing.delay, self.clock()) {
            clock.stamp(&mut mbuf, start + delay);
        }
        Ok(Some(mbuf))
    }

    fn collect(&mut self, now: Instant, seen: &mut Vec<Seen>) {
        let mut burst = Burst::<BURST>::new();
        for (number, queue) in self.ends[self.to].queues.iter_mut().enumerate() {
            queue.rx.rx_burst(&mut burst);
            while let Some(mbuf) = burst.pop() {
                seen.extend(Seen::read(&mbuf, now, number as u16, self.question));
            }
        }
        // What arrives at a sender is nobody's, and must not fill its rings.
        if self.from != self.to {
            for queue in &mut self.ends[self.from].queues {
                queue.rx.rx_burst(&mut burst);
                burst.clear();
            }
        }
    }
}
