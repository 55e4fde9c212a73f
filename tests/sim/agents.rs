//! Agents: applications that others talk to, which run in every turn and reserve streams.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use poll::Transport;
use quinn_proto::{ConnectionError, VarInt};
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionKey, Context, Dir, NewApplication, PANICKED,
    StreamId, from_fn,
};
use stoq::shard::{Shard, ShardConfig, ShardError};

use crate::apps::{Client, Log, Request, Server};
use crate::listeners::connect_to;
use crate::net::{Link, Net, Setup, UDP_PORT, ready};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;

type Order = Box<dyn FnOnce(&mut Context<'_>) + Send>;

/// Where a test leaves orders for its agent.
#[derive(Clone, Default)]
pub struct Desk {
    orders: Arc<Mutex<Vec<Order>>>,
    pub log: Log,
    runs: Arc<AtomicUsize>,
}

impl Desk {
    pub fn agent(&self) -> NewApplication {
        let desk = self.clone();
        from_fn(move || Agent {
            server: Server::new(&desk.log),
            desk,
            runs: Rc::default(),
        })
    }

    pub fn leave(&self, order: impl FnOnce(&mut Context<'_>) + Send + 'static) {
        self.orders.lock().unwrap().push(Box::new(order));
    }

    /// Has the agent do something in its next turn, and returns what came of it.
    pub fn ask<R: Send + 'static>(
        &self,
        net: &mut Net,
        order: impl FnOnce(&mut Context<'_>) -> R + Send + 'static,
    ) -> R {
        let (tell, told) = mpsc::channel();
        self.leave(move |shard| tell.send(order(shard)).unwrap());
        // A node whose link is full has no turn for a while.
        let mut turns = (0..1_000).map(|_| {
            net.run_for(Duration::from_micros(1));
            told.try_recv().ok()
        });
        turns.find_map(|told| told).expect("it runs in every turn")
    }

    pub fn listen(&self, net: &mut Net, setup: &Setup, udp_port: u16, alpn: &str) {
        let listened = self.try_listen(net, setup, udp_port, &[alpn]);
        listened.expect("a free UDP port");
    }

    pub fn try_listen(
        &self,
        net: &mut Net,
        setup: &Setup,
        udp_port: u16,
        alpns: &[&str],
    ) -> Result<(), ShardError> {
        let server = setup.server_config(alpns);
        let alpns = alpns.iter().map(|alpn| (alpn.as_bytes().to_vec(), false));
        let alpns = alpns.collect();
        self.ask(net, move |shard| {
            shard.listen(udp_port, server, alpns, None)
        })
    }

    pub fn unlisten(&self, net: &mut Net, udp_port: u16) {
        self.ask(net, move |shard| shard.unlisten(udp_port));
    }
}

/// Does what its test says, in the next turn, and serves whoever connects. Not `Send`.
struct Agent {
    desk: Desk,
    server: Server,
    runs: Rc<Cell<usize>>,
}

impl Application for Agent {
    fn every_turn(&self) -> bool {
        true
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.runs.set(self.runs.get() + 1);
        self.desk.runs.store(self.runs.get(), Ordering::Relaxed);
        let orders = std::mem::take(&mut *self.desk.orders.lock().unwrap());
        for order in orders {
            order(shard);
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.server.connected(connection);
    }

    fn handshake_done(&mut self, connection: &mut Connection<'_>) {
        self.server.handshake_done(connection);
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.server.opened(connection, dir);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.server.readable(connection, id);
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.server.writable(connection, id);
    }

    fn finished(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.server.finished(connection, id);
    }

    fn closed(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        self.server.closed(key, reason);
    }
}

/// Counts its runs, and may ask for the next one by time.
struct Counts {
    every_turn: bool,
    timeout: Option<Instant>,
    runs: Arc<AtomicUsize>,
}

impl Application for Counts {
    fn every_turn(&self) -> bool {
        self.every_turn
    }

    fn timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn run(&mut self, _shard: &mut Context<'_>) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_application_that_wants_every_turn_is_run_once_in_each() {
    let now = Instant::now();
    let runs: [Arc<AtomicUsize>; 4] = Default::default();
    let counts = |index: usize, every_turn, timeout| {
        let runs = Arc::clone(&runs[index]);
        ready(Counts {
            every_turn,
            timeout,
            runs,
        })
    };
    let config = Setup::default().agents(vec![
        counts(0, true, None),
        counts(1, true, Some(now)),
        counts(2, false, None),
        counts(3, false, Some(now)),
    ]);
    let mut shard = Shard::new(config, now).unwrap();
    for turn in 1..=5 {
        shard.advance(now);
        shard.advance(now);
        assert!(shard.transmit(now, &mut Vec::new(), 1).is_none());
        assert_eq!(shard.timeout(), Some(now), "one asks for a time");
        let runs = runs.each_ref().map(|runs| runs.load(Ordering::Relaxed));
        assert_eq!(runs, [turn, turn, 1, turn]);
    }
}

#[test]
fn an_application_that_wants_every_turn_asks_for_none_by_itself() {
    let desk = Desk::default();
    let now = Instant::now();
    let mut shard = Shard::new(Setup::default().agents(vec![desk.agent()]), now).unwrap();
    assert!(shard.transmit(now, &mut Vec::new(), 1).is_none());
    assert_eq!(shard.timeout(), None, "the idle policy decides");
    assert!(!shard.clients_finished(), "it is no client");
}

/// Panics in its fiftieth run.
struct PanicsLater {
    runs: Arc<AtomicUsize>,
    inner: Client,
}

impl Application for PanicsLater {
    fn every_turn(&self) -> bool {
        true
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        let runs = 1 + self.runs.fetch_add(1, Ordering::Relaxed);
        assert!(runs < 50, "told to panic");
        self.inner.run(shard);
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.inner.connected(connection);
    }
}

#[test]
fn one_that_panics_in_a_turn_is_not_run_again_and_costs_its_connections_only() {
    let setup = Setup::default();
    let (server, bad, good) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let runs = Arc::<AtomicUsize>::default();
    let bad = PanicsLater {
        runs: Arc::clone(&runs),
        inner: Client::new(&bad, setup.target("test"), Vec::new()),
    };
    let other = Desk::default();
    let good = Client::new(&good, setup.target("test"), vec![Request::download(MIB)]);
    net.add(ShardConfig {
        clients: vec![ready(good)],
        ..setup.agents(vec![ready(bad), other.agent()])
    });
    net.run_for(10 * SECOND);
    assert_eq!(runs.load(Ordering::Relaxed), 50);
    assert!(other.runs.load(Ordering::Relaxed) > 100);
    assert_eq!(net.counters(1).application_panics.get(), 1);
    let [ConnectionError::ApplicationClosed(close)] = &server.reasons()[..] else {
        panic!("{:?}", server.reasons());
    };
    assert_eq!(close.error_code, PANICKED);
    assert_eq!(net.counters(0).connections_current.get(), 1);
    assert_eq!(
        net.counters(1).clients_finished.get(),
        1,
        "agents count not"
    );
}

#[test]
fn an_application_that_is_not_send_runs_where_its_shard_is_made() {
    let setup = Setup::default();
    let (desk, client) = (Desk::default(), Log::default());
    let made_on = Arc::new(Mutex::new(None));
    let (told, inner) = (Arc::clone(&made_on), desk.clone());
    // All of it is made here; the shards and their applications are made on the thread that drives them.
    let agent: NewApplication = Box::new(move || {
        *told.lock().unwrap() = Some(std::thread::current().id());
        (inner.agent())()
    });
    let agents = setup.agents(vec![agent]);
    let log = client.clone();
    let thread = std::thread::spawn(move || {
        let mut net = Net::new(Link::default());
        net.add(agents);
        desk.listen(&mut net, &setup, UDP_PORT, "test");
        connect_to(&mut net, &setup, UDP_PORT, "test", &log);
        net.run_until(5 * SECOND, |_| log.lock().completed.len() == 1);
        assert!(desk.runs.load(Ordering::Relaxed) > 3);
    });
    let id = thread.thread().id();
    thread.join().expect("its assertions hold");
    assert_eq!(*made_on.lock().unwrap(), Some(id));
}

// Reserved streams.

/// A server on node 0, and an agent on node 1 with a connection to it.
struct Joined {
    net: Net,
    desk: Desk,
    key: ConnectionKey,
    target: ConnectTarget,
}

impl Joined {
    fn new(setup: &Setup, server: impl Application + Send + 'static) -> Self {
        let desk = Desk::default();
        let mut net = Net::new(Link::default());
        net.add(setup.server("test", server));
        net.add(setup.agents(vec![desk.agent()]));
        let target = setup.target("test");
        let key = connect(&mut net, &desk, &target);
        net.run_for(SECOND);
        assert_eq!(desk.log.lock().connected.len(), 1);
        Self {
            net,
            desk,
            key,
            target,
        }
    }

    /// Has the agent do something with its connection.
    fn with<R: Send + 'static>(
        &mut self,
        order: impl FnOnce(&mut Connection<'_>) -> R + Send + 'static,
    ) -> R {
        let key = self.key;
        self.desk.ask(&mut self.net, move |shard| {
            order(&mut shard.connection(key).expect("a live connection"))
        })
    }
}

fn connect(net: &mut Net, desk: &Desk, target: &ConnectTarget) -> ConnectionKey {
    let target = target.clone();
    desk.ask(net, move |shard| shard.connect(&target).unwrap())
}

#[test]
fn reserved_streams_count_when_they_are_claimed() {
    let mut joined = Joined::new(&Setup::default(), Server::default());
    let ids = joined.with(|connection| {
        let dirs = [Dir::Bi, Dir::Uni, Dir::Bi];
        dirs.map(|dir| connection.reserve(dir).unwrap())
    });
    assert_eq!(ids.map(StreamId::dir), [Dir::Bi, Dir::Uni, Dir::Bi]);
    joined.net.run_for(SECOND);
    assert_eq!(joined.net.counters(1).streams_opened.get(), 0);
    assert_eq!(joined.net.counters(0).streams_accepted.get(), 0);
    joined.with(move |connection| {
        for id in [ids[0], ids[1]] {
            connection.claim(id);
            assert_eq!(connection.write(id, &[0; 8]), Ok(8));
            connection.finish(id);
        }
        let id = connection.open(Dir::Bi).unwrap();
        assert_eq!(id.index(), 2, "behind those that are reserved");
        assert_eq!(connection.write(id, &[0; 8]), Ok(8));
        connection.finish(id);
    });
    assert_eq!(joined.net.counters(1).streams_opened.get(), 3);
    joined.net.run_for(SECOND);
    // That before the last one is open for the peer, too.
    assert_eq!(joined.net.counters(0).streams_accepted.get(), 4);
}

#[test]
fn a_drain_does_not_wait_for_streams_that_are_only_reserved() {
    let server = Log::default();
    let mut joined = Joined::new(&Setup::default(), Server::new(&server));
    joined.with(|connection| {
        let dirs = [Dir::Bi, Dir::Bi, Dir::Uni, Dir::Uni];
        let ids = dirs.map(|dir| connection.reserve(dir).unwrap());
        // One of them is used, and has come to its end when the stop comes.
        connection.claim(ids[2]);
        assert_eq!(connection.write(ids[2], &[0; 8]), Ok(8));
        connection.finish(ids[2]);
    });
    joined.net.run_for(SECOND);
    joined.net.stop(1);
    joined.net.run_for(MILLISECOND);
    let reasons = joined.desk.log.reasons();
    assert_eq!(reasons, [ConnectionError::LocallyClosed]);
    joined.net.run_for(10 * MILLISECOND);
    let [ConnectionError::ApplicationClosed(close)] = &server.reasons()[..] else {
        panic!("{:?}", server.reasons());
    };
    assert_eq!(close.reason, "shutting down");
    joined.net.run_for(SECOND);
    assert!(joined.net.shard(1).is_drained());
}

/// Takes connections and does nothing with them.
pub struct Mute;

impl Application for Mute {}

#[test]
fn a_drain_waits_for_streams_that_were_claimed() {
    // Two that were not finished, and one whose answer does not come.
    for (dir, finish) in [(Dir::Bi, false), (Dir::Uni, false), (Dir::Bi, true)] {
        let mut joined = Joined::new(&Setup::default(), Mute);
        joined.with(move |connection| {
            let ids = [0; 3].map(|_| connection.reserve(dir).unwrap());
            connection.claim(ids[0]);
            assert_eq!(connection.write(ids[0], b"request"), Ok(7));
            if finish {
                connection.finish(ids[0]);
            }
        });
        joined.net.run_for(SECOND);
        joined.net.stop(1);
        joined.net.run_for(2 * SECOND);
        assert!(!joined.net.shard(1).is_drained(), "{dir:?} {finish}");
        assert_eq!(joined.desk.log.reasons(), []);
        // The drain time-out is three seconds.
        joined.net.run_for(2 * SECOND);
        assert!(joined.net.shard(1).is_drained());
    }
}

#[test]
fn streams_reserved_in_early_data_that_is_refused_are_forgotten() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let mut joined = Joined::new(&setup, Mute);
    joined.with(|connection| connection.close(VarInt::from_u32(0), Bytes::new()));
    joined.net.run_for(SECOND);
    let other = Setup {
        identity: setup.identity.clone(),
        ..Setup::default()
    };
    joined.net.replace(0, other.server("test", Mute));
    joined.key = connect(&mut joined.net, &joined.desk, &joined.target);
    joined.with(|connection| {
        assert!(connection.is_early_data());
        let ids = [0; 3].map(|_| connection.reserve(Dir::Uni).unwrap());
        connection.claim(ids[0]);
    });
    joined.net.run_for(SECOND);
    assert_eq!(joined.desk.log.lock().handshake_done, [false]);
    let id = joined.with(|connection| {
        let id = connection.open(Dir::Uni).unwrap();
        assert_eq!(connection.write(id, b"no end"), Ok(6));
        id
    });
    assert_eq!(id.index(), 0, "the early ones are gone");
    joined.net.run_for(SECOND);
    joined.net.stop(1);
    joined.net.run_for(SECOND);
    assert!(!joined.net.shard(1).is_drained(), "a stream is in use");
}
