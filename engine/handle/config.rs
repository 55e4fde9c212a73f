//! What connections and listeners are made of.

use super::routes::HandlePort;
use crate::tls::{
    ClientAuth, ClientTls, Identity, ServerTls, TlsError, Trust, client_config, server_config,
};
use crate::transport::{StreamLimits, TransportError, TransportSettings};

/// What a client's connections are made of. Clones share the store of sessions to resume, and that of address
/// validation tokens.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(super) quinn: quinn_proto::ClientConfig,
    pub(super) early_data: bool,
    pub(super) transport: Option<TransportSettings>,
}

impl ClientConfig {
    /// Servers are believed as `trust` says; the protocols (ALPN) are offered in this order.
    ///
    /// # Errors
    /// The trust cannot be used.
    pub fn new<P: Into<Vec<u8>>>(
        trust: &Trust,
        alpns: impl IntoIterator<Item = P>,
    ) -> Result<Self, TlsError> {
        Self::with_tls(ClientTls {
            trust,
            identity: None,
            alpns: alpns.into_iter().map(Into::into).collect(),
            early_data: false,
        })
    }

    /// The same with a certificate of our own, or 0-RTT data.
    ///
    /// # Errors
    /// The trust cannot be used.
    pub fn with_tls(tls: ClientTls<'_>) -> Result<Self, TlsError> {
        let early_data = tls.early_data;
        Ok(Self {
            quinn: client_config(tls)?,
            early_data,
            transport: None,
        })
    }

    /// Transport settings; those of the engine's configuration if none are given.
    #[must_use]
    pub fn transport(mut self, settings: TransportSettings) -> Self {
        self.transport = Some(settings);
        self
    }
}

/// Connections that wait for [`accept`](super::Listener::accept), at most, unless a configuration says otherwise.
const BACKLOG: usize = 1_024;

/// What a listener is made of.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    quinn: quinn_proto::ServerConfig,
    pub(crate) alpns: Vec<Vec<u8>>,
    pub(crate) early_data: bool,
    transport: Option<TransportSettings>,
    pub(super) backlog: usize,
}

impl ServerConfig {
    /// Shows `identity` to clients, and speaks these protocols (ALPN). Clients show no certificate.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn new<P: Into<Vec<u8>>>(
        identity: &Identity,
        alpns: impl IntoIterator<Item = P>,
    ) -> Result<Self, TlsError> {
        Self::with_tls(ServerTls {
            identity,
            alpns: alpns.into_iter().map(Into::into).collect(),
            client_auth: ClientAuth::None,
            early_data: false,
        })
    }

    /// The same with certificates of clients, or 0-RTT data.
    ///
    /// With `early_data`, a connection may be handed out before its handshake is complete
    /// ([`is_early_data`](super::Connection::is_early_data)), and what it brings can be replayed by an attacker (RFC 9001
    /// §9.2).
    ///
    /// # Errors
    /// The identity or the authorities cannot be used.
    pub fn with_tls(tls: ServerTls<'_>) -> Result<Self, TlsError> {
        let (alpns, early_data) = (tls.alpns.clone(), tls.early_data);
        Ok(Self {
            quinn: server_config(tls)?,
            alpns,
            early_data,
            transport: None,
            backlog: BACKLOG,
        })
    }

    /// Transport settings; those of the engine's configuration if none are given.
    #[must_use]
    pub fn transport(mut self, settings: TransportSettings) -> Self {
        self.transport = Some(settings);
        self
    }

    /// What a listener on a port is made of, and the streams that its clients may have open, if that is not as the shard
    /// has it.
    pub(crate) fn on_port(
        &self,
        port: &HandlePort,
    ) -> Result<(quinn_proto::ServerConfig, Option<StreamLimits>), TransportError> {
        let settings = self.transport.as_ref();
        let mut server = self.quinn.clone();
        server.transport_config(port.transport(settings)?);
        Ok((server, settings.map(TransportSettings::streams)))
    }

    /// How many connections may wait for [`accept`](super::Listener::accept); with more, the newest are closed. 1024 if
    /// not given.
    #[must_use]
    pub fn backlog(mut self, connections: usize) -> Self {
        self.backlog = connections.max(1);
        self
    }
}
