//! (c): quinn over kernel UDP on the loopback device. Server and client are threads of this process, each with a
//! runtime of its own on a CPU of its own.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use quinn_proto::{ConnectionStats, TransportConfig};
use rustls::pki_types::CertificateDer;
use stoq::transport::{IPV6_UDP_HEADERS, TransportSettings};

use super::case::{Spec, Way};
use super::shard_way::MTU;
use super::tasks::{self, Client};
use crate::scale::figures::Figures;
use crate::scale::quinn_server::{
    client_endpoint, pin, poll_without_sleep, runtime, serve, socket,
};
use crate::scale::{CLIENT_CPU, SERVER_CPU, secrets};
use crate::settings::SERVER_NAME;

/// Runs the measurement.
///
/// # Errors
/// No sockets, or quinn refuses the settings.
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let busy = spec.way == Way::QuinnBusy;
    let (hello, server) = mpsc::channel();
    // It ends with the process.
    std::thread::spawn(move || {
        if let Err(error) = run_server(busy, &hello) {
            eprintln!("    quinn's server: {error}");
        }
    });
    let Ok((remote, certificate)) = server.recv() else {
        return Err("quinn's server did not start".into());
    };
    pin(CLIENT_CPU);
    let mut config = secrets::client(certificate, false, Arc::default())?;
    config.transport_config(transport()?);
    let runtime = runtime()?;
    runtime.block_on(async {
        if busy {
            tokio::spawn(poll_without_sleep());
        }
        let (socket, _) = socket()?;
        let endpoint = client_endpoint(socket)?;
        let connecting = endpoint.connect_with(config, remote, SERVER_NAME)?;
        let connection = connecting.await?;
        Ok(tasks::run(spec.terms(), &[connection]).await)
    })
}

/// Where the server is, and its certificate.
type Hello = (SocketAddr, CertificateDer<'static>);

fn run_server(busy: bool, hello: &mpsc::Sender<Hello>) -> Result<(), Box<dyn Error>> {
    pin(SERVER_CPU);
    let identity = secrets::identity()?;
    let certificate = identity.chain().first().ok_or("no certificate")?.clone();
    let mut config = secrets::server(&identity)?;
    config.transport_config(transport()?);
    runtime()?.block_on(async {
        if busy {
            tokio::spawn(poll_without_sleep());
        }
        let (socket, _) = socket()?;
        let remote = socket.local_addr()?;
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?;
        hello.send((remote, certificate))?;
        serve(endpoint).await;
        Ok(())
    })
}

/// Transport settings: the engine's, with segmentation offload, and with all streams granted at the start, as quinn
/// grants no more later.
fn transport() -> Result<Arc<TransportConfig>, Box<dyn Error>> {
    let settings = TransportSettings::default();
    let mut transport = settings.build(MTU - IPV6_UDP_HEADERS)?;
    Arc::get_mut(&mut transport)
        .ok_or("the settings are shared")?
        .enable_segmentation_offload(true)
        .max_concurrent_bidi_streams(settings.bidi_streams.into());
    Ok(transport)
}

impl Client for Connection {
    async fn exchange(
        &self,
        request: Bytes,
        mut received: impl FnMut(usize) + Send,
    ) -> Result<u64, String> {
        let (mut send, mut recv) = self.open_bi().await.map_err(|e| e.to_string())?;
        send.write_chunk(request).await.map_err(|e| e.to_string())?;
        send.finish().map_err(|e| e.to_string())?;
        let mut bytes = 0;
        let chunk = |e: quinn::ReadError| e.to_string();
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.map_err(chunk)? {
            received(chunk.bytes.len());
            bytes += chunk.bytes.len() as u64;
        }
        Ok(bytes)
    }

    async fn stats(&self) -> Option<ConnectionStats> {
        Some(Self::stats(self))
    }
}
