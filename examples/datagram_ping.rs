//! Pings with unreliable datagrams (RFC 9221), and shows how long they took.
//!
//! ```sh
//! cargo run --release --example datagram_ping -- 10000
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use stoq::{ClientConfig, Connection, Engine, Identity, Listener, ServerConfig};

/// Datagrams are received into, and sent from, packet memory without copying.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// A ping that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const SIZE: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = match std::env::args().nth(1) {
        Some(count) => count
            .parse()
            .map_err(|_| format!("`{count}` is not a number"))?,
        None => 2_000_u64,
    };
    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();
    let identity = Identity::self_signed(["localhost"])?;
    let config = ServerConfig::new(&identity, ["ping"])?;
    let listener = handle.listen(4433, config).await?;
    tokio::spawn(answer(listener));

    let config = ClientConfig::new(&identity.trust(), ["ping"])?;
    let server = "[fd00:5701::2]:4433".parse()?;
    let connection = handle.connect_with(config, server, "localhost")?.await?;
    println!(
        "{count} pings of {SIZE} bytes; up to {} would fit a datagram",
        connection
            .max_datagram_size()
            .ok_or("the server takes no datagrams")?
    );
    let (times, lost) = ping(&connection, count).await?;
    show(&times, lost);
    connection.close(0_u32.into(), b"done");
    tokio::task::spawn_blocking(|| engine.shutdown()).await??;
    Ok(())
}

/// Sends back what comes. What there is no room for is dropped, as networks do it.
async fn answer(listener: Listener) {
    while let Some(connection) = listener.accept().await {
        tokio::spawn(async move {
            while let Ok(datagram) = connection.read_datagram().await {
                let _ = connection.send_datagram(datagram);
            }
        });
    }
}

/// One ping at a time: times in nanoseconds, and how many were lost.
async fn ping(
    connection: &Connection,
    count: u64,
) -> Result<(Histogram<u64>, u64), Box<dyn Error>> {
    let mut times = Histogram::new_with_bounds(1, 1_000_000_000, 3)?;
    let mut lost = 0;
    for number in 0..count {
        let start = Instant::now();
        connection.send_datagram_wait(message(number)).await?;
        match tokio::time::timeout(PATIENCE, answer_to(number, connection)).await {
            Ok(came) => {
                came?;
                times.saturating_record(start.elapsed().as_nanos() as u64);
            }
            Err(_) => lost += 1,
        }
    }
    Ok((times, lost))
}

fn message(number: u64) -> Bytes {
    let mut message = BytesMut::with_capacity(SIZE);
    message.put_u64(number);
    message.resize(SIZE, 0);
    message.freeze()
}

/// Waits for one answer, past those to earlier pings that came too late.
async fn answer_to(number: u64, connection: &Connection) -> Result<(), stoq::ConnectionError> {
    loop {
        let mut datagram = connection.read_datagram().await?;
        if datagram.len() == SIZE && datagram.get_u64() == number {
            return Ok(());
        }
    }
}

fn show(times: &Histogram<u64>, lost: u64) {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    println!("{} answered, {lost} lost", times.len());
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        println!(
            "{name:>6} {:>9.1} us",
            micros(times.value_at_quantile(quantile))
        );
    }
    println!("{:>6} {:>9.1} us", "max", micros(times.max()));
    println!();
    for bar in times
        .iter_log(1_000, 2.0)
        .filter(|bar| bar.count_since_last_iteration() > 0)
    {
        let below = micros(bar.value_iterated_to());
        let share = bar.count_since_last_iteration() as f64 / times.len() as f64;
        let stars = "*".repeat((share * 50.0).ceil() as usize);
        println!("up to {below:>9.1} us {:>5.1} % {stars}", 100.0 * share);
    }
}
