//! Fair turns: whose datagram is built next.

use poll::profile::{Stage, within};
use poll::{Ecn, Transmit};

use super::core::{Core, mark};
use super::entry::{source, v6};

impl Core {
    /// Builds the next datagram of the connection whose turn it is.
    ///
    /// A connection has the turn until it has nothing to send (or must wait for acknowledgements, credit or its
    /// pacer), or has used up its budget and stands at the end again. So each of n ready connections waits for at most
    /// (n - 1) × `turn_budget` datagrams.
    #[inline]
    pub(crate) fn transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        while let Some(&index) = self.ready.front() {
            let Some(entry) = self.entries.get_mut(index as usize) else {
                self.ready.pop_front();
                continue;
            };
            let built = within(Stage::ProtocolTransmit, || {
                entry.quinn.poll_transmit(self.now, 1, buf)
            });
            match built {
                Some(transmit) => {
                    entry.turn += 1;
                    let mut transmit = outgoing(&transmit, entry.udp_port);
                    transmit.source = transmit.source.or(entry.source);
                    if entry.turn >= self.limits.turn_budget {
                        self.end_turn();
                    }
                    return Some(transmit);
                }
                None => self.end_turn(),
            }
        }
        None
    }

    /// Ends the turn of the first connection in line.
    fn end_turn(&mut self) {
        let Some(index) = self.ready.pop_front() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        let sent = std::mem::take(&mut entry.turn);
        if let Some(at) = entry.quinn.poll_timeout() {
            self.timers.no_later_than(index, at);
        }
        if sent > 0 {
            // Building packets can make events, too: datagrams unblocked, keys worn out.
            mark(&mut entry.dirty, &mut self.dirty, index);
        }
        if sent >= self.limits.turn_budget {
            self.ready.push_back(index);
            return;
        }
        entry.ready = false;
        if entry.drained {
            self.remove(index);
        }
    }
}

/// What the worker has to know of a datagram that quinn-proto built.
#[inline]
pub(super) fn outgoing(transmit: &quinn_proto::Transmit, source_udp_port: u16) -> Transmit {
    Transmit {
        destination: v6(transmit.destination),
        source: source(transmit.src_ip),
        source_udp_port,
        ecn: transmit
            .ecn
            .map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8)),
        size: transmit.size,
    }
}
