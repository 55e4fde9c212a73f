//! A flood of Initial packets at a rate, as the control thread and the flooder share it; and the flooder of the engine.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use poll::{BURST_DEFAULT, Datagram, Ecn, Transmit, Transport};
use stoq::shard::Shard;

use crate::memory::{LEFT, RIGHT};

/// The UDP port that nobody listens on (RFC 863: discard).
pub const DEAD_UDP_PORT: u16 = 9;
/// Addresses that a flood comes from, each in a /64 of its own.
pub const SOURCES: u16 = 64;
/// The rate of a flood without a limit.
pub const UNLIMITED: u64 = u64::MAX;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FloodKind {
    /// Nothing.
    Off,
    /// Valid Initials to a UDP port that nobody serves: what the flood itself costs its sender and the path.
    Dead,
    /// Initials that cannot be decrypted.
    Invalid,
    /// Initials that begin a handshake.
    Valid,
}

impl FloodKind {
    /// For tables.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Off => "no flood",
            Self::Dead => "to nobody",
            Self::Invalid => "invalid",
            Self::Valid => "valid",
        }
    }

    fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Dead,
            2 => Self::Invalid,
            3 => Self::Valid,
            _ => Self::Off,
        }
    }
}

/// A flood that can be switched.
#[derive(Debug, Default)]
pub struct Flood {
    kind: AtomicU8,
    rate: AtomicU64,
    /// Datagrams sent.
    pub sent: AtomicU64,
    /// Valid Initials.
    pub valid: Vec<Vec<u8>>,
    /// Those that cannot be decrypted.
    pub invalid: Vec<Vec<u8>>,
}

impl Flood {
    /// A flood of these datagrams that is off.
    pub fn new(valid: Vec<Vec<u8>>, invalid: Vec<Vec<u8>>) -> Self {
        Self {
            valid,
            invalid,
            ..Self::default()
        }
    }

    /// Sends `kind` from now on, `rate` datagrams a second or [`UNLIMITED`].
    pub fn switch(&self, kind: FloodKind, rate: u64) {
        self.kind.store(kind as u8, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// What is to be sent now.
    #[inline]
    pub fn order(&self) -> (FloodKind, u64) {
        let kind = FloodKind::from_bits(self.kind.load(Ordering::Relaxed));
        (kind, self.rate.load(Ordering::Relaxed))
    }

    /// The datagram number `n` of `kind`.
    pub fn datagram(&self, kind: FloodKind, n: u64) -> Option<&[u8]> {
        let datagrams = match kind {
            FloodKind::Off => return None,
            FloodKind::Invalid => &self.invalid,
            FloodKind::Dead | FloodKind::Valid => &self.valid,
        };
        let index = n.checked_rem(datagrams.len() as u64)?;
        datagrams.get(index as usize).map(Vec::as_slice)
    }
}

/// How many datagrams are due at a rate, looked at now and then.
#[derive(Debug)]
pub struct Allowance {
    last: Instant,
    due: f64,
}

impl Allowance {
    /// Counts from `now` on.
    pub fn new(now: Instant) -> Self {
        Self {
            last: now,
            due: 0.0,
        }
    }

    /// Datagrams that may be sent now, `max` at most; what was due before and not sent is forgotten beyond that.
    pub fn take(&mut self, now: Instant, rate: u64, max: usize) -> usize {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        if rate == UNLIMITED {
            return max;
        }
        self.due = (self.due + elapsed * rate as f64).min(max as f64);
        let whole = self.due.floor();
        self.due -= whole;
        whole as usize
    }
}

/// The address a flood of number `n` comes from.
pub fn source(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x6666, 0, n, 0, 0, 0, 1)
}

/// What stands on the queue pairs of the benchmark: a shard, on the client's side perhaps with a flooder beside it.
/// Lanes of one worker have one type.
pub struct Node {
    /// The shard.
    pub shard: Shard,
    /// The flooder, which sends what room the shard leaves in a burst.
    pub flooder: Option<Flooder>,
}

/// Sends a flood's datagrams to [`LEFT`] from many addresses and UDP ports.
pub struct Flooder {
    flood: Arc<Flood>,
    allowance: Allowance,
    kind: FloodKind,
    /// May be sent in this turn.
    left: usize,
    /// The shard has nothing more to send in this turn.
    shard_done: bool,
    sent: u64,
}

impl Flooder {
    /// A flooder that obeys `flood`.
    pub fn new(flood: Arc<Flood>) -> Self {
        Self {
            flood,
            allowance: Allowance::new(Instant::now()),
            kind: FloodKind::Off,
            left: 0,
            shard_done: false,
            sent: 0,
        }
    }

    fn begin_turn(&mut self, now: Instant) {
        let (kind, rate) = self.flood.order();
        self.kind = kind;
        self.shard_done = false;
        self.left = match kind {
            FloodKind::Off => 0,
            _ => self.allowance.take(now, rate, BURST_DEFAULT),
        };
    }

    #[inline]
    fn transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.left = self.left.checked_sub(1)?;
        let datagram = self.flood.datagram(self.kind, self.sent)?;
        buf.extend_from_slice(datagram);
        let size = datagram.len();
        self.sent += 1;
        self.flood.sent.store(self.sent, Ordering::Relaxed);
        let udp_port = match self.kind {
            FloodKind::Dead => DEAD_UDP_PORT,
            _ => LEFT.port(),
        };
        Some(Transmit {
            destination: SocketAddrV6::new(*LEFT.ip(), udp_port, 0, 0),
            // Each for a burst or so: the host remembers one route to a destination.
            source: Some(source((self.sent / BURST_DEFAULT as u64) as u16 % SOURCES)),
            source_udp_port: 1024 + (self.sent.wrapping_mul(40_503) % 40_000) as u16,
            ecn: Ecn::NotEct,
            size,
            segment_size: None,
            departure: None,
        })
    }
}

impl Transport for Node {
    #[inline]
    fn receive(&mut self, now: Instant, datagram: Datagram) {
        self.shard.receive(now, datagram);
    }

    #[inline]
    fn advance(&mut self, now: Instant) {
        if let Some(flooder) = &mut self.flooder {
            flooder.begin_turn(now);
        }
        self.shard.advance(now);
    }

    #[inline]
    fn transmit(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        segments_max: usize,
    ) -> Option<Transmit> {
        let Some(flooder) = &mut self.flooder else {
            return self.shard.transmit(now, buf, segments_max);
        };
        if !flooder.shard_done {
            if let Some(transmit) = self.shard.transmit(now, buf, segments_max) {
                return Some(transmit);
            }
            flooder.shard_done = true;
        }
        flooder.transmit(buf)
    }

    fn timeout(&mut self) -> Option<Instant> {
        self.shard.timeout()
    }

    fn is_drained(&self) -> bool {
        self.shard.is_drained()
    }

    fn stop(&mut self, now: Instant) {
        if let Some(flooder) = &self.flooder {
            flooder.flood.switch(FloodKind::Off, 0);
        }
        self.shard.stop(now);
    }
}

/// Addresses of a client's host that floods, the first its own.
pub fn addresses() -> Vec<Ipv6Addr> {
    std::iter::once(*RIGHT.ip())
        .chain((0..SOURCES).map(source))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_allowance_keeps_its_rate_in_any_steps() {
        let start = Instant::now();
        for step in [7, 100, 1_000] {
            let mut allowance = Allowance::new(start);
            let turns = 1_000_000 / step;
            let sent: usize = (1..=turns)
                .map(|n| allowance.take(start + Duration::from_micros(n * step), 10_000, 32))
                .sum();
            assert!(
                (9_990..=10_000).contains(&sent),
                "{sent} in steps of {step} us"
            );
        }
    }

    #[test]
    fn a_late_flooder_does_not_make_up_for_it() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let late = start + Duration::from_secs(1);
        assert_eq!(allowance.take(late, 1_000_000, 32), 32);
        assert_eq!(allowance.take(late, 1_000_000, 32), 0);
        assert_eq!(allowance.take(late, UNLIMITED, 32), 32);
    }

    #[test]
    fn a_flood_sends_what_it_is_told() {
        let flood = Flood::new(vec![vec![1], vec![2]], vec![vec![3]]);
        assert_eq!(flood.order().0, FloodKind::Off);
        assert_eq!(flood.datagram(FloodKind::Off, 0), None);
        assert_eq!(flood.datagram(FloodKind::Dead, 3), Some(&[2][..]));
        assert_eq!(flood.datagram(FloodKind::Invalid, 3), Some(&[3][..]));
        for kind in [FloodKind::Dead, FloodKind::Invalid, FloodKind::Valid] {
            flood.switch(kind, 5);
            assert_eq!(flood.order(), (kind, 5));
        }
    }
}
