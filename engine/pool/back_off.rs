//! How long to leave a peer alone after failures.

use std::time::{Duration, Instant};

use super::config::BackOff;

/// Random numbers that need not be secret: SplitMix64.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A random time from half of `time` to all of it.
    fn of(&mut self, time: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // 2^32 parts are fine enough, and fit a u32.
        let part = f64::from((word >> 32) as u32) / f64::from(u32::MAX);
        time.mul_f64(0.5 + part / 2.0)
    }
}

/// The failures of one peer, and until when none is tried.
#[derive(Debug, Default)]
pub(super) struct Delay {
    failures: u32,
    until: Option<Instant>,
}

impl Delay {
    /// How many attempts failed one after the other.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when no attempt is made; `None` when one may be made now.
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// An attempt failed that was begun after `before` failures. Several that were made at once count as one.
    pub fn failed(&mut self, now: Instant, before: u32, config: &BackOff, jitter: &mut Jitter) {
        if before != self.failures {
            return;
        }
        let doublings = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        let delay = config.base.saturating_mul(1 << doublings).min(config.max);
        self.until = Some(now + jitter.of(delay));
    }

    /// A connection lasts.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_with_jitter() {
        let config = BackOff::default()
            .base(Duration::from_millis(100))
            .max(Duration::from_secs(2));
        let start = Instant::now();
        let mut jitter = Jitter::new(1);
        let mut delay = Delay::default();
        let mut seen = Vec::new();
        for (failures, longest) in [100, 200, 400, 800, 1600, 2000, 2000]
            .into_iter()
            .enumerate()
        {
            delay.failed(start, failures as u32, &config, &mut jitter);
            let until = delay.wait(start).unwrap();
            let took = until - start;
            let longest = Duration::from_millis(longest);
            assert!(took >= longest / 2 && took <= longest, "{took:?}");
            assert_eq!(delay.wait(until), None);
            seen.push(took.as_nanos() * 1000 / longest.as_nanos());
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 3, "all delays are the same part: {seen:?}");
        delay.succeeded();
        assert_eq!((delay.failures(), delay.wait(start)), (0, None));
    }

    #[test]
    fn attempts_made_at_once_count_as_one() {
        let mut jitter = Jitter::new(1);
        let mut delay = Delay::default();
        let now = Instant::now();
        for _ in 0..4 {
            delay.failed(now, 0, &BackOff::default(), &mut jitter);
        }
        assert_eq!(delay.failures(), 1);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut jitter = Jitter::new(1);
        let mut delay = Delay::default();
        let now = Instant::now();
        let config = BackOff::default().max(Duration::from_secs(365 * 24 * 3600));
        for failures in 0..100 {
            delay.failed(now, failures, &config, &mut jitter);
        }
        assert_eq!(delay.failures(), 100);
    }
}
