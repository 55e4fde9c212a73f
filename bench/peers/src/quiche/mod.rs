//! quiche over kernel sockets. It has no I/O of its own: this is the loop that its authors leave to applications, on one
//! thread, with batches of datagrams in both directions.

pub mod client;
mod connections;
mod endpoint;
pub mod server;
mod socket;

use std::error::Error;

use ::quiche::{Config, CongestionControlAlgorithm, PROTOCOL_VERSION};
use bench::field::peer::PathSpec;
use stoq::services::perf;

/// Bytes that may be under way on a connection, and on a stream.
const WINDOW: u64 = 16 << 20;
/// Streams that a client may have open.
const STREAMS: u64 = 1024;
/// Datagrams that wait to be sent, or to be read.
const DATAGRAMS: usize = 1024;
/// How long a connection may be silent, milliseconds.
const IDLE_MAX_MS: u64 = 60_000;

/// The settings of both ends.
fn config(path: &PathSpec) -> Result<Config, Box<dyn Error>> {
    let mut config = Config::new(PROTOCOL_VERSION)?;
    config.set_application_protos(&[perf::ALPN])?;
    config.set_max_idle_timeout(IDLE_MAX_MS);
    config.set_max_recv_udp_payload_size(path.udp_payload.into());
    config.set_max_send_udp_payload_size(path.udp_payload.into());
    config.set_initial_max_data(WINDOW);
    config.set_initial_max_stream_data_bidi_local(WINDOW);
    config.set_initial_max_stream_data_bidi_remote(WINDOW);
    config.set_max_connection_window(WINDOW);
    config.set_max_stream_window(WINDOW);
    config.set_initial_max_streams_bidi(STREAMS);
    config.set_cc_algorithm(CongestionControlAlgorithm::CUBIC);
    config.set_disable_active_migration(true);
    config.enable_dgram(true, DATAGRAMS, DATAGRAMS);
    // The times at which it would have packets leave are of use to a socket that keeps them.
    config.enable_pacing(false);
    config.grease(false);
    Ok(config)
}
