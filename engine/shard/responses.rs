//! Stateless answers that wait to be sent: version negotiation, Retry, refusal, stateless reset.

use std::collections::VecDeque;

use poll::Transmit;

/// A bounded queue of datagrams. Its buffers are used again, so a flood that provokes answers does not make the shard
/// allocate.
#[derive(Debug)]
pub(crate) struct Responses {
    queue: VecDeque<(Transmit, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    max: usize,
}

impl Responses {
    /// A queue of at most `max` datagrams.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(max),
            spare: Vec::with_capacity(max + 1),
            max,
        }
    }

    /// An empty buffer to write an answer into. Give it back by [`push`](Self::push) or [`recycle`](Self::recycle).
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Queues an answer; false when the queue is full and the answer was dropped.
    #[must_use]
    pub(crate) fn push(&mut self, transmit: Transmit, buffer: Vec<u8>) -> bool {
        if self.queue.len() >= self.max {
            self.recycle(buffer);
            return false;
        }
        self.queue.push_back((transmit, buffer));
        true
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        if self.spare.len() <= self.max {
            self.spare.push(buffer);
        }
    }

    /// Writes the next answer into `out`. One that does not fit is left out.
    pub(crate) fn pop(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        while let Some((transmit, buffer)) = self.queue.pop_front() {
            let fits = buffer.len() <= out.capacity();
            if fits {
                out.extend_from_slice(&buffer);
            }
            self.recycle(buffer);
            if fits {
                return Some(transmit);
            }
        }
        None
    }

    /// True when nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
