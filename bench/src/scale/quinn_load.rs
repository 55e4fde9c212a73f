//! A load on quinn: tasks of a runtime on one thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection, Endpoint, VarInt};

use super::load::{ANSWER, Load, REQUEST, Schedule, Work};
use crate::settings::SERVER_NAME;

/// How often tasks look whether their load was switched.
const TICK: Duration = Duration::from_millis(1);
/// How often it is looked whether connections are still there.
const LOOK: Duration = Duration::from_secs(1);
/// The code with which streams and connections are ended.
const DONE: VarInt = VarInt::from_u32(0);

/// Where connections go to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The client's endpoint.
    pub endpoint: Endpoint,
    /// The server.
    pub remote: SocketAddr,
    /// TLS and transport settings.
    pub config: ClientConfig,
}

impl Target {
    async fn connect(&self) -> Option<Connection> {
        let connecting =
            (self.endpoint).connect_with(self.config.clone(), self.remote, SERVER_NAME);
        connecting.ok()?.await.ok()
    }
}

/// Connections by number, once they are up.
type Connections = Arc<Mutex<Vec<Option<Connection>>>>;

/// Runs `load` until the runtime ends.
pub async fn run(load: Arc<Load>, target: Target) {
    let spec = load.spec;
    while !load.has_begun() {
        tokio::time::sleep(TICK).await;
    }
    if let Work::Handshakes { .. } = spec.work {
        for _ in 0..spec.dialing {
            tokio::spawn(make_handshakes(Arc::clone(&load), target.clone()));
        }
        return;
    }
    let connections: Connections = Arc::new(Mutex::new(vec![None; spec.connections]));
    let next = Arc::new(AtomicUsize::new(0));
    let dialers: Vec<_> = (0..spec.dialing)
        .map(|_| {
            let (load, target) = (Arc::clone(&load), target.clone());
            tokio::spawn(dial(
                load,
                target,
                Arc::clone(&next),
                Arc::clone(&connections),
            ))
        })
        .collect();
    for dialer in dialers {
        let _ = dialer.await; // A task that panicked leaves connections missing, which shows.
    }
    if let Work::Requests { .. } = spec.work {
        tokio::spawn(make_requests(Arc::clone(&load), Arc::clone(&connections)));
    }
    let never_up = load.lost.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(LOOK).await;
        let gone = |c: &&Option<Connection>| c.as_ref().is_some_and(|c| c.close_reason().is_some());
        let gone = lock(&connections).iter().filter(gone).count() as u64;
        load.lost.store(never_up + gone, Ordering::Relaxed);
    }
}

fn lock(connections: &Connections) -> std::sync::MutexGuard<'_, Vec<Option<Connection>>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes connections one after the other, until all have been begun.
async fn dial(load: Arc<Load>, target: Target, next: Arc<AtomicUsize>, connections: Connections) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.spec.connections {
            return;
        }
        let Some(connection) = target.connect().await else {
            load.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        if load.spec.work == Work::Bulk {
            tokio::spawn(receive(Arc::clone(&load), number, connection.clone()));
        }
        if let Some(slot) = lock(&connections).get_mut(number) {
            *slot = Some(connection);
        }
        load.up.fetch_add(1, Ordering::Relaxed);
    }
}

/// Receives a stream without end, whenever the load is on.
async fn receive(load: Arc<Load>, number: usize, connection: Connection) {
    while connection.close_reason().is_none() {
        if !load.is_on() {
            tokio::time::sleep(TICK).await;
            continue;
        }
        let Ok((mut send, mut recv)) = connection.open_bi().await else {
            return;
        };
        if send.write_all(&u64::MAX.to_be_bytes()).await.is_err() || send.finish().is_err() {
            return;
        }
        while load.is_on() {
            match recv.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => load.received(number, chunk.bytes.len() as u64),
                Ok(None) | Err(_) => break,
            }
        }
        let _ = recv.stop(DONE); // Fails only if it has ended.
    }
}

/// Makes requests when they are due. It does not sleep but yields, as the timers of the runtime count milliseconds.
async fn make_requests(load: Arc<Load>, connections: Connections) {
    loop {
        while !load.is_on() {
            tokio::time::sleep(TICK).await;
        }
        let Some(mut schedule) = Schedule::new(load.spec, Instant::now()) else {
            return;
        };
        while load.is_on() {
            while let Some((due, number)) = schedule.pop(Instant::now()) {
                let connection = lock(&connections).get(number).cloned().flatten();
                match connection {
                    Some(connection) => {
                        tokio::spawn(request(Arc::clone(&load), due, number, connection));
                    }
                    None => {
                        load.skipped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn request(load: Arc<Load>, due: Instant, number: usize, connection: Connection) {
    match exchange(&connection, ANSWER, (REQUEST - 8) as usize).await {
        Some(received) => {
            load.received(number, received);
            load.answered(due, Instant::now());
        }
        None => {
            load.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Asks for `answer` bytes, with `upload` bytes behind the header, and returns how many came.
async fn exchange(connection: &Connection, answer: u64, upload: usize) -> Option<u64> {
    const ZEROES: [u8; REQUEST as usize] = [0; REQUEST as usize];
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    send.write_all(&answer.to_be_bytes()).await.ok()?;
    send.write_all(ZEROES.get(..upload)?).await.ok()?;
    send.finish().ok()?;
    let mut received = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.ok()? {
        received += chunk.bytes.len() as u64;
    }
    Some(received)
}

/// Makes connections, uses each for one request without a body, and closes it.
async fn make_handshakes(load: Arc<Load>, target: Target) {
    loop {
        if !load.is_on() {
            tokio::time::sleep(TICK).await;
            continue;
        }
        let connection = target.connect().await;
        let answered = match &connection {
            Some(connection) => exchange(connection, 0, 0).await.is_some(),
            None => false,
        };
        let counter = if answered {
            &load.completed
        } else {
            &load.lost
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(connection) = connection {
            connection.close(DONE, b"");
        }
    }
}
