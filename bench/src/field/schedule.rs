//! The order of measurements, and how long they will still take.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::case::Case;
use super::way::Way;

/// How often each cell is measured, unless told otherwise.
pub const ROUNDS: u32 = 3;
/// Length of a measurement, seconds, likewise.
pub const SECONDS: f64 = 1.5;
/// What a measurement takes beyond its length, until the first of its case is done.
const OVERHEAD: Duration = Duration::from_secs(2);

/// One measurement to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The round, from 1.
    pub round: u32,
    /// The case.
    pub case: Case,
    /// Through what.
    pub way: Way,
}

/// All measurements in order, and how far they are.
#[derive(Debug)]
pub struct Schedule {
    steps: Vec<Step>,
    done: usize,
    length: Duration,
    /// For each case, how long its measurements took and how many there were.
    taken: HashMap<Case, (Duration, u32)>,
}

impl Schedule {
    /// In each round all cases, in each case all ways, so that what is compared is measured within a minute, and in each
    /// round another way first. Memory does not change from hour to hour: connections at rest are measured in the first round
    /// alone.
    pub fn new(rounds: u32, cases: &[Case], ways: &[Way], length: Duration) -> Self {
        let mut steps = Vec::new();
        for round in 1..=rounds {
            for &case in cases
                .iter()
                .filter(|case| round == 1 || **case != Case::Idle)
            {
                let mut ways: Vec<Way> = (ways.iter().copied())
                    .filter(|way| way.runs(case))
                    .collect();
                let first = (round - 1) as usize % ways.len().max(1);
                ways.rotate_left(first);
                steps.extend(ways.into_iter().map(|way| Step { round, case, way }));
            }
        }
        Self {
            steps,
            done: 0,
            length,
            taken: HashMap::new(),
        }
    }

    /// The next measurement; nothing when all are made.
    pub fn next(&self) -> Option<Step> {
        self.steps.get(self.done).copied()
    }

    /// The measurement was made; it took the time since `start`.
    pub fn finish(&mut self, start: Instant) {
        if let Some(step) = self.next() {
            let (taken, count) = self.taken.entry(step.case).or_default();
            *taken += start.elapsed();
            *count += 1;
            self.done += 1;
        }
    }

    /// Measurements made, and all of them.
    pub fn progress(&self) -> (usize, usize) {
        (self.done, self.steps.len())
    }

    /// How long the rest will take.
    pub fn remaining(&self) -> Duration {
        let rest = self.steps.get(self.done..).unwrap_or_default();
        rest.iter().map(|step| self.expected(step.case)).sum()
    }

    fn expected(&self, case: Case) -> Duration {
        match self.taken.get(&case) {
            Some((taken, count)) => *taken / *count,
            None => self.length + OVERHEAD,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::field::way::{Medium, Stack};

    #[test]
    fn rounds_are_interleaved_and_idle_is_measured_once() {
        let cases = Case::value_variants();
        let schedule = Schedule::new(3, cases, &Way::all(), Duration::from_secs(1));
        let idle = schedule.steps.iter().filter(|step| step.case == Case::Idle);
        assert!(idle.clone().count() > 1 && idle.clone().all(|step| step.round == 1));
        let rounds: Vec<u32> = schedule.steps.iter().map(|step| step.round).collect();
        assert!(rounds.is_sorted());
        let of = |round| {
            schedule
                .steps
                .iter()
                .filter(move |step| step.round == round && step.case != Case::Idle)
        };
        assert_eq!(of(1).count(), of(3).count());
    }

    #[test]
    fn the_whole_table_takes_less_than_twenty_minutes() {
        let length = Duration::from_secs_f64(SECONDS);
        let schedule = Schedule::new(ROUNDS, Case::value_variants(), &Way::all(), length);
        let estimate = schedule.remaining();
        assert!(estimate < Duration::from_secs(20 * 60), "{estimate:?}");
    }

    #[test]
    fn each_round_begins_with_another_way() {
        let ways = Way::all();
        let schedule = Schedule::new(3, &[Case::Bulk1452], &ways, Duration::from_secs(1));
        let first = |round| schedule.steps.iter().find(|step| step.round == round);
        let firsts: Vec<Way> = (1..=3)
            .filter_map(|round| Some(first(round)?.way))
            .collect();
        assert_eq!(firsts, ways[..3]);
    }

    #[test]
    fn the_rest_is_told_by_what_was_measured() {
        let way = Way {
            stack: Stack::Quinn,
            medium: Medium::Loopback,
        };
        let mut schedule = Schedule::new(3, &[Case::Bulk1452], &[way], Duration::from_secs(1));
        assert_eq!(
            schedule.remaining(),
            3 * (Duration::from_secs(1) + OVERHEAD)
        );
        schedule.finish(Instant::now());
        assert!(schedule.remaining() < Duration::from_secs(1));
        schedule.finish(Instant::now());
        schedule.finish(Instant::now());
        assert_eq!((schedule.progress(), schedule.next()), ((3, 3), None));
    }
}
