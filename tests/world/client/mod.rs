//! The clients of a world: open connections by plan, use streams in every way there is, and check every byte.

pub mod datagram;
mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use stoq::app::{
    Application, Connection, ConnectionError, ConnectionKey, Context, Dir, StreamId, VarInt,
};

pub use self::plan::{ConnectionPlan, Ending, StreamPlan};
use crate::ledger::{Book, Opened, Way, tag};
use crate::streams::{Header, Held, Inbound, NEVER, Outbound, SLOW_PAUSE, State};

/// Codes with which the client ends streams and connections.
pub const RESET: VarInt = VarInt::from_u32(23);
pub const STOPPED: VarInt = VarInt::from_u32(24);
pub const DONE: VarInt = VarInt::from_u32(7);
pub const CUT: VarInt = VarInt::from_u32(8);

/// One stream under way.
struct Exchange {
    outbound: Outbound,
    /// `None` where the response comes on a stream of the server's.
    inbound: Option<Inbound>,
}

struct Work {
    plan: ConnectionPlan,
    attempt: u16,
    next: usize,
    /// When the next stream may be opened.
    next_at: Option<Instant>,
    streams: BTreeMap<StreamId, Exchange>,
    /// Requests whose response comes on a stream of the server's.
    awaited: BTreeMap<u64, StreamPlan>,
    /// Of those, how many will not come: the response was reset and has lost its name with its first bytes.
    nameless: usize,
    responses: BTreeMap<StreamId, Inbound>,
    cut_at: Option<Instant>,
    done: bool,
}

pub struct Client {
    book: Book,
    start: Instant,
    plans: VecDeque<ConnectionPlan>,
    work: BTreeMap<ConnectionKey, Work>,
    slow: VecDeque<(Instant, (ConnectionKey, StreamId))>,
    held: Held,
    /// Connections that go on at a time.
    paused: Vec<(Instant, ConnectionKey)>,
}

impl Client {
    /// `plans` in the order of their starts.
    pub fn new(book: &Book, start: Instant, plans: Vec<ConnectionPlan>) -> Self {
        Self {
            book: book.clone(),
            start,
            plans: plans.into(),
            work: BTreeMap::new(),
            slow: VecDeque::new(),
            held: Held::new(),
            paused: Vec::new(),
        }
    }

    fn connect(&mut self, shard: &mut Context<'_>, plan: ConnectionPlan) {
        // Refused by our own limits, or because the shard stops: not a connection then.
        let Ok(key) = shard.connect(&plan.target) else {
            return;
        };
        let cut = matches!(plan.ending, Ending::Cut(_));
        let closes = plan.streams.iter().any(|stream| stream.server_closes);
        let record = Opened {
            cut: cut || closes,
            ..Opened::default()
        };
        self.book.lock().opened.insert(plan.number, record);
        let work = Work {
            plan,
            attempt: 0,
            next: 0,
            next_at: None,
            streams: BTreeMap::new(),
            awaited: BTreeMap::new(),
            nameless: 0,
            responses: BTreeMap::new(),
            cut_at: None,
            done: false,
        };
        self.work.insert(key, work);
    }

    /// Begins what may be begun, and ends what is done.
    fn go_on(&mut self, connection: &mut Connection<'_>) {
        let Some(work) = self.work.get_mut(&connection.key()) else {
            return;
        };
        let now = connection.now();
        while work.next_at.is_none_or(|at| at <= now)
            && work.streams.len() + work.awaited() < work.plan.outstanding
            && let Some(&plan) = work.plan.streams.get(work.next)
            && let Some(id) = connection.open(plan.dir)
        {
            work.begin(connection, id, plan, &self.book);
            if !work.plan.pause.is_zero() {
                let at = now + work.plan.pause;
                work.next_at = Some(at);
                self.paused.push((at, connection.key()));
            }
        }
        let idle = work.streams.is_empty() && work.awaited() == 0;
        if idle && work.next == work.plan.streams.len() && !work.done {
            work.done = true;
            if let Some(record) = self.book.lock().opened.get_mut(&work.plan.number) {
                record.done = true;
            }
            if work.plan.ending == Ending::Close {
                connection.close(DONE, Bytes::from_static(b"done"));
            }
        }
    }

    fn read(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(work) = self.work.get_mut(&key) else {
            return;
        };
        let exchange = work.streams.get_mut(&id);
        let inbound = exchange.and_then(|exchange| exchange.inbound.as_mut());
        let Some(inbound) = inbound.or_else(|| work.responses.get_mut(&id)) else {
            return;
        };
        loop {
            match inbound.read(connection, id, &self.book, &mut self.held) {
                State::Open => return,
                State::Pause => {
                    let again = connection.now() + SLOW_PAUSE;
                    return self.slow.push_back((again, (key, id)));
                }
                State::Header => {
                    let header = inbound.header[..].try_into();
                    let tag = u64::from_be_bytes(header.expect("eight bytes, as asked for"));
                    let Some(plan) = work.awaited.get(&tag) else {
                        let number = work.plan.number;
                        let mut ledger = self.book.lock();
                        return ledger
                            .violate(format!("connection {number}: stream {tag:x} not asked for"));
                    };
                    inbound.expect(tag, plan);
                }
                State::Over(_) => break,
            }
        }
        let tag = inbound.tag;
        work.streams.remove(&id);
        work.responses.remove(&id);
        match tag {
            Some(tag) => drop(work.awaited.remove(&tag)),
            None => work.nameless += 1,
        }
        if work.plan.update_keys {
            connection.force_key_update();
        }
        self.go_on(connection);
    }

    fn alive(&self, connection: &Connection<'_>) {
        if let Some(work) = self.work.get(&connection.key()) {
            self.book.lock().at_client(work.plan.number);
        }
    }

    fn send_datagrams(&self, connection: &mut Connection<'_>) {
        let Some(work) = self.work.get(&connection.key()) else {
            return;
        };
        for index in 0..work.plan.datagrams {
            let name = datagram::name(work.plan.number, work.attempt, index);
            // Refused ones are not sent: too large for now, or not taken at all.
            let _ = connection.send_datagram(datagram::make(name, work.plan.datagram_size));
        }
    }
}

impl Inbound {
    fn expect(&mut self, tag: u64, plan: &StreamPlan) {
        self.tag = Some(tag);
        self.slow = plan.slow_client;
        if plan.client_stops != NEVER {
            self.stop = Some((u64::from(plan.client_stops), STOPPED));
        }
    }
}

impl Work {
    fn begin(
        &mut self,
        connection: &mut Connection<'_>,
        id: StreamId,
        plan: StreamPlan,
        book: &Book,
    ) {
        let tag = tag(self.plan.number, self.attempt, self.next as u16);
        self.next += 1;
        let header = Header {
            tag,
            upload: plan.upload,
            download: plan.download,
            stop_at: plan.server_stops,
            reset_at: plan.server_resets,
            slow: plan.slow_server,
            close: plan.server_closes,
        };
        let resets = (plan.client_resets != NEVER).then_some(u64::from(plan.client_resets));
        let reset = resets.map(|at| (at, RESET));
        let upload = u64::from(plan.upload);
        let mut outbound = Outbound::new(book, tag, Way::Up, header.encode(), upload, reset);
        outbound.pump(connection, id, book);
        let inbound = (plan.dir == Dir::Bi).then(|| {
            let mut inbound = Inbound::new(None, Way::Down, 0);
            inbound.expect(tag, &plan);
            inbound
        });
        // There is no answer to a request that is reset.
        if inbound.is_none() && reset.is_none() {
            self.awaited.insert(tag, plan);
        }
        if inbound.is_some() || !outbound.is_over() {
            self.streams.insert(id, Exchange { outbound, inbound });
        }
    }

    /// Responses to come on streams of the server's.
    fn awaited(&self) -> usize {
        self.awaited.len() - self.nameless
    }

    /// Forgets an upload that is over, where nothing comes back on the same stream.
    fn sent(&mut self, id: StreamId) {
        let over = |exchange: &Exchange| exchange.inbound.is_none() && exchange.outbound.is_over();
        if self.streams.get(&id).is_some_and(over) {
            self.streams.remove(&id);
        }
    }
}

impl Application for Client {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.alive(connection);
        let Some(work) = self.work.get_mut(&connection.key()) else {
            return;
        };
        if let Some(record) = self.book.lock().opened.get_mut(&work.plan.number) {
            record.early = connection.is_handshaking();
        }
        if let Ending::Cut(after) = work.plan.ending {
            work.cut_at = Some(connection.now() + after);
        }
        self.send_datagrams(connection);
        self.go_on(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        self.alive(connection);
        let Some(work) = self.work.get_mut(&connection.key()) else {
            return;
        };
        if connection.accepted_early_data() {
            return;
        }
        let number = work.plan.number;
        let attempt = work.attempt;
        let tags = (0..work.next).map(|index| tag(number, attempt, index as u16));
        self.book.lock().void(tags);
        work.attempt += 1;
        work.next = 0;
        work.streams.clear();
        work.awaited.clear();
        work.nameless = 0;
        work.responses.clear();
        self.send_datagrams(connection);
        self.go_on(connection);
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.alive(connection);
        while let Some(id) = connection.accept(dir) {
            if let Some(work) = self.work.get_mut(&connection.key()) {
                work.responses.insert(id, Inbound::new(None, Way::Down, 8));
            }
            self.read(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.alive(connection);
        self.read(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.alive(connection);
        if let Some(work) = self.work.get_mut(&connection.key()) {
            if let Some(exchange) = work.streams.get_mut(&id) {
                exchange.outbound.pump(connection, id, &self.book);
            }
            work.sent(id);
        }
        self.go_on(connection);
    }

    fn stopped(&mut self, connection: &mut Connection<'_>, id: StreamId, _code: VarInt) {
        self.alive(connection);
        let work = self.work.get_mut(&connection.key());
        let Some(work) = work else {
            return;
        };
        match work.streams.get_mut(&id) {
            Some(exchange) if !exchange.outbound.is_over() => {
                exchange
                    .outbound
                    .give_up(connection, id, &self.book, STOPPED);
            }
            _ => connection.reset(id, STOPPED),
        }
        work.sent(id);
        self.go_on(connection);
    }

    fn available(&mut self, connection: &mut Connection<'_>, _dir: Dir) {
        self.alive(connection);
        self.go_on(connection);
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        self.alive(connection);
        while let Some(bytes) = connection.recv_datagram() {
            datagram::check(&self.book, &bytes, Way::Down);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        match self.work.remove(&key) {
            Some(work) => self.book.lock().client_closed(work.plan.number, reason),
            None => self.book.lock().violate(format!("{key:?} closed twice")),
        }
    }

    fn timeout(&self) -> Option<Instant> {
        let connect = self.plans.front().map(|plan| self.start + plan.start);
        let read = self.slow.front().map(|&(at, _)| at);
        let free = self.held.front().map(|&(at, _)| at);
        let cuts = self.work.values().filter_map(|work| work.cut_at);
        let paused = self.paused.iter().map(|&(at, _)| at);
        connect
            .into_iter()
            .chain(read)
            .chain(free)
            .chain(cuts)
            .chain(paused)
            .min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        while self
            .plans
            .front()
            .is_some_and(|plan| self.start + plan.start <= now)
        {
            if let Some(plan) = self.plans.pop_front() {
                self.connect(shard, plan);
            }
        }
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
        let due: Vec<_> = self
            .paused
            .extract_if(.., |&mut (at, _)| at <= now)
            .collect();
        for (_, key) in due {
            if let Some(mut connection) = shard.connection(key) {
                self.go_on(&mut connection);
            }
        }
        for (&key, work) in &mut self.work {
            if work.cut_at.is_some_and(|at| at <= now) {
                work.cut_at = None;
                if let Some(mut connection) = shard.connection(key) {
                    connection.close(CUT, Bytes::from_static(b"cut"));
                }
            }
        }
    }

    fn stop(&mut self, _shard: &mut Context<'_>) {
        self.plans.clear();
    }

    fn is_finished(&self) -> bool {
        self.plans.is_empty() && self.work.values().all(|work| work.done)
    }
}
