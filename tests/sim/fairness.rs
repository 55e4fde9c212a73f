//! Who waits for whom on a shard, when there is more to send than the device takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stoq::app::{Application, Connection, ConnectionKey, Context, Dir, ReadEnd, StreamId};

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, PAYLOAD_MAX, Setup, ready};

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_micros(200);
/// 1 Gbit/s.
const RATE: u64 = 125_000_000;
const SMALL: u64 = 1_000;

/// Asks for `SMALL` bytes on each connection, again and again, after a pause. How long it took is noted.
struct Asking {
    client: Client,
    pause: Duration,
    next: Vec<(Instant, ConnectionKey)>,
    asked: HashMap<ConnectionKey, Instant>,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Application for Asking {
    fn timeout(&self) -> Option<Instant> {
        let next = self.next.iter().map(|&(at, _)| at).min();
        self.client.timeout().into_iter().chain(next).min()
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.client.run(shard);
        let now = shard.now();
        let (due, later) = self.next.iter().partition(|&&(at, _)| at <= now);
        self.next = later;
        let due: Vec<(Instant, _)> = due;
        for (_, key) in due {
            if let Some(mut connection) = shard.connection(key) {
                self.ask(&mut connection);
            }
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.ask(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        match connection.read_with(id, usize::MAX, drop) {
            Ok(ReadEnd::Finished) => {}
            end => return assert_eq!(end, Ok(ReadEnd::Blocked)),
        }
        let key = connection.key();
        let asked = self.asked.remove(&key).unwrap();
        self.times.lock().unwrap().push(connection.now() - asked);
        self.next.push((connection.now() + self.pause, key));
    }
}

impl Asking {
    fn ask(&mut self, connection: &mut Connection<'_>) {
        let id = connection.open(Dir::Bi).unwrap();
        assert_eq!(connection.write(id, &SMALL.to_be_bytes()), Ok(8));
        connection.finish(id);
        self.asked.insert(connection.key(), connection.now());
    }
}

/// Times of small requests, of `small` connections beside `bulk` ones, and bytes of each bulk connection.
fn run(bulk: usize, small: usize, pause: Duration) -> (Vec<Duration>, Vec<u64>) {
    let setup = Setup::default();
    let (server, bulk_log, small_log) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link {
        latency: LATENCY,
        rate: Some(RATE),
        ..Link::default()
    });
    net.add(setup.server("test", Server::new(&server)));
    let target = setup.target("test");
    let mut transfer = Client::new(&bulk_log, target.clone(), vec![Request::download(1 << 40)]);
    transfer.connections = bulk;
    let mut asking = Client::new(&small_log, target, Vec::new());
    asking.connections = small;
    let times = Arc::<Mutex<Vec<_>>>::default();
    let asking = Asking {
        client: asking,
        pause,
        next: Vec::new(),
        asked: HashMap::new(),
        times: Arc::clone(&times),
    };
    net.add(setup.clients(vec![ready(transfer), ready(asking)]));
    net.run_for(SECOND / 2);
    times.lock().unwrap().clear();
    let before = received(&bulk_log);
    net.run_for(SECOND);
    let after = received(&bulk_log);
    let mut times = times.lock().unwrap().clone();
    times.sort();
    let bytes = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before);
    (times, bytes.collect())
}

fn received(log: &Log) -> Vec<u64> {
    let mut received: Vec<_> = log.lock().received.clone().into_iter().collect();
    received.sort();
    received.into_iter().map(|(_, bytes)| bytes).collect()
}

/// How long the link takes for one turn of a connection with full datagrams.
fn turn() -> Duration {
    let budget = Setup::default().limits.turn_budget;
    let bytes = f64::from(PAYLOAD_MAX) * f64::from(budget);
    Duration::from_secs_f64(bytes / RATE as f64)
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

/// Jain's index: 1 if all are equal, 1/n if one has everything.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn a_small_request_waits_for_one_turn_of_a_bulk_transfer() {
    let (times, bytes) = run(1, 300, Duration::from_millis(20));
    let alone = run(0, 1, Duration::from_millis(20)).0;
    assert!(times.len() > 14_000);
    // Half of the second turn is room for the other small ones.
    let bound = p99(&alone) + turn().mul_f64(1.5);
    assert!(p99(&times) <= bound, "{:?} > {bound:?}", p99(&times));
    // The bulk transfer has what the small ones leave.
    let small = times.len() as u64 * (SMALL + 100);
    let share = bytes[0] as f64 / (RATE - small) as f64;
    assert!(share > 0.95, "{share}");
}

#[test]
fn a_small_request_waits_for_one_turn_of_each_bulk_transfer() {
    let (times, bytes) = run(50, 10, Duration::from_millis(1));
    let alone = run(0, 1, Duration::from_millis(20)).0;
    let bound = p99(&alone) + turn().mul_f64(50.0);
    assert!(p99(&times) <= bound, "{:?} > {bound:?}", p99(&times));
    assert!(bytes.iter().sum::<u64>() as f64 > 0.95 * RATE as f64);
    assert!(jain(&bytes) > 0.99, "{bytes:?}");
}
