//! The gate: what strangers may cost, so that those who are connected do not notice an attack.
//!
//! A datagram of a connection passes. One that belongs to none passes these steps, in this order:
//!
//! ```text
//!   before cryptography   an Initial, and too many before it led to nothing          dropped, `dropped_strangers`
//!                         an unknown version, and enough were answered               dropped, `dropped_stateless_rate`
//!   an Initial, opened    the shard is shutting down                                 refused
//!                         `incoming` handshakes in flight                            dropped, `dropped_incoming_full`
//!                         `connections` held                                         refused
//!                         above `retry_above` in flight, address unproven            Retry
//!                         its /64 began enough handshakes, address unproven          Retry
//!                         the same, address proven                                   dropped, `dropped_prefix_rate`
//!                         else                                                       the handshake begins
//!   anything else         a stateless reset is due, and enough were sent             dropped, `dropped_stateless_rate`
//! ```
//!
//! To open an Initial, quinn-proto derives its keys, and that is what makes strangers expensive: the first step costs a
//! hundredth of it. What passes there and leads to nothing (not to be opened, answered, dropped) takes a token out of a
//! bucket; what begins a handshake takes none, unless the handshake fails by what the client sent, which takes
//! [`FAILED_HANDSHAKE`]. Initials with an address validation token have a bucket of their own, so that clients who answer
//! a Retry do not stand in line behind a flood. The later Initials of a handshake in flight pass an empty bucket, too:
//! they are known by the client's address, and each address has few of them.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use super::classify::Class;
use super::config::ShardLimits;

/// What a handshake costs that began and then failed by what the client sent: about as much as so many Initials that are
/// answered by a Retry.
const FAILED_HANDSHAKE: u64 = 16;
/// Initials of a handshake in flight that pass an empty bucket: as many at once, and later one a second.
const INITIALS_OF_A_HANDSHAKE: u64 = 16;
/// Prefixes whose rate is known at a time.
const PREFIXES: usize = 1 << 14;
/// The most addresses of handshakes in flight that are known at a time.
const HANDSHAKES_MAX: usize = 1 << 16;
/// The burst of a rate. A prefix has a second's worth.
const BURST: Duration = Duration::from_millis(100);
/// How long a bucket takes at most to hold something again, whatever was taken out of it.
const DEBT_MAX: Duration = Duration::from_secs(1);

/// What a datagram claims to be, as far as that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A packet of a connection.
    Packet,
    /// The first packet of a connection, or one of its handshake.
    Initial {
        /// With an address validation token.
        has_token: bool,
    },
    /// A question in a version that we do not speak.
    Version,
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too many strangers before it.
    Strangers,
    /// Enough stateless answers were sent.
    StatelessRate,
    /// As many handshakes are in flight as may be.
    IncomingFull,
    /// Its prefix began as many handshakes as it may.
    PrefixRate,
}

/// What becomes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Begin the handshake.
    Begin,
    /// Ask for a proof of the address.
    Retry,
    /// Answer that the connection is refused.
    Refuse,
    /// Say nothing.
    Drop(Cause),
}

/// How full the shard is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Connections held.
    pub(crate) connections: usize,
    /// Incoming handshakes in flight.
    pub(crate) incoming: usize,
    /// The shard shuts down.
    pub(crate) stopping: bool,
}

/// See the [module](self).
pub(crate) struct Gate {
    start: Instant,
    connections: usize,
    incoming: usize,
    retry_above: usize,
    /// Initials without a token that may lead to nothing.
    strangers: Bucket,
    /// The same with a token.
    with_token: Bucket,
    /// Version negotiations and stateless resets.
    stateless: Bucket,
    /// Handshakes begun, by prefix.
    prefixes: Option<Table>,
    /// Initials that pass an empty bucket, by the address of a client whose handshake began.
    handshakes: Table,
}

impl Claim {
    /// What a datagram of this class claims to be.
    #[inline]
    pub(crate) fn of(class: &Class<'_>) -> Self {
        match *class {
            Class::Initial { has_token, .. } => Self::Initial { has_token },
            Class::UnsupportedVersion => Self::Version,
            Class::Short { .. } | Class::OtherLong { .. } | Class::Malformed => Self::Packet,
        }
    }
}

impl Gate {
    /// A gate for a shard that starts at `now`. `seed` is random, and unknown to strangers: they shall not choose who
    /// shares a place with whom in its tables.
    pub(crate) fn new(limits: &ShardLimits, now: Instant, seed: u128) -> Self {
        let rate = |per_second| Rate::new(per_second, BURST);
        let prefix_rate = Rate::new(limits.handshakes_per_prefix, Duration::from_secs(1));
        let handshakes = Rate {
            period: 1_000_000_000,
            burst: INITIALS_OF_A_HANDSHAKE * 1_000_000_000,
        };
        let handshakes_max = limits.incoming.saturating_mul(4).min(HANDSHAKES_MAX);
        Self {
            start: now,
            connections: limits.connections,
            incoming: limits.incoming,
            retry_above: limits.retry_above,
            strangers: Bucket::new(rate(limits.strangers)),
            with_token: Bucket::new(rate(limits.strangers)),
            stateless: Bucket::new(rate(limits.stateless)),
            prefixes: limits
                .handshakes_per_prefix
                .map(|_| Table::new(prefix_rate, PREFIXES, seed)),
            handshakes: Table::new(handshakes, handshakes_max, seed.rotate_left(64)),
        }
    }

    /// The time between two stateless resets of one endpoint. quinn-proto keeps it, and so computes no reset that would
    /// not be sent.
    pub(crate) fn reset_interval(limits: &ShardLimits) -> Duration {
        Duration::from_nanos(Rate::new(limits.stateless, BURST).period)
    }

    /// Whether a datagram may go on to quinn-proto.
    #[inline]
    pub(crate) fn check(
        &mut self,
        now: Instant,
        claim: Claim,
        remote: SocketAddrV6,
    ) -> Result<(), Cause> {
        match claim {
            Claim::Packet => Ok(()),
            Claim::Initial { has_token } => {
                let now = self.nanos(now);
                match self.bucket(has_token).has(now) || self.handshakes.take(remote, now) {
                    true => Ok(()),
                    false => Err(Cause::Strangers),
                }
            }
            Claim::Version => match self.stateless.has(self.nanos(now)) {
                true => Ok(()),
                false => Err(Cause::StatelessRate),
            },
        }
    }

    /// What becomes of an attempt to connect that quinn-proto has opened. `proven`: the client showed that it receives
    /// at its address.
    pub(crate) fn verdict(
        &mut self,
        now: Instant,
        load: Load,
        remote: SocketAddrV6,
        proven: bool,
    ) -> Verdict {
        if load.stopping {
            return Verdict::Refuse;
        }
        if load.incoming >= self.incoming {
            return Verdict::Drop(Cause::IncomingFull);
        }
        if load.connections >= self.connections {
            return Verdict::Refuse;
        }
        if load.incoming >= self.retry_above && !proven {
            return Verdict::Retry;
        }
        let now = self.nanos(now);
        let within = |table: &mut Table| table.take_or_begin(prefix(remote), now);
        match self.prefixes.as_mut().is_none_or(within) {
            true => Verdict::Begin,
            false if proven => Verdict::Drop(Cause::PrefixRate),
            false => Verdict::Retry,
        }
    }

    /// A handshake began: further Initials of this client are no stranger's.
    pub(crate) fn begun(&mut self, now: Instant, remote: SocketAddrV6) {
        let now = self.nanos(now);
        self.handshakes.begin(remote, now);
    }

    /// An Initial led to nothing.
    pub(crate) fn charge(&mut self, now: Instant, has_token: bool) {
        let now = self.nanos(now);
        self.bucket(has_token).take(now, 1);
    }

    /// A handshake failed by what the client sent.
    pub(crate) fn charge_handshake(&mut self, now: Instant) {
        let now = self.nanos(now);
        self.strangers.take(now, FAILED_HANDSHAKE);
    }

    /// Whether another version negotiation or stateless reset may be sent; counts it if so.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        let now = self.nanos(now);
        let may = self.stateless.has(now);
        if may {
            self.stateless.take(now, 1);
        }
        may
    }

    fn bucket(&mut self, has_token: bool) -> &mut Bucket {
        match has_token {
            true => &mut self.with_token,
            false => &mut self.strangers,
        }
    }

    /// Nanoseconds since the start: 584 years of them.
    #[inline]
    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_nanos() as u64
    }
}

/// So many a second, and a burst. Both are kept as times, in nanoseconds: a period of 0 is no bound.
#[derive(Debug, Clone, Copy)]
struct Rate {
    period: u64,
    burst: u64,
}

impl Rate {
    fn new(per_second: Option<u32>, burst: Duration) -> Self {
        let period = per_second.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        Self {
            period,
            burst: (burst.as_nanos() as u64).max(period),
        }
    }

    /// Whether a bucket that will be full at `full_at` holds a token at `now`.
    #[inline]
    fn has(&self, full_at: u64, now: u64) -> bool {
        full_at.saturating_add(self.period) <= now.saturating_add(self.burst)
    }

    /// When the bucket will be full if `tokens` are taken now.
    #[inline]
    fn after(&self, full_at: u64, now: u64, tokens: u64) -> u64 {
        let latest = now.saturating_add(self.burst + DEBT_MAX.as_nanos() as u64);
        let taken = full_at.max(now).saturating_add(tokens * self.period);
        taken.min(latest)
    }
}

/// A token bucket (as the generic cell rate algorithm has it: one number, the time at which the bucket will be full).
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    full_at: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, full_at: 0 }
    }

    #[inline]
    fn has(&self, now: u64) -> bool {
        self.rate.has(self.full_at, now)
    }

    fn take(&mut self, now: u64, tokens: u64) {
        self.full_at = self.rate.after(self.full_at, now, tokens);
    }
}

/// Token buckets by key, in a table of fixed size: each key has [`WAYS`] places, and a new one takes that of the bucket
/// that is nearest to full, which knows the least.
struct Table {
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
trait Key {
    fn write(&self, hasher: &mut DefaultHasher);
}

/// The first 64 bits of an IPv6 address: what one client has, at least.
#[derive(Debug, Clone, Copy)]
struct Prefix(u64);

fn prefix(remote: SocketAddrV6) -> Prefix {
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
    fn new(rate: Rate, buckets: usize, seed: u128) -> Self {
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
    fn take(&mut self, key: impl Key, now: u64) -> bool {
        let rate = self.rate;
        let (tag, set) = self.set(key);
        let slot = set.iter_mut().find(|slot| slot.tag == tag);
        slot.is_some_and(|slot| slot.take(rate, now))
    }

    /// The same; a key that is not known begins with a full bucket.
    fn take_or_begin(&mut self, key: impl Key, now: u64) -> bool {
        let rate = self.rate;
        self.slot(key, now).take(rate, now)
    }

    /// Gives a key a full bucket, unless it has one.
    fn begin(&mut self, key: impl Key, now: u64) {
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
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOBODY: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 0);
    const INITIAL: Claim = Claim::Initial { has_token: false };
    const WITH_TOKEN: Claim = Claim::Initial { has_token: true };

    fn client(prefix: u16, host: u16) -> SocketAddrV6 {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, prefix, 0, 0, 0, host);
        SocketAddrV6::new(address, 4_433, 0, 0)
    }

    fn limits() -> ShardLimits {
        ShardLimits {
            connections: 100,
            incoming: 10,
            retry_above: 5,
            handshakes_per_prefix: Some(3),
            strangers: Some(100),
            stateless: Some(20),
            ..ShardLimits::default()
        }
    }

    fn load(connections: usize, incoming: usize) -> Load {
        Load {
            connections,
            incoming,
            stopping: false,
        }
    }

    #[test]
    fn steps_come_in_order() {
        let now = Instant::now();
        let mut gate = Gate::new(&limits(), now, 1);
        let mut verdict = |load, proven| gate.verdict(now, load, client(1, 1), proven);
        let full = Verdict::Drop(Cause::IncomingFull);
        for proven in [false, true] {
            let stopping = Load {
                stopping: true,
                ..load(0, 10)
            };
            assert_eq!(verdict(stopping, proven), Verdict::Refuse);
            assert_eq!(verdict(load(100, 10), proven), full);
            assert_eq!(verdict(load(100, 9), proven), Verdict::Refuse);
        }
        assert_eq!(verdict(load(99, 5), false), Verdict::Retry);
        assert_eq!(verdict(load(99, 9), true), Verdict::Begin);
        assert_eq!(verdict(load(0, 4), false), Verdict::Begin);
        assert_eq!(verdict(load(0, 0), false), Verdict::Begin);
        // Three have begun.
        assert_eq!(verdict(load(0, 0), false), Verdict::Retry);
        let rate = Verdict::Drop(Cause::PrefixRate);
        assert_eq!(verdict(load(0, 0), true), rate);
        let mut other = |load, proven| gate.verdict(now, load, client(2, 1), proven);
        assert_eq!(other(load(0, 0), false), Verdict::Begin);
    }

    #[test]
    fn a_prefix_is_64_bits() {
        let now = Instant::now();
        let mut gate = Gate::new(&limits(), now, 1);
        let mut begin = |prefix, host| gate.verdict(now, load(0, 0), client(prefix, host), false);
        for host in 0..3 {
            assert_eq!(begin(1, host), Verdict::Begin);
        }
        assert_eq!(begin(1, 3), Verdict::Retry);
        assert_eq!(begin(0, 3), Verdict::Begin);
        let later = now + Duration::from_secs(1);
        for host in 0..3 {
            let verdict = gate.verdict(later, load(0, 0), client(1, host), false);
            assert_eq!(verdict, Verdict::Begin);
        }
    }

    #[test]
    fn strangers_without_a_token_do_not_take_it_from_those_with_one() {
        let mut now = Instant::now();
        let mut gate = Gate::new(&limits(), now, 1);
        for _ in 0..10 {
            assert_eq!(gate.check(now, INITIAL, NOBODY), Ok(()));
            gate.charge(now, false);
        }
        assert_eq!(gate.check(now, INITIAL, NOBODY), Err(Cause::Strangers));
        assert_eq!(gate.check(now, WITH_TOKEN, NOBODY), Ok(()));
        assert_eq!(gate.check(now, Claim::Packet, NOBODY), Ok(()));
        now += Duration::from_millis(10);
        assert_eq!(gate.check(now, INITIAL, NOBODY), Ok(()));
    }

    #[test]
    fn handshakes_in_flight_pass_an_empty_bucket_a_few_times() {
        let now = Instant::now();
        let mut gate = Gate::new(&limits(), now, 1);
        gate.begun(now, client(1, 1));
        gate.charge_handshake(now);
        assert_eq!(
            gate.check(now, INITIAL, client(1, 2)),
            Err(Cause::Strangers)
        );
        for _ in 0..INITIALS_OF_A_HANDSHAKE {
            assert_eq!(gate.check(now, INITIAL, client(1, 1)), Ok(()));
        }
        assert_eq!(
            gate.check(now, INITIAL, client(1, 1)),
            Err(Cause::Strangers)
        );
    }

    #[test]
    fn answers_have_a_rate() {
        let mut now = Instant::now();
        let mut gate = Gate::new(&limits(), now, 1);
        assert!(gate.may_answer(now) && gate.may_answer(now));
        assert!(!gate.may_answer(now));
        let rate = Err(Cause::StatelessRate);
        assert_eq!(gate.check(now, Claim::Version, NOBODY), rate);
        now += Duration::from_millis(50);
        assert_eq!(gate.check(now, Claim::Version, NOBODY), Ok(()));
        assert!(gate.may_answer(now) && !gate.may_answer(now));
        let interval = Gate::reset_interval(&limits());
        assert_eq!(interval, Duration::from_millis(50));
    }

    #[test]
    fn off_is_no_bound() {
        let now = Instant::now();
        let limits = ShardLimits {
            handshakes_per_prefix: None,
            strangers: None,
            stateless: None,
            ..limits()
        };
        let mut gate = Gate::new(&limits, now, 1);
        for _ in 0..100_000 {
            assert_eq!(gate.check(now, INITIAL, NOBODY), Ok(()));
            gate.charge_handshake(now);
            assert!(gate.may_answer(now));
            assert_eq!(gate.verdict(now, load(0, 0), NOBODY, false), Verdict::Begin);
        }
        assert_eq!(Gate::reset_interval(&limits), Duration::ZERO);
    }

    #[test]
    fn a_debt_is_bounded() {
        let mut bucket = Bucket::new(Rate::new(Some(10), BURST));
        for _ in 0..1_000 {
            bucket.take(0, FAILED_HANDSHAKE);
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
