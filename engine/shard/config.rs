//! What a shard is made of.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::counters::ShardCounters;
use crate::app::NewApplication;
use crate::steering::{ClientPorts, Steering};
use crate::transport::StreamLimits;

/// Everything a shard needs; [`Shard::new`](super::Shard::new) checks it. It may come from another thread, which the
/// shard cannot: applications are made with it.
pub struct ShardConfig {
    /// Seeds the randomness of QUIC, so that a simulation repeats (TLS keys and nonces stay random). `None` in
    /// production.
    pub seed: Option<u64>,
    /// The bounds.
    pub limits: ShardLimits,
    /// The largest UDP payload that the port receives, in bytes: its IP MTU less 48. 1200 to 65,527.
    pub udp_payload_max: u16,
    /// UDP ports that accept connections.
    pub listeners: Vec<ListenerConfig>,
    /// The UDP ports of outgoing connections. Without `clients` and `agents` none is used.
    pub client_ports: ClientPorts,
    /// Applications that open connections, and have work that ends.
    pub clients: Vec<NewApplication>,
    /// Applications that open connections and listen as somebody else tells them to: no run ends with them.
    pub agents: Vec<NewApplication>,
    /// The connection IDs of this shard, and its way to the other shards of the port. `None` for a shard that is alone
    /// on its port: connection IDs are quinn-proto's, 8 bytes that name nothing.
    pub steering: Option<Steering>,
    /// What stateless reset tokens are made from (RFC 9000 §10.3.2). The same for all shards that datagrams of a
    /// connection may reach, and after a restart if peers of the process before shall learn that it is gone.
    pub reset_key: [u8; 32],
    /// The device sends a frame when it is told to ([`Transmit::departure`](poll::Transmit)): the pacer's bursts are built
    /// somewhat ahead of their time. Elsewhere they are built when their time has come.
    pub paced_by_device: bool,
    /// How long a shutdown may wait for streams in use.
    pub drain_timeout: Duration,
    /// Where to count.
    pub counters: Arc<ShardCounters>,
}

/// A UDP port that accepts connections.
pub struct ListenerConfig {
    /// The UDP port, not 0.
    pub udp_port: u16,
    /// Streams that a client may have open, when the transport settings of `server` have limits of their own; `None`:
    /// those of the shard.
    pub streams: Option<StreamLimits>,
    /// TLS and transport settings. Its list of protocols must be that of `services`.
    ///
    /// Listeners of several shards on one UDP port take clones of one configuration: what they must have in common
    /// stands behind its pointers. That is the key of Retry and validation tokens, the log of used tokens (which so
    /// cannot be used once on each shard), and in `crypto` the keys of session tickets, so that a client resumes on
    /// whatever shard it arrives.
    pub server: quinn_proto::ServerConfig,
    /// The services, chosen by ALPN.
    pub services: Vec<ServiceConfig>,
}

/// An application and the protocol it speaks.
pub struct ServiceConfig {
    /// The protocol's ALPN identifier.
    pub alpn: Vec<u8>,
    /// Whether the application takes 0-RTT data. If not, it hears of a connection when the handshake is complete.
    pub early_data: bool,
    /// Makes the application.
    pub application: NewApplication,
}

/// The bounds of a shard.
///
/// What strangers may cost is bounded in steps, so that those who are connected do not notice an attack: above
/// `retry_above` a client must prove its address, above `incoming` nothing is begun, and at any time the rates hold.
/// A rate is a number a second, with a burst of a tenth of a second (`handshakes_per_prefix`: a second); `None` is no
/// bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardLimits {
    /// Connections held at a time, closing ones included; above, incoming ones are refused.
    pub connections: usize,
    /// Incoming handshakes in flight; above, attempts are dropped without an answer.
    pub incoming: usize,
    /// Incoming handshakes in flight above which a client must first prove its address (Retry, RFC 9000 §8.1.2).
    pub retry_above: usize,
    /// Bytes buffered for connections that are not accepted yet. Few are needed: a shard accepts or answers at once.
    pub incoming_bytes: u64,
    /// Handshakes begun for clients of one /64, a second. Above, a client must prove its address, and is dropped if it
    /// has.
    pub handshakes_per_prefix: Option<u32>,
    /// Initial packets a second that may lead to nothing: not opened, answered by a Retry or a refusal, dropped for a
    /// bound. Above, those of unknown connections are dropped before any cryptography. As many again if they carry a
    /// token, so that clients who proved their address are not drowned by those who did not.
    pub strangers: Option<u32>,
    /// Version negotiations and stateless resets sent a second.
    pub stateless: Option<u32>,
    /// Streams that a peer may have open on a connection, unless its listener or target says otherwise. Must be what the
    /// transport settings were made from.
    pub streams: StreamLimits,
    /// Datagrams that a connection may send before the next one has its turn.
    pub turn_budget: u16,
    /// Stateless answers (version negotiation, Retry, refusals, resets) that wait to be sent; above, they are dropped.
    pub responses: usize,
}

impl ShardConfig {
    /// Whether anybody here opens connections.
    pub(super) fn connects(&self) -> bool {
        !self.clients.is_empty() || !self.agents.is_empty()
    }
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            incoming: 1_024,
            retry_above: 128,
            incoming_bytes: 1 << 20,
            handshakes_per_prefix: Some(4_096),
            strangers: Some(5_000),
            stateless: Some(1_000),
            streams: StreamLimits::default(),
            turn_budget: 16,
            responses: 128,
        }
    }
}

/// A shard that cannot be made, or a listener of one.
#[derive(Debug, Error)]
pub enum ShardError {
    /// Two listeners, or a listener and the clients, on one UDP port.
    #[error("UDP port {0} is used twice on one shard: give each listener its own `udp_port`")]
    UdpPortTwice(u16),
    /// UDP port 0.
    #[error("a listener needs a `udp_port` of its own: 1 to 65535")]
    UdpPortZero,
    /// There is no UDP port for clients.
    #[error(
        "UDP ports {0} to {1} for clients: the range must not be empty and begin at 1 or above"
    )]
    ClientPorts(u16, u16),
    /// Two services of a listener speak the same protocol.
    #[error("UDP port {udp_port}: two services for ALPN {alpn:?}")]
    AlpnTwice {
        /// The listener.
        udp_port: u16,
        /// The protocol.
        alpn: String,
    },
    /// A listener without services.
    #[error(
        "UDP port {0}: a listener without services would refuse everything; add one to `services`"
    )]
    NoService(u16),
    /// The UDP payload size is out of range.
    #[error(
        "the largest UDP payload is {0} bytes: it must be 1200 to 65527 (an IP MTU of 1280 makes 1232)"
    )]
    UdpPayload(u16),
    /// A bound of 0, which would let nothing through.
    #[error("limit `{0}` is 0: it must be at least 1")]
    ZeroLimit(&'static str),
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    NoRandomness,
}
