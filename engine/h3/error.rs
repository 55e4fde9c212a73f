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
