//! The worker: the loop on one lcore.

use std::time::Instant;

use hugepages::Burst;

use crate::control::{Control, Presence, Stop};
use crate::deadline::earlier;
use crate::idle::{Idle, IdlePolicy};
use crate::lane::Lane;
use crate::nic::Emulation;
use crate::queue::QueuePair;
use crate::transport::Transport;

/// The loop on one lcore. It drives one lane, or several of different ports.
#[derive(Debug)]
pub struct Worker<T> {
    lanes: Vec<Lane<T>>,
    /// Models of NICs that this lcore drives besides; usually none.
    emulations: Vec<Emulation>,
    idle: IdlePolicy,
}

impl<T: Transport> Worker<T> {
    /// A worker over `lanes`.
    pub fn new(lanes: Vec<Lane<T>>, idle: IdlePolicy) -> Self {
        Self {
            lanes,
            emulations: Vec::new(),
            idle,
        }
    }

    /// Drives emulated NICs, too: a step of each in every turn. Their time counts for no lane.
    #[must_use]
    pub fn with_emulations(mut self, emulations: Vec<Emulation>) -> Self {
        self.emulations = emulations;
        self
    }

    /// Runs until a stop is requested and every worker that shares `control` has drained. Returns the queue pairs, so
    /// that what is still in them can be [emptied](drain_queues) when all workers have ended.
    pub fn run(self, control: &Control) -> Vec<QueuePair> {
        self.turn(control, control.enter())
    }

    /// [Runs](Self::run) a worker that is made on this thread, with transports that cannot come from another one. Where
    /// it cannot be made, the workers that share `control` end with their next turn.
    ///
    /// # Errors
    /// That of `make`.
    pub fn run_made<E>(
        make: impl FnOnce() -> Result<Self, E>,
        control: &Control,
    ) -> Result<Vec<QueuePair>, E> {
        // Before it is made, so that the others hear of a panic, too.
        let presence = control.enter();
        match make() {
            Ok(worker) => Ok(worker.turn(control, presence)),
            Err(error) => {
                control.request(Stop::Now);
                Err(error)
            }
        }
    }

    fn turn(mut self, control: &Control, mut presence: Presence<'_>) -> Vec<QueuePair> {
        let mut now = Instant::now();
        let mut idle = Idle::new(self.idle);
        let mut stopping = false;
        for lane in &mut self.lanes {
            lane.start(now);
        }
        loop {
            let mut busy = false;
            let mut deadline = None;
            if !self.emulations.is_empty() {
                busy = self.step(now);
                now = Instant::now();
            }
            for lane in &mut self.lanes {
                let moved = lane.turn(now);
                deadline = earlier(deadline, lane.timeout(now));
                // The one reading of the clock in a turn: it ends this lane's turn and begins the next one's.
                let next = Instant::now();
                lane.account(next - now, moved);
                now = next;
                busy |= moved;
            }
            for emulation in &self.emulations {
                deadline = earlier(deadline, emulation.timeout());
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

    /// A step of the emulated NICs. True when a frame was moved.
    fn step(&mut self, now: Instant) -> bool {
        let emulations = self.emulations.iter_mut();
        emulations
            .map(|emulation| emulation.step(now))
            .sum::<usize>()
            > 0
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::echo::Echo;

    #[test]
    fn a_worker_that_cannot_be_made_ends_the_others() {
        let control = Control::new(2);
        let other = control.enter();
        let refused = Worker::<Echo>::run_made(|| Err("no shard"), &control);
        assert_eq!(refused.err(), Some("no shard"));
        assert_eq!(control.requested(), Stop::Now);
        drop(other);
        assert!(control.all_drained(), "it counts as drained");
    }

    #[test]
    fn a_panic_while_a_worker_is_made_ends_the_others() {
        let control = Control::new(1);
        let make = || -> Result<Worker<Echo>, ()> { panic!("in an application's maker") };
        let run = AssertUnwindSafe(|| Worker::run_made(make, &control));
        assert!(catch_unwind(run).is_err());
        assert_eq!(control.requested(), Stop::Now);
        assert!(control.all_drained());
    }
}
