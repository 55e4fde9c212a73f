//! From a datagram to the connection that it belongs to, or to a new one.

use std::net::IpAddr;

use poll::profile::{Stage, enter, within};
use poll::{Datagram, Path};
use quinn_proto::{DatagramEvent, EcnCodepoint, Incoming};

use super::classify::classify;
use super::core::{Core, mark};
use super::entry::any;
use super::gate::{Cause, Claim, Load, Verdict};
use super::transmit::outgoing;
use crate::steering::Steering;

/// Datagrams that a shard takes over from others in a turn, at most: two bursts. What is left waits for the next turn.
const TAKE_OVER_MAX: usize = 64;

impl Core {
    /// Takes in a datagram that arrived on the queue of this shard.
    pub(crate) fn receive(&mut self, datagram: Datagram) {
        self.counters.udp_received.add(1);
        let class = classify(&datagram.payload, self.cid_len);
        if let Some(steering) = &self.steering
            && let Some(shard) = class.dcid().and_then(|dcid| steering.elsewhere(dcid))
        {
            match steering.hand_over(shard, datagram) {
                Ok(()) => self.counters.handed_over.add(1),
                Err(_) => self.counters.dropped_handover_full.add(1),
            }
            return;
        }
        let claim = Claim::of(&class);
        self.handle(datagram, claim);
    }

    /// Takes in what other shards handed over. It is not handed on, wherever its connection ID leads.
    pub(crate) fn take_over(&mut self) {
        for _ in 0..TAKE_OVER_MAX {
            let Some(datagram) = self.steering.as_ref().and_then(Steering::take) else {
                break;
            };
            self.counters.taken_over.add(1);
            let claim = Claim::of(&classify(&datagram.payload, self.cid_len));
            self.handle(datagram, claim);
        }
    }

    /// Finds whose a datagram is.
    fn handle(&mut self, datagram: Datagram, claim: Claim) {
        let Path {
            remote,
            local,
            local_udp_port: udp_port,
        } = datagram.path;
        let mut endpoints = self.endpoints.iter_mut().enumerate();
        let found = endpoints.find(|(_, endpoint)| endpoint.udp_ports.contains(&udp_port));
        let Some((index, endpoint)) = found else {
            self.counters.dropped_unknown_udp_port.add(1);
            return;
        };
        // Clients are sent Initials by their servers, and quinn-proto opens none of anybody else.
        let claim = match endpoint.services.is_empty() {
            true => Claim::Packet,
            false => claim,
        };
        if let Err(cause) = self.gate.check(self.now, claim, remote) {
            return self.turn_away(cause);
        }
        let ecn = EcnCodepoint::from_bits(datagram.ecn as u8);
        let mut buffer = self.responses.buffer();
        let event = within(Stage::ProtocolReceive, || {
            endpoint.quinn.handle(
                self.now,
                any(remote),
                Some(IpAddr::V6(local)),
                ecn,
                datagram.payload,
                &mut buffer,
            )
        });
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                self.responses.recycle(buffer);
                let index = endpoint.routes.get(handle.0).copied().unwrap_or(u32::MAX);
                let Some(entry) = self.entries.get_mut(index as usize) else {
                    self.counters.dropped_quic_ignored.add(1);
                    return;
                };
                // quinn-proto counts a datagram for the address it answers to, wherever it came from: an attacker could
                // raise what a server may send to a victim (RFC 9000 §8.1). Nobody moves so early (§9).
                if entry.is_incoming() && entry.has_moved(remote) {
                    self.counters.dropped_handshake_moved.add(1);
                    return;
                }
                self.counters.udp_to_connections.add(1);
                within(Stage::ProtocolReceive, || entry.quinn.handle_event(event));
                entry.touched = true;
                mark(&mut entry.dirty, &mut self.dirty, index);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let has_token = claim == Claim::Initial { has_token: true };
                let admitted = self.admit(index, datagram.path, incoming, buffer);
                if !admitted {
                    self.gate.charge(self.now, has_token);
                }
            }
            Some(DatagramEvent::Response(transmit)) => match claim {
                Claim::Initial { has_token } => {
                    self.gate.charge(self.now, has_token);
                    self.respond(udp_port, transmit, buffer);
                }
                Claim::Packet | Claim::Version if self.gate.may_answer(self.now) => {
                    self.respond(udp_port, transmit, buffer);
                }
                Claim::Packet | Claim::Version => {
                    self.responses.recycle(buffer);
                    self.turn_away(Cause::StatelessRate);
                }
            },
            None => {
                if let Claim::Initial { has_token } = claim {
                    self.gate.charge(self.now, has_token);
                }
                self.ignored(buffer);
            }
        }
    }

    /// Accepts a new connection, or not, as the gate says. False when a stranger's attempt led to nothing.
    fn admit(&mut self, index: usize, path: Path, incoming: Incoming, mut buffer: Vec<u8>) -> bool {
        let udp_port = path.local_udp_port;
        let load = Load {
            connections: self.entries.len(),
            incoming: self.incoming,
            stopping: self.stopping || self.endpoints[index].closed,
        };
        let proven = incoming.remote_address_validated();
        let verdict = self.gate.verdict(self.now, load, path.remote, proven);
        let endpoint = &mut self.endpoints[index].quinn;
        match verdict {
            Verdict::Begin => {}
            Verdict::Retry => {
                match endpoint.retry(incoming, &mut buffer) {
                    Ok(retry) => {
                        self.counters.retries.add(1);
                        self.respond(udp_port, retry, buffer);
                    }
                    // Only for proven addresses, of which no proof is asked.
                    Err(error) => {
                        endpoint.ignore(error.into_incoming());
                        self.ignored(buffer);
                    }
                }
                return false;
            }
            Verdict::Refuse => {
                self.counters.connections_refused.add(1);
                let refusal = endpoint.refuse(incoming, &mut buffer);
                self.respond(udp_port, refusal, buffer);
                return false;
            }
            Verdict::Drop(cause) => {
                endpoint.ignore(incoming);
                self.responses.recycle(buffer);
                self.turn_away(cause);
                return false;
            }
        }
        let outer = enter(Stage::ProtocolReceive);
        let accepted = endpoint.accept(incoming, self.now, &mut buffer, None);
        enter(outer);
        match accepted {
            Ok((handle, connection)) => {
                self.responses.recycle(buffer);
                self.counters.connections_accepted.add(1);
                self.incoming += 1;
                self.gate.begun(self.now, path.remote);
                let streams = self.endpoints[index].streams;
                self.insert(index as u16, udp_port, handle, connection, streams);
                true
            }
            Err(error) => {
                match error.response {
                    // It began, and failed with its first packet.
                    Some(response) => {
                        self.counters.handshakes_failed.add(1);
                        self.gate.charge_handshake(self.now);
                        self.respond(udp_port, response, buffer);
                    }
                    None => self.ignored(buffer),
                }
                false
            }
        }
    }

    fn respond(&mut self, udp_port: u16, transmit: quinn_proto::Transmit, buffer: Vec<u8>) {
        let response = outgoing(&transmit, udp_port);
        match self.responses.push(response, buffer) {
            true => self.counters.responses.add(1),
            false => self.counters.dropped_response_queue_full.add(1),
        }
    }

    fn ignored(&mut self, buffer: Vec<u8>) {
        self.counters.dropped_quic_ignored.add(1);
        self.responses.recycle(buffer);
    }

    fn turn_away(&self, cause: Cause) {
        let counters = &self.counters;
        let counter = match cause {
            Cause::Strangers => &counters.dropped_strangers,
            Cause::StatelessRate => &counters.dropped_stateless_rate,
            Cause::IncomingFull => &counters.dropped_incoming_full,
            Cause::PrefixRate => &counters.dropped_prefix_rate,
        };
        counter.add(1);
    }
}
