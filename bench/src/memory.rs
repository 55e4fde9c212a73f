//! Two transports joined in memory on one thread, each charged for what it costs.
//!
//! A turn is that of a worker: up to 32 datagrams are received, up to 32 are sent. What stands between the two ends,
//! copying a datagram into memory of its own, belongs to neither and is not charged.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use poll::{Datagram, Ecn, Path, Transport};

/// Longest time until a transfer begins: handshake and MTU discovery.
const WARM_UP_MAX: Duration = Duration::from_secs(5);
/// Time that is left out after that: caches and the congestion window.
const SETTLE: Duration = Duration::from_millis(100);
/// Turns between two looks at the end of a run.
const TURNS: u32 = 16;

/// Datagrams received, and sent, in one turn.
pub const BURST: usize = 32;

/// A transport that takes part in a transfer without end.
pub trait Bulk: Transport {
    /// Stream bytes received.
    fn received(&self) -> u64;
    /// Whether it has begun to send, on a path whose MTU has been found.
    fn is_sending(&self) -> bool;
    /// QUIC packets it declared lost; any at all spoils a measurement.
    fn lost_packets(&self) -> u64;
}

/// Something that grows while code runs, and is charged to who ran.
pub trait Meter {
    /// Its value now.
    fn read(&self) -> u64;
}

/// Nanoseconds.
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts at 0.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter for Clock {
    #[inline]
    fn read(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// What one end has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Charge {
    /// By the meter, turns in which nothing was moved left out.
    pub cost: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
}

/// One end: a transport and its side of the wire.
pub struct End<T> {
    /// What receives and sends.
    pub transport: T,
    /// What it has cost so far.
    pub charge: Charge,
    address: SocketAddrV6,
    inbox: Vec<Datagram>,
    slots: Vec<Vec<u8>>,
    filled: Vec<(usize, Ecn)>,
}

impl<T: Transport> End<T> {
    fn new(transport: T, address: SocketAddrV6, udp_payload_max: usize) -> Self {
        Self {
            transport,
            charge: Charge::default(),
            address,
            inbox: Vec::with_capacity(BURST),
            slots: (0..BURST)
                .map(|_| Vec::with_capacity(udp_payload_max))
                .collect(),
            filled: Vec::with_capacity(BURST),
        }
    }

    fn turn(&mut self, meter: &impl Meter) {
        let now = Instant::now();
        let before = meter.read();
        let received = self.inbox.len();
        for datagram in self.inbox.drain(..) {
            self.transport.receive(now, datagram);
        }
        self.transport.advance(now);
        for slot in &mut self.slots {
            slot.clear();
            match self.transport.transmit(now, slot, 1) {
                Some(transmit) => self.filled.push((transmit.size, transmit.ecn)),
                None => break,
            }
        }
        // A worker asks in every turn.
        let _ = self.transport.timeout();
        let after = meter.read();
        if received + self.filled.len() > 0 {
            self.charge.cost += after - before;
            self.charge.received += received as u64;
            self.charge.sent += self.filled.len() as u64;
        }
    }

    fn deliver<U: Transport>(&mut self, to: &mut End<U>) {
        let path = Path {
            remote: self.address,
            local: *to.address.ip(),
            local_udp_port: to.address.port(),
        };
        for (slot, (size, ecn)) in self.slots.iter().zip(self.filled.drain(..)) {
            let payload = BytesMut::from(&slot[..size]);
            to.inbox.push(Datagram { path, ecn, payload });
        }
    }
}

/// Two ends and the wire between them.
pub struct Pair<A, B> {
    /// One end, at [`LEFT`].
    pub left: End<A>,
    /// The other, at [`RIGHT`].
    pub right: End<B>,
}

/// Where the left end of every pair is.
pub const LEFT: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1), 4433, 0, 0);
/// Where the right end of every pair is.
pub const RIGHT: SocketAddrV6 = SocketAddrV6::new(
    Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2),
    50_000,
    0,
    0,
);

impl<A: Transport, B: Transport> Pair<A, B> {
    /// Joins two transports at [`LEFT`] and [`RIGHT`], over a wire that carries datagrams of `udp_payload_max` bytes.
    pub fn new(left: A, right: B, udp_payload_max: u16) -> Self {
        let udp_payload_max = usize::from(udp_payload_max);
        Self {
            left: End::new(left, LEFT, udp_payload_max),
            right: End::new(right, RIGHT, udp_payload_max),
        }
    }

    /// One turn of each end.
    pub fn turn(&mut self, meter: &impl Meter) {
        self.left.turn(meter);
        self.left.deliver(&mut self.right);
        self.right.turn(meter);
        self.right.deliver(&mut self.left);
    }

    /// Turns for about `duration`.
    pub fn run(&mut self, meter: &impl Meter, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            for _ in 0..TURNS {
                self.turn(meter);
            }
        }
    }

    /// Forgets what was charged.
    pub fn reset(&mut self) {
        self.left.charge = Charge::default();
        self.right.charge = Charge::default();
    }
}

impl<A: Bulk, B: Bulk> Pair<A, B> {
    /// Turns until the right end, the sender, is at full speed.
    ///
    /// # Errors
    /// It does not get there, because the connection does not come up or does not reach the path's MTU.
    pub fn warm_up(&mut self, meter: &impl Meter) -> Result<(), String> {
        let start = Instant::now();
        while !self.right.transport.is_sending() {
            if start.elapsed() > WARM_UP_MAX {
                return Err(format!("nothing was sent within {WARM_UP_MAX:?}"));
            }
            self.turn(meter);
        }
        self.run(meter, SETTLE);
        self.reset();
        Ok(())
    }
}
