//! When requests are due, in an open loop.

use std::time::{Duration, Instant};

/// A number of events per second, above 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// `per_second` events a second; `None` unless that is a number above 0 and at most 10^9.
    pub fn per_second(per_second: f64) -> Option<Self> {
        (per_second > 0.0 && per_second <= 1e9).then_some(Self(per_second))
    }

    /// Events a second.
    pub fn as_per_second(self) -> f64 {
        self.0
    }
}

/// Events at a fixed rate from a start on. Times are computed from the number of the event, never from the event
/// before, so the schedule does not drift, however late its events are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    rate: Rate,
}

impl Schedule {
    pub(crate) fn new(start: Instant, rate: Rate) -> Self {
        Self { start, rate }
    }

    /// When event `n` is due; event 0 is at the start. Nothing beyond some decades.
    pub(crate) fn time(&self, n: u64) -> Option<Instant> {
        let after = Duration::try_from_secs_f64(n as f64 / self.rate.0).ok()?;
        self.start.checked_add(after)
    }

    /// How many events are due at `now`.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        let Some(passed) = now.checked_duration_since(self.start) else {
            return 0;
        };
        let mut due = (passed.as_secs_f64() * self.rate.0) as u64;
        // Rounding: `time` decides, so that an event is due exactly when its time has come.
        while due > 0 && self.time(due - 1).is_none_or(|time| time > now) {
            due -= 1;
        }
        while self.time(due).is_some_and(|time| time <= now) {
            due += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_and_time_agree() {
        let start = Instant::now();
        for per_second in [0.1, 1.0, 3.0, 997.0, 1e6, 333_333.33] {
            let schedule = Schedule::new(start, Rate::per_second(per_second).unwrap());
            for n in [0, 1, 2, 3, 10, 1000, 123_457] {
                let time = schedule.time(n).unwrap();
                assert_eq!(schedule.due(time), n + 1, "{per_second} {n}");
                if n > 0 {
                    assert_eq!(schedule.due(time - Duration::from_nanos(1)), n);
                }
            }
        }
    }

    #[test]
    fn the_rate_holds_over_hours() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Rate::per_second(7.0).unwrap());
        assert_eq!(
            schedule.due(start + Duration::from_secs(36_000)),
            7 * 36_000 + 1
        );
        assert_eq!(schedule.due(start), 1);
        assert_eq!(schedule.due(start - Duration::from_secs(1)), 0);
    }

    #[test]
    fn rates_are_positive_numbers() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e9] {
            assert_eq!(Rate::per_second(wrong), None);
        }
        assert_eq!(Rate::per_second(0.5).unwrap().as_per_second(), 0.5);
    }
}
