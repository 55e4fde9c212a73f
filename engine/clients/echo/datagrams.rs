//! Unreliable datagrams of a connection (RFC 9221): numbered, and given up when they do not come back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

/// The smallest datagram, in bytes: it carries its number.
pub const SMALLEST: usize = 8;

/// Datagrams that may be on their way at a time on one connection; further ones wait, by their schedule.
pub(super) const UNDER_WAY_MAX: usize = 65536;

/// Payloads are cut from pieces of this size, in bytes, so that there is no allocation for each.
const ARENA: usize = 64 * 1024;

/// The datagrams of one connection that are on their way.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Those from number `first` on; `None` for one that came back before an older one.
    sent: VecDeque<Option<Sent>>,
    first: u64,
    under_way: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    /// What the latency counts from.
    begin: Instant,
    /// When it was handed to the transport.
    at: Instant,
}

impl Window {
    /// The number of the next datagram.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    /// True when no more can be on their way.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= UNDER_WAY_MAX
    }

    /// How many are on their way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The next one has been sent.
    pub(super) fn push(&mut self, begin: Instant, at: Instant) {
        self.sent.push_back(Some(Sent { begin, at }));
        self.under_way += 1;
    }

    /// A datagram came back. Returns what its latency counts from; `None` for one that is not on its way: a copy, one
    /// that was given up, one never sent.
    pub(super) fn returned(&mut self, payload: &[u8]) -> Option<Instant> {
        let number = u64::from_be_bytes(*payload.first_chunk()?);
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(index)?.take()?;
        self.under_way -= 1;
        self.drop_returned();
        Some(sent.begin)
    }

    /// Gives up those that were sent `timeout` ago or earlier; returns how many.
    pub(super) fn expire(&mut self, now: Instant, timeout: Duration) -> u64 {
        let mut lost = 0;
        while let Some(Some(oldest)) = self.sent.front()
            && now.saturating_duration_since(oldest.at) >= timeout
        {
            self.sent.pop_front();
            self.first += 1;
            self.under_way -= 1;
            lost += 1;
            self.drop_returned();
        }
        lost
    }

    /// When the oldest was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().copied().flatten().map(|sent| sent.at)
    }

    /// Keeps the front one that is on its way.
    fn drop_returned(&mut self) {
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
    }
}

/// Makes payloads.
#[derive(Debug)]
pub(super) struct Payloads {
    size: usize,
    arena: BytesMut,
}

impl Payloads {
    /// Of `size` bytes each, [`SMALLEST`] or more.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            arena: BytesMut::new(),
        }
    }

    /// The payload with a number.
    pub(super) fn make(&mut self, number: u64) -> Bytes {
        if self.arena.capacity() < self.size {
            self.arena.reserve(self.size.max(ARENA));
        }
        self.arena.put_u64(number);
        self.arena.put_bytes(0, self.size.saturating_sub(SMALLEST));
        self.arena.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_back_is_told_apart() {
        let mut payloads = Payloads::new(100);
        let mut window = Window::default();
        let start = Instant::now();
        let all: Vec<Bytes> = (0..5)
            .map(|n| {
                let payload = payloads.make(window.next_number());
                window.push(start + n * MS, start + n * MS);
                payload
            })
            .collect();
        assert!(all.iter().all(|payload| payload.len() == 100));
        assert_eq!(window.returned(&all[1]), Some(start + MS));
        assert_eq!(window.returned(&all[1]), None, "a copy");
        assert_eq!(window.oldest(), Some(start));
        assert_eq!(window.returned(&all[0]), Some(start));
        assert_eq!(window.oldest(), Some(start + 2 * MS));
        assert_eq!(window.expire(start + 12 * MS, 10 * MS), 1);
        assert_eq!(window.returned(&all[2]), None, "given up");
        assert_eq!(window.under_way(), 2);
        assert_eq!(window.returned(&[0xff; 8]), None, "never sent");
        assert_eq!(window.returned(&[0; 7]), None, "no number");
        assert_eq!(window.next_number(), 5);
        assert_eq!(window.expire(start + 100 * MS, 10 * MS), 2);
        assert_eq!((window.under_way(), window.oldest()), (0, None));
    }

    #[test]
    fn payloads_share_allocations() {
        let mut payloads = Payloads::new(64);
        let (first, second) = (payloads.make(1), payloads.make(2));
        assert_eq!(first.as_ptr().wrapping_add(64), second.as_ptr());
        assert_eq!(first[..8], 1u64.to_be_bytes());
        assert_eq!(Payloads::new(8).make(u64::MAX).len(), 8);
        assert_eq!(Payloads::new(200_000).make(0).len(), 200_000);
    }
}
