//! s2n-quic over kernel sockets, on tokio, with s2n-tls.

pub mod client;
mod events;
pub mod server;
mod tickets;

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bench::field::peer::{PathSpec, Work};
use bench::scale::quinn_server::socket_at;
use bytes::Bytes;
use s2n_quic::connection::Handle;
use s2n_quic::provider::datagram::default::{Endpoint as Datagrams, Receiver, Sender};
use s2n_quic::provider::io::tokio::{Builder, Provider as Io};
use s2n_quic::provider::limits::Limits;
use stoq::transport::IPV6_UDP_HEADERS;

/// Bytes that may be under way on a connection, and on a stream.
const WINDOW: u64 = 16 << 20;
/// Streams that a client may have open.
const STREAMS: u64 = 1024;
/// Datagrams that wait to be sent, or to be read.
const DATAGRAMS: usize = 1024;
/// How long a connection may be silent.
const IDLE_MAX: Duration = Duration::from_secs(60);

fn io(path: &PathSpec, local: SocketAddr) -> Result<Io, Box<dyn Error>> {
    let (socket, _) = socket_at(local)?;
    let mtu = path.udp_payload + IPV6_UDP_HEADERS;
    Ok(Builder::default()
        .with_rx_socket(socket)?
        .with_gso(!path.no_segmentation)?
        .with_gro(!path.no_segmentation)?
        .with_max_mtu(mtu)?
        // Its search for the MTU ends some bytes below it.
        .with_initial_mtu(mtu)?
        .build()?)
}

fn limits() -> Result<Limits, Box<dyn Error>> {
    Ok(Limits::new()
        .with_data_window(WINDOW)?
        .with_bidirectional_local_data_window(WINDOW)?
        .with_bidirectional_remote_data_window(WINDOW)?
        .with_max_send_buffer_size(WINDOW as u32)?
        .with_max_open_local_bidirectional_streams(STREAMS)?
        .with_max_open_remote_bidirectional_streams(STREAMS)?
        .with_max_idle_timeout(IDLE_MAX)?)
}

/// Their queues take memory in each connection at once: there is room where datagrams are what is measured.
fn datagrams(path: &PathSpec) -> Result<Datagrams, Box<dyn Error>> {
    let room = if path.work == Work::Datagrams {
        DATAGRAMS
    } else {
        1
    };
    Ok(Datagrams::builder()
        .with_send_capacity(room)?
        .with_recv_capacity(room)?
        .build()?)
}

async fn receive(handle: &Handle) -> Result<Bytes, String> {
    poll_fn(|context| {
        let polled =
            handle.datagram_mut(|receiver: &mut Receiver| receiver.poll_recv_datagram(context));
        match polled {
            Ok(polled) => polled.map_err(|error| format!("{error:?}")),
            Err(error) => Poll::Ready(Err(error.to_string())),
        }
    })
    .await
}

fn send(handle: &Handle, datagram: Bytes) -> Result<(), String> {
    let sent = handle.datagram_mut(|sender: &mut Sender| sender.send_datagram(datagram));
    match sent {
        Ok(sent) => sent.map_err(|error| format!("{error:?}")),
        Err(error) => Err(error.to_string()),
    }
}
