//! What clients do, and how the control thread steers and watches them. The same for both stacks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Bytes of the request that a small request consists of, its header of eight among them.
pub const REQUEST: u64 = 512;
/// Bytes of the answer to a small request.
pub const ANSWER: u64 = 4096;
/// The largest latency that is told apart, nanoseconds.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// What a load consists of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadSpec {
    /// Connections, made at the start; with [`Work::Handshakes`], none are.
    pub connections: usize,
    /// Handshakes under way at a time.
    pub dialing: usize,
    /// What they do while the load is on.
    pub work: Work,
}

/// What connections do while their load is on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Nothing: they keep themselves alive.
    Idle,
    /// Each receives a stream without end.
    Bulk,
    /// Requests of [`REQUEST`] bytes with answers of [`ANSWER`] bytes, on a schedule over all connections in turn.
    Requests {
        /// Requests a second, over all connections.
        per_second: f64,
    },
    /// Connections are made, used for one request without a body, and closed.
    Handshakes {
        /// Whether TLS sessions are resumed.
        resume: bool,
    },
}

/// A load, as the control thread and the client share it. The client writes the counters.
#[derive(Debug)]
pub struct Load {
    /// What it consists of.
    pub spec: LoadSpec,
    begun: AtomicBool,
    on: AtomicBool,
    /// Connections that came up.
    pub up: AtomicU64,
    /// Connections that could not be made, or ended while they were wanted.
    pub lost: AtomicU64,
    /// Requests answered, or handshakes used and closed.
    pub completed: AtomicU64,
    /// Requests that were due and could not be begun.
    pub skipped: AtomicU64,
    /// Bytes received by each connection.
    pub bytes: Box<[AtomicU64]>,
    latency: Mutex<Histogram<u64>>,
}

impl Load {
    /// A load that has not begun and is off.
    pub fn new(spec: LoadSpec) -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX_NS, 3);
        Self {
            spec,
            begun: AtomicBool::new(false),
            on: AtomicBool::new(false),
            up: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            bytes: (0..spec.connections).map(|_| AtomicU64::new(0)).collect(),
            latency: Mutex::new(latency.expect("the bounds are constants that it takes")),
        }
    }

    /// Lets the client make its connections.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether connections are to be made.
    #[inline]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Switches the load on or off. Clients see it within a millisecond or so.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Whether connections are to work.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Counts bytes that a connection received.
    #[inline]
    pub fn received(&self, connection: usize, bytes: u64) {
        if let Some(counter) = self.bytes.get(connection) {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes received by all connections.
    pub fn bytes_received(&self) -> u64 {
        self.bytes
            .iter()
            .map(|bytes| bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts an answer to what was due at `due`.
    pub fn answered(&self, due: Instant, now: Instant) {
        let taken = now.saturating_duration_since(due).as_nanos();
        self.latency()
            .saturating_record(u64::try_from(taken).unwrap_or(u64::MAX));
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    /// Latencies since they were last taken, nanoseconds.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut latency = self.latency();
        let taken = latency.clone();
        latency.reset();
        taken
    }

    /// Nearly always free: the control thread takes it twice in a measurement.
    fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests due by an open loop, and on which connection: nothing delays the schedule.
#[derive(Debug)]
pub struct Schedule {
    start: Instant,
    interval: Duration,
    connections: usize,
    begun: u64,
}

impl Schedule {
    /// From `start` on, over `connections` in turn. `None` for a load that makes no requests, or has nobody to.
    pub fn new(spec: LoadSpec, start: Instant) -> Option<Self> {
        match spec.work {
            Work::Requests { per_second } if per_second > 0.0 && spec.connections > 0 => {
                Some(Self {
                    start,
                    interval: Duration::from_secs_f64(1.0 / per_second),
                    connections: spec.connections,
                    begun: 0,
                })
            }
            _ => None,
        }
    }

    /// When the next request is due.
    pub fn next_due(&self) -> Instant {
        self.start + Duration::from_nanos(self.interval.as_nanos() as u64 * self.begun)
    }

    /// The next request that is due at `now`: when it was, and its connection.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        let connection = self.begun % self.connections as u64;
        self.begun += 1;
        Some((due, connection as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(connections: usize, work: Work) -> LoadSpec {
        LoadSpec {
            connections,
            dialing: 1,
            work,
        }
    }

    #[test]
    fn the_schedule_waits_for_nobody() {
        let start = Instant::now();
        let work = Work::Requests { per_second: 1000.0 };
        let mut schedule = Schedule::new(spec(2, work), start).unwrap();
        let ms = |n| start + Duration::from_millis(n);
        assert_eq!(schedule.pop(start), Some((start, 0)));
        assert_eq!(schedule.pop(start), None);
        // Asked late: all that has become due, with the time at which it was.
        assert_eq!(schedule.pop(ms(3)), Some((ms(1), 1)));
        assert_eq!(schedule.pop(ms(3)), Some((ms(2), 0)));
        assert_eq!(schedule.pop(ms(3)), Some((ms(3), 1)));
        assert_eq!(schedule.pop(ms(3)), None);
        assert!(Schedule::new(spec(2, Work::Idle), start).is_none());
    }

    #[test]
    fn latencies_are_taken_once() {
        let load = Load::new(spec(1, Work::Bulk));
        let now = Instant::now();
        load.answered(now, now + Duration::from_micros(100));
        assert_eq!(load.take_latency().len(), 1);
        assert_eq!(load.take_latency().len(), 0);
        assert_eq!(load.completed.load(Ordering::Relaxed), 1);
        load.received(0, 7);
        load.received(9, 7);
        assert_eq!(load.bytes_received(), 7);
    }
}
