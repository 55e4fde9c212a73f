//! quinn over kernel sockets, on tokio: of its runtimes the one that does best on one thread.

use std::error::Error;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use bench::field::peer::{ClientSpec, PathSpec, ServerSpec, Work};
use bench::scale::quinn_server::{
    poll_without_sleep, runtime, serve_connection, serve_with, socket_at,
};
use bench::scale::secrets;
use bench::settings::SERVER_NAME;
use bytes::Bytes;
use quinn_proto::TransportConfig;
use stoq::tls::Identity;
use stoq::transport::TransportSettings;

use crate::asynchronous::{self, Dialer, FullHandshakes};
use crate::report;

/// Streams that a client may have open: all granted at the start, as quinn grants no more later.
const STREAMS: u32 = 256;

/// Serves as `spec` says.
pub fn serve(spec: &ServerSpec) -> Result<(), Box<dyn Error>> {
    let identity = Identity::from_files(&spec.path.certificate(), &spec.path.key())?;
    let mut config = secrets::server(&identity)?;
    config.transport_config(transport(&spec.path)?);
    runtime()?.block_on(async {
        if spec.path.busy {
            tokio::spawn(poll_without_sleep());
        }
        let (socket, _) = socket_at(spec.listen)?;
        report::listening(socket.local_addr()?.port())?;
        let endpoint = Endpoint::new(
            endpoint(&spec.path)?,
            Some(config),
            socket,
            Arc::new(TokioRuntime),
        )?;
        match spec.path.work {
            Work::Datagrams => serve_with(endpoint, echo).await,
            _ => serve_with(endpoint, serve_connection).await,
        }
        Ok(())
    })
}

async fn echo(connection: Connection) {
    while let Ok(datagram) = connection.read_datagram().await {
        // What the peer does not take, or a connection that has ended, shows at the client.
        let _ = connection.send_datagram(datagram);
    }
}

/// Runs a client as `spec` says.
pub fn run(spec: &ClientSpec) -> Result<bench::scale::figures::Figures, Box<dyn Error>> {
    let identity = Identity::from_files(&spec.path.certificate(), &spec.path.key())?;
    let certificate = identity.chain().first().ok_or("no certificate")?.clone();
    let full = FullHandshakes::default();
    let mut config = secrets::client(
        certificate,
        spec.path.work == Work::Resumed,
        Arc::clone(&full),
    )?;
    config.transport_config(transport(&spec.path)?);
    asynchronous::run(spec, || {
        let (socket, _) = socket_at(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
        let endpoint = Endpoint::new(endpoint(&spec.path)?, None, socket, Arc::new(TokioRuntime))?;
        Ok(Client {
            endpoint,
            config,
            remote: spec.connect,
            full,
        })
    })
}

/// The engine's settings, with segmentation offload and from the start the MTU of the path, as far as a server may use
/// it in its handshake.
fn transport(path: &PathSpec) -> Result<Arc<TransportConfig>, Box<dyn Error>> {
    let mut transport = TransportSettings::default().build(path.udp_payload)?;
    Arc::get_mut(&mut transport)
        .ok_or("the settings are shared")?
        .enable_segmentation_offload(!path.no_segmentation)
        .max_concurrent_bidi_streams(match path.work {
            // Each stream that is granted takes memory at once.
            Work::Idle => VarInt::from_u32(100),
            _ => STREAMS.into(),
        });
    Ok(transport)
}

fn endpoint(path: &PathSpec) -> Result<EndpointConfig, Box<dyn Error>> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(path.udp_payload)?;
    Ok(config)
}

#[derive(Clone)]
struct Client {
    endpoint: Endpoint,
    config: ClientConfig,
    remote: SocketAddr,
    full: FullHandshakes,
}

impl Dialer for Client {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), self.remote, SERVER_NAME);
        connecting
            .map_err(|e| e.to_string())?
            .await
            .map_err(|e| e.to_string())
    }

    fn full_handshakes(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }
}

impl asynchronous::Connection for Connection {
    fn send_datagram(&self, payload: Bytes) -> Result<(), String> {
        Connection::send_datagram(self, payload).map_err(|e| e.to_string())
    }

    async fn receive_datagram(&self) -> Result<Bytes, String> {
        self.read_datagram().await.map_err(|e| e.to_string())
    }

    fn udp_payload(&self) -> Option<u16> {
        Some(self.stats().path.current_mtu)
    }

    fn close(&self) {
        Connection::close(self, VarInt::from_u32(0), b"");
    }
}
