//! s2n-quic over kernel sockets, on tokio.

use std::error::Error;
use std::future::poll_fn;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bench::api::tasks;
use bench::field::peer::{ClientSpec, PathSpec, ServerSpec, Work};
use bench::scale::figures::Figures;
use bench::scale::quinn_server::{poll_without_sleep, runtime, socket_at};
use bench::scale::secrets;
use bench::settings::SERVER_NAME;
use bytes::Bytes;
use quinn_proto::ConnectionStats;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version;
use s2n_quic::client::Connect;
use s2n_quic::connection::Handle;
use s2n_quic::provider::datagram::default::{Endpoint as Datagrams, Receiver, Sender};
use s2n_quic::provider::io::tokio::{Builder, Provider as Io};
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::{Provider as Tls, rustls as rustls_tls, s2n_tls};
use s2n_quic::stream::BidirectionalStream;
use s2n_quic::{Client, Connection, Server};
use stoq::services::perf;
use stoq::transport::IPV6_UDP_HEADERS;

use crate::asynchronous::{self, Dialer, FullHandshakes};
use crate::report;

/// Bytes that may be under way on a connection, and on a stream.
const WINDOW: u64 = 16 << 20;
/// Streams that a client may have open.
const STREAMS: u64 = 1024;
/// Datagrams that wait to be sent, or to be read.
const DATAGRAMS: usize = 1024;
/// How long a connection may be silent.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Chunks of a stream that are taken at a time.
const CHUNKS: usize = 64;
/// What answers are made of.
static ZEROES: [u8; 256 * 1024] = [0; 256 * 1024];

/// Serves as `spec` says.
pub fn serve(spec: &ServerSpec) -> Result<(), Box<dyn Error>> {
    runtime()?.block_on(async {
        if spec.path.busy {
            tokio::spawn(poll_without_sleep());
        }
        let mut server = match spec.path.work {
            Work::Resumed => server(spec, resuming_server(&spec.path)?)?,
            _ => server(spec, native_server(&spec.path)?)?,
        };
        report::listening(server.local_addr()?.port())?;
        while let Some(connection) = server.accept().await {
            match spec.path.work {
                Work::Datagrams => tokio::spawn(echo(connection)),
                _ => tokio::spawn(serve_connection(connection)),
            };
        }
        Ok(())
    })
}

fn server(spec: &ServerSpec, tls: impl Tls) -> Result<Server, Box<dyn Error>> {
    let builder = Server::builder().with_io(io(&spec.path, spec.listen)?)?;
    let builder = builder.with_tls(tls).map_err(|error| error.to_string())?;
    Ok(builder
        .with_limits(limits()?)?
        .with_datagram(datagrams()?)?
        .start()?)
}

/// Runs a client as `spec` says.
pub fn run(spec: &ClientSpec) -> Result<Figures, Box<dyn Error>> {
    asynchronous::run(spec, || {
        let full = FullHandshakes::default();
        let client = match spec.path.work {
            Work::Resumed => client(spec, resuming_client(&spec.path, Arc::clone(&full))?)?,
            _ => client(spec, native_client(&spec.path)?)?,
        };
        Ok(Target {
            client,
            remote: spec.connect,
            full,
            resumes: spec.path.work == Work::Resumed,
            made: Arc::default(),
        })
    })
}

fn client(spec: &ClientSpec, tls: impl Tls) -> Result<Client, Box<dyn Error>> {
    let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let builder = Client::builder().with_io(io(&spec.path, local)?)?;
    let builder = builder.with_tls(tls).map_err(|error| error.to_string())?;
    Ok(builder
        .with_limits(limits()?)?
        .with_datagram(datagrams()?)?
        .start()?)
}

fn io(path: &PathSpec, local: SocketAddr) -> Result<Io, Box<dyn Error>> {
    let (socket, _) = socket_at(local)?;
    let mtu = path.udp_payload + IPV6_UDP_HEADERS;
    Ok(Builder::default()
        .with_rx_socket(socket)?
        .with_gso(!path.no_segmentation)?
        .with_gro(!path.no_segmentation)?
        .with_max_mtu(mtu)?
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

fn datagrams() -> Result<Datagrams, Box<dyn Error>> {
    Ok(Datagrams::builder()
        .with_send_capacity(DATAGRAMS)?
        .with_recv_capacity(DATAGRAMS)?
        .build()?)
}

fn native_server(path: &PathSpec) -> Result<s2n_tls::Server, Box<dyn Error>> {
    Ok(s2n_tls::Server::builder()
        .with_application_protocols([perf::ALPN])?
        .with_certificate(&*path.certificate(), &*path.key())?
        .build()?)
}

fn native_client(path: &PathSpec) -> Result<s2n_tls::Client, Box<dyn Error>> {
    Ok(s2n_tls::Client::builder()
        .with_application_protocols([perf::ALPN])?
        .with_empty_trust_store()?
        .with_certificate(&*path.certificate())?
        .build()?)
}

/// AES-128 first, as all others here have it.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..default_provider()
    }
}

fn resuming_server(path: &PathSpec) -> Result<rustls_tls::Server, Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_file(path.certificate())?;
    let key = PrivateKeyDer::from_pem_file(path.key())?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![perf::ALPN.to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(config.into())
}

fn resuming_client(
    path: &PathSpec,
    full: FullHandshakes,
) -> Result<rustls_tls::Client, Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_file(path.certificate())?;
    Ok(secrets::client_tls(provider(), certificate, true, full)?.into())
}

async fn serve_connection(mut connection: Connection) {
    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
        tokio::spawn(answer(stream));
    }
}

/// Reads a request to its end, then sends as many bytes as it asks for, or until nobody wants more.
async fn answer(mut stream: BidirectionalStream) {
    let mut header = Vec::with_capacity(8);
    loop {
        match stream.receive().await {
            Ok(Some(chunk)) => {
                let wanted = (8 - header.len()).min(chunk.len());
                header.extend_from_slice(&chunk[..wanted]);
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
        if stream
            .send(Bytes::from_static(&ZEROES[..piece as usize]))
            .await
            .is_err()
        {
            return;
        }
        left -= piece;
    }
    let _ = stream.finish(); // Fails only if it has ended.
}

async fn echo(connection: Connection) {
    let handle = connection.handle();
    while let Ok(datagram) = receive(&handle).await {
        // What the peer does not take, or a connection that has ended, shows at the client.
        let _ = send(&handle, datagram);
    }
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

#[derive(Clone)]
struct Target {
    client: Client,
    remote: SocketAddr,
    full: FullHandshakes,
    resumes: bool,
    /// Connections made.
    made: Arc<AtomicU64>,
}

impl Dialer for Target {
    type Connection = Connected;

    async fn connect(&self) -> Result<Connected, String> {
        let connect = Connect::new(self.remote).with_server_name(SERVER_NAME);
        let connection = self
            .client
            .connect(connect)
            .await
            .map_err(|e| e.to_string())?;
        self.made.fetch_add(1, Ordering::Relaxed);
        let (handle, _) = connection.split();
        Ok(Connected(handle))
    }

    fn full_handshakes(&self) -> u64 {
        match self.resumes {
            true => self.full.load(Ordering::Relaxed),
            // s2n-tls resumes nothing.
            false => self.made.load(Ordering::Relaxed),
        }
    }
}

/// A connection that is up.
#[derive(Clone)]
struct Connected(Handle);

impl tasks::Client for Connected {
    async fn exchange(
        &self,
        request: Bytes,
        mut received: impl FnMut(usize) + Send,
    ) -> Result<u64, String> {
        let mut handle = self.0.clone();
        let stream = handle
            .open_bidirectional_stream()
            .await
            .map_err(|e| e.to_string())?;
        let (mut receive, mut send) = stream.split();
        send.send_data(request).map_err(|e| e.to_string())?;
        send.finish().map_err(|e| e.to_string())?;
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let mut bytes = 0;
        loop {
            let (count, open) = receive
                .receive_vectored(&mut chunks)
                .await
                .map_err(|e| e.to_string())?;
            for chunk in &mut chunks[..count] {
                let chunk = std::mem::take(chunk);
                received(chunk.len());
                bytes += chunk.len() as u64;
            }
            if !open {
                return Ok(bytes);
            }
        }
    }

    async fn stats(&self) -> Option<ConnectionStats> {
        None
    }
}

impl asynchronous::Connection for Connected {
    fn send_datagram(&self, payload: Bytes) -> Result<(), String> {
        send(&self.0, payload)
    }

    async fn receive_datagram(&self) -> Result<Bytes, String> {
        receive(&self.0).await
    }

    fn udp_payload(&self) -> Option<u16> {
        None
    }

    fn close(&self) {
        self.0.close(0_u32.into());
    }
}
