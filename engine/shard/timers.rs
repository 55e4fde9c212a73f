//! Deadlines of connections: a binary heap with exactly one place for each connection.
//!
//! quinn-proto moves a connection's deadline with almost every packet, nearly always to later. The shard therefore
//! writes into the heap only when a deadline gets *earlier* than the one it holds, and finds out that it was moved
//! when it fires: then it takes its new place. A packet in steady state costs one comparison here. Because each
//! connection remembers its place, no stale entries pile up, and the heap never outgrows the number of connections.

use std::time::Instant;

const ABSENT: u32 = u32::MAX;

/// A min-heap of (deadline, connection), in which each connection stands at most once.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Place in `heap` by connection index, or [`ABSENT`].
    places: Vec<u32>,
}

impl Timers {
    /// The earliest deadline.
    #[inline]
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Makes sure that `index` fires at `at` or before.
    #[inline]
    pub(crate) fn no_later_than(&mut self, index: u32, at: Instant) {
        match self.place(index) {
            Some(place) if self.heap[place].0 <= at => {}
            Some(place) => {
                self.heap[place].0 = at;
                self.up(place);
            }
            None => self.insert(index, at),
        }
    }

    /// Takes out a connection whose deadline is `now` or before.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(at, index) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(index);
        Some(index)
    }

    /// Takes a connection out, if it is in.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some(place) = self.place(index) else {
            return;
        };
        self.places[index as usize] = ABSENT;
        self.heap.swap_remove(place);
        if let Some(&(_, moved)) = self.heap.get(place) {
            self.places[moved as usize] = place as u32;
            self.up(place);
            self.down(place);
        }
    }

    fn place(&self, index: u32) -> Option<usize> {
        let place = self.places.get(index as usize).copied();
        place
            .filter(|&place| place != ABSENT)
            .map(|place| place as usize)
    }

    fn insert(&mut self, index: u32, at: Instant) {
        let place = self.heap.len();
        self.heap.push((at, index));
        if self.places.len() <= index as usize {
            self.places.resize(index as usize + 1, ABSENT);
        }
        self.places[index as usize] = place as u32;
        self.up(place);
    }

    /// Moves the entry at `place` towards the root as far as it belongs.
    fn up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    /// Moves the entry at `place` away from the root as far as it belongs.
    fn down(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let Some(&(mut least, _)) = self.heap.get(left) else {
                break;
            };
            let mut child = left;
            if let Some(&(right, _)) = self.heap.get(left + 1)
                && right < least
            {
                (least, child) = (right, left + 1);
            }
            if self.heap[place].0 <= least {
                break;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].1 as usize] = a as u32;
        self.places[self.heap[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        NoLaterThan(u32, u64),
        Remove(u32),
        PopDue(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40u32, 0..100u64).prop_map(|(index, at)| Step::NoLaterThan(index, at)),
            1 => (0..40u32).prop_map(Step::Remove),
            2 => (0..100u64).prop_map(Step::PopDue),
        ]
    }

    proptest! {
        /// Against the obvious model: a map from connection to deadline.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(step(), 0..400)) {
            let start = Instant::now();
            let instant = |at: u64| start + Duration::from_nanos(at);
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::NoLaterThan(index, at) => {
                        timers.no_later_than(index, instant(at));
                        let entry = model.entry(index).or_insert(at);
                        *entry = at.min(*entry);
                    }
                    Step::Remove(index) => {
                        timers.remove(index);
                        model.remove(&index);
                    }
                    Step::PopDue(now) => {
                        let earliest = model.values().min().copied();
                        match timers.pop_due(instant(now)) {
                            Some(index) => {
                                prop_assert!(earliest.is_some_and(|earliest| earliest <= now));
                                prop_assert_eq!(model.remove(&index), earliest);
                            }
                            None => prop_assert!(earliest.is_none_or(|earliest| earliest > now)),
                        }
                    }
                }
                prop_assert_eq!(timers.earliest(), model.values().min().map(|&at| instant(at)));
                prop_assert_eq!(timers.heap.len(), model.len());
            }
        }
    }
}
