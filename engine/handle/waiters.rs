//! Tasks that wait for the same thing.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

/// Wakes a task. Its waker is foreign code: one that panics (the panic's message is told as usual) must not keep others
/// from being woken.
pub(crate) fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

/// Tasks in the order in which they began to wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    /// By number, and so in their order.
    waiting: VecDeque<(u64, Waker)>,
    /// Those that were woken and have not looked since.
    woken: usize,
}

/// A future's place among the [`Waiters`]: kept by the future, and given up when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Place(Option<u64>);

impl Waiters {
    /// Has the task woken; it keeps the place it has, also when it was woken in vain.
    pub(super) fn register(&mut self, place: &mut Place, context: &Context<'_>) {
        let Some(id) = place.0 else {
            self.next += 1;
            place.0 = Some(self.next);
            self.waiting.push_back((self.next, context.waker().clone()));
            return;
        };
        match self.position(id) {
            Ok(index) => self.waiting[index].1.clone_from(context.waker()),
            Err(index) => {
                self.woken -= 1;
                self.waiting.insert(index, (id, context.waker().clone()));
            }
        }
    }

    /// A future is done with waiting, or dropped. True when it had been woken since it registered: what it was woken
    /// for may be for somebody else now.
    pub(super) fn leave(&mut self, place: &mut Place) -> bool {
        let Some(id) = place.0.take() else {
            return false;
        };
        match self.position(id) {
            Ok(index) => {
                self.waiting.remove(index);
                false
            }
            Err(_) => {
                self.woken -= 1;
                true
            }
        }
    }

    /// A future is dropped. One that had been woken for something that is still `there` hands it on: the waker of the next
    /// in line is to be woken then, without any lock.
    #[must_use = "the next in line sleeps until it is woken"]
    pub(super) fn give_up(&mut self, place: &mut Place, there: bool) -> Option<Waker> {
        if !(self.leave(place) && there) {
            return None;
        }
        let (_, next) = self.waiting.pop_front()?;
        self.woken += 1;
        Some(next)
    }

    /// Whether a future may have one of `available` things: those who were woken for them go first.
    pub(super) fn may_take(&self, place: &Place, available: u64) -> bool {
        let woken = place.0.is_some_and(|id| self.position(id).is_err());
        available > if woken { 0 } else { self.woken as u64 }
    }

    fn position(&self, id: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// Takes the wakers of the first `count` tasks.
    pub(super) fn wake(&mut self, count: usize, wakers: &mut Vec<Waker>) {
        let count = count.min(self.waiting.len());
        self.woken += count;
        wakers.extend(self.waiting.drain(..count).map(|(_, waker)| waker));
    }

    /// Takes all wakers.
    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        self.wake(usize::MAX, wakers);
    }
}

impl Place {
    /// Whether the future has ever waited.
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn first_come_first_woken_and_nobody_twice() {
        let context = Context::from_waker(Waker::noop());
        let mut waiters = Waiters::default();
        let mut places: [Place; 3] = Default::default();
        for place in &mut places {
            waiters.register(place, &context);
            waiters.register(place, &context);
        }
        let mut woken = Vec::new();
        waiters.wake(1, &mut woken);
        assert_eq!(woken.len(), 1);
        assert!(waiters.leave(&mut places[0]), "it was the first, and woken");
        assert!(!waiters.leave(&mut places[1]), "it still waits");
        waiters.wake_all(&mut woken);
        assert_eq!(woken.len(), 2);
        woken.clear();
        waiters.wake_all(&mut woken);
        assert!(woken.is_empty());
        assert!(waiters.leave(&mut places[2]));
        assert!(!places[2].is_taken());
    }

    #[test]
    fn who_was_woken_goes_before_newcomers_and_keeps_its_place() {
        let context = Context::from_waker(Waker::noop());
        let mut waiters = Waiters::default();
        let mut places: [Place; 3] = Default::default();
        for place in &mut places {
            waiters.register(place, &context);
        }
        let newcomer = Place::default();
        assert!(waiters.may_take(&newcomer, 1));
        waiters.wake(1, &mut Vec::new());
        assert!(!waiters.may_take(&newcomer, 1) && waiters.may_take(&newcomer, 2));
        assert!(!waiters.may_take(&places[1], 1));
        assert!(waiters.may_take(&places[0], 1) && !waiters.may_take(&places[0], 0));
        // In vain: it is still the first.
        waiters.register(&mut places[0], &context);
        assert!(waiters.may_take(&newcomer, 1));
        waiters.wake(1, &mut Vec::new());
        assert!(waiters.leave(&mut places[0]));
        assert!(waiters.may_take(&newcomer, 1));
        assert!(!waiters.leave(&mut places[1]) && !waiters.leave(&mut places[2]));
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_asleep() {
        struct Panics;
        impl std::task::Wake for Panics {
            fn wake(self: std::sync::Arc<Self>) {
                panic!("in a waker");
            }
        }
        wake(std::sync::Arc::new(Panics).into());
    }
}
