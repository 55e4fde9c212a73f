//! QUIC settings.

use std::time::Duration;

use serde::Serialize;

use super::port::PortPlan;
use super::seconds;
use crate::config::{AckFrequency, Config, ConfigError, Congestion, Interval, OrOff, Size, Source};

/// Smallest UDP payload that QUIC works with (RFC 9000 §14).
const INITIAL_MTU_MIN: u16 = 1200;
/// Larger ones could not be sent by a server before its client's address is proven: three times 1200 bytes are allowed
/// (RFC 9000 §8.1), and what is left of them after a first segment must hold another.
const INITIAL_MTU_MAX: u16 = 1452;
/// Largest variable-length integer (RFC 9000 §16).
const VARINT_MAX: u64 = (1 << 62) - 1;
/// Streams of each kind that a peer may have open; granted as they are used, so that an idle connection stays small.
const STREAMS: u32 = 1024;
/// Largest number of streams (RFC 9000 §4.6 allows 2^60).
const STREAMS_MAX: u32 = 1 << 20;
/// `max_ack_delay` ends here (RFC 9000 §18.2).
const ACK_DELAY_MAX: Duration = Duration::from_millis((1 << 14) - 1);
const WINDOW: u64 = 16 << 20;
const DATAGRAM_BUFFER: u64 = 1 << 20;

/// QUIC settings of all listeners and clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TransportPlan {
    /// Congestion controller.
    pub congestion: Congestion,
    /// Bytes a peer may have in flight on a connection.
    pub receive_window: u64,
    /// Bytes a peer may have in flight on a stream.
    pub stream_receive_window: u64,
    /// Bytes sent and not acknowledged on a connection.
    pub send_window: u64,
    /// UDP payload in bytes that a connection starts with.
    pub initial_mtu: u16,
    /// Whether larger datagrams are probed for, up to the port's
    /// [`udp_payload_max`](super::PortPlan::udp_payload_max).
    pub mtu_discovery: bool,
    /// Asks the peer to acknowledge less often.
    pub ack_frequency: Option<AckFrequencyPlan>,
    /// Interval of packets that keep an idle connection alive.
    #[serde(rename = "keep_alive_s", serialize_with = "seconds::maybe")]
    pub keep_alive: Option<Duration>,
    /// Silence after which a connection is lost.
    #[serde(rename = "idle_timeout_s", serialize_with = "seconds::maybe")]
    pub idle_timeout: Option<Duration>,
    /// Bidirectional streams that a peer may have open.
    pub bidi_streams: u32,
    /// Unidirectional streams that a peer may have open.
    pub uni_streams: u32,
    /// Bytes of unreliable datagrams that wait, each way.
    pub datagram_buffer: u64,
}

/// How often a peer is asked to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AckFrequencyPlan {
    /// Ack-eliciting packets received before an acknowledgement is due.
    pub threshold: u32,
    /// The longest an acknowledgement may wait.
    #[serde(rename = "max_delay_s", serialize_with = "seconds::one")]
    pub max_delay: Duration,
}

pub(super) fn plan(
    config: &Config,
    source: &Source,
    ports: &[PortPlan],
) -> Result<TransportPlan, ConfigError> {
    let given = &config.transport;
    let receive_window = size(source, "receive_window", given.receive_window, WINDOW)?;
    let stream_default = WINDOW.min(receive_window);
    let stream_receive_window = size(
        source,
        "stream_receive_window",
        given.stream_receive_window,
        stream_default,
    )?;
    if stream_receive_window > receive_window {
        let message = format!(
            "{} is more than the connection's receive_window of {}; a stream cannot use it",
            Size(stream_receive_window),
            Size(receive_window)
        );
        return Err(source.error("transport.stream_receive_window", message));
    }
    let (keep_alive, idle_timeout) = idle(config, source)?;
    Ok(TransportPlan {
        congestion: given.congestion,
        receive_window,
        stream_receive_window,
        send_window: size(source, "send_window", given.send_window, WINDOW)?,
        initial_mtu: initial_mtu(config, source, ports)?,
        mtu_discovery: given.mtu_discovery.unwrap_or(true),
        ack_frequency: ack_frequency(config, source)?,
        keep_alive,
        idle_timeout,
        bidi_streams: streams(source, "bidi_streams", given.bidi_streams)?,
        uni_streams: streams(source, "uni_streams", given.uni_streams)?,
        datagram_buffer: size(
            source,
            "datagram_buffer",
            given.datagram_buffer,
            DATAGRAM_BUFFER,
        )?,
    })
}

fn size(source: &Source, key: &str, value: Option<Size>, default: u64) -> Result<u64, ConfigError> {
    let value = value.map_or(default, |size| size.0);
    if (u64::from(INITIAL_MTU_MIN)..=VARINT_MAX).contains(&value) {
        return Ok(value);
    }
    let message = format!(
        "{} is out of range: at least a packet, {INITIAL_MTU_MIN}B",
        Size(value)
    );
    Err(source.error(format!("transport.{key}"), message))
}

fn streams(source: &Source, key: &str, value: Option<u32>) -> Result<u32, ConfigError> {
    let value = value.unwrap_or(STREAMS);
    if value <= STREAMS_MAX {
        return Ok(value);
    }
    let message = format!("{value} is out of range: 0..={STREAMS_MAX}");
    Err(source.error(format!("transport.{key}"), message))
}

fn initial_mtu(config: &Config, source: &Source, ports: &[PortPlan]) -> Result<u16, ConfigError> {
    let initial = config.transport.initial_mtu.unwrap_or(INITIAL_MTU_MIN);
    let key = "transport.initial_mtu";
    if !(INITIAL_MTU_MIN..=INITIAL_MTU_MAX).contains(&initial) {
        let message = format!(
            "{initial} is out of range: {INITIAL_MTU_MIN}..={INITIAL_MTU_MAX} bytes of UDP \
             payload; MTU discovery goes on from there"
        );
        return Err(source.error(key, message));
    }
    match ports.iter().find(|port| port.udp_payload_max < initial) {
        None => Ok(initial),
        Some(port) => {
            let message = format!(
                "{initial} does not fit the port `{}`: its MTU of {} leaves {} bytes of UDP payload",
                port.name, port.mtu, port.udp_payload_max
            );
            Err(source.error(key, message))
        }
    }
}

fn ack_frequency(
    config: &Config,
    source: &Source,
) -> Result<Option<AckFrequencyPlan>, ConfigError> {
    let default = AckFrequency {
        threshold: 10,
        max_delay: Interval(Duration::from_millis(5)),
    };
    let given = config.transport.ack_frequency.unwrap_or(OrOff::On(default));
    let Some(AckFrequency {
        threshold,
        max_delay: Interval(max_delay),
    }) = given.on()
    else {
        return Ok(None);
    };
    if max_delay.is_zero() || max_delay > ACK_DELAY_MAX {
        let message = format!(
            "{} is out of range: more than 0 and at most {}",
            Interval(max_delay),
            Interval(ACK_DELAY_MAX)
        );
        return Err(source.error("transport.ack_frequency.max_delay", message));
    }
    Ok(Some(AckFrequencyPlan {
        threshold,
        max_delay,
    }))
}

type Idle = (Option<Duration>, Option<Duration>);

fn idle(config: &Config, source: &Source) -> Result<Idle, ConfigError> {
    let some = |value: Option<OrOff<Interval>>, default: Option<Duration>| match value {
        Some(value) => value.on().map(|interval| interval.0),
        None => default,
    };
    let keep_alive = some(config.transport.keep_alive, None);
    let timeout = some(config.transport.idle_timeout, Some(Duration::from_secs(30)));
    for (key, value) in [("keep_alive", keep_alive), ("idle_timeout", timeout)] {
        if value.is_some_and(|value| value.is_zero()) {
            let message = "0 is out of range; to switch it off, write `off`";
            return Err(source.error(format!("transport.{key}"), message));
        }
    }
    if let (Some(keep_alive), Some(timeout)) = (keep_alive, timeout)
        && keep_alive >= timeout
    {
        let message = format!(
            "{} comes too late: connections are lost after an idle_timeout of {}",
            Interval(keep_alive),
            Interval(timeout)
        );
        return Err(source.error("transport.keep_alive", message));
    }
    Ok((keep_alive, timeout))
}
