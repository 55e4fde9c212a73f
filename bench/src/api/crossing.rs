//! What it costs to cross into an lcore and back, without any packet.
//!
//! The lcore polls without a pause, so time that something takes is missing from the number of its turns: an application
//! beside the handles counts those. A command is the priority of a stream, which nothing follows from. A command with an
//! event back is a look at a connection's statistics.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stoq::app::{Application, Context};
use stoq::{Connection, SendStream};

use super::case::Spec;
use super::handle_way::{bring, builder, connect, judge, listen, runtime};
use super::recorder::histogram;
use crate::scale::figures::Figures;
use crate::scale::secrets;

/// Commands sent in a row: fewer than the queue holds, so that none waits for room.
const COMMANDS: u64 = 1024;
/// Looks at statistics under way at a time, when many are.
const LOOKS: usize = 256;

/// Runs the measurement.
///
/// # Errors
/// As [`handle_way`](super::handle_way).
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let turns = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&turns);
    let mut engine = builder(spec.way)
        .drive("right", move |_| TurnCounter(Arc::clone(&counter)))
        .start()?;
    let handle = engine.handle();
    let identity = secrets::identity()?;
    let mut figures = runtime()?.block_on(async {
        bring(&mut engine, spec.way);
        listen(&handle, &identity).await?;
        let connection = connect(&handle, &identity).await?;
        let (mut send, _recv) = connection.open_bi().await?;
        send.write_all(&[0]).await?;
        tokio::time::sleep(spec.warm_up()).await;
        measure(spec, &Turns(turns), &connection, &send).await
    })?;
    judge(&engine.shutdown()?, &mut figures);
    Ok(figures)
}

async fn measure(
    spec: &Spec,
    turns: &Turns,
    connection: &Connection,
    send: &SendStream,
) -> Result<Figures, Box<dyn Error>> {
    let length = spec.length() / 4;
    let mut figures = Figures::default();

    // Nothing but turns.
    let start = turns.now();
    tokio::time::sleep(length).await;
    let idle = turns.since(&start);
    let turn_ns = idle.ns / idle.turns;

    // One look at a time.
    let mut latency = histogram();
    let end = Instant::now() + length;
    loop {
        let start = Instant::now();
        if start >= end {
            break;
        }
        connection.stats().await?;
        latency.saturating_record(start.elapsed().as_nanos() as u64);
    }

    // Commands. The look behind them says that all are done.
    let (mut commands, mut calling) = (0, Duration::ZERO);
    let start = turns.now();
    while start.at.elapsed() < length {
        let first = Instant::now();
        for priority in 0..COMMANDS {
            send.set_priority(priority as i32 & 1);
        }
        calling += first.elapsed();
        connection.stats().await?;
        commands += COMMANDS;
    }
    let busy = turns.since(&start);
    let commands = commands as f64;
    figures.add("command, lcore", "ns", busy.beyond(turn_ns) / commands);
    figures.add(
        "command, caller",
        "ns",
        calling.as_nanos() as f64 / commands,
    );

    // Many looks at a time: as many commands as events.
    let start = turns.now();
    let end = start.at + length;
    let tasks: Vec<_> = (0..LOOKS)
        .map(|_| tokio::spawn(look_until(connection.clone(), end)))
        .collect();
    let mut looks = 0;
    for task in tasks {
        looks += task.await??;
    }
    let busy = turns.since(&start);
    let looks = looks as f64;
    figures.add(
        "command and event, lcore",
        "ns",
        busy.beyond(turn_ns) / looks,
    );
    figures.add("command and event, beside", "ns", busy.ns / looks);

    for (name, quantile) in [("there and back, p50", 0.5), ("there and back, p99", 0.99)] {
        let ns = latency.value_at_quantile(quantile);
        figures.add(name, "us", ns as f64 / 1e3);
    }
    figures.add("turn", "ns", turn_ns);
    figures.add("commands", "", commands);
    figures.add("looks", "", looks);
    Ok(figures)
}

async fn look_until(connection: Connection, end: Instant) -> Result<u64, stoq::ConnectionError> {
    let mut looks = 0;
    while Instant::now() < end {
        connection.stats().await?;
        looks += 1;
    }
    Ok(looks)
}

/// Counts turns of its lcore.
struct TurnCounter(Arc<AtomicU64>);

impl Application for TurnCounter {
    fn every_turn(&self) -> bool {
        true
    }

    fn run(&mut self, _shard: &mut Context<'_>) {
        // Nobody else writes.
        let turns = self.0.load(Ordering::Relaxed);
        self.0.store(turns + 1, Ordering::Relaxed);
    }
}

/// The turns counted so far.
struct Turns(Arc<AtomicU64>);

struct Since {
    at: Instant,
    turns: u64,
}

/// Time and turns between two looks.
struct Span {
    ns: f64,
    turns: f64,
}

impl Turns {
    fn now(&self) -> Since {
        Since {
            at: Instant::now(),
            turns: self.0.load(Ordering::Relaxed),
        }
    }

    fn since(&self, start: &Since) -> Span {
        Span {
            ns: start.at.elapsed().as_nanos() as f64,
            turns: (self.0.load(Ordering::Relaxed) - start.turns) as f64,
        }
    }
}

impl Span {
    /// Time that its turns took beyond `turn_ns` each, nanoseconds.
    fn beyond(&self, turn_ns: f64) -> f64 {
        self.ns - self.turns * turn_ns
    }
}
