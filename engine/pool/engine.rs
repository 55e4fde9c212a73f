//! How a pool opens connections of the engine.

use std::sync::{PoisonError, RwLock};

use quinn_proto::VarInt;
use rustc_hash::FxHashMap;

use super::opener::{Boxed, Opened, Opener};
use super::slot::Pooled;
use super::{ClientId, OpenError, PeerKey};
use crate::handle::{ClientConfig, Connection, ConnectionError, Handle};

/// Client configurations of one pool.
const CLIENTS_MAX: usize = 1024;

/// Opens connections by a handle.
pub(super) struct EngineOpener {
    handle: Handle,
    clients: RwLock<FxHashMap<ClientId, ClientConfig>>,
    early_data: bool,
}

impl EngineOpener {
    pub fn new(handle: Handle, early_data: bool) -> Self {
        Self {
            handle,
            clients: RwLock::default(),
            early_data,
        }
    }

    /// `None` when there are as many as may be.
    pub fn register(&self, config: ClientConfig) -> Option<ClientId> {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX {
            return None;
        }
        let id = ClientId::next();
        clients.insert(id, config);
        Some(id)
    }

    /// The configuration of a key; `None` for the default one.
    fn client(&self, id: ClientId) -> Result<Option<ClientConfig>, OpenError> {
        if id == ClientId::default() {
            return Ok(None);
        }
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let client = clients.get(&id).cloned();
        client.map(Some).ok_or(OpenError::UnknownClient)
    }
}

impl Opener for EngineOpener {
    type Connection = Connection;

    fn shards(&self, key: &PeerKey) -> usize {
        self.handle.shards_to(key.remote_address())
    }

    fn open(&self, key: &PeerKey, shard: usize) -> Boxed<Result<Opened<Connection>, OpenError>> {
        let connecting = self.client(key.client_id()).and_then(|client| {
            let (remote, name) = (key.remote_address(), key.server_name());
            Ok(self.handle.connect_from(shard, client, remote, name)?)
        });
        let early_data = self.early_data;
        Box::pin(async move {
            let connecting = connecting?;
            if !early_data {
                let connection = connecting.await.map_err(OpenError::Handshake)?;
                return Ok(Opened {
                    connection,
                    early: None,
                });
            }
            let opened = connecting.into_0rtt().await;
            let (connection, accepted) = opened.map_err(OpenError::Handshake)?;
            let early = connection.is_early_data();
            Ok(Opened {
                connection,
                early: early.then(|| Box::pin(accepted) as Boxed<bool>),
            })
        })
    }

    fn closed(&self, connection: &Connection) -> Boxed<()> {
        let closed = connection.closed();
        Box::pin(async move {
            closed.await;
        })
    }

    fn received(&self, connection: &Connection) -> Boxed<Option<u64>> {
        let connection = connection.clone();
        Box::pin(async move { Some(connection.stats().await.ok()?.udp_rx.datagrams) })
    }

    fn ping(&self, connection: &Connection) {
        connection.ping();
    }

    fn give_up(&self, connection: &Connection) {
        connection.close(VarInt::from_u32(0), b"no answer");
    }
}

impl Pooled for Connection {
    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }

    fn is_fault(&self) -> bool {
        !matches!(
            self.close_reason(),
            Some(ConnectionError::LocallyClosed | ConnectionError::EngineStopped)
        )
    }
}
