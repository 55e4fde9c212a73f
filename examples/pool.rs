//! A pool of connections: many requests over few connections, a server that closes them, and one that is not there.
//!
//! ```sh
//! cargo run --release --example pool
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use stoq::pool::{BackOff, PeerKey, Pool, PoolConfig, PoolStats};
use stoq::{ClientConfig, Connection, Engine, Identity, Listener, ServerConfig};

/// Datagrams are received into, and sent from, packet memory without copying.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

type Failure = Box<dyn Error + Send + Sync>;

const TASKS: u32 = 32;
const REQUESTS: u32 = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();
    let identity = Identity::self_signed(["localhost"])?;
    handle.set_default_client_config(ClientConfig::new(&identity.trust(), ["echo"])?);
    let config = ServerConfig::new(&identity, ["echo"])?;
    let (closed, mut restart) = tokio::sync::mpsc::channel(4);
    tokio::spawn(serve(handle.listen(4433, config).await?, closed));

    // Up to four connections to a server, the next one when each has eight leases out.
    let config = PoolConfig::default()
        .open_at(8)
        .open_timeout(Duration::from_secs(1))
        .settle(Duration::ZERO)
        .back_off(BackOff::default().base(Duration::from_secs(10)));
    let pool = Pool::new(handle, config)?;
    let server = PeerKey::new("[fd00:5701::2]:4433".parse()?, "localhost");

    // Clones of the pool are the same pool, for tasks and threads alike.
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(ask_often(pool.clone(), server.clone())))
        .collect();
    for task in tasks {
        task.await??;
    }
    let requests = TASKS * REQUESTS;
    println!("{requests} requests in {:.2?}", start.elapsed());
    show("shared", &pool.stats());

    // The server closes all connections: the pool notices, and opens new ones when they are asked for.
    let before = pool.stats();
    while let Ok(connection) = restart.try_recv() {
        let connection: Connection = connection;
        connection.close(1_u32.into(), b"restart");
    }
    while pool.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ask(&pool, &server).await?;
    show("after a restart of the server", &pool.stats());
    println!("opened anew: {}", pool.stats().opens - before.opens);

    // Nobody is there: an error after one attempt, and the next callers get theirs at once.
    let nobody = PeerKey::new("[fd00:5701::2]:4434".parse()?, "localhost");
    for _ in 0..2 {
        match pool.get(&nobody).await {
            Ok(connection) => println!("a surprise: {connection:?}"),
            Err(error) => println!("nobody: {error}"),
        }
    }
    show("in the end", &pool.stats());
    drop(pool);
    tokio::task::spawn_blocking(|| engine.shutdown()).await??;
    Ok(())
}

async fn ask_often(pool: Pool, server: PeerKey) -> Result<(), Failure> {
    for _ in 0..REQUESTS {
        ask(&pool, &server).await?;
    }
    Ok(())
}

async fn ask(pool: &Pool, server: &PeerKey) -> Result<(), Failure> {
    // Held until the answer is there: leases are what the load is counted by.
    let connection = pool.get(server).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"hello").await?;
    send.finish()?;
    let answer = receive.read_to_end(100).await?;
    if answer != b"hello" {
        return Err("the answer is not the question".into());
    }
    Ok(())
}

fn show(when: &str, stats: &PoolStats) {
    println!("{when}:");
    println!(
        "  leases: {} at once, {} after waiting, {} waited at most",
        stats.hits, stats.misses, stats.waiters_max
    );
    println!(
        "  connections: {} now, {} opened, {} failed, {} broken",
        stats.connections, stats.opens, stats.open_failures, stats.evicted_broken
    );
}

/// Echoes every stream of every connection, and passes the connections on.
async fn serve(listener: Listener, connections: tokio::sync::mpsc::Sender<Connection>) {
    while let Some(connection) = listener.accept().await {
        let _ = connections.try_send(connection.clone());
        tokio::spawn(async move {
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    if let Ok(question) = receive.read_to_end(100).await {
                        let _ = send.write_all(&question).await;
                    }
                });
            }
        });
    }
}
