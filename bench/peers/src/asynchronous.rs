//! The client of stacks that are futures: one runtime on one thread, whatever the stack.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bench::api::case::REST;
use bench::api::recorder::{Recorder, request};
use bench::api::tasks::{self, Client};
use bench::field::peer::{ClientSpec, HEADER, Load, PATIENCE, Work};
use bench::scale::case::DIALING;
use bench::scale::figures::Figures;
use bench::scale::quinn_server::{poll_without_sleep, runtime};
use bytes::Bytes;
use tokio::time::MissedTickBehavior;

use crate::report::Usage;

/// Counts handshakes that were not resumed.
pub type FullHandshakes = Arc<AtomicU64>;

/// Where connections come from.
pub trait Dialer: Clone + Send + Sync + 'static {
    /// What it makes.
    type Connection: Connection;

    /// Makes a connection, ready for use.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Handshakes in which the server proved itself anew.
    fn full_handshakes(&self) -> u64;
}

/// What a client does on a connection beside requests.
pub trait Connection: Client {
    /// Hands an unreliable datagram to the stack.
    fn send_datagram(&self, payload: Bytes) -> Result<(), String>;

    /// The next unreliable datagram.
    fn receive_datagram(&self) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// UDP payload of a full datagram now, bytes; nothing where the stack does not tell.
    fn udp_payload(&self) -> Option<u16>;

    /// What is not as it should be, where the stack tells.
    fn oddity(&self) -> Option<&'static str> {
        None
    }

    /// Ends it.
    fn close(&self);
}

/// Does what `spec` says with the connections of a dialer, which `make` makes within the runtime.
pub fn run<D: Dialer>(
    spec: &ClientSpec,
    make: impl FnOnce() -> Result<D, Box<dyn Error>>,
) -> Result<Figures, Box<dyn Error>> {
    runtime()?.block_on(async {
        if spec.path.busy {
            tokio::spawn(poll_without_sleep());
        }
        work(spec, make()?).await
    })
}

async fn work<D: Dialer>(spec: &ClientSpec, dialer: D) -> Result<Figures, Box<dyn Error>> {
    let (work, load) = (spec.path.work, spec.load);
    let terms = load.terms(work);
    match work {
        Work::Bulk | Work::Requests => {
            let connections = dial(&dialer, load.connections).await?;
            let usage = Usage::now(spec);
            let mut figures = tasks::run(terms, &connections).await;
            usage.add_cpu_by_bytes(&mut figures);
            let first = connections.first();
            if let Some(bytes) = first.and_then(Connection::udp_payload) {
                figures.add("UDP payload", "B", f64::from(bytes));
            }
            let oddity = first.and_then(Connection::oddity);
            figures.problems.extend(oddity.map(str::to_owned));
            Ok(figures)
        }
        Work::Handshakes | Work::Resumed => Ok(handshakes(&load, work, dialer).await),
        Work::Datagrams => {
            let connection = dialer.connect().await?;
            tokio::time::sleep(REST).await;
            let recorder = Recorder::new(terms, Instant::now());
            Ok(echo_datagrams(&load, &connection, recorder).await)
        }
        Work::Idle => {
            // What is made once, with the first connection, is not what a connection takes.
            let first = dialer.connect().await?;
            tokio::time::sleep(REST).await;
            let usage = Usage::now(spec);
            let connections = dial(&dialer, load.connections).await?;
            tokio::time::sleep(load.length()).await;
            let mut figures = Figures::default();
            usage.add_memory_by_connections(connections.len(), &mut figures);
            first.close();
            Ok(figures)
        }
    }
}

/// Makes `count` connections.
async fn dial<D: Dialer>(dialer: &D, count: usize) -> Result<Vec<D::Connection>, Box<dyn Error>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let dialers: Vec<_> = (0..DIALING.min(count))
        .map(|_| {
            let (dialer, begun) = (dialer.clone(), Arc::clone(&begun));
            tokio::spawn(async move {
                let mut made = Vec::new();
                while begun.fetch_add(1, Ordering::Relaxed) < count {
                    made.push(dialer.connect().await?);
                }
                Ok::<_, String>(made)
            })
        })
        .collect();
    let mut connections = Vec::with_capacity(count);
    for dialer in dialers {
        connections.extend(dialer.await??);
    }
    Ok(connections)
}

async fn handshakes<D: Dialer>(load: &Load, work: Work, dialer: D) -> Figures {
    let terms = load.terms(work);
    if work == Work::Resumed {
        // Tickets to begin with.
        let _ = dial(&dialer, 2 * terms.outstanding)
            .await
            .map(|made| made.iter().for_each(Connection::close));
        tokio::time::sleep(REST).await;
    }
    let before = dialer.full_handshakes();
    let recorder = Arc::new(Mutex::new(Recorder::new(terms, Instant::now())));
    let makers: Vec<_> = (0..terms.outstanding)
        .map(|_| tokio::spawn(make_handshakes(dialer.clone(), Arc::clone(&recorder))))
        .collect();
    for maker in makers {
        if let Err(error) = maker.await {
            lock(&recorder).fail(format!("a client's task: {error}"));
        }
    }
    let mut figures = lock(&recorder).figures(None);
    judge_kind(
        work,
        dialer.full_handshakes() - before,
        terms.outstanding,
        &mut figures,
    );
    figures
}

/// Full handshakes that were none, or the other way round, are a problem. Some that were to be resumed may find that all
/// tickets are used.
pub fn judge_kind(work: Work, full: u64, under_way: usize, figures: &mut Figures) {
    let done = figures.value("answers").unwrap_or(0.0);
    let full = full as f64;
    let other = if work == Work::Resumed {
        full
    } else {
        done - full
    };
    if other > done * 0.01 + under_way as f64 {
        figures
            .problems
            .push(format!("{full} of {done} handshakes were full ones"));
    }
}

async fn make_handshakes<D: Dialer>(dialer: D, recorder: Arc<Mutex<Recorder>>) {
    let request = request(0).slice(..HEADER);
    let mut next = lock(&recorder).issue();
    while let Some(issued) = next {
        let used = async {
            let connection = dialer.connect().await?;
            let bytes = connection.exchange(request.clone(), |_| {}).await?;
            connection.close();
            Ok::<_, String>(bytes)
        };
        match used.await {
            Ok(bytes) => next = lock(&recorder).answered(issued, bytes),
            Err(problem) => {
                lock(&recorder).fail(problem);
                return;
            }
        }
    }
}

/// Keeps datagrams under way until the recorder has enough. They come back in order, unless some are lost, which is told
/// by the time that nothing came.
async fn echo_datagrams(
    load: &Load,
    connection: &impl Connection,
    mut recorder: Recorder,
) -> Figures {
    let payload = Bytes::from(vec![0; load.answer as usize]);
    let mut under_way: VecDeque<Instant> = VecDeque::new();
    let mut lost = 0;
    // The first tick of an `interval` comes at once: it would give up what was just sent.
    let first_look = tokio::time::Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval_at(first_look, PATIENCE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Looks since something came. At one alone, this process may only have been without a CPU.
    let mut silent = 0;
    while !recorder.is_over() {
        while under_way.len() < load.outstanding
            && let Some(issued) = recorder.issue()
        {
            match connection.send_datagram(payload.clone()) {
                Ok(()) => under_way.push_back(issued),
                Err(problem) => {
                    recorder.fail(problem);
                    return recorder.figures(None);
                }
            }
        }
        tokio::select! {
            biased;
            datagram = connection.receive_datagram() => match datagram {
                Ok(datagram) => {
                    silent = 0;
                    if let Some(issued) = under_way.pop_front() {
                        recorder.count(issued, datagram.len() as u64);
                    }
                }
                Err(problem) => recorder.fail(problem),
            },
            _ = looks.tick() => {
                silent += 1;
                if silent > 2 {
                    lost += under_way.len() as u64;
                    recorder.give_up(under_way.len() as u64);
                    under_way.clear();
                }
            }
        }
    }
    let mut figures = recorder.figures(None);
    figures.add("lost", "", lost as f64);
    figures
}

/// One thread runs all tasks, so nobody ever waits for this lock.
fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
