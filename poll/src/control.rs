//! How other threads ask workers to end, and how workers end together.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Shared by the workers of a process and whoever stops them.
///
/// A worker that has drained keeps turning until every worker has, since its peer at the other end of a link still needs
/// its acknowledgements.
#[derive(Debug)]
pub struct Control {
    stop: AtomicU8,
    undrained: AtomicUsize,
}

/// What was asked of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stop {
    /// Nothing: run.
    No,
    /// Drain, then end.
    Drain,
    /// End with the next turn.
    Now,
}

impl Control {
    /// For as many workers as will [run](crate::Worker::run).
    pub fn new(workers: usize) -> Self {
        Self {
            stop: AtomicU8::new(Stop::No as u8),
            undrained: AtomicUsize::new(workers),
        }
    }

    /// Asks for a stop; a stronger one that was asked for before stays.
    pub fn request(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Release);
    }

    /// What was asked for.
    pub fn requested(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    /// A worker begins.
    pub(crate) fn enter(&self) -> Presence<'_> {
        Presence {
            control: self,
            drained: false,
        }
    }

    /// Whether every worker has drained.
    pub(crate) fn all_drained(&self) -> bool {
        self.undrained.load(Ordering::Acquire) == 0
    }
}

/// A worker's part in a [`Control`]. A worker that ends early, by a panic even, counts as drained from then on, so that
/// the others do not wait for it; a panic ends them, too.
#[derive(Debug)]
pub(crate) struct Presence<'a> {
    control: &'a Control,
    drained: bool,
}

impl Presence<'_> {
    /// The worker has drained. Later calls change nothing.
    pub(crate) fn set_drained(&mut self) {
        if !self.drained {
            self.drained = true;
            self.control.undrained.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether the worker has drained.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.control.request(Stop::Now);
        }
        self.set_drained();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn stronger_requests_stay() {
        let control = Control::new(1);
        assert_eq!(control.requested(), Stop::No);
        control.request(Stop::Now);
        control.request(Stop::Drain);
        assert_eq!(control.requested(), Stop::Now);
    }

    #[test]
    fn workers_end_together() {
        let control = Control::new(2);
        let mut first = control.enter();
        let second = control.enter();
        first.set_drained();
        first.set_drained();
        assert!(!control.all_drained());
        drop(second);
        assert!(control.all_drained());
        assert_eq!(control.requested(), Stop::No);
    }

    #[test]
    fn a_panic_ends_the_others() {
        let control = Control::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _presence = control.enter();
            panic!("in a transport");
        }));
        assert!(panicked.is_err());
        assert_eq!(control.requested(), Stop::Now);
        assert!(control.all_drained());
    }
}
