//! The most memory that the limits allow, besides the packet pools.

use serde::Serialize;

use super::port::PortPlan;
use super::settings::LimitsPlan;
use super::shard::ShardPlan;
use super::transport::TransportPlan;

/// State of a connection without streams and data, bytes: QUIC and TLS, roughly.
const CONNECTION: u64 = 32 << 10;
/// State of an open stream without its data, bytes, roughly.
const STREAM: u64 = 512;
/// A neighbour in the cache, bytes, roughly.
const NEIGHBOUR: u64 = 128;
/// A stateless reply, bytes: a version negotiation, the longest, lists two connection IDs and a few versions.
const RESPONSE: u64 = 1200;

/// Bytes on the heap if everything that `limits` bound were full at once, summed over shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WorstCase {
    /// State, receive and send windows and unreliable datagrams of all connections.
    pub connections: u64,
    /// State of all streams that peers may open.
    pub streams: u64,
    /// Data that arrived before its connection was accepted.
    pub incoming: u64,
    /// Datagrams on their way from one shard to another.
    pub handover: u64,
    /// Neighbours, datagrams that wait for their MAC addresses, stateless replies.
    pub network: u64,
    /// All of these.
    pub total: u64,
}

pub(super) fn plan(
    ports: &[PortPlan],
    shards: &[ShardPlan],
    limits: &LimitsPlan,
    transport: &TransportPlan,
) -> WorstCase {
    let shard_count = shards.len() as u64;
    let connections = u64::from(limits.connections).saturating_mul(shard_count);
    let connection = CONNECTION
        .saturating_add(transport.receive_window)
        .saturating_add(transport.send_window)
        .saturating_add(transport.datagram_buffer.saturating_mul(2));
    let streams = u64::from(transport.bidi_streams) + u64::from(transport.uni_streams);
    let payload = |shard: &ShardPlan| u64::from(ports[shard.port].udp_payload_max);
    let on_steered = |shard: &&ShardPlan| ports[shard.port].queues > 1;
    let neighbours = u64::from(limits.neighbours) * NEIGHBOUR;
    let responses = u64::from(limits.responses) * RESPONSE;
    let mut worst = WorstCase {
        connections: connections.saturating_mul(connection),
        streams: connections.saturating_mul(streams * STREAM),
        incoming: limits.incoming_bytes.saturating_mul(shard_count),
        handover: shards
            .iter()
            .filter(on_steered)
            .map(|shard| u64::from(limits.handover) * payload(shard))
            .sum(),
        network: shards
            .iter()
            .map(|shard| {
                u64::from(limits.waiting_datagrams) * payload(shard) + neighbours + responses
            })
            .sum(),
        total: 0,
    };
    worst.total = [
        worst.connections,
        worst.streams,
        worst.incoming,
        worst.handover,
        worst.network,
    ]
    .into_iter()
    .fold(0, u64::saturating_add);
    worst
}
