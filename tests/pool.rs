//! The pool over a running engine: two ports in this process, joined by two queues, so two shards on each end.
//!
//! There can be one engine in a process, and all tests here share it, each with a UDP port of its own.

#[path = "handle/program.rs"]
mod program;

use std::future::Future;
use std::io::Write;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use stoq::app::Application;
use stoq::handle::ConnectError;
use stoq::pool::{
    BackOff, Health, Lease, OpenError, Peer, PeerKey, Pool, PoolConfig, PoolError, PoolStats,
};
use stoq::tls::{ClientAuth, ClientTls, ServerTls};
use stoq::{
    ClientConfig, Connection, ConnectionError, Engine, Handle, Identity, Listener, ServerConfig,
    VarInt,
};

const MS: Duration = Duration::from_millis(1);
/// So long that it does not end a test by itself.
const LONG: Duration = Duration::from_secs(60);
/// Where a service counts connections by shard.
const COUNTING: u16 = 4400;
/// Where a service counts connections that are there before the end of their handshake.
const EARLY: u16 = 4399;

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::self_signed(["localhost"]).unwrap());

/// One lcore for each queue of the link: two, where the process may run on two CPUs.
static QUEUES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    cpus.iter().take(2).map(|cpu| cpu.id as u32).collect()
});

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::builder()
        .link_on(QUEUES.len() as u16, &QUEUES)
        .client_config(client(false))
        .serve("right", COUNTING, server(false), |shard| {
            Counter(shard.queue)
        })
        .serve("right", EARLY, server(true), |_| EarlyCounter)
        .start()
        .unwrap()
});

/// Connections of [`COUNTING`], by the shard they arrived on.
static ARRIVED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

struct Counter(u16);

impl Application for Counter {
    fn connected(&mut self, _: &mut stoq::app::Connection<'_>) {
        ARRIVED[usize::from(self.0)].fetch_add(1, Ordering::SeqCst);
    }
}

/// Connections of [`EARLY`]: with their handshake complete, and before.
static WERE_EARLY: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

struct EarlyCounter;

impl Application for EarlyCounter {
    fn connected(&mut self, connection: &mut stoq::app::Connection<'_>) {
        let early = usize::from(connection.is_early_data());
        WERE_EARLY[early].fetch_add(1, Ordering::SeqCst);
    }
}

fn client(early_data: bool) -> ClientConfig {
    let trust = IDENTITY.trust();
    ClientConfig::with_tls(ClientTls {
        trust: &trust,
        identity: None,
        alpns: vec![b"test".to_vec()],
        early_data,
    })
    .unwrap()
}

fn server(early_data: bool) -> ServerConfig {
    ServerConfig::with_tls(ServerTls {
        identity: &IDENTITY,
        alpns: vec![b"test".to_vec()],
        client_auth: ClientAuth::None,
        early_data,
    })
    .unwrap()
}

fn handle() -> Handle {
    ENGINE.handle()
}

fn remote(udp_port: u16) -> SocketAddrV6 {
    SocketAddrV6::new("fd00:5701::2".parse().unwrap(), udp_port, 0, 0)
}

fn key(udp_port: u16) -> PeerKey {
    PeerKey::new(remote(udp_port), "localhost")
}

fn config() -> PoolConfig {
    PoolConfig::default()
        .wait_timeout(LONG)
        .open_timeout(LONG)
        .idle_timeout(LONG)
}

fn pool(config: PoolConfig) -> Pool {
    Pool::new(handle(), config).unwrap()
}

/// Answers each stream with what it brought, and passes the connections on.
fn echo(listener: Listener) -> tokio::sync::mpsc::UnboundedReceiver<Connection> {
    let (sender, connections) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            let _ = sender.send(connection.clone());
            tokio::spawn(async move {
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    let data = receive.read_to_end(1024).await.unwrap();
                    send.write_all(&data).await.unwrap();
                }
            });
        }
    });
    connections
}

async fn ask(connection: &Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    send.finish().unwrap();
    assert_eq!(receive.read_to_end(100).await.unwrap(), b"hello");
}

/// Waits until the pool's figures are as they should be.
async fn until(pool: &Pool, reached: impl Fn(&PoolStats) -> bool) -> PoolStats {
    let wait = async {
        loop {
            let stats = pool.stats();
            if reached(&stats) {
                return stats;
            }
            tokio::time::sleep(MS).await;
        }
    };
    let reached = tokio::time::timeout(LONG, wait).await;
    reached.unwrap_or_else(|_| panic!("{pool:?}"))
}

#[test]
fn pools_are_for_all_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pool>();
    shared::<Peer>();
    shared::<Lease>();
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let mut connections = echo(handle().listen(4401, server(false)).await.unwrap());
    let pool = pool(config());
    for _ in 0..20 {
        ask(&pool.get(&key(4401)).await.unwrap()).await;
    }
    let peer = pool.peer(remote(4401), "localhost").unwrap();
    ask(&peer.get().await.unwrap()).await;
    ask(&peer.try_get().unwrap()).await;
    let stats = pool.stats();
    assert_eq!((stats.opens, stats.hits, stats.misses), (1, 21, 1));
    let connection = connections.recv().await.unwrap();
    assert!(connections.try_recv().is_err());
    // What is not lent is closed with the pool.
    drop((peer, pool));
    let reason = tokio::time::timeout(LONG, connection.closed()).await;
    assert!(matches!(
        reason.unwrap(),
        ConnectionError::ApplicationClosed(_)
    ));
}

#[tokio::test]
async fn connections_to_a_peer_are_spread_over_both_shards() {
    if QUEUES.len() < 2 {
        // Past the capture of libtest, so that it is seen.
        let line = "skipped: connections_to_a_peer_are_spread_over_both_shards: one CPU drives one shard of a port\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let pool = pool(config().leases_per_connection(1));
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.get(&key(COUNTING)).await.unwrap());
    }
    let on_first = leases.iter().filter(|lease| lease.shard() == 0).count();
    assert_eq!(on_first, 2);
    let wait = async {
        while ARRIVED
            .iter()
            .map(|n| n.load(Ordering::SeqCst))
            .sum::<usize>()
            < 4
        {
            tokio::time::sleep(MS).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
    // Queue i of one end of a link leads to queue i of the other.
    let arrived = ARRIVED.each_ref().map(|n| n.load(Ordering::SeqCst));
    assert_eq!(arrived, [2, 2]);
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_replaced() {
    let mut connections = echo(handle().listen(4402, server(false)).await.unwrap());
    let pool = pool(config().settle(Duration::ZERO));
    for round in 1..=3 {
        let lease = pool.get(&key(4402)).await.unwrap();
        ask(&lease).await;
        let connection = connections.recv().await.unwrap();
        connection.close(VarInt::from_u32(7), b"enough");
        lease.closed().await;
        drop(lease);
        let stats = until(&pool, |stats| stats.evicted_broken == round).await;
        assert_eq!((stats.opens, stats.connections), (round, 0));
    }
    assert_eq!(pool.stats().open_failures, 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_backed_off_from_until_it_is() {
    let patient = config()
        .open_timeout(200 * MS)
        .back_off(BackOff::default().base(20 * MS).max(50 * MS).wait(true));
    let pool = pool(patient);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get(&key(4403)).await }
    });
    until(&pool, |stats| stats.open_failures >= 2).await;
    let _connections = echo(handle().listen(4403, server(false)).await.unwrap());
    ask(&waiting.await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn callers_who_do_not_wait_hear_of_failures_at_once() {
    let hasty = config()
        .open_timeout(50 * MS)
        .back_off(BackOff::default().base(LONG).max(LONG));
    let pool = pool(hasty);
    let error = pool.get(&key(4404)).await.unwrap_err();
    assert!(matches!(
        error,
        PoolError::OpenFailed(OpenError::TimedOut { .. })
    ));
    let error = pool.get(&key(4404)).await.unwrap_err();
    assert!(matches!(error, PoolError::BackingOff { failures: 1, .. }));
    assert_eq!(pool.stats().opens, 1);
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_said_so() {
    let pool = pool(config().back_off(BackOff::default().wait(true)));
    let nowhere = PeerKey::new("[2001:db8::1]:4433".parse().unwrap(), "localhost");
    let hasty = Pool::new(handle(), config()).unwrap();
    let error = hasty.get(&nowhere).await.unwrap_err();
    assert!(matches!(
        error,
        PoolError::OpenFailed(OpenError::Connect(ConnectError::NoRoute(_)))
    ));
    let nobody = PeerKey::new(remote(4405), "not a name");
    let error = pool.get(&nobody).await.unwrap_err();
    assert!(matches!(
        error,
        PoolError::OpenFailed(OpenError::Connect(ConnectError::InvalidServerName(_)))
    ));
    let _connections = echo(handle().listen(4405, server(false)).await.unwrap());
    let other = PeerKey::new(remote(4405), "elsewhere.test");
    // The certificate is pinned, so any name will do; with another certificate none does.
    ask(&pool.get(&other).await.unwrap()).await;
    let stranger = Identity::self_signed(["localhost"]).unwrap();
    let trust = stranger.trust();
    let wary = hasty.register(ClientConfig::new(&trust, ["test"]).unwrap());
    let error = hasty.get(&key(4405).client(wary.unwrap())).await;
    assert!(matches!(
        error.unwrap_err(),
        PoolError::OpenFailed(OpenError::Handshake(ConnectionError::TransportError(_)))
    ));
    // Another pool's configuration is never taken for one's own.
    pool.register(client(false)).unwrap();
    let error = pool.get(&key(4405).client(wary.unwrap())).await;
    assert!(matches!(
        error.unwrap_err(),
        PoolError::OpenFailed(OpenError::UnknownClient)
    ));
}

#[tokio::test]
async fn a_reconnection_has_early_data() {
    let were_early = || WERE_EARLY.each_ref().map(|n| n.load(Ordering::SeqCst));
    let pool = pool(config().early_data(true));
    let early = pool.register(client(true)).unwrap();
    let key = key(EARLY).client(early);
    let mut rounds = 0;
    let wait = async {
        // The ticket for the next round comes some time after the handshake.
        while were_early()[1] == 0 {
            rounds += 1;
            let lease = pool.get(&key).await.unwrap();
            assert!(lease.handshake_done().await.unwrap(), "refused");
            tokio::time::sleep(MS).await;
            lease.close(VarInt::from_u32(0), b"");
            drop(lease);
            until(&pool, |stats| stats.evicted_broken == rounds).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
    assert_ne!(were_early()[0], 0, "the first has nothing to resume");
    let stats = pool.stats();
    assert_eq!((stats.opens, stats.early_refused), (rounds, 0));
    assert_eq!(stats.open_failures, 0, "our own closing is none");
}

#[tokio::test]
async fn quiet_connections_answer_pings_and_stay() {
    let _connections = echo(handle().listen(4407, server(false)).await.unwrap());
    let health = Health::default().interval(20 * MS).deadline(LONG);
    let pool = pool(config().health(Some(health)));
    let lease = pool.get(&key(4407)).await.unwrap();
    let wait = async {
        let mut received = 0;
        let mut grown = 0;
        while grown < 5 {
            let stats = lease.stats().await.unwrap();
            grown += usize::from(stats.udp_rx.datagrams > received);
            received = stats.udp_rx.datagrams;
            tokio::time::sleep(5 * MS).await;
        }
        assert!(lease.stats().await.unwrap().frame_tx.ping > 1);
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
    assert_eq!(pool.stats().evicted_unhealthy, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut connections = echo(handle().listen(4408, server(false)).await.unwrap());
    let pool = pool(config().idle_timeout(20 * MS));
    drop(pool.get(&key(4408)).await.unwrap());
    let connection = connections.recv().await.unwrap();
    let closed = tokio::time::timeout(LONG, connection.closed()).await;
    assert!(matches!(
        closed.unwrap(),
        ConnectionError::ApplicationClosed(_)
    ));
    until(&pool, |stats| (stats.evicted_idle, stats.peers) == (1, 0)).await;
}

/// Streams and clones keep a connection open that the pool gave up.
#[tokio::test]
async fn a_clone_outlives_its_lease() {
    let _connections = echo(handle().listen(4409, server(false)).await.unwrap());
    let pool = pool(config().idle_timeout(20 * MS));
    let connection = Connection::clone(&*pool.get(&key(4409)).await.unwrap());
    until(&pool, |stats| stats.evicted_idle == 1).await;
    ask(&connection).await;
    pool.close();
    assert!(matches!(
        pool.get(&key(4409)).await.unwrap_err(),
        PoolError::Closed
    ));
    ask(&connection).await;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_threads_draw_at_once() {
    const THREADS: usize = 64;
    const ROUNDS: usize = 50;
    let _connections = echo(handle().listen(4410, server(false)).await.unwrap());
    let pool = pool(config().open_at(8).leases_per_connection(12));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                block_on(async {
                    for round in 0..ROUNDS {
                        let lease = pool.get(&key(4410)).await.unwrap();
                        if round % 10 == 0 {
                            ask(&lease).await;
                        }
                    }
                });
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| {
        for thread in threads {
            thread.join().unwrap();
        }
    })
    .await
    .unwrap();
    let stats = pool.stats();
    assert!(
        stats.hits + stats.misses >= (THREADS * ROUNDS) as u64,
        "{stats:?}"
    );
    assert!(stats.opens <= 4, "{stats:?}");
    assert_eq!((stats.leases, stats.waiters), (0, 0));
}

/// The engine of this process must not stop: another process of this test has one that does.
#[test]
fn an_engine_that_stopped_is_an_error() {
    program::alone("an_engine_that_stopped_is_an_error", || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(the_engine_stops());
    });
}

async fn the_engine_stops() {
    let engine = Engine::builder().link().client_config(client(false));
    let engine = engine.start().unwrap();
    let handle = engine.handle();
    let listener = handle.listen(4433, server(false)).await.unwrap();
    let _connections = echo(listener);
    // Both ends are drained, and either may be first.
    let pool = Pool::new(handle, config().settle(Duration::ZERO)).unwrap();
    let lease = pool.get(&key(4433)).await.unwrap();
    let report = tokio::task::spawn_blocking(|| engine.shutdown()).await;
    report.unwrap().unwrap();
    lease.closed().await;
    drop(lease);
    let stats = until(&pool, |stats| stats.evicted_broken == 1).await;
    assert_eq!(stats.open_failures, 0);
    assert!(matches!(
        pool.get(&key(4433)).await.unwrap_err(),
        PoolError::OpenFailed(OpenError::Connect(ConnectError::EngineStopped))
    ));
}
