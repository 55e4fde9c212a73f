//! How far a connection is: what waits for the end of its handshake, and for its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ConnectionError;
use super::connection::Connection;
use super::inner::Phase;
use super::waiters::Place;

/// The future of [`Connection::closed`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Closed {
    connection: Connection,
    place: Place,
}

impl Closed {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            place: Place::default(),
        }
    }
}

impl Future for Closed {
    type Output = ConnectionError;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, place } = &mut *self;
        let mut state = connection.inner().state();
        match &state.closed {
            Some(error) => Poll::Ready(error.clone()),
            None => {
                state.close_waiters.register(place, context);
                Poll::Pending
            }
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let mut state = self.connection.inner().state();
            state.close_waiters.leave(&mut self.place);
        }
    }
}

/// The future of [`Connection::handshake_done`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct HandshakeDone {
    connection: Connection,
    place: Place,
}

impl HandshakeDone {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            place: Place::default(),
        }
    }

    /// Waits for the end of the handshake, or, with `early`, for the time from which 0-RTT data may be sent.
    pub(super) fn poll_phase(
        &mut self,
        context: &Context<'_>,
        early: bool,
    ) -> Poll<Result<bool, ConnectionError>> {
        let mut state = self.connection.inner().state();
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        match state.phase {
            Phase::Established => Poll::Ready(Ok(state.accepted_early)),
            Phase::Early if early => Poll::Ready(Ok(false)),
            Phase::Early | Phase::Handshaking => {
                state.phase_waiters.register(&mut self.place, context);
                Poll::Pending
            }
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Future for HandshakeDone {
    type Output = Result<bool, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_phase(context, false)
    }
}

impl Drop for HandshakeDone {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let mut state = self.connection.inner().state();
            state.phase_waiters.leave(&mut self.place);
        }
    }
}
