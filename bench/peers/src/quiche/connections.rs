//! The connections of a socket: where they are, and how datagrams find them.

use std::collections::HashMap;
use std::time::Instant;

use ::quiche::{Connection, ConnectionId, Header, Type};

/// Bytes of the connection IDs that are made here.
pub const ID: usize = 16;
/// The bit of a packet's first byte that says that its header is a long one.
const LONG: u8 = 0x80;

/// A connection and what is known of it.
pub struct Entry<S> {
    pub connection: Connection,
    /// What the application keeps.
    pub state: S,
    /// When it is looked at, at the latest.
    pub timer: Option<Instant>,
    /// Told apart from an earlier one in the same slot.
    pub generation: u64,
    ids: Vec<Vec<u8>>,
    dirty: bool,
}

/// All of them, by slot.
pub struct Connections<S> {
    entries: Vec<Option<Entry<S>>>,
    free: Vec<usize>,
    by_id: HashMap<Vec<u8>, usize>,
    dirty: Vec<usize>,
    generation: u64,
    next_id: u128,
}

/// Whom a datagram is for.
pub enum Destination {
    /// The connection in this slot.
    Slot(usize),
    /// A new one, which its client calls by this ID until it has one of ours.
    New(Vec<u8>),
    /// None that is known.
    Nobody,
}

impl<S: Default> Connections<S> {
    /// None.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            dirty: Vec::new(),
            generation: 0,
            next_id: 0,
        }
    }

    /// An ID that no connection has had.
    pub fn make_id(&mut self) -> ConnectionId<'static> {
        self.next_id += 1;
        ConnectionId::from_vec(self.next_id.to_be_bytes()[16 - ID..].to_vec())
    }

    /// Adds a connection, found by `ids` from now on.
    pub fn insert(&mut self, connection: Connection, ids: Vec<Vec<u8>>) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        for id in &ids {
            self.by_id.insert(id.clone(), slot);
        }
        self.generation += 1;
        self.entries[slot] = Some(Entry {
            connection,
            state: S::default(),
            timer: None,
            generation: self.generation,
            ids,
            dirty: false,
        });
        self.mark(slot);
        slot
    }

    /// Forgets a connection.
    pub fn remove(&mut self, slot: usize) -> Option<Entry<S>> {
        let entry = self.entries.get_mut(slot)?.take()?;
        for id in &entry.ids {
            self.by_id.remove(id);
        }
        self.free.push(slot);
        Some(entry)
    }

    /// The connection in a slot, if there is one.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Entry<S>> {
        self.entries.get_mut(slot)?.as_mut()
    }

    /// Whom a datagram is for.
    pub fn destination(&self, datagram: &mut [u8]) -> Destination {
        let known = |id: &[u8]| self.by_id.get(id).map(|slot| Destination::Slot(*slot));
        let found = match datagram.first() {
            Some(first) if first & LONG == 0 => datagram.get(1..=ID).and_then(known),
            _ => match Header::from_slice(datagram, ID) {
                Ok(header) => known(&header.dcid).or_else(|| {
                    (header.ty == Type::Initial).then(|| Destination::New(header.dcid.to_vec()))
                }),
                Err(_) => None,
            },
        };
        found.unwrap_or(Destination::Nobody)
    }

    /// Something happened on the connection in this slot.
    pub fn mark(&mut self, slot: usize) {
        if let Some(entry) = self.entries.get_mut(slot).and_then(Option::as_mut)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.dirty.push(slot);
        }
    }

    /// Takes the slots that were marked, in exchange for an empty list.
    pub fn take_marked(&mut self, empty: Vec<usize>) -> Vec<usize> {
        let marked = std::mem::replace(&mut self.dirty, empty);
        for &slot in &marked {
            if let Some(entry) = self.get_mut(slot) {
                entry.dirty = false;
            }
        }
        marked
    }
}
