//! What can go wrong with a handle.

use std::net::SocketAddrV6;

use bytes::Bytes;
use quinn_proto::{ApplicationClose, ConnectionClose, TransportError, VarInt};
use thiserror::Error;

use crate::shard::ShardError;
use crate::transport;

/// Why a connection cannot be begun.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No port of the engine leads to the address.
    #[error(
        "no route to {0}: no port has an address on its link, nor a gateway; give a port an address in the same \
         prefix, a `gateway`, or `router_advertisements`"
    )]
    NoRoute(SocketAddrV6),
    /// Not an address to connect to: unspecified, multicast, or with UDP port 0.
    #[error("{0} is not an address to connect to")]
    InvalidRemoteAddress(SocketAddrV6),
    /// Neither a DNS name nor an IP address.
    #[error(
        "`{0}` is not a server name: give the DNS name or the IP address in the server's certificate"
    )]
    InvalidServerName(String),
    /// [`connect`](super::Handle::connect) without a [default](super::Handle::set_default_client_config).
    #[error("no client configuration: use `connect_with`, or set a default one")]
    NoDefaultClientConfig,
    /// The transport settings do not fit the port.
    #[error("transport settings: {0}")]
    Transport(#[from] transport::TransportError),
    /// As many connections wait to be begun as may (twice [`HandleLimits::commands`](super::HandleLimits::commands)).
    #[error("too many connections wait to be begun on the shard; wait for some of them")]
    TooManyBegun,
    /// The engine has stopped, or is about to.
    #[error("the engine has stopped")]
    EngineStopped,
}

/// Why a UDP port cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// UDP port 0: a listener needs one that clients know.
    #[error("a listener needs a UDP port of its own: 1 to 65535")]
    UdpPortZero,
    /// Somebody else has it: another listener, or the engine's outgoing connections.
    #[error("UDP port {0} is in use in this engine")]
    UdpPortInUse(u16),
    /// No protocol, or the same twice.
    #[error("the protocols (ALPN) of a listener must be different, and at least one")]
    Protocols,
    /// The transport settings do not fit the port.
    #[error("transport settings: {0}")]
    Transport(#[from] transport::TransportError),
    /// A shard could not do it.
    #[error("a shard cannot listen: {0}")]
    Shard(String),
    /// The engine has stopped, or is about to.
    #[error("the engine has stopped")]
    EngineStopped,
}

impl ListenError {
    pub(super) fn from_shard(error: &ShardError) -> Self {
        match error {
            ShardError::UdpPortZero => Self::UdpPortZero,
            ShardError::UdpPortTwice(udp_port) => Self::UdpPortInUse(*udp_port),
            ShardError::AlpnTwice { .. } | ShardError::NoService(_) => Self::Protocols,
            error => Self::Shard(error.to_string()),
        }
    }
}

/// Why a connection was lost or could not be established. The variants are those of quinn, and two of our own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer speaks no version of QUIC that we do.
    #[error("the peer supports no version of QUIC that we do")]
    VersionMismatch,
    /// The peer broke the rules of QUIC or of TLS: a certificate that is not believed, for instance.
    #[error(transparent)]
    TransportError(TransportError),
    /// The peer's QUIC stack ended the connection.
    #[error("aborted by the peer: {0}")]
    ConnectionClosed(ConnectionClose),
    /// The peer's application ended the connection.
    #[error("closed by the peer: {0}")]
    ApplicationClosed(ApplicationClose),
    /// The peer knows nothing of the connection: it was restarted, usually.
    #[error("reset by the peer")]
    Reset,
    /// Nothing was heard of the peer for the idle time-out.
    #[error("timed out")]
    TimedOut,
    /// Closed on our side: by [`close`](super::Connection::close), by dropping the last handle, or by the engine's
    /// drain.
    #[error("closed on this side")]
    LocallyClosed,
    /// The shard has as many connections as `limits.connections` permits.
    #[error("the shard is at its limit of connections (`limits.connections`)")]
    TooManyConnections,
    /// The connection could not be begun for another reason.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    EngineStopped,
}

impl From<quinn_proto::ConnectionError> for ConnectionError {
    fn from(error: quinn_proto::ConnectionError) -> Self {
        use quinn_proto::ConnectionError as Quinn;
        match error {
            Quinn::VersionMismatch => Self::VersionMismatch,
            Quinn::TransportError(error) => Self::TransportError(error),
            Quinn::ConnectionClosed(close) => Self::ConnectionClosed(close),
            Quinn::ApplicationClosed(close) => Self::ApplicationClosed(close),
            Quinn::Reset => Self::Reset,
            Quinn::TimedOut => Self::TimedOut,
            Quinn::LocallyClosed => Self::LocallyClosed,
            Quinn::CidsExhausted => Self::TooManyConnections,
        }
    }
}

impl From<quinn_proto::ConnectError> for ConnectionError {
    fn from(error: quinn_proto::ConnectError) -> Self {
        match error {
            quinn_proto::ConnectError::EndpointStopping => Self::EngineStopped,
            quinn_proto::ConnectError::CidsExhausted => Self::TooManyConnections,
            error => Self::Connect(error.to_string()),
        }
    }
}

impl From<ConnectionError> for std::io::Error {
    fn from(error: ConnectionError) -> Self {
        use std::io::ErrorKind;
        let kind = match error {
            ConnectionError::TimedOut => ErrorKind::TimedOut,
            ConnectionError::Reset => ErrorKind::ConnectionReset,
            ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => {
                ErrorKind::ConnectionAborted
            }
            ConnectionError::LocallyClosed | ConnectionError::EngineStopped => {
                ErrorKind::NotConnected
            }
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A write that failed. Nothing of what it was given was sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The peer does not want more of this stream (RFC 9000 §19.5); the code is the peer's.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(VarInt),
    /// The connection is gone.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
    /// The stream was finished or reset on this side.
    #[error("the stream was finished or reset")]
    ClosedStream,
    /// The stream was opened as 0-RTT data, which the server refused: open another and begin again.
    #[error("the server refused 0-RTT data")]
    ZeroRttRejected,
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer gave up sending (RFC 9000 §19.4); the code is the peer's.
    #[error("the peer reset the stream with code {0}")]
    Reset(VarInt),
    /// The connection is gone.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
    /// The stream was stopped on this side.
    #[error("the stream was stopped")]
    ClosedStream,
    /// The stream was opened as 0-RTT data, which the server refused: open another and begin again.
    #[error("the server refused 0-RTT data")]
    ZeroRttRejected,
}

/// Why [`read_exact`](super::RecvStream::read_exact) failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadExactError {
    /// The stream ended after so many bytes.
    #[error("the stream ended after {0} bytes")]
    FinishedEarly(usize),
    /// A read failed.
    #[error(transparent)]
    ReadError(#[from] ReadError),
}

/// Why [`read_to_end`](super::RecvStream::read_to_end) failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// The stream has more than the limit.
    #[error("the stream has more bytes than the limit")]
    TooLong,
    /// A read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The stream was finished, reset or stopped on this side before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stream is closed")]
pub struct ClosedStream;

/// Why [`stopped`](super::SendStream::stopped) has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoppedError {
    /// The connection is gone.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
    /// The stream was opened as 0-RTT data, which the server refused.
    #[error("the server refused 0-RTT data")]
    ZeroRttRejected,
}

/// An unreliable datagram that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendDatagramError {
    /// The peer takes none, or they are switched off on this side (`datagram_buffer: 0`).
    #[error("the peer takes no unreliable datagrams, or `datagram_buffer` is 0 on this side")]
    Unsupported,
    /// Larger than [`max_datagram_size`](super::Connection::max_datagram_size), in bytes.
    #[error("too large for the path: at most {0} bytes")]
    TooLarge(usize),
    /// As many wait as may; it comes back, to be sent later or dropped.
    #[error("as many datagrams wait to be sent as may")]
    Blocked(Bytes),
    /// The connection is gone.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
}

macro_rules! into_io {
    ($($error:ident),*) => {$(
        impl From<$error> for std::io::Error {
            fn from(error: $error) -> Self {
                match error {
                    $error::ConnectionLost(error) => error.into(),
                    error => Self::new(error.io_kind(), error),
                }
            }
        }
    )*};
}

into_io!(ReadError, WriteError);

impl ReadError {
    fn io_kind(&self) -> std::io::ErrorKind {
        match self {
            Self::ClosedStream => std::io::ErrorKind::NotConnected,
            _ => std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl WriteError {
    fn io_kind(&self) -> std::io::ErrorKind {
        match self {
            Self::ClosedStream => std::io::ErrorKind::NotConnected,
            _ => std::io::ErrorKind::ConnectionReset,
        }
    }
}
