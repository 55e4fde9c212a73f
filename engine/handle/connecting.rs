//! Connections that are being made.

use std::fmt;
use std::future::Future;
use std::net::SocketAddrV6;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ConnectionError;
use super::connection::Connection;
use super::phases::HandshakeDone;

/// A connection that is being made: wait for it. Dropped, it is given up.
#[must_use = "a connection that nobody waits for is given up"]
pub struct Connecting(HandshakeDone);

impl Connecting {
    pub(super) fn new(connection: &Connection) -> Self {
        Self(connection.handshake_done())
    }

    /// Waits until data can be sent: before the end of the handshake, as 0-RTT data, if the configuration has
    /// [`early_data`](crate::tls::ClientTls::early_data) and a session with the server can be resumed; else until the
    /// handshake is complete. quinn's method of this name answers at once; here the shard is asked.
    ///
    /// 0-RTT data can be replayed by an attacker (RFC 9001 §9.2): send what does no harm twice. If the server refuses it,
    /// all streams opened before are gone ([`WriteError::ZeroRttRejected`](super::WriteError::ZeroRttRejected)).
    ///
    /// # Errors
    /// The connection cannot be made.
    pub async fn into_0rtt(mut self) -> Result<(Connection, ZeroRttAccepted), ConnectionError> {
        std::future::poll_fn(|context| self.0.poll_phase(context, true)).await?;
        let connection = self.0.connection().clone();
        let accepted = ZeroRttAccepted(connection.handshake_done());
        Ok((connection, accepted))
    }

    /// Where it connects to.
    pub fn remote_address(&self) -> SocketAddrV6 {
        self.0.connection().remote_address()
    }
}

impl Future for Connecting {
    type Output = Result<Connection, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = self.0.poll_phase(context, false);
        done.map_ok(|_| self.0.connection().clone())
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connecting")
            .field(&self.remote_address())
            .finish()
    }
}

/// Waits for the end of the handshake: false when the server refused 0-RTT data, or the connection is lost; true when it
/// took the data, and when there was no 0-RTT.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ZeroRttAccepted(HandshakeDone);

impl Future for ZeroRttAccepted {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let done = self.0.poll_phase(context, false);
        done.map(|accepted| accepted.unwrap_or(false))
    }
}
