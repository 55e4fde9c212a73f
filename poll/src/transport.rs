//! The seam between packet I/O and what sits on it: one trait, three verbs.
//!
//! A [`Transport`] is a state machine. It is handed UDP datagrams, asked for datagrams to send while there is room to
//! send them, and asked when it next wants to run. It does no I/O and reads no clock: `now` is always an argument, so
//! the same transport runs on a poll-mode driver and under a virtual clock in a test.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use bytes::BytesMut;

/// Explicit congestion notification bits of an IPv6 header (RFC 3168 §5), the low two bits of the traffic class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Ecn {
    /// The sender does not take part.
    #[default]
    NotEct = 0b00,
    /// ECN-capable transport, codepoint 1.
    Ect1 = 0b01,
    /// ECN-capable transport, codepoint 0.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The codepoint in the low two bits of `traffic_class`.
    pub const fn from_bits(traffic_class: u8) -> Self {
        match traffic_class & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// Where a datagram came from and which of our addresses it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The sender.
    pub remote: SocketAddrV6,
    /// The address of ours that the datagram was sent to.
    pub local: Ipv6Addr,
    /// The UDP port of ours that the datagram was sent to.
    pub local_udp_port: u16,
}

/// A received UDP payload.
#[derive(Debug)]
pub struct Datagram {
    /// From where, to where.
    pub path: Path,
    /// ECN bits of the IPv6 header.
    pub ecn: Ecn,
    /// The payload. It may be packet memory: dropping the last slice of it gives the mbuf back to its pool.
    pub payload: BytesMut,
}

/// A datagram to send, or several of one size to one receiver; the payload is in the buffer that was lent to
/// [`Transport::transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The receiver.
    pub destination: SocketAddrV6,
    /// The address to send from; `None` leaves the choice to the host.
    pub source: Option<Ipv6Addr>,
    /// The UDP port to send from.
    pub source_udp_port: u16,
    /// ECN bits to set.
    pub ecn: Ecn,
    /// Bytes written to the lent buffer: 1 to its capacity.
    pub size: usize,
    /// With several datagrams in the buffer, the bytes of each, more than 0; the last one may be shorter. `None`: it is
    /// one datagram.
    pub segment_size: Option<u16>,
    /// The earliest instant at which it may leave; `None`: at once. Whoever asks for one has seen that the port
    /// [sends on time](crate::offload::Offloads::pacing).
    pub departure: Option<Instant>,
}

impl Transmit {
    /// Bytes of its largest datagram.
    #[inline]
    pub fn datagram_size(&self) -> usize {
        match self.segment_size {
            Some(size) => usize::from(size).min(self.size),
            None => self.size,
        }
    }

    /// Datagrams in the buffer.
    #[inline]
    pub fn datagrams(&self) -> usize {
        match self.segment_size {
            Some(size) => self.size.div_ceil(usize::from(size).max(1)),
            None => 1,
        }
    }
}

/// What sits on a queue pair: it receives datagrams, fills buffers with datagrams to send, and has a next deadline.
///
/// The worker calls, in each turn and always with the same `now`: [`receive`](Self::receive) for each datagram of the
/// burst, [`advance`](Self::advance) once, [`transmit`](Self::transmit) until it returns `None` or the burst is full,
/// and [`timeout`](Self::timeout) once, to learn how long it may idle.
pub trait Transport {
    /// Takes a received datagram. Nothing is sent from here; a reply waits for [`transmit`](Self::transmit).
    fn receive(&mut self, now: Instant, datagram: Datagram);

    /// Runs what is due at `now`: timers, events, applications. Called in each turn, before datagrams are asked for, and
    /// also when there is no room to send any, so that a device that takes no frames does not stop the rest. An idle lane
    /// has a turn every [`SLEEP_MAX`](crate::SLEEP_MAX) at least, so what other threads left for the transport may wait
    /// for this call; with more left than one call takes, [`timeout`](Self::timeout) asks for the next turn.
    fn advance(&mut self, _now: Instant) {}

    /// Writes the next datagram into `buf`, or up to `segments_max` of the same size to the same receiver, one behind
    /// the other; the last may be shorter.
    ///
    /// `buf` is empty and has room for `segments_max` of the largest UDP payloads that the port can send, at least. An
    /// implementation must not need to grow it: what outgrew it is dropped and counted. `segments_max` is 1 where the
    /// device does not segment.
    fn transmit(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        segments_max: usize,
    ) -> Option<Transmit>;

    /// When [`transmit`](Self::transmit) wants to be called next, even if nothing is received until then. An instant
    /// in the past asks for the next turn; `None` waits for a datagram.
    fn timeout(&mut self) -> Option<Instant>;

    /// True when there is nothing left to do and the worker may end: asked after a stop was requested.
    fn is_drained(&self) -> bool {
        true
    }

    /// A stop was requested: begin to close, and become [drained](Self::is_drained) within a bounded time.
    fn stop(&mut self, _now: Instant) {}
}
