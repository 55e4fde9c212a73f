//! The service of a world: does on each stream what the client asks for, and checks every byte.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use stoq::app::{
    Application, Connection, ConnectionError, ConnectionKey, Context, Dir, StreamId, VarInt,
};

use crate::client::datagram;
use crate::ledger::{Accepted, Book, End, Way};
use crate::streams::{Header, Held, Inbound, Outbound, SLOW_PAUSE, State, limit};

pub const ALPN: &[u8] = b"world";

/// Codes with which the server ends streams and connections.
pub const STOPPED: VarInt = VarInt::from_u32(21);
pub const RESET: VarInt = VarInt::from_u32(22);
/// Its answer to a reset, and to a stop.
pub const ABORTED: VarInt = VarInt::from_u32(25);
pub const CLOSED: VarInt = VarInt::from_u32(9);

type Id = (ConnectionKey, StreamId);

pub struct Server {
    book: Book,
    shard: usize,
    requests: BTreeMap<Id, (Inbound, Option<Header>)>,
    responses: BTreeMap<Id, (Outbound, Header)>,
    /// Responses that wait for the client to permit a stream.
    waiting: BTreeMap<ConnectionKey, VecDeque<Header>>,
    slow: VecDeque<(Instant, Id)>,
    held: Held,
}

impl Server {
    pub fn new(book: &Book, shard: usize) -> Self {
        Self {
            book: book.clone(),
            shard,
            requests: BTreeMap::new(),
            responses: BTreeMap::new(),
            waiting: BTreeMap::new(),
            slow: VecDeque::new(),
            held: Held::new(),
        }
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some((inbound, header)) = self.requests.get_mut(&(key, id)) else {
            return;
        };
        let end = loop {
            match inbound.read(connection, id, &self.book, &mut self.held) {
                State::Open => return,
                State::Pause => {
                    let again = connection.now() + SLOW_PAUSE;
                    return self.slow.push_back((again, (key, id)));
                }
                State::Header => {
                    let read = Header::decode(&inbound.header);
                    self.book.lock().serves(self.shard, key, read.tag, id);
                    inbound.tag = Some(read.tag);
                    inbound.stop = limit(read.stop_at).map(|at| (at, STOPPED));
                    inbound.slow = read.slow;
                    *header = Some(read);
                }
                State::Over(end) => break end,
            }
        };
        let header = *header;
        self.requests.remove(&(key, id));
        match (end, header, id.dir()) {
            (End::Reset(_), _, Dir::Bi) | (End::Stopped, None, Dir::Bi) => {
                if let Some(header) = header {
                    self.begin(connection, id, header)
                        .give_up_now(connection, id, &self.book);
                } else {
                    connection.reset(id, ABORTED);
                }
            }
            (_, Some(header), Dir::Bi) => self.respond(connection, id, header),
            (End::Finished | End::Stopped, Some(header), Dir::Uni) => {
                self.waiting.entry(key).or_default().push_back(header);
                self.respond_to_waiting(connection);
            }
            (_, _, Dir::Uni) | (_, None, Dir::Bi) => {}
        }
    }

    fn begin(&self, connection: &Connection<'_>, id: StreamId, header: Header) -> Outbound {
        let prefix = match id.initiator() == connection.side() {
            true => Bytes::copy_from_slice(&header.tag.to_be_bytes()),
            false => Bytes::new(),
        };
        let reset = limit(header.reset_at).map(|at| (at, RESET));
        let size = u64::from(header.download);
        Outbound::new(&self.book, header.tag, Way::Down, prefix, size, reset)
    }

    fn respond(&mut self, connection: &mut Connection<'_>, id: StreamId, header: Header) {
        let mut outbound = self.begin(connection, id, header);
        connection.set_priority(id, (header.tag % 3) as i32);
        outbound.pump(connection, id, &self.book);
        self.responses
            .insert((connection.key(), id), (outbound, header));
    }

    fn respond_to_waiting(&mut self, connection: &mut Connection<'_>) {
        while let Some(waiting) = self.waiting.get_mut(&connection.key())
            && let Some(&header) = waiting.front()
            && let Some(id) = connection.open(Dir::Uni)
        {
            waiting.pop_front();
            self.respond(connection, id, header);
        }
    }

    fn alive(&self, connection: &Connection<'_>) {
        self.book.lock().at_server(self.shard, connection.key());
    }
}

impl Outbound {
    fn give_up_now(mut self, connection: &mut Connection<'_>, id: StreamId, book: &Book) {
        self.give_up(connection, id, book, ABORTED);
    }
}

impl Application for Server {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        let key = (self.shard, connection.key());
        let record = Accepted {
            established: !connection.is_handshaking(),
            ..Accepted::default()
        };
        let mut ledger = self.book.lock();
        if ledger.accepted.insert(key, record).is_some() {
            ledger.violate(format!("{key:?}: connected twice"));
        }
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        self.alive(connection);
        let key = (self.shard, connection.key());
        if let Some(record) = self.book.lock().accepted.get_mut(&key) {
            record.established = true;
        }
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.alive(connection);
        while let Some(id) = connection.accept(dir) {
            let inbound = Inbound::new(None, Way::Up, Header::LEN);
            self.requests
                .insert((connection.key(), id), (inbound, None));
            self.read(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.alive(connection);
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.alive(connection);
        if let Some((outbound, _)) = self.responses.get_mut(&(connection.key(), id)) {
            outbound.pump(connection, id, &self.book);
        }
    }

    fn finished(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.alive(connection);
        let response = self.responses.remove(&(connection.key(), id));
        if response.is_some_and(|(_, header)| header.close) {
            connection.close(CLOSED, Bytes::from_static(b"as asked"));
        }
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, _code: VarInt) {
        self.alive(connection);
        match self.responses.remove(&(connection.key(), id)) {
            Some((mut outbound, _)) => outbound.give_up(connection, id, &self.book, ABORTED),
            None => connection.reset(id, ABORTED),
        }
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.alive(connection);
        if dir == Dir::Uni {
            self.respond_to_waiting(connection);
        }
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        self.alive(connection);
        while let Some(bytes) = connection.recv_datagram() {
            datagram::check(&self.book, &bytes, Way::Up);
            // Blocked or too large for the way back: it is unreliable.
            let _ = connection.send_datagram(bytes);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.requests.retain(|&(owner, _), _| owner != key);
        self.responses.retain(|&(owner, _), _| owner != key);
        self.waiting.remove(&key);
        self.book.lock().server_closed(self.shard, key, reason);
    }

    fn timeout(&self) -> Option<Instant> {
        let read = self.slow.front().map(|&(at, _)| at);
        let free = self.held.front().map(|&(at, _)| at);
        read.into_iter().chain(free).min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        while self.held.front().is_some_and(|&(at, _)| at <= now) {
            self.held.pop_front();
        }
        while let Some(&(at, (key, id))) = self.slow.front()
            && at <= now
        {
            self.slow.pop_front();
            if let Some(mut connection) = shard.connection(key) {
                self.read(&mut connection, id);
            }
        }
    }
}
