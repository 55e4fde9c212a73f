//! Errors of this library, as h3 wants them.

use std::sync::Arc;

use ::h3::quic::{ConnectionErrorIncoming, StreamErrorIncoming};

use crate::VarInt;
use crate::handle::{ConnectionError, ReadError, WriteError};

/// An error code of HTTP/3 as QUIC's. Codes above 2^62 - 1, which no frame can carry, become that.
pub(super) fn code(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// Why a connection ended.
pub(super) fn connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into_inner(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        // None of h3's business: errors of QUIC and TLS, our own close, the end of the engine.
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

/// The same for what was asked of one stream.
pub(super) fn stream(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection(error),
    }
}

/// Why nothing more can be written.
pub(super) fn write(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => terminated(code),
        WriteError::ConnectionLost(error) => stream(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

/// Why nothing more can be read.
pub(super) fn read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => terminated(code),
        ReadError::ConnectionLost(error) => stream(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

fn terminated(code: VarInt) -> StreamErrorIncoming {
    StreamErrorIncoming::StreamTerminated {
        error_code: code.into_inner(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn_proto::ApplicationClose;

    use super::*;

    #[test]
    fn codes_are_kept_and_the_largest_is_the_limit() {
        assert_eq!(code(0x10c), VarInt::from_u32(0x10c));
        assert_eq!(code((1 << 62) - 1), VarInt::MAX);
        assert_eq!(code(u64::MAX), VarInt::MAX);
    }

    #[test]
    fn ends_of_connections_are_told_apart() {
        let closed = ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: VarInt::from_u32(0x107),
            reason: Bytes::from_static(b"busy"),
        });
        assert!(matches!(
            connection(closed.clone()),
            ConnectionErrorIncoming::ApplicationClose { error_code: 0x107 }
        ));
        assert!(matches!(
            connection(ConnectionError::TimedOut),
            ConnectionErrorIncoming::Timeout
        ));
        for other in [
            ConnectionError::Reset,
            ConnectionError::LocallyClosed,
            ConnectionError::EngineStopped,
        ] {
            match connection(other.clone()) {
                ConnectionErrorIncoming::Undefined(error) => {
                    assert_eq!(error.to_string(), other.to_string());
                }
                mapped => panic!("{mapped:?}"),
            }
        }
    }

    #[test]
    fn ends_of_streams_are_told_apart() {
        let terminated = |error: &StreamErrorIncoming| match error {
            StreamErrorIncoming::StreamTerminated { error_code } => Some(*error_code),
            _ => None,
        };
        let code = VarInt::from_u32(0x10b);
        assert_eq!(terminated(&write(WriteError::Stopped(code))), Some(0x10b));
        assert_eq!(terminated(&read(ReadError::Reset(code))), Some(0x10b));
        let lost = [
            write(WriteError::ConnectionLost(ConnectionError::TimedOut)),
            read(ReadError::ConnectionLost(ConnectionError::TimedOut)),
            stream(ConnectionError::TimedOut),
        ];
        for error in lost {
            assert!(matches!(
                error,
                StreamErrorIncoming::ConnectionErrorIncoming {
                    connection_error: ConnectionErrorIncoming::Timeout
                }
            ));
        }
        for error in [
            write(WriteError::ClosedStream),
            write(WriteError::ZeroRttRejected),
            read(ReadError::ClosedStream),
            read(ReadError::ZeroRttRejected),
        ] {
            assert!(matches!(error, StreamErrorIncoming::Unknown(_)), "{error}");
        }
    }
}
