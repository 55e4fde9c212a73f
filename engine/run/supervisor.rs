//! The control thread of a run: signals, duration, warm-up, links, the live line. It never touches a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use poll::{Control, LaneCounters, LinkState, Port, Stop};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::devices::Devices;
use super::quic::NamedClient;
use crate::plan::Plan;
use crate::shard::ShardCounters;

/// How often the control thread looks around.
const STEP: Duration = Duration::from_millis(10);
/// Time beyond the drain time-out before workers that have not drained are ended.
const GRACE: Duration = Duration::from_secs(1);
/// How often the live line is shown, and links are looked at.
const LIVE: Duration = Duration::from_secs(1);
/// How long to wait for the first turns of all lanes before saying that the engine is ready.
const READY_MAX: Duration = Duration::from_secs(5);

/// What the control thread watches.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Counters of each shard, in the order of the plan.
    pub shards: Vec<Arc<ShardCounters>>,
    /// Counters of each lane, in the same order.
    pub lanes: Vec<Arc<LaneCounters>>,
    /// Clients of all shards.
    pub clients: Vec<NamedClient>,
    /// The open ports, in the order of the plan.
    pub devices: Devices,
}

/// What the control thread measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// From ready to the request to stop.
    pub elapsed: Duration,
    /// The part of it that counts for goodput: without the warm-up, if the run was longer than that.
    pub counted: Duration,
    /// Bytes received by applications in that part.
    pub counted_bytes: u64,
}

/// The control thread's state.
pub(super) struct Supervisor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) control: Arc<Control>,
    pub(super) watched: Watched,
    /// Set when all workers have ended.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) signals: Option<Signals>,
    /// Set by whoever wants the run to drain.
    pub(super) stop: Arc<AtomicBool>,
    /// Called when all lanes have turned.
    pub(super) ready: Option<Box<dyn FnOnce() + Send>>,
}

impl Supervisor<'_> {
    /// Waits for the start, then watches until the workers have ended. `live` is called once a second with what is
    /// watched and the time since the start. `None` when there was no start: the sender of `started` is gone.
    pub(super) fn watch(
        mut self,
        started: &Receiver<()>,
        live: &mut dyn FnMut(&Watched, Duration),
    ) -> Option<Measured> {
        loop {
            match started.recv_timeout(STEP) {
                Ok(()) => break,
                Err(RecvTimeoutError::Timeout) => self.heed_requests(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.await_first_turns();
        info!(shards = self.watched.shards.len(), "ready");
        if let Some(ready) = self.ready.take()
            && !self.ended.load(Ordering::Acquire)
        {
            ready();
        }
        let start = Instant::now();
        let mut counting = (start, 0);
        let mut warm = false;
        let mut measured = None;
        let mut next_live = start + LIVE;
        let mut stopped_at = None;
        let mut links = Links::default();
        links.watch(self.plan, &self.watched.devices);
        while !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(STEP);
            let now = Instant::now();
            self.heed_requests();
            if !warm && now - start >= self.plan.run.warmup {
                warm = true;
                counting = (now, self.bytes_received());
            }
            if self.control.requested() == Stop::No && self.is_over(now - start) {
                self.control.request(Stop::Drain);
            }
            if self.control.requested() != Stop::No {
                measured.get_or_insert_with(|| self.measure(start, counting));
                let since = now - *stopped_at.get_or_insert(now);
                if since > self.plan.run.drain_timeout + GRACE
                    && self.control.requested() != Stop::Now
                {
                    warn!("a worker has not drained in time; ending it");
                    self.control.request(Stop::Now);
                }
            }
            if now >= next_live {
                next_live += LIVE;
                live(&self.watched, now - start);
                links.watch(self.plan, &self.watched.devices);
            }
        }
        Some(measured.unwrap_or_else(|| self.measure(start, counting)))
    }

    /// Lanes publish their counters for the first time some turns after they start.
    fn await_first_turns(&self) {
        let start = Instant::now();
        let all_turned = || self.watched.lanes.iter().all(|lane| lane.read().turns > 0);
        while !all_turned() && start.elapsed() < READY_MAX && !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn heed_requests(&mut self) {
        if self.stop.load(Ordering::Acquire) && self.control.requested() == Stop::No {
            self.control.request(Stop::Drain);
        }
        let signals = self.signals.as_mut().map(Signals::pending);
        for signal in signals.into_iter().flatten() {
            if self.control.requested() == Stop::No {
                info!(signal, "draining; a second signal ends at once");
                self.control.request(Stop::Drain);
            } else {
                warn!(signal, "ending at once");
                self.control.request(Stop::Now);
            }
        }
    }

    fn is_over(&self, elapsed: Duration) -> bool {
        let run = &self.plan.run;
        run.duration.is_some_and(|duration| elapsed >= duration)
            || run.exit_when_clients_finish && self.clients_finished()
    }

    /// Whether every client of every shard has finished.
    fn clients_finished(&self) -> bool {
        let with_clients = self.watched.shards.iter().zip(self.has_clients());
        with_clients
            .filter(|(_, has_clients)| *has_clients)
            .all(|(shard, _)| shard.clients_finished.get() == 1)
    }

    fn has_clients(&self) -> impl Iterator<Item = bool> {
        self.watched.shards.iter().enumerate().map(|(index, _)| {
            self.watched
                .clients
                .iter()
                .any(|client| client.shard == index)
        })
    }

    fn measure(&self, start: Instant, (counted_from, bytes_before): (Instant, u64)) -> Measured {
        let now = Instant::now();
        Measured {
            elapsed: now - start,
            counted: now - counted_from,
            counted_bytes: self.bytes_received() - bytes_before,
        }
    }

    fn bytes_received(&self) -> u64 {
        self.watched
            .shards
            .iter()
            .map(|shard| shard.bytes_received.get())
            .sum()
    }
}

/// What was last seen of the links, in the order of the plan.
#[derive(Debug, Default)]
struct Links(Vec<LinkState>);

impl Links {
    /// Logs which links went up or down since the last time.
    fn watch(&mut self, plan: &Plan, devices: &Devices) {
        let now = devices.observe(|ports| ports.iter().map(Port::link).collect::<Vec<_>>());
        for ((before, now), port) in self.0.iter().zip(&now).zip(&plan.ports) {
            match (before.up, now.up) {
                (false, true) => info!(port = %port.name, mbps = now.mbps, "link is up again"),
                (true, false) => warn!(
                    port = %port.name,
                    "link is down; connections wait for it as long as their idle time-out"
                ),
                _ => {}
            }
        }
        // None are seen when ports are closed: that is no change of a link.
        if !now.is_empty() {
            self.0 = now;
        }
    }
}

/// Takes over SIGINT and SIGTERM.
pub(super) fn signals() -> std::io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM])
}
