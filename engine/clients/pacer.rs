//! When a client that makes requests may begin the next one, and when it is done: by number, by rate, by time.

use std::time::{Duration, Instant};

use super::schedule::{Rate, Schedule};

/// How long answers are waited for after the end of an open loop.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// See the module. Without a rate it is a closed loop: whoever asks may begin.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: Option<Rate>,
    duration: Option<Duration>,
    /// Requests to begin in all; `None` when only time ends it.
    total: Option<u64>,
    /// Requests begun; in an open loop, also the number of the next on the schedule.
    begun: u64,
    /// A time that has passed, to ask for the next turn with.
    first_run: Option<Instant>,
    /// Of an open loop, from the start.
    schedule: Option<Schedule>,
    /// When no more requests are begun.
    deadline: Option<Instant>,
    /// When the next request is due that was not when it was last asked for.
    wake: Option<Instant>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Requests are begun.
    Running,
    /// The open loop has ended, and answers are waited for until then.
    Grace(Instant),
    /// All is done but the handing over of results.
    Over,
    /// Nothing happens any more.
    Finished,
}

impl Pacer {
    /// `rate` makes an open loop; `total` and `duration` (from [`start`](Self::start)) end it.
    pub(crate) fn new(rate: Option<Rate>, duration: Option<Duration>, total: Option<u64>) -> Self {
        Self {
            rate,
            duration,
            total,
            begun: 0,
            first_run: None,
            schedule: None,
            deadline: None,
            wake: None,
            phase: Phase::Running,
        }
    }

    /// To be called by every run.
    pub(crate) fn run(&mut self, now: Instant) {
        self.first_run.get_or_insert(now);
    }

    /// The first connection is ready. Later calls change nothing.
    pub(crate) fn start(&mut self, now: Instant) {
        if let (Some(rate), None) = (self.rate, &self.schedule) {
            self.schedule = Some(Schedule::new(now, rate));
            self.wake = Some(now);
        }
        if self.deadline.is_none() {
            self.deadline = self.duration.and_then(|d| now.checked_add(d));
        }
    }

    /// True for an open loop.
    pub(crate) fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// True while new requests may be begun at all.
    pub(crate) fn is_running(&self, now: Instant) -> bool {
        self.phase == Phase::Running && self.deadline.is_none_or(|deadline| now < deadline)
    }

    /// What the latency of the next request counts from, if one may be begun now.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.is_running(now) || self.total.is_some_and(|total| self.begun >= total) {
            return None;
        }
        match self.rate {
            None => Some(now),
            Some(_) => self.schedule?.time(self.begun).filter(|time| *time <= now),
        }
    }

    /// What [`next`](Self::next) permitted has been begun.
    pub(crate) fn count_begun(&mut self) {
        self.begun += 1;
    }

    /// `count` of the requests will not be begun.
    pub(crate) fn lower_total(&mut self, count: u64) {
        self.total = self.total.map(|total| total.saturating_sub(count));
    }

    /// All that is due at `now` has been begun, or must wait for something else than time.
    pub(crate) fn sleep(&mut self, now: Instant) {
        self.wake = (self.schedule).and_then(|schedule| schedule.time(schedule.due(now)));
    }

    /// Asks for a run at the next turn, where there is no time to decide with.
    pub(crate) fn wake(&mut self) {
        self.wake = self.first_run;
    }

    /// Looks whether it is over: `under_way` requests have no answer yet, `alone` says that no connection is left.
    pub(crate) fn check(&mut self, now: Instant, under_way: u64, alone: bool) {
        if let (Phase::Running, Some(deadline)) = (self.phase, self.deadline)
            && now >= deadline
        {
            self.phase = match self.has_rate() {
                true => Phase::Grace(deadline + GRACE),
                false => Phase::Over,
            };
        }
        let done = match self.phase {
            Phase::Running => under_way == 0 && self.total.is_some_and(|total| self.begun >= total),
            Phase::Grace(until) => under_way == 0 || now >= until,
            Phase::Over | Phase::Finished => return,
        };
        if done || alone {
            self.phase = Phase::Over;
        }
    }

    /// Requests that were due and have not been begun.
    pub(crate) fn waiting(&self, now: Instant) -> u64 {
        self.schedule.map_or(0, |schedule| {
            // What is due at the very end is not begun any more.
            let last = self
                .deadline
                .map(|deadline| deadline - Duration::from_nanos(1));
            let due = schedule.due(last.map_or(now, |last| now.min(last)));
            let due = self.total.map_or(due, |total| due.min(total));
            due.saturating_sub(self.begun)
        })
    }

    /// When to be run next.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => [self.deadline, self.wake].into_iter().flatten().min(),
            Phase::Grace(until) => Some(until),
            Phase::Over => self.first_run,
            Phase::Finished => None,
        }
    }

    /// True from when there is nothing more to do.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Finished)
    }

    /// Ends it; true the first time.
    pub(crate) fn finish(&mut self) -> bool {
        std::mem::replace(&mut self.phase, Phase::Finished) != Phase::Finished
    }

    /// True after [`finish`](Self::finish).
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begin_all(pacer: &mut Pacer, now: Instant) -> Vec<Instant> {
        let mut begun = Vec::new();
        while let Some(begin) = pacer.next(now) {
            pacer.count_begun();
            begun.push(begin);
        }
        pacer.sleep(now);
        begun
    }

    #[test]
    fn an_open_loop_keeps_its_schedule_when_served_late() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Rate::per_second(1000.0), Some(10 * MS), None);
        pacer.run(start);
        assert_eq!(pacer.next(start), None, "not started");
        pacer.start(start);
        assert_eq!(begin_all(&mut pacer, start), [start]);
        assert_eq!(pacer.timeout(), Some(start + MS));
        // Asked for late: what has become due counts from when it was due.
        let late = begin_all(&mut pacer, start + 4 * MS);
        assert_eq!(late, [1, 2, 3, 4].map(|n| start + n * MS));
        assert_eq!(pacer.timeout(), Some(start + 5 * MS));
        assert_eq!(pacer.waiting(start + 7 * MS), 3);
        assert!(
            begin_all(&mut pacer, start + 10 * MS).is_empty(),
            "the time is over"
        );
        assert_eq!(
            pacer.waiting(start + 100 * MS),
            5,
            "due until the end, not after"
        );

        pacer.check(start + 10 * MS, 2, false);
        assert_eq!(pacer.timeout(), Some(start + 10 * MS + GRACE));
        assert!(!pacer.is_over());
        pacer.check(start + 20 * MS, 0, false);
        assert!(pacer.is_over() && pacer.finish() && !pacer.finish());
        assert_eq!(pacer.timeout(), None);
    }

    #[test]
    fn a_grace_ends() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Rate::per_second(1.0), Some(MS), None);
        pacer.start(start);
        pacer.check(start + MS, 1, false);
        pacer.check(start + MS + GRACE, 1, false);
        assert!(pacer.is_over());
    }

    #[test]
    fn a_closed_loop_ends_by_number_or_time() {
        let start = Instant::now();
        let mut pacer = Pacer::new(None, None, Some(3));
        pacer.start(start);
        assert_eq!(begin_all(&mut pacer, start).len(), 3);
        pacer.check(start, 1, false);
        assert!(!pacer.is_over());
        pacer.check(start, 0, false);
        assert!(pacer.is_over());

        let mut pacer = Pacer::new(None, Some(MS), None);
        pacer.start(start);
        assert_eq!(pacer.next(start), Some(start));
        assert_eq!(pacer.timeout(), Some(start + MS));
        assert_eq!(pacer.next(start + MS), None);
        pacer.check(start + MS, 5, false);
        assert!(pacer.is_over());
    }

    #[test]
    fn it_is_over_without_connections_or_shares() {
        let start = Instant::now();
        let mut pacer = Pacer::new(None, None, None);
        pacer.check(start, 0, true);
        assert!(pacer.is_over());

        let mut pacer = Pacer::new(None, None, Some(3));
        pacer.lower_total(3);
        assert_eq!(pacer.next(start), None);
        pacer.check(start, 0, false);
        assert!(pacer.is_over());
    }
}
