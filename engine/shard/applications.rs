//! The applications of a shard, when they want to run, and what becomes of one that panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use poll::profile::{Stage, within};
use tracing::error;

use super::core::Core;
use crate::app::{Application, Context};

/// The applications of a shard, services and clients.
#[derive(Default)]
pub(crate) struct Applications {
    slots: Vec<Slot>,
    /// Those that run in every turn.
    every_turn: Vec<u16>,
    /// The earliest time at which one wants to run.
    next_run: Option<Instant>,
    /// There is at least one client and all of them have finished.
    clients_finished: bool,
}

struct Slot {
    application: Box<dyn Application>,
    client: bool,
    every_turn: bool,
    next_run: Option<Instant>,
    finished: bool,
    /// It panicked outside of a connection's callback, and is not run any more.
    failed: bool,
}

impl Applications {
    /// Adds an application, which wants to run at once; returns its index.
    pub(crate) fn add(
        &mut self,
        application: Box<dyn Application>,
        client: bool,
        now: Instant,
    ) -> u16 {
        let index = self.slots.len() as u16;
        let every_turn = application.every_turn();
        if every_turn {
            self.every_turn.push(index);
        }
        self.slots.push(Slot {
            application,
            client,
            every_turn,
            next_run: Some(now),
            finished: false,
            failed: false,
        });
        self.next_run = Some(now);
        index
    }

    /// The earliest time at which an application wants to run.
    #[inline]
    pub(crate) fn next_run(&self) -> Option<Instant> {
        self.next_run
    }

    /// True when there is at least one client and all of them have finished.
    pub(crate) fn clients_finished(&self) -> bool {
        self.clients_finished
    }

    /// An application, unless it failed.
    pub(crate) fn application(&mut self, index: u16) -> Option<&mut dyn Application> {
        let slot = self.slots.get_mut(usize::from(index))?;
        match slot.failed {
            true => None,
            false => Some(&mut *slot.application),
        }
    }

    /// Runs the applications that run in every turn, and those that are due. Each once: one whose time is still there
    /// asks for the next turn.
    pub(crate) fn run_due(&mut self, core: &mut Core) {
        for position in 0..self.every_turn.len() {
            let index = self.every_turn[position];
            self.call(core, index, |application, context| application.run(context));
        }
        if self.next_run.is_none_or(|at| at > core.now) {
            return;
        }
        for index in 0..self.slots.len() as u16 {
            let due =
                |slot: &Slot| !slot.every_turn && slot.next_run.is_some_and(|at| at <= core.now);
            if self.slots.get(usize::from(index)).is_some_and(due) {
                self.call(core, index, |application, context| application.run(context));
            }
        }
    }

    /// Calls all applications.
    pub(crate) fn call_all(
        &mut self,
        core: &mut Core,
        mut call: impl FnMut(&mut dyn Application, &mut Context<'_>),
    ) {
        for index in 0..self.slots.len() as u16 {
            self.call(core, index, &mut call);
        }
    }

    fn call(
        &mut self,
        core: &mut Core,
        index: u16,
        call: impl FnOnce(&mut dyn Application, &mut Context<'_>),
    ) {
        let slot = &mut self.slots[usize::from(index)];
        if slot.failed {
            return;
        }
        let mut context = Context::new(core, index);
        let application = &mut *slot.application;
        let call = || within(Stage::Application, || call(application, &mut context));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            slot.fail(core, index, &*panic);
        }
        self.refresh(index, core);
    }

    /// Asks an application, after a call into it, when it wants to run and whether it has finished.
    pub(crate) fn refresh(&mut self, index: u16, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return;
        };
        let (next_run, finished) = slot.answers(core, index);
        if next_run != slot.next_run {
            slot.next_run = next_run;
            self.next_run = self.slots.iter().filter_map(|slot| slot.next_run).min();
        }
        let slot = &mut self.slots[usize::from(index)];
        if slot.client && finished != slot.finished {
            slot.finished = finished;
            self.clients_finished = self
                .slots
                .iter()
                .filter(|slot| slot.client)
                .all(|slot| slot.finished);
            core.counters
                .clients_finished
                .set(u64::from(self.clients_finished));
        }
    }
}

impl Slot {
    /// When the application wants to run, and whether it has finished: never and yes once it failed.
    fn answers(&mut self, core: &mut Core, index: u16) -> (Option<Instant>, bool) {
        let application = &*self.application;
        let ask = || (application.timeout(), application.is_finished());
        if self.failed {
            return (None, true);
        }
        catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
            self.fail(core, index, &*panic);
            (None, true)
        })
    }

    /// It panicked.
    fn fail(&mut self, core: &mut Core, index: u16, panic: &(dyn Any + Send)) {
        self.failed = true;
        core.counters.application_panics.add(1);
        error!(
            reason = reason(panic),
            "an application panicked; its connections are closed"
        );
        core.unlisten_all_of(index);
        core.close_all_of(index);
        // It is not called any more, and whoever waits for something of it learns so by its end.
        let failed = std::mem::replace(&mut self.application, Box::new(Failed));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
    }
}

/// In the place of an application that panicked.
struct Failed;

impl Application for Failed {}

/// What a panic said.
pub(crate) fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}
