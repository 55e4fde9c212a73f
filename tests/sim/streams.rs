//! Streams are granted as they are used.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stoq::app::{Application, ConnectTarget, Connection, ConnectionKey, Context, Dir, StreamId};
use stoq::transport::STREAMS_AT_START;

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Setup, ready};

const SECOND: Duration = Duration::from_secs(1);

/// What both ends saw.
#[derive(Debug, Default)]
struct Seen {
    /// Streams that the acceptor has.
    open: usize,
    /// The most of them at a time.
    open_max: usize,
    /// Streams that have ended.
    ended: usize,
    /// How many streams could be opened at once when asked.
    room: Option<usize>,
    /// When the last of the opener's streams was opened.
    opened_at: Option<Instant>,
}

type Shared = Arc<Mutex<Seen>>;

/// Accepts streams and ends them when it has so many: answers are one byte on bidirectional ones.
struct Acceptor {
    dir: Dir,
    hold: usize,
    held: Vec<StreamId>,
    seen: Shared,
}

impl Application for Acceptor {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        assert_eq!(dir, self.dir);
        while let Some(id) = connection.accept(dir) {
            self.held.push(id);
        }
        let mut seen = self.seen.lock().unwrap();
        seen.open = self.held.len();
        seen.open_max = seen.open_max.max(seen.open);
        if self.held.len() < self.hold {
            return;
        }
        for id in self.held.drain(..) {
            while connection.read_with(id, usize::MAX, drop).is_ok() {}
            if dir == Dir::Bi {
                assert_eq!(connection.write(id, b"."), Ok(1));
                connection.finish(id);
            }
            seen.ended += 1;
        }
    }
}

/// Opens so many streams, each with one byte, as fast as it may.
struct Opener {
    /// Connects to it; an opener on a server waits for connections instead.
    target: Option<ConnectTarget>,
    dir: Dir,
    streams: usize,
    /// When to find out how many streams could be opened at once.
    ask_at: Option<Instant>,
    connection: Option<ConnectionKey>,
    seen: Shared,
}

impl Opener {
    fn open(&mut self, connection: &mut Connection<'_>) {
        while self.streams > 0 {
            let Some(id) = connection.open(self.dir) else {
                return;
            };
            assert_eq!(connection.write(id, b"."), Ok(1));
            connection.finish(id);
            self.streams -= 1;
            self.seen.lock().unwrap().opened_at = Some(connection.now());
        }
    }
}

impl Application for Opener {
    fn timeout(&self) -> Option<Instant> {
        self.ask_at
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        if let Some(target) = self.target.take() {
            self.connection = Some(shard.connect(&target).unwrap());
        }
        if self.ask_at.is_some_and(|at| at <= shard.now()) {
            self.ask_at = None;
            let mut connection = shard.connection(self.connection.unwrap()).unwrap();
            let mut room = 0;
            while connection.open(self.dir).is_some() {
                room += 1;
            }
            self.seen.lock().unwrap().room = Some(room);
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.connection = Some(connection.key());
        self.open(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let _ = connection.read_with(id, usize::MAX, drop);
    }

    fn available(&mut self, connection: &mut Connection<'_>, _dir: Dir) {
        self.open(connection);
    }
}

/// Connects, and accepts what the server opens.
struct Dial(Option<ConnectTarget>, Acceptor);

impl Application for Dial {
    fn run(&mut self, shard: &mut Context<'_>) {
        if let Some(target) = self.0.take() {
            shard.connect(&target).unwrap();
        }
    }

    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.1.opened(connection, dir);
    }
}

/// A client that opens streams, and a server that holds `hold` of them before it ends any.
fn opener(setup: &Setup, dir: Dir, streams: usize, hold: usize, ask: bool) -> (Net, Shared) {
    let seen = Shared::default();
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", acceptor(dir, hold, &seen)));
    let client = Opener {
        target: Some(setup.target("test")),
        dir,
        streams,
        ask_at: ask.then_some(net.now + SECOND),
        connection: None,
        seen: seen.clone(),
    };
    net.add(setup.clients(vec![ready(client)]));
    (net, seen)
}

fn acceptor(dir: Dir, hold: usize, seen: &Shared) -> Acceptor {
    Acceptor {
        dir,
        hold,
        held: Vec::new(),
        seen: seen.clone(),
    }
}

#[test]
fn a_thousand_streams_are_open_at_a_time() {
    for dir in [Dir::Bi, Dir::Uni] {
        let (mut net, seen) = opener(&Setup::default(), dir, 1_024, 1_024, false);
        let all = |_: &mut Net| seen.lock().unwrap().ended == 1_024;
        net.run_until(SECOND, all);
        assert_eq!(seen.lock().unwrap().open_max, 1_024);
        // The handshake, and three more round trips of 10 ms until the last one may be opened.
        let opened = seen.lock().unwrap().opened_at.unwrap() - net.start;
        assert!(opened <= Duration::from_millis(45), "{opened:?}");
    }
}

#[test]
fn a_server_opens_a_thousand_streams_to_its_client() {
    let setup = Setup::default();
    let seen = Shared::default();
    let mut net = Net::new(Link::default());
    net.add(setup.server(
        "test",
        Opener {
            target: None,
            dir: Dir::Uni,
            streams: 1_000,
            ask_at: None,
            connection: None,
            seen: seen.clone(),
        },
    ));
    let client = Dial(Some(setup.target("test")), acceptor(Dir::Uni, 1_000, &seen));
    net.add(setup.clients(vec![ready(client)]));
    net.run_until(SECOND, |_| seen.lock().unwrap().ended == 1_000);
    assert_eq!(seen.lock().unwrap().open_max, 1_000);
}

#[test]
fn a_limit_is_never_passed() {
    for limit in [1, 3, 16, 17, 31, 32, 33, 100] {
        for dir in [Dir::Bi, Dir::Uni] {
            let mut setup = Setup::default();
            setup.settings.bidi_streams = limit;
            setup.settings.uni_streams = limit;
            let limit = limit as usize;
            let (mut net, seen) = opener(&setup, dir, limit, limit, false);
            net.run_until(SECOND, |_| seen.lock().unwrap().ended == limit);
            assert_eq!(seen.lock().unwrap().open_max, limit);

            let (mut net, seen) = opener(&setup, dir, 20 * limit, 1, true);
            net.run_for(2 * SECOND);
            let seen = seen.lock().unwrap();
            assert_eq!(seen.ended, 20 * limit);
            // What is asked for at rest is what may be open at a time, less what is not worth a frame yet.
            let room = seen.room.unwrap();
            assert!(
                (limit - limit / 8..=limit).contains(&room),
                "{room} of {limit}"
            );
        }
    }
}

#[test]
fn none_is_none() {
    let mut setup = Setup::default();
    setup.settings.bidi_streams = 0;
    let (mut net, seen) = opener(&setup, Dir::Bi, 1, 1, true);
    net.run_for(2 * SECOND);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.open_max, seen.room), (0, Some(0)));
}

#[test]
fn a_peer_with_few_streams_keeps_the_small_grant() {
    for dir in [Dir::Bi, Dir::Uni] {
        // None at all, and a few.
        for streams in [0, 7] {
            let (mut net, seen) = opener(&Setup::default(), dir, streams, 1, true);
            net.run_for(2 * SECOND);
            let seen = seen.lock().unwrap();
            assert_eq!(seen.ended, streams);
            // Permission that was used is given back in parts of an eighth.
            let room = seen.room.unwrap();
            let start = STREAMS_AT_START as usize;
            assert!((start - 2..=start).contains(&room), "{room} of {dir:?}");
        }
    }
}

#[test]
fn many_requests_one_after_the_other_are_few_streams() {
    let setup = Setup::default();
    let (server, log, seen) = (Log::default(), Log::default(), Shared::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let mut client = Client::new(
        &log,
        setup.target("test"),
        vec![Request::download(100); 200],
    );
    // Of three, each counts until our last acknowledgement: at most six, which is less than half.
    client.outstanding = 3;
    net.add(setup.clients(vec![ready(Asks {
        client,
        at: net.now + 5 * SECOND,
        seen: seen.clone(),
    })]));
    net.run_for(6 * SECOND);
    assert_eq!(log.lock().completed.len(), 200);
    let room = seen.lock().unwrap().room.unwrap();
    assert!(room <= STREAMS_AT_START as usize, "{room}");
}

/// A client that finds out at a time how many streams it could open.
struct Asks {
    client: Client,
    at: Instant,
    seen: Shared,
}

impl Application for Asks {
    fn timeout(&self) -> Option<Instant> {
        self.client.timeout().or(Some(self.at))
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.client.run(shard);
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.client.connected(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.client.readable(connection, id);
        let done = self.client.log.lock().completed.len() == 200;
        let mut seen = self.seen.lock().unwrap();
        if done && seen.room.is_none() {
            let opened = std::iter::from_fn(|| connection.open(Dir::Bi));
            seen.room = Some(opened.count());
        }
    }

    fn available(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        self.client.available(connection, dir);
    }
}

#[test]
fn streams_that_end_at_once_are_granted_by_the_round_trip() {
    // With 16 in a round trip of 10 ms, 4000 streams would take 2.5 s.
    let (mut net, seen) = opener(&Setup::default(), Dir::Uni, 4_000, 1, false);
    net.run_until(SECOND / 4, |_| seen.lock().unwrap().ended == 4_000);
}

#[test]
fn early_data_uses_the_first_grant_and_goes_on() {
    let setup = Setup {
        early_data: true,
        ..Setup::default()
    };
    let (server, first, second) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let target = setup.target("test");
    let once = Client::new(&first, target.clone(), vec![Request::download(100); 500]);
    let mut again = Client::new(&second, target, vec![Request::download(100); 500]);
    again.start = Some(net.now + SECOND);
    net.add(setup.clients(vec![ready(once), ready(again)]));
    net.run_until(5 * SECOND, |_| second.lock().completed.len() == 500);
    assert_eq!(second.lock().handshake_done, [true]);
    assert!(server.lock().early_reads >= STREAMS_AT_START as usize);
    assert_eq!(second.reasons(), []);
}
