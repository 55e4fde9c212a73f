//! Applications for tests: a request names the size of the response, and everything that happens is written down.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, Context, Dir, ReadEnd,
    StreamId, VarInt,
};
use stoq::tls::Fingerprint;

/// What happened to an application.
#[derive(Debug, Default)]
pub struct Events {
    pub connected: Vec<Connected>,
    /// Whether early data was accepted, for each late end of a handshake.
    pub handshake_done: Vec<bool>,
    pub closed: Vec<(ConnectionKey, ConnectionError)>,
    /// Requests completed: when, which connection, size of the response.
    pub completed: Vec<(Instant, ConnectionKey, u64)>,
    /// Bytes received by each connection.
    pub received: HashMap<ConnectionKey, u64>,
    pub datagrams: Vec<Bytes>,
    pub stopped: bool,
    /// Streams read while the handshake ran.
    pub early_reads: usize,
}

#[derive(Debug, Clone)]
pub struct Connected {
    pub alpn: Vec<u8>,
    pub early: bool,
    pub peer: Option<(Fingerprint, Vec<String>)>,
}

/// Shared by an application and its test.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Events>>);

impl Log {
    pub fn lock(&self) -> MutexGuard<'_, Events> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn connected(&self, connection: &Connection<'_>) {
        let peer = connection.peer_identity();
        self.lock().connected.push(Connected {
            alpn: connection.alpn().to_vec(),
            early: connection.is_early_data(),
            peer: peer.map(|peer| (peer.fingerprint(), peer.names().to_vec())),
        });
    }

    /// The reasons why connections closed.
    pub fn reasons(&self) -> Vec<ConnectionError> {
        self.lock()
            .closed
            .iter()
            .map(|(_, reason)| reason.clone())
            .collect()
    }
}

/// The byte at an offset of any stream is the offset modulo 251, so that a displaced chunk is noticed.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..251 * 1024).map(|i| (i % 251) as u8).collect());

fn pattern(offset: u64, len: u64) -> Bytes {
    let start = (offset % 251) as usize;
    let end = PATTERN.len().min(start.saturating_add(len as usize));
    PATTERN.slice(start..end)
}

fn check_pattern(mut offset: u64, mut data: &[u8]) {
    while !data.is_empty() {
        let expected = pattern(offset, data.len() as u64);
        let (head, tail) = data.split_at(expected.len());
        assert!(
            head == expected,
            "stream data differs after offset {offset}"
        );
        offset += head.len() as u64;
        data = tail;
    }
}

/// One stream: what was read, and what is to be written.
#[derive(Debug, Default)]
struct Exchange {
    /// The first eight bytes of a request: the size of the response.
    header: Vec<u8>,
    received: u64,
    sent: u64,
    send: u64,
    /// Everything to send is known, so the end can follow.
    sending: bool,
}

impl Exchange {
    /// Writes as much as goes; true when all is written and finished.
    fn pump(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        if !self.sending {
            return;
        }
        while self.sent < self.send {
            let mut data = pattern(self.sent, self.send - self.sent);
            match connection.write_bytes(id, &mut data) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => self.sent += bytes as u64,
            }
        }
        connection.finish(id);
        self.sending = false;
    }
}

/// Serves requests: the first eight bytes are the size of the response, the rest follows the pattern. Unreliable
/// datagrams are sent back.
#[derive(Default)]
pub struct Server {
    pub log: Log,
    /// Panics when a request of this many bytes is complete.
    pub panic_at: Option<u64>,
    streams: HashMap<(ConnectionKey, StreamId), Exchange>,
}

impl Server {
    pub fn new(log: &Log) -> Self {
        let log = log.clone();
        Self {
            log,
            ..Self::default()
        }
    }

    fn serve(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        self.log.lock().early_reads += usize::from(connection.is_handshaking());
        let exchange = self.streams.entry((key, id)).or_default();
        let end = connection.read_with(id, usize::MAX, |mut chunk| {
            let missing = 8 - exchange.header.len();
            let header = chunk.split_to(missing.min(chunk.len()));
            exchange.header.extend_from_slice(&header);
            check_pattern(exchange.received, &chunk);
            exchange.received += chunk.len() as u64;
            *self.log.lock().received.entry(key).or_default() += chunk.len() as u64;
        });
        match end {
            Ok(ReadEnd::Finished) => {
                assert!(self.panic_at != Some(exchange.received), "told to panic");
                let header = exchange.header[..].try_into().expect("a whole header");
                exchange.send = u64::from_be_bytes(header);
                exchange.sending = true;
                exchange.pump(connection, id);
            }
            Ok(_) => {}
            Err(_) => drop(self.streams.remove(&(key, id))),
        }
    }
}

impl Application for Server {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.log.connected(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        self.log
            .lock()
            .handshake_done
            .push(connection.accepted_early_data());
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            self.serve(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.serve(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        if let Some(exchange) = self.streams.get_mut(&(connection.key(), id)) {
            exchange.pump(connection, id);
        }
    }

    fn finished(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.streams.remove(&(connection.key(), id));
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        while let Some(datagram) = connection.recv_datagram() {
            let _ = connection.send_datagram(datagram);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.streams.retain(|&(owner, _), _| owner != key);
        self.log.lock().closed.push((key, reason.clone()));
    }

    fn stop(&mut self, _shard: &mut Context<'_>) {
        self.log.lock().stopped = true;
    }
}

/// A request: bytes to send besides the header, and bytes to get back.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub upload: u64,
    pub download: u64,
}

impl Request {
    pub fn download(bytes: u64) -> Self {
        Self {
            upload: 0,
            download: bytes,
        }
    }

    pub fn upload(bytes: u64) -> Self {
        Self {
            upload: bytes,
            download: 0,
        }
    }
}

/// Opens connections, and on each of them makes its requests, as many at a time as the server permits.
pub struct Client {
    pub log: Log,
    pub target: ConnectTarget,
    pub connections: usize,
    pub requests: Vec<Request>,
    /// At most so many requests at a time, on each connection.
    pub outstanding: usize,
    /// Closes each connection when its requests are done.
    pub close: bool,
    /// Unreliable datagrams to send on each connection.
    pub datagrams: usize,
    /// Asks for new packet protection keys after each request.
    pub update_keys: bool,
    /// When to start.
    pub start: Option<Instant>,
    started: bool,
    keys: HashMap<ConnectionKey, Work>,
    failed: usize,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Request>,
    streams: HashMap<StreamId, (Exchange, Request)>,
    done: bool,
}

impl Client {
    pub fn new(log: &Log, target: ConnectTarget, requests: Vec<Request>) -> Self {
        Self {
            log: log.clone(),
            target,
            connections: 1,
            requests,
            outstanding: usize::MAX,
            close: false,
            datagrams: 0,
            update_keys: false,
            start: None,
            started: false,
            keys: HashMap::new(),
            failed: 0,
        }
    }

    fn request(&mut self, connection: &mut Connection<'_>) {
        let Some(work) = self.keys.get_mut(&connection.key()) else {
            return;
        };
        while work.streams.len() < self.outstanding {
            let Some(&request) = work.waiting.front() else {
                break;
            };
            let Some(id) = connection.open(Dir::Bi) else {
                break;
            };
            work.waiting.pop_front();
            let header = request.download.to_be_bytes();
            assert_eq!(connection.write(id, &header), Ok(8));
            let mut exchange = Exchange {
                send: request.upload,
                sending: true,
                ..Exchange::default()
            };
            exchange.pump(connection, id);
            work.streams.insert(id, (exchange, request));
        }
        if work.waiting.is_empty() && work.streams.is_empty() && !work.done {
            work.done = true;
            if self.close {
                connection.close(VarInt::from_u32(7), Bytes::from_static(b"done"));
            }
        }
    }
}

impl Application for Client {
    fn timeout(&self) -> Option<Instant> {
        self.start.filter(|_| !self.started)
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        if self.started || self.start.is_some_and(|start| start > shard.now()) {
            return;
        }
        self.started = true;
        for _ in 0..self.connections {
            match shard.connect(&self.target) {
                Ok(key) => drop(self.keys.insert(key, Work::default())),
                Err(_) => self.failed += 1,
            }
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.log.connected(connection);
        let work = self
            .keys
            .get_mut(&connection.key())
            .expect("a connection of ours");
        work.waiting = self.requests.iter().copied().collect();
        for number in 0..self.datagrams {
            let _ = connection.send_datagram(Bytes::from(format!("datagram {number}")));
        }
        self.request(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        let accepted = connection.accepted_early_data();
        self.log.lock().handshake_done.push(accepted);
        if !accepted {
            let work = self
                .keys
                .get_mut(&connection.key())
                .expect("a connection of ours");
            work.streams.clear();
            work.waiting = self.requests.iter().copied().collect();
            self.request(connection);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let key = connection.key();
        let Some(work) = self.keys.get_mut(&key) else {
            return;
        };
        let Some((exchange, request)) = work.streams.get_mut(&id) else {
            return;
        };
        let end = connection.read_with(id, usize::MAX, |chunk| {
            check_pattern(exchange.received, &chunk);
            exchange.received += chunk.len() as u64;
            *self.log.lock().received.entry(key).or_default() += chunk.len() as u64;
        });
        match end {
            Ok(ReadEnd::Finished) => {
                assert_eq!(exchange.received, request.download);
                let entry = (connection.now(), key, exchange.received);
                self.log.lock().completed.push(entry);
                work.streams.remove(&id);
                if self.update_keys {
                    connection.force_key_update();
                }
                self.request(connection);
            }
            Ok(_) => {}
            Err(_) => drop(work.streams.remove(&id)),
        }
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let work = self.keys.get_mut(&connection.key());
        if let Some((exchange, _)) = work.and_then(|work| work.streams.get_mut(&id)) {
            exchange.pump(connection, id);
        }
    }

    fn available(&mut self, connection: &mut Connection<'_>, _dir: Dir) {
        self.request(connection);
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        while let Some(datagram) = connection.recv_datagram() {
            self.log.lock().datagrams.push(datagram);
        }
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.keys.remove(&key);
        self.failed += 1;
        self.log.lock().closed.push((key, reason.clone()));
    }

    fn stop(&mut self, _shard: &mut Context<'_>) {
        self.log.lock().stopped = true;
    }

    fn is_finished(&self) -> bool {
        self.started
            && self.keys.values().filter(|work| work.done).count() + self.failed >= self.connections
    }
}
