//! `transport:`.

use serde::{Deserialize, Serialize};

use super::scalar::OrOff;
use super::units::{Interval, Size};

/// QUIC settings of all listeners and clients.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// Congestion controller; default `cubic`.
    pub congestion: Congestion,
    /// Bytes a peer may have in flight on a connection; default 16 MiB.
    pub receive_window: Option<Size>,
    /// Bytes a peer may have in flight on a stream; default 16 MiB.
    pub stream_receive_window: Option<Size>,
    /// Bytes sent and not acknowledged on a connection; default 16 MiB.
    pub send_window: Option<Size>,
    /// UDP payload that a connection starts with, 1200..=1452 bytes; default 1200.
    pub initial_mtu: Option<u16>,
    /// Whether larger datagrams are probed for, up to the port's MTU; default true.
    pub mtu_discovery: Option<bool>,
    /// Asks the peer to acknowledge less often; default a threshold of 10 and 5 ms.
    pub ack_frequency: Option<OrOff<AckFrequency>>,
    /// Interval of packets that keep an idle connection alive; default off.
    pub keep_alive: Option<OrOff<Interval>>,
    /// Silence after which a connection is lost; default 30 s.
    pub idle_timeout: Option<OrOff<Interval>>,
    /// Bidirectional streams that a peer may have open, granted as they are used; default 1024.
    pub bidi_streams: Option<u32>,
    /// Unidirectional streams that a peer may have open, granted as they are used; default 1024.
    pub uni_streams: Option<u32>,
    /// Buffer of unreliable datagrams, each way; default 1 MiB.
    pub datagram_buffer: Option<Size>,
}

/// A congestion controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// NewReno (RFC 9002 §7).
    NewReno,
    /// BBR, version 1.
    Bbr,
}

/// How often a peer is asked to acknowledge (draft-ietf-quic-ack-frequency).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckFrequency {
    /// Ack-eliciting packets received before an acknowledgement is due.
    pub threshold: u32,
    /// The longest an acknowledgement may wait, below 16.384 s.
    pub max_delay: Interval,
}
