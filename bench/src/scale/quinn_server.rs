//! quinn's server over a kernel socket: it answers as the engine's `perf` service does, and defends itself in the order
//! in which the engine's shards do.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use quinn_proto::{TransportConfig, VarInt};
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};
use stoq::shard::ShardLimits;
use stoq::tls::Identity;
use stoq::transport::IPV6_UDP_HEADERS;
use tokio::runtime::Runtime;

use super::case::{Case, Spec};
use super::{SERVER_CPU, engine_run, secrets};
use crate::field::peer::ZEROES;

/// Bytes of each socket buffer.
const SOCKET_BUFFER: usize = 16 << 20;
/// Streams that a peer may have open: quinn's default, which keeps its connections small.
const STREAMS: u32 = 100;

/// What the server says about itself in the first line of its output.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Where it listens, on the loopback address.
    pub udp_port: u16,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Bytes of its receive and send buffers, as the kernel granted them.
    pub socket_buffers: [usize; 2],
}

/// Serves until standard input ends.
///
/// # Errors
/// No socket, or no output.
pub fn run(spec: &Spec) -> Result<(), Box<dyn Error>> {
    pin(SERVER_CPU);
    let runtime = runtime()?;
    let identity = secrets::identity()?;
    let (socket, socket_buffers) = socket()?;
    let udp_port = socket.local_addr()?.port();
    let endpoint = {
        let _context = runtime.enter();
        endpoint(spec, &identity, socket)?
    };
    let certificate = identity.chain().first().ok_or("no certificate")?.to_vec();
    let hello = Hello {
        udp_port,
        certificate,
        socket_buffers,
    };
    println!("{}", serde_json::to_string(&hello)?);
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // The end of standard input, or of the one who holds its other end.
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    let busy = spec.case == Case::Fairness;
    runtime.block_on(async {
        if busy {
            tokio::spawn(poll_without_sleep());
        }
        serve(endpoint).await;
    });
    Ok(())
}

/// A runtime on this thread alone.
///
/// # Errors
/// The system gives no event queue.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Keeps the runtime from sleeping: it looks at its sockets and timers again and again, as an lcore does at its queue.
pub async fn poll_without_sleep() {
    loop {
        tokio::task::yield_now().await;
    }
}

/// Runs this thread on `cpu` alone, if there is such a CPU.
pub fn pin(cpu: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        eprintln!("    not pinned: there is no CPU {cpu}");
    }
}

/// A socket on the loopback address, and the sizes of its buffers.
///
/// # Errors
/// The system gives none.
pub fn socket() -> std::io::Result<(UdpSocket, [usize; 2])> {
    socket_at(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
}

/// The same on any address.
///
/// # Errors
/// The system gives none.
pub fn socket_at(address: SocketAddr) -> std::io::Result<(UdpSocket, [usize; 2])> {
    let socket = UdpSocket::bind(address)?;
    // Above the system's limit for a user who may; else as far as the limit goes.
    if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)?;
    }
    let granted = [
        sockopt::socket_recv_buffer_size(&socket)?,
        sockopt::socket_send_buffer_size(&socket)?,
    ];
    Ok((socket, granted))
}

/// Transport settings: the engine's, with segmentation offload and quinn's own stream limits.
///
/// # Errors
/// None with these settings.
pub fn transport(spec: &Spec) -> Result<Arc<TransportConfig>, Box<dyn Error>> {
    let mut transport = engine_run::transport(spec).build(1500 - IPV6_UDP_HEADERS)?;
    Arc::get_mut(&mut transport)
        .ok_or("the settings are shared")?
        .enable_segmentation_offload(true)
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(STREAMS.into());
    Ok(transport)
}

/// An endpoint that accepts connections; to be made within a runtime.
///
/// # Errors
/// The TLS settings cannot be made, or the runtime does not take the socket.
pub fn endpoint(
    spec: &Spec,
    identity: &Identity,
    socket: UdpSocket,
) -> Result<Endpoint, Box<dyn Error>> {
    let mut server = secrets::server(identity)?;
    server.transport_config(transport(spec)?);
    let config = EndpointConfig::default();
    Ok(Endpoint::new(
        config,
        Some(server),
        socket,
        Arc::new(TokioRuntime),
    )?)
}

/// An endpoint that connects; to be made within a runtime.
///
/// # Errors
/// The runtime does not take the socket.
pub fn client_endpoint(socket: UdpSocket) -> std::io::Result<Endpoint> {
    Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )
}

/// Accepts connections, within the engine's default bounds, and answers requests.
pub async fn serve(endpoint: Endpoint) {
    serve_with(endpoint, serve_connection).await;
}

/// Accepts connections, within the engine's default bounds, and does what `serve` does with each.
pub async fn serve_with<F>(
    endpoint: Endpoint,
    serve: impl Fn(Connection) -> F + Copy + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let limits = ShardLimits::default();
    let handshakes = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = endpoint.accept().await {
        let under_way = handshakes.load(Ordering::Relaxed);
        if under_way >= limits.incoming {
            incoming.ignore();
            continue;
        }
        if under_way >= limits.retry_above
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            // It may be retried, as was asked.
            let _ = incoming.retry();
            continue;
        }
        if let Ok(connecting) = incoming.accept() {
            handshakes.fetch_add(1, Ordering::Relaxed);
            let handshakes = Arc::clone(&handshakes);
            tokio::spawn(async move {
                let connected = connecting.await;
                handshakes.fetch_sub(1, Ordering::Relaxed);
                if let Ok(connection) = connected {
                    serve(connection).await;
                }
            });
        }
    }
}

/// Answers the requests of a connection until it ends.
pub async fn serve_connection(connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(answer(send, recv));
    }
}

/// Reads a request to its end, then sends as many bytes as it asks for, or until nobody wants more.
async fn answer(mut send: SendStream, mut recv: RecvStream) {
    let mut header = Vec::with_capacity(8);
    loop {
        match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => {
                let wanted = (8 - header.len()).min(chunk.bytes.len());
                header.extend_from_slice(&chunk.bytes[..wanted]);
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let Ok(header) = <[u8; 8]>::try_from(header) else {
        return;
    };
    let mut left = u64::from_be_bytes(header);
    while left > 0 {
        let piece = left.min(ZEROES.len() as u64);
        let bytes = Bytes::from_static(&ZEROES[..piece as usize]);
        if send.write_chunk(bytes).await.is_err() {
            let _ = send.reset(VarInt::from_u32(0)); // Fails only if it is closed already.
            return;
        }
        left -= piece;
    }
    let _ = send.finish(); // As above.
}
