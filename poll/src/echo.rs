//! The smallest transport: it sends back what it receives. It tests and measures packet I/O without QUIC above it.

use std::collections::VecDeque;
use std::time::Instant;

use crate::transport::{Datagram, Transmit, Transport};

/// Sends every datagram back to where it came from.
#[derive(Debug)]
pub struct Echo {
    waiting: VecDeque<Datagram>,
    waiting_max: usize,
    dropped: u64,
}

impl Echo {
    /// An echo that holds at most `waiting_max` datagrams; further ones are dropped and counted.
    pub fn new(waiting_max: usize) -> Self {
        Self {
            waiting: VecDeque::with_capacity(waiting_max),
            waiting_max,
            dropped: 0,
        }
    }

    /// Datagrams dropped because too many waited, or because they did not fit the buffer to send from.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Transport for Echo {
    fn receive(&mut self, _now: Instant, datagram: Datagram) {
        if self.waiting.len() < self.waiting_max {
            self.waiting.push_back(datagram);
        } else {
            self.dropped += 1;
        }
    }

    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        while let Some(Datagram { path, ecn, payload }) = self.waiting.pop_front() {
            if payload.is_empty() || payload.len() > buf.capacity() {
                self.dropped += 1;
                continue;
            }
            buf.extend_from_slice(&payload);
            return Some(Transmit {
                destination: path.remote,
                source: Some(path.local),
                source_udp_port: path.local_udp_port,
                ecn,
                size: payload.len(),
                segment_size: None,
                departure: None,
            });
        }
        None
    }

    fn timeout(&mut self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use bytes::BytesMut;

    use super::*;
    use crate::transport::{Ecn, Path};

    fn datagram(payload: &[u8]) -> Datagram {
        Datagram {
            path: Path {
                remote: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 0, 0),
                local: Ipv6Addr::UNSPECIFIED,
                local_udp_port: 9,
            },
            ecn: Ecn::Ect0,
            payload: BytesMut::from(payload),
        }
    }

    #[test]
    fn sends_back_in_order_and_drops_what_it_cannot() {
        let now = Instant::now();
        let mut echo = Echo::new(3);
        for payload in [&b"first"[..], &[0; 100], b"second", b"one too many"] {
            echo.receive(now, datagram(payload));
        }
        assert_eq!(echo.dropped(), 1);
        let mut buf = Vec::with_capacity(64);
        let first = echo.transmit(now, &mut buf, 1).unwrap();
        assert_eq!((first.size, &buf[..]), (5, &b"first"[..]));
        assert_eq!((first.destination.port(), first.source_udp_port), (7, 9));
        buf.clear();
        assert!(echo.transmit(now, &mut buf, 1).is_some());
        assert_eq!(buf, b"second");
        buf.clear();
        assert_eq!(echo.transmit(now, &mut buf, 1), None);
        assert_eq!(
            echo.dropped(),
            2,
            "the one that did not fit the buffer was counted"
        );
    }
}
