//! What a worker does in a turn that moved nothing.

use std::time::{Duration, Instant};

/// Idle policy of an lcore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdlePolicy {
    /// Poll without a pause: the lowest latency, one core always at 100 %.
    Busy,
    /// Spin, then pause between polls, then sleep for short times, never past the next timer. A device whose queue
    /// fills while the lcore sleeps for at most [`SLEEP_MAX`] must hold that many frames.
    #[default]
    Adaptive,
}

/// The longest sleep of an adaptive lcore. At 10 Gbit/s and 1500 bytes, 80 frames arrive in that time.
///
/// It also bounds, with the scheduler's slack, how late an idle lane takes what another one hands over: frames between
/// hosts of a port, and whatever a transport looks for when it is let [advance](crate::Transport::advance). Nothing has
/// to wake it.
pub const SLEEP_MAX: Duration = Duration::from_micros(100);

/// Idle turns spent polling at full speed: some 50 µs, longer than the gaps within a busy transfer.
const SPIN_TURNS: u32 = 1000;
/// Idle turns, after those, with the processor's pause instruction between polls.
const PAUSE_TURNS: u32 = 2000;
/// Below this a sleep is not worth its system call.
const SLEEP_MIN: Duration = Duration::from_micros(5);

/// Counts idle turns and decides.
#[derive(Debug)]
pub(crate) struct Idle {
    policy: IdlePolicy,
    turns: u32,
}

impl Idle {
    pub(crate) fn new(policy: IdlePolicy) -> Self {
        Self { policy, turns: 0 }
    }

    /// The turn moved something.
    pub(crate) fn reset(&mut self) {
        self.turns = 0;
    }

    /// The turn moved nothing; `deadline` is when the next timer is due. True when so much time has passed that the
    /// clock is to be read again.
    #[inline]
    pub(crate) fn wait(&mut self, now: Instant, deadline: Option<Instant>) -> bool {
        match self.step(now, deadline) {
            Step::Spin => false,
            Step::Pause => {
                std::hint::spin_loop();
                false
            }
            Step::Sleep(time) => {
                std::thread::sleep(time);
                true
            }
        }
    }

    fn step(&mut self, now: Instant, deadline: Option<Instant>) -> Step {
        if self.policy == IdlePolicy::Busy {
            return Step::Spin;
        }
        self.turns = self.turns.saturating_add(1);
        if self.turns <= SPIN_TURNS {
            return Step::Spin;
        }
        if self.turns <= SPIN_TURNS + PAUSE_TURNS {
            return Step::Pause;
        }
        let until = deadline.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now));
        if until < SLEEP_MIN {
            Step::Pause
        } else {
            Step::Sleep(until.min(SLEEP_MAX))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Spin,
    Pause,
    Sleep(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_never_waits() {
        let now = Instant::now();
        let mut idle = Idle::new(IdlePolicy::Busy);
        assert!((0..10_000).all(|_| idle.step(now, None) == Step::Spin));
    }

    #[test]
    fn adaptive_spins_then_pauses_then_sleeps_up_to_the_timer() {
        let now = Instant::now();
        let mut idle = Idle::new(IdlePolicy::Adaptive);
        let steps: Vec<_> = (0..SPIN_TURNS + PAUSE_TURNS)
            .map(|_| idle.step(now, None))
            .collect();
        assert!(
            steps[..SPIN_TURNS as usize]
                .iter()
                .all(|step| *step == Step::Spin)
        );
        assert!(
            steps[SPIN_TURNS as usize..]
                .iter()
                .all(|step| *step == Step::Pause)
        );
        assert_eq!(idle.step(now, None), Step::Sleep(SLEEP_MAX));
        let soon = now + Duration::from_micros(20);
        assert_eq!(
            idle.step(now, Some(soon)),
            Step::Sleep(Duration::from_micros(20))
        );
        assert_eq!(idle.step(now, Some(now)), Step::Pause);
        idle.reset();
        assert_eq!(idle.step(now, None), Step::Spin);
    }
}
