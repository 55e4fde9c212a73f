//! The downloads of the client: from streams to the writer, and what becomes of each file.

use bytes::Bytes;
use std::time::Instant;

use super::writer::{Message, Writer};
use super::{CANCELLED, Download, FileState, HqRun, READ_MAX, WRITER_POLL};
use crate::app::{Connection, ConnectionKey, Context, Dir, ReadEnd, ReadError, StreamId};
use crate::clients::results::{ClientError, FileResult};

impl HqRun {
    /// Asks for files on a connection, as many as it takes.
    pub(super) fn fill(&mut self, connection: &mut Connection<'_>) {
        let key = connection.key();
        while !self.stopping
            && self.under_way.get(&key).is_none_or(|n| *n < self.streams)
            && let Some(&index) = self.pending.front()
            && let Some(wanted) = self.files.get_mut(index)
            && let Some(id) = connection.open(Dir::Bi)
        {
            self.pending.pop_front();
            wanted.state = FileState::UnderWay(key, id);
            *self.under_way.entry(key).or_default() += 1;
            let download = Download {
                index,
                begin: connection.now(),
                request: Bytes::from(format!("GET {}\r\n", wanted.path)),
                received: 0,
                stalled: false,
            };
            self.downloads.insert(key, id, download);
            self.write(connection, id);
        }
    }

    pub(super) fn write(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let Some(download) = self.downloads.get_mut(connection.key(), id) else {
            return;
        };
        while !download.request.is_empty() {
            match connection.write_bytes(id, &mut download.request) {
                Ok(0) => return, // `writable` follows.
                Ok(_) => {}
                Err(_) => return, // `stopped` says why.
            }
        }
        connection.finish(id);
    }

    pub(super) fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let now = connection.now();
        loop {
            let Some(download) = self.downloads.get_mut(key, id) else {
                return;
            };
            if self.writer.as_ref().is_some_and(Writer::has_backlog) {
                if !std::mem::replace(&mut download.stalled, true) {
                    self.stalled.push((key, id));
                }
                return;
            }
            download.stalled = false;
            let before = download.received;
            let end = connection.read_with(id, READ_MAX, |chunk| {
                download.received += chunk.len() as u64;
                if let Some(writer) = &mut self.writer {
                    writer.send(Message::Data(download.index, chunk));
                }
            });
            let Download {
                index,
                begin,
                received,
                ..
            } = *download;
            self.report.counters().bytes_received.add(received - before);
            match end {
                Ok(ReadEnd::Limit) => continue,
                Ok(ReadEnd::Blocked) => return,
                Ok(ReadEnd::Finished) => {
                    self.report.record(begin, now);
                    self.forget(connection, id);
                    self.received(index, received);
                }
                Err(ReadError::Reset(code)) => {
                    let what = self.path(index);
                    self.give_up(connection, id, ClientError::Reset { what, code });
                }
                Err(ReadError::Closed) => {
                    let path = self.path(index);
                    self.give_up(connection, id, ClientError::Incomplete { path });
                }
            }
            return self.fill(connection);
        }
    }

    /// A file has arrived in full.
    pub(super) fn received(&mut self, index: usize, bytes: u64) {
        match &mut self.writer {
            Some(writer) => {
                if let Some(wanted) = self.files.get_mut(index) {
                    wanted.state = FileState::Writing;
                    self.writing += 1;
                }
                writer.send(Message::End(index));
            }
            None => self.complete(index, bytes),
        }
    }

    pub(super) fn complete(&mut self, index: usize, bytes: u64) {
        if !self.over(index) {
            return;
        }
        self.report.count_completed();
        if let Some(wanted) = self.files.get(index) {
            self.report.files.push(FileResult {
                path: wanted.path.clone(),
                file: wanted.file.clone(),
                bytes,
            });
        }
    }

    /// A file will not be complete.
    pub(super) fn fail(&mut self, index: usize, error: ClientError) {
        if !self.over(index) {
            return;
        }
        self.report.fail(error);
        if let Some(writer) = &mut self.writer {
            writer.send(Message::Abort(index));
        }
    }

    /// Nothing more will happen to a file; false if that was so before.
    pub(super) fn over(&mut self, index: usize) -> bool {
        let Some(wanted) = self.files.get_mut(index) else {
            return false;
        };
        match std::mem::replace(&mut wanted.state, FileState::Over) {
            FileState::Over => return false,
            FileState::Writing => self.writing -= 1,
            FileState::Pending | FileState::UnderWay(..) => {}
        }
        self.open -= 1;
        true
    }

    pub(super) fn path(&self, index: usize) -> String {
        let wanted = self.files.get(index);
        wanted.map(|wanted| wanted.path.clone()).unwrap_or_default()
    }

    /// A download ends without its file.
    pub(super) fn give_up(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        error: ClientError,
    ) {
        if let Some(index) = self.forget(connection, id) {
            connection.stop(id, CANCELLED);
            connection.reset(id, CANCELLED);
            self.fail(index, error);
        }
    }

    /// Takes a download off its connection; returns the index of its file.
    pub(super) fn forget(&mut self, connection: &Connection<'_>, id: StreamId) -> Option<usize> {
        let key = connection.key();
        let download = self.downloads.remove(key, id)?;
        if let Some(count) = self.under_way.get_mut(&key) {
            *count -= 1;
        }
        Some(download.index)
    }

    /// Moves on what waited for the writer, and takes its news.
    pub(super) fn serve_writer(&mut self, shard: &mut Context<'_>) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        writer.flush();
        while let Some((index, outcome)) = self.writer.as_ref().and_then(Writer::outcome) {
            match outcome {
                Ok(bytes) => self.complete(index, bytes),
                Err(error) => self.write_failed(shard, index, error),
            }
        }
        if self.writer.as_ref().is_some_and(Writer::has_backlog) {
            return;
        }
        for (key, id) in std::mem::take(&mut self.stalled) {
            if let Some(mut connection) = shard.connection(key) {
                self.read(&mut connection, id);
            }
        }
    }

    pub(super) fn write_failed(
        &mut self,
        shard: &mut Context<'_>,
        index: usize,
        error: ClientError,
    ) {
        let state = self.files.get(index).map(|wanted| wanted.state);
        if let Some(FileState::UnderWay(key, id)) = state
            && let Some(mut connection) = shard.connection(key)
        {
            self.give_up(&mut connection, id, error);
            self.fill(&mut connection);
        } else {
            self.fail(index, error);
        }
    }

    /// Whether further connections are of use.
    pub(super) fn connects(&self) -> bool {
        self.open > 0 && !self.stopping
    }

    /// Nothing more is asked for: what is pending has failed.
    pub(super) fn abandon_pending(&mut self) {
        for index in std::mem::take(&mut self.pending) {
            let path = self.path(index);
            self.fail(index, ClientError::Incomplete { path });
        }
    }

    /// Gives up what a connection had under way.
    pub(super) fn abandon(&mut self, key: ConnectionKey) {
        let lost: Vec<_> = self.downloads.remove_connection(key).collect();
        self.under_way.remove(&key);
        for (_, download) in lost {
            let path = self.path(download.index);
            self.fail(download.index, ClientError::Incomplete { path });
        }
    }

    /// Sets the time of the next run, if there is something to come back for.
    pub(super) fn plan(&mut self, now: Instant) {
        let backlog = self.writer.as_ref().is_some_and(Writer::has_backlog);
        if self.open == 0 && !backlog {
            self.run_at = self.first_run;
        } else if backlog || !self.stalled.is_empty() || self.writing > 0 {
            // Not moved by later calls, which may come more often than that.
            self.run_at.get_or_insert(now + WRITER_POLL);
        }
    }

    pub(super) fn finish(&mut self, shard: &mut Context<'_>) {
        if !std::mem::replace(&mut self.finished, true) {
            self.connections.close(shard);
            self.report.hand_over(shard.now());
        }
    }
}
