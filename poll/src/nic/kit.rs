//! What every step on the way of a frame needs: buffers, and a place to count.

use super::counters::NicStats;

/// Buffers kept for reuse.
const SPARE_MAX: usize = 4096;
/// Bytes of a new buffer: a usual frame.
const USUAL_FRAME: usize = 2048;
/// Larger buffers are not kept: a payload to be cut was in them, and a small frame would take its memory along on the wire.
const JUMBO_FRAME: usize = 10_240;

/// Buffers and counters of a NIC.
#[derive(Debug, Default)]
pub(super) struct Kit {
    pub(super) stats: NicStats,
    /// Empty buffers, used again so that a frame on its way costs no allocation in the long run.
    spare: Vec<Vec<u8>>,
}

impl Kit {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(USUAL_FRAME))
    }

    /// Takes back a buffer.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= JUMBO_FRAME {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
