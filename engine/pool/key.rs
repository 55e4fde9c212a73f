//! Whom a connection leads to.

use std::net::SocketAddrV6;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A client configuration that a pool knows. The default is the engine's default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClientId(u64);

impl ClientId {
    /// One that no pool of the process has had: another's must not be taken for one's own, and whom it trusts with it.
    pub(super) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// What connections are shared by: the address, the name that the certificate must carry, and the client configuration.
/// Cloning it is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerKey {
    remote: SocketAddrV6,
    server_name: Arc<str>,
    client: ClientId,
}

impl PeerKey {
    /// With the engine's default client configuration. A flow label in `remote` is left out.
    pub fn new(mut remote: SocketAddrV6, server_name: &str) -> Self {
        remote.set_flowinfo(0);
        Self {
            remote,
            server_name: server_name.into(),
            client: ClientId::default(),
        }
    }

    /// With a client configuration from [`Pool::register`](super::Pool::register).
    #[must_use]
    pub fn client(mut self, client: ClientId) -> Self {
        self.client = client;
        self
    }

    /// Where the peer is.
    pub fn remote_address(&self) -> SocketAddrV6 {
        self.remote
    }

    /// The name that its certificate must carry.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Which client configuration is used.
    pub fn client_id(&self) -> ClientId {
        self.client
    }
}
