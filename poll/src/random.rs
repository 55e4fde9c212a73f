//! Random numbers for jitter, back-off and emulated links. Not for secrets.

use std::time::Duration;

/// SplitMix64: a seed gives the same numbers every time, which tests rely on.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A duration from `low` up to, not including, `high`; `low` when there is nothing between them.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_micros() as u64;
        low + Duration::from_micros(self.next().checked_rem(span).unwrap_or(0))
    }

    /// True with the given probability, 0 to 1. Takes a number only where the outcome is open, so that a property which
    /// is switched off does not change what another one's seed gives.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        const STEPS: f64 = (1_u64 << 53) as f64;
        if probability <= 0.0 {
            return false;
        }
        ((self.next() >> 11) as f64) < probability * STEPS
    }

    /// A number from 0 up to and including `most`.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(1) => 0,
            Some(span) => self.next() % span,
            None => self.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_stays_between() {
        let mut random = Random::new(9);
        let (low, high) = (Duration::from_millis(15), Duration::from_millis(45));
        for _ in 0..1000 {
            assert!((low..high).contains(&random.between(low, high)));
        }
        assert_eq!(random.between(low, low), low);
    }

    #[test]
    fn chance_is_met() {
        let mut random = Random::new(4);
        assert!((0..1000).all(|_| !random.chance(0.0) && random.chance(1.0)));
        let hits = (0..100_000).filter(|_| random.chance(0.1)).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| random.up_to(3) <= 3));
    }
}
