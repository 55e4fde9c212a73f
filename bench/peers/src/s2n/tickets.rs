//! Resumption of sessions, which s2n-tls leaves to the application: who keeps tickets, and who uses them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use s2n_quic::provider::tls::s2n_tls::callbacks::{
    ConnectionFuture, SessionTicket, SessionTicketCallback,
};
use s2n_quic::provider::tls::s2n_tls::config::{Builder, ConnectionInitializer};
use s2n_quic::provider::tls::s2n_tls::connection::Connection;
use s2n_quic::provider::tls::s2n_tls::error::Error;

/// The name of the key that seals tickets.
const KEY_NAME: &[u8] = b"peer";
/// The key: nothing here is secret.
const KEY: [u8; 32] = [7; 32];

/// Has a server give tickets.
pub fn give(config: &mut Builder) -> Result<(), Error> {
    config.enable_session_tickets(true)?;
    config.add_session_ticket_key(KEY_NAME, &KEY, SystemTime::now())?;
    Ok(())
}

/// Has a client take tickets, and use the latest in every connection.
pub fn take(config: &mut Builder) -> Result<(), Error> {
    let latest = Latest::default();
    config.set_session_ticket_callback(latest.clone())?;
    config.set_connection_initializer(latest)?;
    Ok(())
}

/// Nothing to wait for, or an error.
type Initialized = Result<Option<Pin<Box<dyn ConnectionFuture>>>, Error>;

/// The latest ticket; empty until there is one.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<Vec<u8>>>);

impl Latest {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionTicketCallback for Latest {
    fn on_session_ticket(&self, _: &mut Connection, ticket: &SessionTicket) {
        let mut bytes = vec![0; ticket.len().unwrap_or(0)];
        if ticket.data(&mut bytes).is_ok() {
            *self.lock() = bytes;
        }
    }
}

impl ConnectionInitializer for Latest {
    fn initialize_connection(&self, connection: &mut Connection) -> Initialized {
        let ticket = self.lock();
        if !ticket.is_empty() {
            connection.set_session_ticket(&ticket)?;
        }
        Ok(None)
    }
}
