//! Token buckets: one, and one for each key of a table of fixed size.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddrV6;
use std::time::Duration;

/// Nanoseconds. All times here are nanoseconds since some start.
const SECOND: u64 = 1_000_000_000;
/// How long a bucket takes at most to hold something again, whatever was taken out of it.
const DEBT_MAX: u64 = SECOND;

/// So many a second, and a burst. Both are kept as times: a period of 0 is no bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    period: u64,
    burst: u64,
}

impl Rate {
    /// So many a second, or without bound.
    pub(super) fn new(per_second: Option<u32>, burst: Duration) -> Self {
        let period = per_second.map_or(0, |rate| SECOND / u64::from(rate.max(1)));
        Self {
            period,
            burst: (burst.as_nanos() as u64).max(period),
        }
    }

    /// A token each second, up to `burst` of them.
    pub(super) fn one_a_second(burst: u64) -> Self {
        Self {
            period: SECOND,
            burst: burst * SECOND,
        }
    }

    /// The time between two.
    pub(super) fn period(&self) -> Duration {
        Duration::from_nanos(self.period)
    }

    /// Whether a bucket that will be full at `full_at` holds a token at `now`.
    #[inline]
    fn has(&self, full_at: u64, now: u64) -> bool {
        full_at.saturating_add(self.period) <= now.saturating_add(self.burst)
    }

    /// When the bucket will be full if `tokens` are taken now.
    #[inline]
    fn after(&self, full_at: u64, now: u64, tokens: u64) -> u64 {
        let latest = now.saturating_add(self.burst + DEBT_MAX);
        let taken = full_at.max(now).saturating_add(tokens * self.period);
        taken.min(latest)
    }
}

/// A token bucket (as the generic cell rate algorithm has it: one number, the time at which the bucket will be full).
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    full_at: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, full_at: 0 }
    }

    /// Whether there is a token.
    #[inline]
    pub(super) fn has(&self, now: u64) -> bool {
        self.rate.has(self.full_at, now)
    }

    /// Takes so many out, if need be on credit.
    pub(super) fn take(&mut self, now: u64, tokens: u64) {
        self.full_at = self.rate.after(self.full_at, now, tokens);
    }
}

/// Token buckets by key, in a table of fixed size: each key has [`WAYS`] places, and a new one takes that of the bucket
/// that is nearest to full, which knows the least.
pub(super) struct Table {
    rate: Rate,
    /// Has absorbed the seed, so that it is a hash with a key.
    hasher: DefaultHasher,
    slots: Box<[[Slot; WAYS]]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The key's hash, all of it; 0 is nobody's.
    tag: u64,
    full_at: u64,
}

/// Places of a key: a cache line of them.
const WAYS: usize = 4;

/// What a table goes by.
pub(super) trait Key {
    fn write(&self, hasher: &mut DefaultHasher);
}

/// The first 64 bits of an IPv6 address: what one client has, at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix(u64);

pub(super) fn prefix(remote: SocketAddrV6) -> Prefix {
    Prefix((remote.ip().to_bits() >> 64) as u64)
}

impl Key for Prefix {
    fn write(&self, hasher: &mut DefaultHasher) {
        hasher.write_u64(self.0);
    }
}

impl Key for SocketAddrV6 {
    fn write(&self, hasher: &mut DefaultHasher) {
        hasher.write_u128(self.ip().to_bits());
        hasher.write_u16(self.port());
    }
}

impl Table {
    /// Room for `buckets`, rounded up to a power of two.
    pub(super) fn new(rate: Rate, buckets: usize, seed: u128) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(seed);
        let sets = buckets.div_ceil(WAYS).next_power_of_two();
        Self {
            rate,
            hasher,
            slots: vec![[Slot::default(); WAYS]; sets].into_boxed_slice(),
        }
    }

    /// Takes a token out of a known key's bucket; false when there is none, or the key is not known.
    pub(super) fn take(&mut self, key: impl Key, now: u64) -> bool {
        let rate = self.rate;
        let (tag, set) = self.set(key);
        let slot = set.iter_mut().find(|slot| slot.tag == tag);
        slot.is_some_and(|slot| slot.take(rate, now))
    }

    /// The same; a key that is not known begins with a full bucket.
    pub(super) fn take_or_begin(&mut self, key: impl Key, now: u64) -> bool {
        let rate = self.rate;
        self.slot(key, now).take(rate, now)
    }

    /// Gives a key a full bucket, unless it has one.
    pub(super) fn begin(&mut self, key: impl Key, now: u64) {
        self.slot(key, now);
    }

    fn slot(&mut self, key: impl Key, now: u64) -> &mut Slot {
        let (tag, set) = self.set(key);
        let place = set.iter().position(|slot| slot.tag == tag);
        let place = place.unwrap_or_else(|| {
            let emptiest = (0..WAYS).min_by_key(|&place| set[place].full_at);
            let place = emptiest.unwrap_or(0);
            let full_at = now;
            set[place] = Slot { tag, full_at };
            place
        });
        &mut set[place]
    }

    fn set(&mut self, key: impl Key) -> (u64, &mut [Slot; WAYS]) {
        let mut hasher = self.hasher.clone();
        key.write(&mut hasher);
        let tag = hasher.finish().max(1);
        let index = tag as usize & (self.slots.len() - 1);
        (tag, &mut self.slots[index])
    }
}

impl Slot {
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let has = rate.has(self.full_at, now);
        if has {
            self.full_at = rate.after(self.full_at, now, 1);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BURST: Duration = Duration::from_millis(100);

    #[test]
    fn a_debt_is_bounded() {
        let mut bucket = Bucket::new(Rate::new(Some(10), BURST));
        for _ in 0..1_000 {
            bucket.take(0, 16);
        }
        assert!(!bucket.has(SECOND));
        assert!(bucket.has(SECOND + SECOND / 10));
    }

    #[test]
    fn a_crowd_of_prefixes_takes_no_more_room_and_frees_no_one_who_is_busy() {
        let mut table = Table::new(Rate::new(Some(3), Duration::from_secs(1)), 64, 7);
        let key = Prefix(u64::MAX);
        assert!((0..3).all(|_| table.take_or_begin(key, 0)));
        for crowd in 0..10_000 {
            assert!(table.take_or_begin(Prefix(crowd), 0));
        }
        assert_eq!(table.slots.len() * WAYS, 64);
        assert!(!table.take_or_begin(key, 0));
    }

    proptest! {
        /// In no span of time more than the rate and a burst get through, and of what was not asked for too fast, all.
        #[test]
        fn a_bucket_keeps_its_rate(
            rate in 1..=1_000_000u32,
            steps in prop::collection::vec(0..SECOND / 50, 1..300),
        ) {
            let mut bucket = Bucket::new(Rate::new(Some(rate), BURST));
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if bucket.has(now) {
                    bucket.take(now, 1);
                    passed.push(now);
                }
            }
            let burst = f64::from(rate) * BURST.as_secs_f64();
            for (i, &first) in passed.iter().enumerate() {
                for (j, &last) in passed.iter().enumerate().skip(i) {
                    let bound = burst + (last - first) as f64 * f64::from(rate) * 1.01 / SECOND as f64;
                    prop_assert!((j - i) as f64 <= bound + 1.0);
                }
            }
        }
    }
}
