//! Logical cores: one pinned thread each, made by EAL.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dpdk_sys as sys;

use crate::eal::{Eal, error_text};

/// EAL's number of a logical core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LcoreId(pub u32);

impl fmt::Display for LcoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why work could not run on an lcore.
#[derive(Debug, thiserror::Error)]
pub enum LcoreError {
    /// EAL was not given this lcore.
    #[error("lcore {lcore} is not one of EAL's ({enabled}); add it to -l or choose another")]
    Unknown {
        /// The one that was asked for.
        lcore: LcoreId,
        /// Those EAL has.
        enabled: String,
    },
    /// Two pieces of work for one lcore.
    #[error("lcore {0} was given two workers")]
    Twice(LcoreId),
    /// EAL could not start the lcore's thread on the work.
    #[error("lcore {lcore} did not take its work: {reason}")]
    Launch {
        /// The lcore.
        lcore: LcoreId,
        /// EAL's text.
        reason: String,
    },
    /// The work panicked.
    #[error("the worker on lcore {lcore} panicked: {message}")]
    Panicked {
        /// The lcore.
        lcore: LcoreId,
        /// The panic's message.
        message: String,
    },
}

/// Work for one lcore, made on one thread and run on another.
pub struct LcoreTask<'a, R> {
    /// Where it runs.
    pub lcore: LcoreId,
    /// What runs there; it ends by itself.
    pub work: Box<dyn FnOnce() -> R + Send + 'a>,
}

/// How often the main lcore looks whether the others have ended, when it has no work of its own.
const WAIT_STEP: Duration = Duration::from_millis(2);

/// What a launched lcore reads and writes; it outlives the launch because [`run`] waits for every lcore.
struct Slot<'a, R> {
    lcore: LcoreId,
    work: Option<Box<dyn FnOnce() -> R + Send + 'a>>,
    outcome: Option<std::thread::Result<R>>,
}

impl Eal {
    /// Runs each task on its lcore and returns when all have ended, in the order of the tasks. A task for the main
    /// lcore runs on this thread; without one, this thread sleeps (`rte_eal_mp_wait_lcore` would spin).
    ///
    /// # Errors
    /// An lcore EAL does not have or that is named twice: nothing has run then. A launch that failed or a task that
    /// panicked: the others have ended when this returns.
    pub fn run<R: Send>(&self, tasks: Vec<LcoreTask<'_, R>>) -> Result<Vec<R>, LcoreError> {
        self.check(&tasks)?;
        let mut slots: Vec<Slot<'_, R>> = tasks
            .into_iter()
            .map(|task| Slot {
                lcore: task.lcore,
                work: Some(task.work),
                outcome: None,
            })
            .collect();

        // Copied out: once a slot is launched, only its lcore looks into it.
        let lcores: Vec<LcoreId> = slots.iter().map(|slot| slot.lcore).collect();
        let base = slots.as_mut_ptr();
        let mut refused = None;
        let mut main_slot = None;
        for (index, &lcore) in lcores.iter().enumerate() {
            // SAFETY: `index` is in bounds, and slots are reached only through `base` from here until every lcore
            // was waited for, so no reference to the vector aliases what an lcore uses.
            let slot = unsafe { base.add(index) };
            if lcore == self.main_lcore() {
                main_slot = Some(slot);
                continue;
            }
            // SAFETY: the trampoline gets the pointer it expects, to a slot that lives until rte_eal_wait_lcore
            // below has returned for this lcore; the type parameters are the same on both sides.
            let code = unsafe {
                sys::rte_eal_remote_launch(Some(trampoline::<R>), slot.cast::<c_void>(), lcore.0)
            };
            if code != 0 {
                refused = Some(LcoreError::Launch {
                    lcore,
                    reason: error_text(code),
                });
            }
        }
        if let Some(slot) = main_slot {
            trampoline::<R>(slot.cast::<c_void>());
        }
        for &lcore in lcores.iter().filter(|&&lcore| lcore != self.main_lcore()) {
            wait(lcore);
        }

        if let Some(error) = refused {
            return Err(error);
        }
        slots.into_iter().map(Slot::finish).collect()
    }

    fn check<R>(&self, tasks: &[LcoreTask<'_, R>]) -> Result<(), LcoreError> {
        for (index, task) in tasks.iter().enumerate() {
            if !self.lcores().contains(&task.lcore) {
                let enabled = self
                    .lcores()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",");
                return Err(LcoreError::Unknown {
                    lcore: task.lcore,
                    enabled,
                });
            }
            if tasks[..index].iter().any(|other| other.lcore == task.lcore) {
                return Err(LcoreError::Twice(task.lcore));
            }
            // With all lcores at rest no launch is refused, and none runs without the others.
            // SAFETY: takes any lcore of a started EAL.
            let state = unsafe { sys::rte_eal_get_lcore_state(task.lcore.0) };
            if task.lcore != self.main_lcore() && state != sys::WAIT {
                let reason = "it is still busy with earlier work".to_owned();
                return Err(LcoreError::Launch {
                    lcore: task.lcore,
                    reason,
                });
            }
        }
        Ok(())
    }
}

impl<R> Slot<'_, R> {
    fn finish(self) -> Result<R, LcoreError> {
        match self.outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err(panic)) => Err(LcoreError::Panicked {
                lcore: self.lcore,
                message: panic_message(&*panic),
            }),
            None => Err(LcoreError::Launch {
                lcore: self.lcore,
                reason: "it was never started".to_owned(),
            }),
        }
    }
}

/// Runs a slot's work on the thread that calls it. A panic must not unwind into C, so it is caught and kept.
extern "C" fn trampoline<R>(slot: *mut c_void) -> c_int {
    sleep_precisely();
    // SAFETY: `run` passes a pointer to a live `Slot<R>` and touches it again only after this function has returned
    // (the main lcore calls it directly, the others are waited for).
    let slot = unsafe { &mut *slot.cast::<Slot<'_, R>>() };
    if let Some(work) = slot.work.take() {
        slot.outcome = Some(catch_unwind(AssertUnwindSafe(work)));
    }
    0
}

/// Lets short sleeps of this thread end on time: by default the kernel may be 50 µs late, to save wake-ups.
fn sleep_precisely() {
    // SAFETY: sets the timer slack of the calling thread, 1 ns; nothing else is touched, and a refusal does no harm.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0, 0, 0) };
}

fn wait(lcore: LcoreId) {
    // SAFETY: both take any lcore id of a started EAL; `run` has checked that this is one.
    while unsafe { sys::rte_eal_get_lcore_state(lcore.0) } == sys::RUNNING {
        std::thread::sleep(WAIT_STEP);
    }
    // SAFETY: as above. The lcore is back at WAIT, so it returns at once, having acquired what the lcore wrote.
    unsafe { sys::rte_eal_wait_lcore(lcore.0) };
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
