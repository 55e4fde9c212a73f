//! The services of the binary and its clients, against each other and against peers that do odd things.

mod echo;
mod hq;
mod perf;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use stoq::app::{Application, NewApplication};
use stoq::clients::{ClientHandle, ClientResults};

use crate::net::{Net, Setup};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Joins a server (node 0) and clients (node 1).
fn join(
    net: &mut Net,
    setup: &Setup,
    alpn: &[u8],
    server: impl Application + Send + 'static,
    clients: Vec<NewApplication>,
) {
    let alpn = std::str::from_utf8(alpn).unwrap();
    net.add(setup.server(alpn, server));
    net.add(setup.clients(clients));
}

/// Runs until the clients have finished.
#[track_caller]
fn results(net: &mut Net, limit: Duration, handle: &ClientHandle) -> ClientResults {
    net.run_until(limit, |net| net.shard(1).clients_finished());
    handle.take_results().expect("results at the end")
}

/// The latency at a quantile, in milliseconds.
fn latency_ms(results: &ClientResults, quantile: f64) -> f64 {
    results.latency.value_at_quantile(quantile) as f64 / 1e6
}

/// New counters of a service, and a copy to look at.
fn counters<T: Default>() -> (Arc<T>, Arc<T>) {
    let counters = Arc::new(T::default());
    (counters.clone(), counters)
}
