//! From a datagram to the connection that it belongs to, or to a new one.

use std::net::IpAddr;

use poll::Datagram;
use quinn_proto::{DatagramEvent, EcnCodepoint, Incoming};

use super::classify::classify;
use super::core::{Core, mark};
use super::entry::any;
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
        self.handle(datagram);
    }

    /// Takes in what other shards handed over. It is not handed on, wherever its connection ID leads.
    pub(crate) fn take_over(&mut self) {
        for _ in 0..TAKE_OVER_MAX {
            let Some(datagram) = self.steering.as_ref().and_then(Steering::take) else {
                break;
            };
            self.counters.taken_over.add(1);
            self.handle(datagram);
        }
    }

    /// Finds whose a datagram is.
    fn handle(&mut self, datagram: Datagram) {
        let udp_port = datagram.path.local_udp_port;
        let mut endpoints = self.endpoints.iter_mut().enumerate();
        let found = endpoints.find(|(_, endpoint)| endpoint.udp_ports.contains(&udp_port));
        let Some((index, endpoint)) = found else {
            self.counters.dropped_unknown_udp_port.add(1);
            return;
        };
        let remote = any(datagram.path.remote);
        let local = Some(IpAddr::V6(datagram.path.local));
        let ecn = EcnCodepoint::from_bits(datagram.ecn as u8);
        let mut buffer = self.responses.buffer();
        let event =
            endpoint
                .quinn
                .handle(self.now, remote, local, ecn, datagram.payload, &mut buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                self.responses.recycle(buffer);
                let index = endpoint.routes.get(handle.0).copied().unwrap_or(u32::MAX);
                if let Some(entry) = self.entries.get_mut(index as usize) {
                    entry.quinn.handle_event(event);
                    entry.touched = true;
                    mark(&mut entry.dirty, &mut self.dirty, index);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.admit(index, udp_port, incoming, buffer);
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(udp_port, transmit, buffer),
            None => {
                self.counters.dropped_quic_ignored.add(1);
                self.responses.recycle(buffer);
            }
        }
    }

    /// Accepts a new connection, or answers why not.
    fn admit(&mut self, index: usize, udp_port: u16, incoming: Incoming, mut buffer: Vec<u8>) {
        let endpoint = &mut self.endpoints[index].quinn;
        let full =
            self.entries.len() >= self.limits.connections || self.incoming >= self.limits.incoming;
        if full || self.stopping {
            self.counters.connections_refused.add(1);
            let refusal = endpoint.refuse(incoming, &mut buffer);
            return self.respond(udp_port, refusal, buffer);
        }
        let unproven = !incoming.remote_address_validated() && incoming.may_retry();
        if self.incoming >= self.limits.retry_above && unproven {
            return match endpoint.retry(incoming, &mut buffer) {
                Ok(retry) => {
                    self.counters.retries.add(1);
                    self.respond(udp_port, retry, buffer);
                }
                Err(error) => {
                    self.counters.dropped_quic_ignored.add(1);
                    endpoint.ignore(error.into_incoming());
                    self.responses.recycle(buffer);
                }
            };
        }
        match endpoint.accept(incoming, self.now, &mut buffer, None) {
            Ok((handle, connection)) => {
                self.responses.recycle(buffer);
                self.counters.connections_accepted.add(1);
                self.incoming += 1;
                self.insert(index as u16, udp_port, handle, connection);
            }
            Err(error) => {
                self.counters.handshakes_failed.add(1);
                match error.response {
                    Some(response) => self.respond(udp_port, response, buffer),
                    None => self.responses.recycle(buffer),
                }
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
}
