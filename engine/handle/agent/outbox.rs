//! Where events wait for the end of the turn.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::handle::event::{Batch, Event};

/// Batches that may wait for the courier. While all wait, the next one grows.
const BATCHES: usize = 8;
/// Room for events and chunks in a batch from the start: what a burst of datagrams brings.
const BATCH_EVENTS: usize = 64;

/// The batch of a turn, and the way to the courier.
pub(crate) struct Outbox {
    batch: Box<Batch>,
    to: Sender<Box<Batch>>,
    empty: Receiver<Box<Batch>>,
}

/// The courier's end: batches come, and go back empty.
pub(crate) type CourierEnd = (Receiver<Box<Batch>>, Sender<Box<Batch>>);

/// An outbox, and what the courier takes from it.
pub(crate) fn outbox() -> (Outbox, CourierEnd) {
    let (to, batches) = bounded(BATCHES);
    let (back, empty) = bounded(BATCHES + 1);
    let outbox = Outbox {
        batch: fresh(),
        to,
        empty,
    };
    (outbox, (batches, back))
}

fn fresh() -> Box<Batch> {
    Box::new(Batch {
        events: Vec::with_capacity(BATCH_EVENTS),
        chunks: Vec::with_capacity(BATCH_EVENTS),
    })
}

impl Outbox {
    #[inline]
    pub(super) fn event(&mut self, event: Event) {
        self.batch.events.push(event);
    }

    #[inline]
    pub(super) fn chunk(&mut self, chunk: Bytes) {
        self.batch.chunks.push(chunk);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Hands the batch to the courier, if there is anything in it and room for it.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() || self.to.is_full() {
            return;
        }
        let next = self.empty.try_recv().unwrap_or_else(|_| fresh());
        let batch = std::mem::replace(&mut self.batch, next);
        match self.to.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => self.batch = batch,
            // The courier has ended: nobody is told anything any more.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Drop for Outbox {
    /// The shard has ended. The courier takes what it has not heard yet before it finds the channel closed.
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, fresh());
            let _ = self.to.send_timeout(batch, LAST_WORDS_MAX);
        }
    }
}

/// How long the end of a shard waits for a courier that is behind.
const LAST_WORDS_MAX: std::time::Duration = std::time::Duration::from_secs(1);
