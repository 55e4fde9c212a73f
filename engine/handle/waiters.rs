//! Tasks that wait for the same thing.

use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Tasks in the order in which they began to wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

/// A future's place among the [`Waiters`]: kept by the future, and given up when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Place(Option<u64>);

impl Waiters {
    /// Has the task woken; it keeps the place it has.
    pub(super) fn register(&mut self, place: &mut Place, context: &Context<'_>) {
        let found = self.waiting.iter_mut().find(|(id, _)| Some(*id) == place.0);
        match found {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => {
                self.next += 1;
                place.0 = Some(self.next);
                self.waiting.push_back((self.next, context.waker().clone()));
            }
        }
    }

    /// A future is done with waiting, or dropped. True when it had been woken since it registered: what it was woken
    /// for may be for somebody else now.
    pub(super) fn leave(&mut self, place: &mut Place) -> bool {
        let Some(id) = place.0.take() else {
            return false;
        };
        match self.waiting.iter().position(|(other, _)| *other == id) {
            Some(index) => {
                self.waiting.remove(index);
                false
            }
            None => true,
        }
    }

    /// Takes the wakers of the first `count` tasks.
    pub(super) fn wake(&mut self, count: usize, wakers: &mut Vec<Waker>) {
        let count = count.min(self.waiting.len());
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
}
