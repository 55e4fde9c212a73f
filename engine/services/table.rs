//! State per stream, grouped by connection so that it goes with the connection.

use rustc_hash::FxHashMap;

use crate::app::{ConnectionKey, StreamId};

/// State of type `S` for streams. Both keys are given out by this process (keys) or in sequence (stream IDs, bounded
/// by the stream limits), so a fast hash that an attacker could steer is no risk.
#[derive(Debug)]
pub(crate) struct StreamTable<S> {
    connections: FxHashMap<ConnectionKey, FxHashMap<StreamId, S>>,
}

impl<S> Default for StreamTable<S> {
    fn default() -> Self {
        Self {
            connections: FxHashMap::default(),
        }
    }
}

impl<S> StreamTable<S> {
    /// Sets the state of a stream.
    pub(crate) fn insert(&mut self, key: ConnectionKey, id: StreamId, state: S) {
        self.connections.entry(key).or_default().insert(id, state);
    }

    /// The state of a stream.
    pub(crate) fn get_mut(&mut self, key: ConnectionKey, id: StreamId) -> Option<&mut S> {
        self.connections.get_mut(&key)?.get_mut(&id)
    }

    /// Forgets a stream. The room for its connection's streams stays until the connection goes.
    pub(crate) fn remove(&mut self, key: ConnectionKey, id: StreamId) -> Option<S> {
        self.connections.get_mut(&key)?.remove(&id)
    }

    /// Forgets a connection, and returns what its streams left.
    pub(crate) fn remove_connection(
        &mut self,
        key: ConnectionKey,
    ) -> impl Iterator<Item = (StreamId, S)> + use<S> {
        self.connections.remove(&key).into_iter().flatten()
    }

    /// All streams, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionKey, StreamId, &mut S)> {
        self.connections
            .iter_mut()
            .flat_map(|(&key, streams)| streams.iter_mut().map(move |(&id, s)| (key, id, s)))
    }
}
