//! The clock of emulated NICs.

use std::time::{Duration, Instant};

/// The clock of an emulated NIC: nanoseconds since it was made, which is what its timestamps count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicClock {
    epoch: Instant,
}

impl NicClock {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// When it showed 0.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// What it shows at an instant, nanoseconds; 0 before it was made.
    pub fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant at which it shows `ns`; nothing where that is too far away for this machine's clock.
    pub fn instant(&self, ns: u64) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(ns))
    }
}
