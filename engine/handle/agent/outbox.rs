//! Where events wait for the end of the turn.

use bytes::Bytes;

use crate::handle::courier::Mailbox;
use crate::handle::event::{Batch, Event};

/// Room for events and chunks in a batch from the start: what a burst of datagrams brings.
const BATCH_EVENTS: usize = 64;

/// Events that may wait for a courier that is behind before newcomers are turned away. Connections that are there bring no
/// more than their credit allows.
const EVENTS_MAX: usize = 64 * 1024;

/// The batch of a turn, and the way to the courier.
pub(crate) struct Outbox {
    batch: Box<Batch>,
    mailbox: Mailbox,
}

fn fresh() -> Box<Batch> {
    Box::new(Batch {
        events: Vec::with_capacity(BATCH_EVENTS),
        chunks: Vec::with_capacity(BATCH_EVENTS),
    })
}

impl Outbox {
    pub(crate) fn new(mailbox: Mailbox) -> Self {
        let batch = fresh();
        Self { batch, mailbox }
    }

    #[inline]
    pub(super) fn event(&mut self, event: Event) {
        self.batch.events.push(event);
    }

    #[inline]
    pub(super) fn chunk(&mut self, chunk: Bytes) {
        self.batch.chunks.push(chunk);
    }

    /// True when the courier is so far behind that nobody new is to be told of.
    #[inline]
    pub(super) fn is_swamped(&self) -> bool {
        self.batch.events.len() >= EVENTS_MAX
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// True when nobody takes batches any more.
    #[inline]
    pub(super) fn is_abandoned(&self) -> bool {
        self.mailbox.is_abandoned()
    }

    /// Forgets what was to be told.
    pub(super) fn clear(&mut self) {
        self.batch.events.clear();
        self.batch.chunks.clear();
    }

    /// Hands the batch to the courier, if there is anything in it and room for it.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() || self.mailbox.is_full() {
            return;
        }
        let next = self.mailbox.empty().unwrap_or_else(fresh);
        let batch = std::mem::replace(&mut self.batch, next);
        if let Err(batch) = self.mailbox.post(batch) {
            self.batch = batch;
        }
    }
}

impl Drop for Outbox {
    /// The shard has ended: the courier hears the last of it.
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.mailbox.close(batch);
    }
}
