//! Downloads by HTTP/0.9 over QUIC, ALPN `hq-interop`.
//!
//! Each file is one request on one stream. What arrives goes through a bounded channel to a writer thread, as
//! the slices that came out of the packets; while the channel is full the streams are not read, so a slow disk slows the
//! server down and holds no lcore up. A file appears under its name when it is complete, or not at all.
//!
//! HTTP/0.9 says nothing about a file's size in advance, so progress is files of files, and bytes so far.

mod downloads;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use self::writer::Writer;
use super::connections::Connections;
use super::results::{ClientError, ClientHandle, LatencyFrom, Report};
use crate::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, StreamId,
    VarInt,
};
use crate::services::hq::request::relative_path;
use crate::services::table::StreamTable;

pub use self::writer::ThreadStart;
pub use crate::services::hq::ALPN;

/// How often the writer is looked at while it is waited for.
const WRITER_POLL: Duration = Duration::from_micros(250);

/// The most that is read from a stream before the writer's channel is looked at again, in bytes.
const READ_MAX: usize = 64 * 1024;

/// The code with which downloads are given up.
const CANCELLED: VarInt = VarInt::from_u32(0);

/// Parameters of the client.
#[derive(Debug, Clone)]
pub struct HqClient {
    /// The server.
    pub target: ConnectTarget,
    /// Connections to it; files are shared out as they become free.
    pub connections: usize,
    /// Files under way at a time on each connection.
    pub streams: usize,
    /// What to ask for, in order. Each begins with `/` and follows the rules of [`relative_path`].
    pub paths: Vec<String>,
    /// The directory to write files to, under their paths; `None` to throw them away.
    pub output: Option<PathBuf>,
}

impl HqClient {
    /// The application for one shard, and the handle to watch it with. Starts the writer thread, on which
    /// `thread_start` is called first (to choose its CPUs). Fails at a path that cannot be asked for, and when the
    /// output directory cannot be made.
    pub fn application(
        self,
        thread_start: ThreadStart,
    ) -> Result<(HqRun, ClientHandle), ClientError> {
        let mut files = Vec::with_capacity(self.paths.len());
        for path in self.paths {
            let relative = relative_path(path.as_bytes()).map_err(|source| ClientError::Path {
                path: path.clone(),
                source,
            })?;
            let file = self.output.as_ref().map(|output| output.join(relative));
            files.push(Wanted {
                path,
                file,
                state: FileState::Pending,
            });
        }
        let targets = files.iter().map(|wanted| wanted.file.clone()).collect();
        let writer = match &self.output {
            Some(output) => Some(Writer::start(output, targets, thread_start)?),
            None => None,
        };
        let handle = ClientHandle::new();
        handle.counters().total.set(files.len() as u64);
        let run = HqRun {
            connections: Connections::new(self.target, self.connections),
            streams: self.streams.max(1),
            report: Report::new(handle.clone(), LatencyFrom::Begin),
            pending: (0..files.len()).collect(),
            open: files.len(),
            files,
            downloads: StreamTable::default(),
            under_way: FxHashMap::default(),
            stalled: Vec::new(),
            writer,
            writing: 0,
            first_run: None,
            run_at: None,
            stopping: false,
            finished: false,
        };
        Ok((run, handle))
    }
}

/// The running client. See the [module](self).
#[derive(Debug)]
pub struct HqRun {
    connections: Connections,
    streams: usize,
    report: Report,
    files: Vec<Wanted>,
    /// Files not asked for yet.
    pending: VecDeque<usize>,
    /// Files neither complete nor failed.
    open: usize,
    downloads: StreamTable<Download>,
    /// Downloads under way on each connection.
    under_way: FxHashMap<ConnectionKey, usize>,
    /// Streams not read to their end because the writer was full.
    stalled: Vec<(ConnectionKey, StreamId)>,
    writer: Option<Writer>,
    /// Files received in full whose writing has not been confirmed.
    writing: usize,
    first_run: Option<Instant>,
    /// When to run next.
    run_at: Option<Instant>,
    stopping: bool,
    finished: bool,
}

#[derive(Debug)]
struct Wanted {
    path: String,
    file: Option<PathBuf>,
    state: FileState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    /// Not asked for yet.
    Pending,
    /// Being received on this stream.
    UnderWay(ConnectionKey, StreamId),
    /// Received in full; the writer has not confirmed it.
    Writing,
    /// Complete, or failed.
    Over,
}

/// A file under way.
#[derive(Debug)]
struct Download {
    /// Index of the file.
    index: usize,
    begin: Instant,
    /// What is still to be sent of the request.
    request: Bytes,
    received: u64,
    /// In the list of streams that wait for the writer.
    stalled: bool,
}

impl Application for HqRun {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.connections.ready(connection);
        self.report.start(connection.now());
        self.fill(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        if connection.accepted_early_data() {
            return;
        }
        let key = connection.key();
        self.under_way.remove(&key);
        for (_, download) in self.downloads.remove_connection(key) {
            if let Some(wanted) = self.files.get_mut(download.index) {
                wanted.state = FileState::Pending;
                self.pending.push_front(download.index);
            }
        }
        self.fill(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.read(connection, id);
        self.plan(connection.now());
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.write(connection, id);
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, code: VarInt) {
        // A server may stop what it has read enough of, and answer: only the answer counts.
        connection.reset(id, code);
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        if dir == Dir::Bi {
            self.fill(connection);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        let expected = self.finished || self.stopping || self.open == 0;
        (self.connections).gone(key, reason, expected, &mut self.report);
        self.abandon(key);
        self.run_at = self.first_run;
    }

    fn timeout(&self) -> Option<Instant> {
        let connect_at = self.connections.timeout().filter(|_| self.connects());
        let run_at = self.run_at.filter(|_| !self.finished);
        run_at.into_iter().chain(connect_at).min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        self.run_at = None;
        self.first_run.get_or_insert(now);
        if self.connects() {
            self.connections.connect(shard, &mut self.report);
        }
        if self.connections.all_gone() {
            self.abandon_pending();
        }
        self.serve_writer(shard);
        // What a lost connection left to others that had nothing to do.
        for offset in 0..self.connections.len() {
            if let Some(key) = self
                .connections
                .in_turn(offset)
                .filter(|_| !self.pending.is_empty())
                && let Some(mut connection) = shard.connection(key)
            {
                self.fill(&mut connection);
            }
        }
        self.plan(now);
        if self.open == 0 && self.run_at == self.first_run {
            self.finish(shard);
        }
    }

    fn stop(&mut self, shard: &mut Context<'_>) {
        self.stopping = true;
        self.abandon_pending();
        let under_way: Vec<_> = self
            .downloads
            .iter_mut()
            .map(|(key, id, _)| (key, id))
            .collect();
        for (key, id) in under_way {
            if let Some(mut connection) = shard.connection(key) {
                connection.stop(id, CANCELLED);
            }
            self.abandon(key);
        }
        // Files received in full are still written, if the shard goes on for long enough.
        self.run_at = self.first_run;
        self.run(shard);
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Drop for HqRun {
    /// Ended before it had finished: the writer completes what it has been given, and the results are handed over.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Some(writer) = &mut self.writer {
            writer.join();
        }
        while let Some((index, outcome)) = self.writer.as_ref().and_then(Writer::outcome) {
            match outcome {
                Ok(bytes) => self.complete(index, bytes),
                Err(error) => self.fail(index, error),
            }
        }
        for index in 0..self.files.len() {
            let path = self.path(index);
            self.fail(index, ClientError::Incomplete { path });
        }
        self.report
            .hand_over(self.first_run.unwrap_or_else(Instant::now));
    }
}
