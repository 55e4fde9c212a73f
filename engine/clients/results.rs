//! What clients report: while they run, and at the end.

use std::io;
use std::net::SocketAddrV6;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thiserror::Error;

use super::schedule::Rate;
use crate::app::{ConnectError, ConnectionError, VarInt};
use crate::services::hq::request::PathError;
use crate::shard::{Buckets, Counter};

/// Failures listed in full; beyond, they are only counted.
pub const FAILURES_MAX: usize = 64;

/// The largest latency that is told apart, in nanoseconds: ten minutes.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// What a client counts while it runs: for a progress bar or a live line. Written by the shard only.
#[derive(Debug, Default)]
pub struct ClientCounters {
    /// Requests (perf), files (hq) or messages (echo) completed.
    pub completed: Counter,
    /// Requests, files or messages to be completed in all; 0 when that is not known.
    pub total: Counter,
    /// Bytes of responses received.
    pub bytes_received: Counter,
    /// Bytes of requests sent.
    pub bytes_sent: Counter,
    /// Failures until now.
    pub failures: Counter,
    /// Latencies, as in [`ClientResults::latency`], but in coarse ranges.
    pub latency: Buckets,
}

/// A client as other threads see it.
#[derive(Debug, Clone)]
pub struct ClientHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    counters: ClientCounters,
    results: Mutex<Option<ClientResults>>,
}

impl ClientHandle {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
        }
    }

    /// The counters, live.
    pub fn counters(&self) -> &ClientCounters {
        &self.shared.counters
    }

    /// The results, once the client has finished or was stopped; then `None` again.
    pub fn take_results(&self) -> Option<ClientResults> {
        self.lock().take()
    }

    /// Hands the results over: the one time that the client locks.
    fn put_results(&self, results: ClientResults) {
        *self.lock() = Some(results);
    }

    fn lock(&self) -> MutexGuard<'_, Option<ClientResults>> {
        // A panic elsewhere leaves nothing half-written behind: results are moved in whole.
        let results = self.shared.results.lock();
        results.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's results.
#[derive(Debug)]
pub struct ClientResults {
    /// Latencies in nanoseconds, to three digits: of responses (perf), files (hq) or round trips (echo), from the
    /// first byte sent until the last byte received.
    pub latency: Histogram<u64>,
    /// What the latencies are counted from.
    pub latency_from: LatencyFrom,
    /// Requests (perf), files (hq) or messages (echo) completed.
    pub completed: u64,
    /// Bytes of responses received, of incomplete ones too.
    pub bytes_received: u64,
    /// Bytes of requests sent, of incomplete ones too.
    pub bytes_sent: u64,
    /// Requests or messages that were due (at a rate) or under way at the end, and have no answer. Not failures: in an
    /// overload they are what is to be measured.
    pub unanswered: u64,
    /// Unreliable datagrams that did not come back in time (echo).
    pub datagrams_lost: u64,
    /// Files written (hq), in the order of their completion.
    pub files: Vec<FileResult>,
    /// What failed: the first 64.
    pub failures: Vec<ClientError>,
    /// How many failed in all. Anything but 0 means exit code 1.
    pub failures_total: u64,
    /// From the first connection that was ready until the end.
    pub elapsed: Duration,
}

/// What latencies are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyFrom {
    /// From when the request was begun: the closed loop, in which a slow server is asked less often.
    Begin,
    /// From when the request was due by the rate, whether it could be begun then or not: time spent waiting counts,
    /// so a server that stalls cannot hide it (no coordinated omission).
    Schedule,
}

impl LatencyFrom {
    /// That of a client with or without a rate.
    pub(crate) fn of(rate: Option<Rate>) -> Self {
        match rate {
            Some(_) => Self::Schedule,
            None => Self::Begin,
        }
    }

    /// For tables and logs.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Begin => "from the begin of the request",
            Self::Schedule => "from the scheduled time of the request",
        }
    }
}

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileResult {
    /// The path asked for.
    pub path: String,
    /// Where it was written to; `None` when files were not kept.
    pub file: Option<PathBuf>,
    /// Size in bytes.
    pub bytes: u64,
}

/// What can fail in a client's work.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A connection could not be started.
    #[error("cannot connect to {remote}: {source}")]
    Connect {
        /// The server.
        remote: SocketAddrV6,
        /// The reason.
        source: ConnectError,
    },
    /// A connection ended while it was needed.
    #[error("connection {number} to {remote} ended: {reason}")]
    Connection {
        /// Which of the client's connections, from 0.
        number: usize,
        /// The server.
        remote: SocketAddrV6,
        /// The reason.
        reason: ConnectionError,
    },
    /// The server reset the stream of a response.
    #[error("{what}: the server reset the stream with code {code}")]
    Reset {
        /// The request.
        what: String,
        /// The server's application error code.
        code: VarInt,
    },
    /// The server does not want the request.
    #[error("{what}: the server stopped the request with code {code}")]
    Stopped {
        /// The request.
        what: String,
        /// The server's application error code.
        code: VarInt,
    },
    /// The server ended a stream that it should not have.
    #[error("{what}: the server ended the stream early")]
    Ended {
        /// The request.
        what: String,
    },
    /// The response has another size than asked for.
    #[error("{what}: asked for {expected} bytes and received {received}")]
    Size {
        /// The request.
        what: String,
        /// In bytes.
        expected: u64,
        /// In bytes.
        received: u64,
    },
    /// A path that cannot be asked for.
    #[error("cannot ask for {path:?}: {source}")]
    Path {
        /// As configured.
        path: String,
        /// The rule it breaks.
        source: PathError,
    },
    /// A downloaded file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The run ended before a file was complete.
    #[error("{path}: not complete when the run ended")]
    Incomplete {
        /// The path asked for.
        path: String,
    },
    /// Messages must have room for what tells them apart.
    #[error("messages of {size} bytes cannot be told apart: at least {smallest} are needed")]
    MessageSize {
        /// As configured, in bytes.
        size: usize,
        /// In bytes.
        smallest: usize,
    },
    /// The peer takes no unreliable datagrams (RFC 9221).
    #[error("{remote} takes no unreliable datagrams")]
    NoDatagrams {
        /// The server.
        remote: SocketAddrV6,
    },
    /// Unreliable datagrams are never split, and these do not fit.
    #[error(
        "an unreliable datagram of {size} bytes does not fit the path to {remote}: at most {largest} do"
    )]
    DatagramSize {
        /// As configured, in bytes.
        size: usize,
        /// What fits now, in bytes.
        largest: usize,
        /// The server.
        remote: SocketAddrV6,
    },
}

/// Collects the results of one client.
#[derive(Debug)]
pub(crate) struct Report {
    handle: ClientHandle,
    latency: Histogram<u64>,
    latency_from: LatencyFrom,
    pub(crate) unanswered: u64,
    pub(crate) datagrams_lost: u64,
    pub(crate) files: Vec<FileResult>,
    failures: Vec<ClientError>,
    started: Option<Instant>,
}

impl Report {
    pub(crate) fn new(handle: ClientHandle, latency_from: LatencyFrom) -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX_NS, 3);
        Self {
            handle,
            latency: latency.expect("the bounds are constants that it takes"),
            latency_from,
            unanswered: 0,
            datagrams_lost: 0,
            files: Vec::new(),
            failures: Vec::new(),
            started: None,
        }
    }

    /// The client's counters.
    pub(crate) fn counters(&self) -> &ClientCounters {
        self.handle.counters()
    }

    /// The first connection is ready. Later calls change nothing.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// Counts a completed request that took from `begin` to `now`.
    pub(crate) fn complete(&mut self, begin: Instant, now: Instant) {
        self.record(begin, now);
        self.count_completed();
    }

    /// Records a latency.
    pub(crate) fn record(&mut self, begin: Instant, now: Instant) {
        let taken = now.saturating_duration_since(begin);
        self.counters().latency.record(taken);
        let taken = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(taken);
    }

    /// Counts a completed request.
    pub(crate) fn count_completed(&self) {
        self.counters().completed.add(1);
    }

    /// Notes a failure.
    pub(crate) fn fail(&mut self, error: ClientError) {
        self.counters().failures.add(1);
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(error);
        }
    }

    /// Hands over what was collected, and begins anew.
    pub(crate) fn hand_over(&mut self, now: Instant) {
        let collected = Report::new(self.handle.clone(), self.latency_from);
        let this = std::mem::replace(self, collected);
        let counters = this.counters();
        self.handle.put_results(ClientResults {
            completed: counters.completed.get(),
            bytes_received: counters.bytes_received.get(),
            bytes_sent: counters.bytes_sent.get(),
            failures_total: counters.failures.get(),
            latency: this.latency,
            latency_from: this.latency_from,
            unanswered: this.unanswered,
            datagrams_lost: this.datagrams_lost,
            files: this.files,
            failures: this.failures,
            elapsed: this.started.map_or(Duration::ZERO, |started| {
                now.saturating_duration_since(started)
            }),
        });
    }
}
