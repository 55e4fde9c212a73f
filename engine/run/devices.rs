//! The open ports, for threads that only look at them: metrics, telemetry, the live view.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poll::Port;

/// The ports of a run, in the order of the plan; none before they are opened and after they are closed.
///
/// A port closes with its last handle, and nothing may look at a device while it closes. So observers never keep a
/// handle: they [`observe`](Self::observe) for the time of one reading, and the run waits for them before it closes the
/// ports. Queues are not in here.
#[derive(Debug, Clone, Default)]
pub struct Devices(Arc<Mutex<Vec<Port>>>);

impl Devices {
    /// No ports yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the ports, which stay open until this returns. They must not be cloned.
    pub fn observe<T>(&self, look: impl FnOnce(&[Port]) -> T) -> T {
        look(&self.lock())
    }

    /// Shows the ports to observers, until what is returned is dropped: before the ports are closed.
    pub(super) fn show(&self, ports: Vec<Port>) -> Shown<'_> {
        *self.lock() = ports;
        Shown(self)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Port>> {
        // An observer that panicked has changed nothing: it had the ports by shared reference.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ports that observers see; takes them back on drop, once the last observer is done.
pub(super) struct Shown<'a>(&'a Devices);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}
