//! Transport settings: windows, MTU, acknowledgements, congestion control.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn_proto::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use thiserror::Error;

/// Bytes of IPv6 and UDP headers: what an IP MTU is larger than the UDP payload.
pub const IPV6_UDP_HEADERS: u16 = 40 + 8;

/// The smallest UDP payload that every QUIC path carries (RFC 9000 §14).
pub const UDP_PAYLOAD_MIN: u16 = 1_200;

/// The largest UDP payload to start with: that of an Ethernet with an IP MTU of 1500. A server may send three times
/// what it received before it has validated the client's address, which is 3600 bytes; with a start far above this
/// size its first flight would not fit.
pub const INITIAL_MTU_MAX: u16 = 1_452;

/// Streams of each direction that a peer may have open at the start of a connection; all of its limit if that is less
/// than twice as many.
///
/// quinn-proto allocates every stream that it permits, at once: some 100 bytes each. So a connection starts with few,
/// and the shard doubles them as the peer uses them, up to the limit.
pub const STREAMS_AT_START: u32 = 16;

/// Transport settings of listeners and clients. The default suits paths of the 40 Gbit/s class: 16 MiB in flight are
/// 3 ms at that rate.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportSettings {
    /// The congestion controller.
    pub congestion: Congestion,
    /// Bytes that a peer may have in flight on a connection.
    pub receive_window: u64,
    /// Bytes that a peer may have in flight on a stream.
    pub stream_receive_window: u64,
    /// Bytes that we keep unacknowledged on a connection.
    pub send_window: u64,
    /// The UDP payload that a connection starts with, in bytes: [`UDP_PAYLOAD_MIN`] to [`INITIAL_MTU_MAX`].
    pub initial_mtu: u16,
    /// Whether larger payloads are probed for, up to what the port can send (RFC 8899).
    pub mtu_discovery: bool,
    /// Asks peers to acknowledge less often (draft-ietf-quic-ack-frequency); `None` leaves it to them.
    pub ack_frequency: Option<AckFrequency>,
    /// How often a connection without traffic is pinged to keep it.
    pub keep_alive: Option<Duration>,
    /// How long a connection may be silent before it is lost; `None` leaves it to the peer.
    pub idle_timeout: Option<Duration>,
    /// Bidirectional streams that a peer may have open. [`STREAMS_AT_START`] are granted at the start, more as they are
    /// used.
    pub bidi_streams: u32,
    /// Unidirectional streams that a peer may have open, granted likewise.
    pub uni_streams: u32,
    /// Bytes of unreliable datagrams (RFC 9221) buffered in each direction; 0 takes and sends none.
    pub datagram_buffer: usize,
}

/// Streams that a peer may have open on a connection, of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Bidirectional ones.
    pub bidi: u32,
    /// Unidirectional ones.
    pub uni: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        TransportSettings::default().streams()
    }
}

/// A congestion controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Congestion {
    /// CUBIC (RFC 9438).
    Cubic,
    /// NewReno (RFC 9002 §7).
    NewReno,
    /// BBR, version 1.
    Bbr,
}

/// How often a peer is to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckFrequency {
    /// Ack-eliciting packets that may arrive without an acknowledgement.
    pub threshold: u32,
    /// How long an acknowledgement may wait.
    pub max_delay: Duration,
}

impl Default for TransportSettings {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            congestion: Congestion::Cubic,
            receive_window: 16 * MIB,
            stream_receive_window: 16 * MIB,
            send_window: 16 * MIB,
            initial_mtu: UDP_PAYLOAD_MIN,
            mtu_discovery: true,
            ack_frequency: Some(AckFrequency {
                threshold: 10,
                max_delay: Duration::from_millis(5),
            }),
            keep_alive: None,
            idle_timeout: Some(Duration::from_secs(30)),
            bidi_streams: 1_024,
            uni_streams: 1_024,
            datagram_buffer: MIB as usize,
        }
    }
}

/// Settings that no connection could run with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The first UDP payload size is out of range.
    #[error("`initial_mtu` is {0} bytes: it must be {UDP_PAYLOAD_MIN} to {INITIAL_MTU_MAX}")]
    InitialMtu(u16),
    /// The port's UDP payload size is below what QUIC needs.
    #[error(
        "the port carries UDP payloads of {0} bytes, QUIC needs {UDP_PAYLOAD_MIN}: raise its `mtu`"
    )]
    Port(u16),
    /// A number beyond 2^62 - 1, the largest that QUIC can say.
    #[error("`{0}` is too large: QUIC's numbers end at 2^62 - 1")]
    TooLarge(&'static str),
    /// A window of 0, through which nothing would pass.
    #[error("`{0}` is 0: it must be at least 1")]
    Zero(&'static str),
}

impl TransportSettings {
    /// The limits of streams: what a shard grants up to.
    pub fn streams(&self) -> StreamLimits {
        StreamLimits {
            bidi: self.bidi_streams,
            uni: self.uni_streams,
        }
    }

    /// The settings in quinn-proto's form, for a port that sends UDP payloads of up to `udp_payload_max` bytes: its IP
    /// MTU less [`IPV6_UDP_HEADERS`].
    pub fn build(&self, udp_payload_max: u16) -> Result<Arc<TransportConfig>, TransportError> {
        if udp_payload_max < UDP_PAYLOAD_MIN {
            return Err(TransportError::Port(udp_payload_max));
        }
        if !(UDP_PAYLOAD_MIN..=INITIAL_MTU_MAX).contains(&self.initial_mtu) {
            return Err(TransportError::InitialMtu(self.initial_mtu));
        }
        if self.send_window == 0 {
            return Err(TransportError::Zero("send_window"));
        }
        let mut config = TransportConfig::default();
        config
            .congestion_controller_factory(self.congestion.factory())
            .receive_window(window("receive_window", self.receive_window)?)
            .stream_receive_window(window("stream_receive_window", self.stream_receive_window)?)
            .send_window(self.send_window)
            .initial_mtu(self.initial_mtu.min(udp_payload_max))
            .mtu_discovery_config(self.mtu_discovery.then(|| mtu_discovery(udp_payload_max)))
            .keep_alive_interval(self.keep_alive)
            .max_concurrent_bidi_streams(streams_at_start(self.bidi_streams).into())
            .max_concurrent_uni_streams(streams_at_start(self.uni_streams).into())
            .datagram_receive_buffer_size(Some(self.datagram_buffer).filter(|&bytes| bytes > 0))
            .datagram_send_buffer_size(self.datagram_buffer)
            // The worker says how many datagrams it takes at a time: one, where the device does not segment.
            .enable_segmentation_offload(true);
        let idle_timeout = self.idle_timeout.map(IdleTimeout::try_from).transpose();
        config
            .max_idle_timeout(idle_timeout.map_err(|_| TransportError::TooLarge("idle_timeout"))?);
        if let Some(AckFrequency {
            threshold,
            max_delay,
        }) = self.ack_frequency
        {
            let mut frequency = AckFrequencyConfig::default();
            frequency
                .ack_eliciting_threshold(threshold.into())
                .max_ack_delay(Some(max_delay));
            config.ack_frequency_config(Some(frequency));
        }
        Ok(Arc::new(config))
    }
}

impl Congestion {
    fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

/// A search that ends at exactly the port's size where the path carries it: by default it stops 20 bytes short, which
/// costs more than one per cent of goodput on Ethernet for the rest of the connection.
fn mtu_discovery(udp_payload_max: u16) -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.upper_bound(udp_payload_max).minimum_change(1);
    config
}

fn streams_at_start(limit: u32) -> u32 {
    match limit < 2 * STREAMS_AT_START {
        true => limit,
        false => STREAMS_AT_START,
    }
}

fn window(name: &'static str, bytes: u64) -> Result<VarInt, TransportError> {
    if bytes == 0 {
        return Err(TransportError::Zero(name));
    }
    VarInt::from_u64(bytes).map_err(|_| TransportError::TooLarge(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_builds_for_every_mtu() {
        let settings = TransportSettings::default();
        for ip_mtu in [1_280, 1_500, 9_000, 9_600] {
            settings.build(ip_mtu - IPV6_UDP_HEADERS).unwrap();
        }
        assert_eq!(
            settings.build(1_199).unwrap_err(),
            TransportError::Port(1_199)
        );
    }

    #[test]
    fn says_which_setting_is_wrong() {
        let error = |change: fn(&mut TransportSettings)| {
            let mut settings = TransportSettings::default();
            change(&mut settings);
            settings.build(1_452).unwrap_err().to_string()
        };
        assert!(error(|s| s.initial_mtu = 1_453).contains("`initial_mtu` is 1453"));
        assert!(error(|s| s.initial_mtu = 1_199).contains("`initial_mtu` is 1199"));
        assert!(error(|s| s.receive_window = 0).contains("`receive_window` is 0"));
        assert!(error(|s| s.stream_receive_window = 1 << 62).contains("`stream_receive_window`"));
        assert!(error(|s| s.send_window = 0).contains("`send_window` is 0"));
        assert!(error(|s| s.idle_timeout = Some(Duration::MAX)).contains("`idle_timeout`"));
    }
}
