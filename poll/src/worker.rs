//! The worker: the loop on one lcore.

use std::time::Instant;

use hugepages::Burst;

use crate::control::{Control, Stop};
use crate::deadline::earlier;
use crate::idle::{Idle, IdlePolicy};
use crate::lane::Lane;
use crate::queue::QueuePair;
use crate::transport::Transport;

/// The loop on one lcore. It drives one lane, or several of different ports.
#[derive(Debug)]
pub struct Worker<T> {
    lanes: Vec<Lane<T>>,
    idle: IdlePolicy,
}

impl<T: Transport> Worker<T> {
    /// A worker over `lanes`.
    pub fn new(lanes: Vec<Lane<T>>, idle: IdlePolicy) -> Self {
        Self { lanes, idle }
    }

    /// Runs until a stop is requested and every worker that shares `control` has drained. Returns the queue pairs, so
    /// that what is still in them can be [emptied](drain_queues) when all workers have ended.
    pub fn run(mut self, control: &Control) -> Vec<QueuePair> {
        let mut presence = control.enter();
        let mut now = Instant::now();
        let mut idle = Idle::new(self.idle);
        let mut stopping = false;
        for lane in &mut self.lanes {
            lane.start(now);
        }
        loop {
            let mut busy = false;
            let mut deadline = None;
            for lane in &mut self.lanes {
                let moved = lane.turn(now);
                deadline = earlier(deadline, lane.timeout(now));
                // The one reading of the clock in a turn: it ends this lane's turn and begins the next one's.
                let next = Instant::now();
                lane.account(next - now, moved);
                now = next;
                busy |= moved;
            }
            if busy {
                idle.reset();
            } else if idle.wait(now, deadline) {
                now = Instant::now();
            }

            match control.requested() {
                Stop::No => continue,
                Stop::Now => break,
                Stop::Drain => {}
            }
            if !stopping {
                stopping = true;
                self.lanes.iter_mut().for_each(|lane| lane.stop(now));
            }
            if self.lanes.iter().all(|lane| lane.transport().is_drained()) {
                presence.set_drained();
            }
            if presence.is_drained() && control.all_drained() {
                break;
            }
        }
        self.lanes.into_iter().map(Lane::finish).collect()
    }
}

/// Gives back what is still in the receive queues: the last frames of a link's other end. To be called when no worker
/// runs any more.
pub fn drain_queues(queues: &mut [QueuePair]) {
    for queue in queues {
        let mut burst = Burst::new();
        // A device that goes on receiving (net_null makes frames from nothing) would never be empty.
        for _ in 0..4096 {
            if queue.rx.rx_burst(&mut burst) == 0 {
                break;
            }
            burst.clear();
        }
    }
}
