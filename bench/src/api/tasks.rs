//! The client as tasks of an asynchronous runtime, whatever the connection.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::ConnectionStats;

use super::case::REST;
use super::recorder::{Recorder, Terms, request};
use crate::scale::figures::Figures;

/// A connection on which requests can be made.
pub trait Client: Clone + Send + Sync + 'static {
    /// Opens a stream, sends `request`, and hands the length of each chunk of the answer to `received`; returns how
    /// many bytes the answer had, or what went wrong.
    fn exchange(
        &self,
        request: Bytes,
        received: impl FnMut(usize) + Send,
    ) -> impl Future<Output = Result<u64, String>> + Send;

    /// What the transport counted; nothing when the connection is gone.
    fn stats(&self) -> impl Future<Output = Option<ConnectionStats>> + Send;
}

/// Has as many requests under way as `terms` say, each in a task of its own, until it is over. They are shared out among
/// `clients`, one or more connections, whose figures of datagrams are those of the first.
pub async fn run(terms: Terms, clients: &[impl Client]) -> Figures {
    tokio::time::sleep(REST).await;
    let recorder = Arc::new(Mutex::new(Recorder::new(terms, Instant::now())));
    let request = request(terms.answer);
    let tasks: Vec<_> = (clients.iter().cycle().take(terms.outstanding))
        .map(|client| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(make_requests(client, request, Arc::clone(&recorder)))
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            lock(&recorder).fail(format!("a client's task: {error}"));
        }
    }
    let stats = match clients.first() {
        Some(client) => client.stats().await,
        None => None,
    };
    lock(&recorder).figures(stats.as_ref())
}

/// Makes one request after the other.
async fn make_requests(client: impl Client, request: Bytes, recorder: Arc<Mutex<Recorder>>) {
    let mut next = lock(&recorder).issue();
    while let Some(issued) = next {
        let received = |bytes| lock(&recorder).received(bytes);
        match client.exchange(request.clone(), received).await {
            Ok(bytes) => next = lock(&recorder).answered(issued, bytes),
            Err(problem) => {
                lock(&recorder).fail(problem);
                return;
            }
        }
    }
}

/// One thread runs all tasks, so nobody ever waits for this lock.
fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
