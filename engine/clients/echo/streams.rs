//! Messages on the streams of a connection.

use std::collections::VecDeque;
use std::time::Instant;

use crate::app::{Connection, Dir, ReadEnd, ReadError, StreamId, VarInt, WriteError};
use crate::services::pattern;

/// Messages that may be under way on one stream at a rate; further ones wait, by their schedule.
pub(super) const UNDER_WAY_MAX: usize = 1024;

/// A stream that has failed, and by whose error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Reset(VarInt),
    Stopped(VarInt),
    /// The server finished it, which an echo server does not before us.
    Ended,
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    lanes: Vec<Lane>,
    /// The index of the stream whose turn it is.
    turn: usize,
}

/// One stream.
#[derive(Debug)]
struct Lane {
    id: StreamId,
    /// What the latencies of the messages under way count from, oldest first.
    begins: VecDeque<Instant>,
    /// Bytes of messages begun that are not written yet.
    unsent: u64,
    sent: u64,
    /// Bytes of the oldest message that have come back.
    returned: usize,
}

impl Streams {
    /// Opens streams until there are `count`, or the peer permits no more.
    pub(super) fn open(&mut self, connection: &mut Connection<'_>, count: usize) {
        while self.lanes.len() < count
            && let Some(id) = connection.open(Dir::Bi)
        {
            self.lanes.push(Lane {
                id,
                begins: VecDeque::new(),
                unsent: 0,
                sent: 0,
                returned: 0,
            });
        }
    }

    /// Begins a message of `size` bytes on the next stream with less than `limit` under way, and returns which: it is
    /// to be [written](Self::write).
    pub(super) fn begin(&mut self, begin: Instant, size: usize, limit: usize) -> Option<StreamId> {
        let count = self.lanes.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            if let Some(lane) = self.lanes.get_mut(index)
                && lane.begins.len() < limit
            {
                self.turn = index + 1;
                lane.begins.push_back(begin);
                lane.unsent += size as u64;
                return Some(lane.id);
            }
        }
        None
    }

    /// Writes what is unsent, as far as the stream takes it; returns how much that was.
    pub(super) fn write(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
    ) -> Result<u64, Broken> {
        let Some(lane) = self.lane(id) else {
            return Ok(0);
        };
        let before = lane.sent;
        while lane.unsent > 0 {
            let mut piece = pattern::piece(lane.sent, lane.unsent);
            match connection.write_bytes(id, &mut piece) {
                Ok(0) => break, // `writable` follows.
                Ok(written) => {
                    lane.sent += written as u64;
                    lane.unsent = lane.unsent.saturating_sub(written as u64);
                }
                Err(WriteError::Stopped(code)) => return Err(Broken::Stopped(code)),
                Err(WriteError::Closed) => return Err(Broken::Ended),
            }
        }
        Ok(lane.sent - before)
    }

    /// Reads what came back; calls `complete` for each message of `size` bytes with what its latency counts from.
    /// Returns how many bytes that were.
    pub(super) fn read(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        size: usize,
        mut complete: impl FnMut(Instant),
    ) -> Result<u64, Broken> {
        let Some(lane) = self.lane(id) else {
            return Ok(0);
        };
        let mut bytes = 0;
        let end = connection.read_with(id, usize::MAX, |chunk| {
            bytes += chunk.len() as u64;
            lane.take(chunk.len(), size, &mut complete);
        });
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => Ok(bytes),
            Ok(ReadEnd::Finished) | Err(ReadError::Closed) => Err(Broken::Ended),
            Err(ReadError::Reset(code)) => Err(Broken::Reset(code)),
        }
    }

    /// Forgets a stream; returns how many messages were under way on it, or `None` if it is not one of these.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<u64> {
        let index = self.lanes.iter().position(|lane| lane.id == id)?;
        Some(self.lanes.swap_remove(index).begins.len() as u64)
    }

    /// Messages under way.
    pub(super) fn under_way(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.begins.len() as u64).sum()
    }

    /// True when no stream is left.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    fn lane(&mut self, id: StreamId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

impl Lane {
    /// Takes `bytes` that came back. More than were sent are ignored.
    fn take(&mut self, bytes: usize, size: usize, mut complete: impl FnMut(Instant)) {
        self.returned = self.returned.saturating_add(bytes);
        while self.returned >= size
            && let Some(begin) = self.begins.pop_front()
        {
            self.returned -= size;
            complete(begin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Side;

    fn streams(count: u64) -> Streams {
        let lane = |n| Lane {
            id: StreamId::new(Side::Client, Dir::Bi, n),
            begins: VecDeque::new(),
            unsent: 0,
            sent: 0,
            returned: 0,
        };
        Streams {
            lanes: (0..count).map(lane).collect(),
            turn: 0,
        }
    }

    #[test]
    fn messages_go_over_the_streams_in_turn() {
        let mut streams = streams(3);
        let now = Instant::now();
        let mut begin = || streams.begin(now, 10, 2).map(StreamId::index);
        let order: Vec<_> = (0..7).map(|_| begin()).collect();
        assert_eq!(
            order,
            [0, 1, 2, 0, 1, 2]
                .map(Some)
                .into_iter()
                .chain([None])
                .collect::<Vec<_>>()
        );
        assert_eq!(streams.under_way(), 6);
        let id = StreamId::new(Side::Client, Dir::Bi, 1);
        assert_eq!((streams.remove(id), streams.remove(id)), (Some(2), None));
        assert_eq!(streams.under_way(), 4);
    }

    #[test]
    fn messages_complete_in_order_whatever_the_chunks() {
        let mut streams = streams(1);
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        streams.begin(now, 10, 9);
        streams.begin(later, 10, 9);
        let lane = &mut streams.lanes[0];
        let mut completed = Vec::new();
        for chunk in [3, 6, 2, 8, 5] {
            lane.take(chunk, 10, |begin| completed.push(begin));
        }
        assert_eq!(completed, [now, later]);
    }
}
