//! What a pooled connection costs when there is one: to take a lease and to return it, on one thread and on four at once.
//!
//! The pool is over a running engine, whose lcore sleeps meanwhile: nothing is sent. `by peer` has the peer at hand,
//! `by key` looks it up, and so the difference is the look. With four threads the time is that of a lease of any of them:
//! on n CPUs, n leases are taken in n times that.

use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use stoq::pool::{Lease, Peer, PeerKey, Pool, PoolConfig};
use stoq::{ClientConfig, Engine, Identity, ServerConfig};

mod common;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// Connections to the peer: each is looked at.
const CONNECTIONS: [usize; 3] = [1, 4, 16];
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut criterion = common::short();
    let measured = measure(&mut criterion);
    criterion.final_summary();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();
    let identity = Identity::self_signed(["localhost"])?;
    handle.set_default_client_config(ClientConfig::new(&identity.trust(), ["none"])?);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let config = ServerConfig::new(&identity, ["none"])?;
    let _listener = runtime.block_on(handle.listen(4433, config))?;
    let key = PeerKey::new("[fd00:5701::2]:4433".parse()?, "localhost");
    for connections in CONNECTIONS {
        let config = PoolConfig::default()
            .connections_per_peer(connections)
            .open_at(1)
            .health(None);
        let pool = Pool::new(handle.clone(), config)?;
        let peer = pool.peer_of(&key)?;
        // One lease stays on each: none is idle, and the least-loaded has to be looked for.
        let leases = runtime.block_on(one_of_each(&peer, connections))?;
        let mut group = c.benchmark_group("pool");
        group.bench_function(BenchmarkId::new("by peer", connections), |b| {
            b.iter(|| black_box(now(peer.get())).is_some());
        });
        group.bench_function(BenchmarkId::new("by key", connections), |b| {
            b.iter(|| black_box(now(pool.get(&key))).is_some());
        });
        let name = format!("by peer, {THREADS} threads");
        group.bench_function(BenchmarkId::new(name, connections), |b| {
            b.iter_custom(|iterations| contend(iterations, &|| now(peer.get()).is_some()));
        });
        let name = format!("by key, {THREADS} threads");
        group.bench_function(BenchmarkId::new(name, connections), |b| {
            b.iter_custom(|iterations| contend(iterations, &|| now(pool.get(&key)).is_some()));
        });
        group.finish();
        let stats = pool.stats();
        if stats.connections != connections || stats.opens as usize != connections {
            return Err(format!("not {connections} connections all the while: {stats:?}").into());
        }
        drop(leases);
    }
    Ok(())
}

/// Opens all connections, and keeps a lease of each.
async fn one_of_each(peer: &Peer, connections: usize) -> Result<Vec<Lease>, Box<dyn Error>> {
    let mut leases: Vec<Lease> = Vec::new();
    while leases.len() < connections {
        let lease = peer.get().await?;
        if leases.iter().all(|other| !other.same_connection(&lease)) {
            leases.push(lease);
        } else {
            drop(lease);
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(leases)
}

/// What a future has to say at once.
fn now<T, E>(future: impl Future<Output = Result<T, E>>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result.ok(),
        Poll::Pending => None,
    }
}

/// The time in which several threads do something `iterations` times together.
fn contend(iterations: u64, act: &(impl Fn() -> bool + Sync)) -> Duration {
    let each = iterations.div_ceil(THREADS as u64);
    let start = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..each).filter(|_| !black_box(act())).count()
                })
            })
            .collect();
        // Before they start, for this thread may be late to its CPU.
        let begun = Instant::now();
        start.wait();
        for thread in threads {
            let missed = thread.join();
            assert!(matches!(missed, Ok(0)), "a lease was not there");
        }
        begun.elapsed()
    })
}
