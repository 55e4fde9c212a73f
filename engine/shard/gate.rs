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

use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use super::classify::Class;
use super::config::ShardLimits;
use super::rates::{Bucket, Rate, Table, prefix};

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
    /// Nothing is begun any more: the shard shuts down, or the listener was closed.
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
        let handshakes = Rate::one_a_second(INITIALS_OF_A_HANDSHAKE);
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
        Rate::new(limits.stateless, BURST).period()
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

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
}
