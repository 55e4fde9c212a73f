//! (b): the async handle. Both shards are on lcore 0; what uses the handle, and the courier that brings events to it, are
//! on CPU 1.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use quinn_proto::ConnectionStats;
use stoq::report::Report;
use stoq::services::perf;
use stoq::{
    Builder, ClientConfig, Connection, Engine, Handle, Identity, Listener, RecvStream, SendStream,
    ServerConfig, Trust,
};
use tokio::runtime::Runtime;

use super::case::{Spec, Way};
use super::tasks::{self, Client};
use crate::field::peer::ZEROES;
use crate::memory::LEFT;
use crate::scale::figures::Figures;
use crate::scale::quinn_server::pin;
use crate::scale::{CLIENT_CPU, secrets};
use crate::settings::SERVER_NAME;

/// Both ends of a link, on an lcore that never sleeps.
pub const YAML: &str = r#"
eal: ["-l", "0", "--no-huge", "-m", "512", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=4"]
ports:
  - { name: left, link: right, mtu: 1500, addresses: ["fd00:5701::1/64"] }
  - { name: right, link: left, mtu: 1500, addresses: ["fd00:5701::2/64"] }
shards:
  - { name: server, port: left, lcore: 0, idle: busy }
  - { name: client, port: right, lcore: 0, idle: busy }
"#;

/// Runs the measurement.
///
/// # Errors
/// Too few CPUs, no memory, or the engine refuses the settings.
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let identity = secrets::identity()?;
    let mut builder = builder(spec.way);
    if spec.way == Way::HandleClient {
        let service = |_: &_| perf::PerfService::new(Arc::default());
        builder = builder.serve("left", LEFT.port(), server(&identity)?, service);
    }
    let mut engine = builder.start()?;
    let handle = engine.handle();
    let mut figures = runtime()?.block_on(async {
        bring(&mut engine, spec.way);
        if spec.way != Way::HandleClient {
            listen(&handle, &identity).await?;
        }
        let connection = connect(&handle, &identity).await?;
        Ok::<_, Box<dyn Error>>(tasks::run(spec.terms(), &[connection]).await)
    })?;
    judge(&engine.shutdown()?, &mut figures);
    Ok(figures)
}

/// An engine with the courier of `way`.
pub fn builder(way: Way) -> Builder {
    let builder = Engine::builder().config_text(YAML);
    match way {
        Way::Handle => builder.courier_threads(1),
        _ => builder.courier_in_program(),
    }
}

/// Runs the courier beside the tasks of this runtime, if `way` has it there.
pub fn bring(engine: &mut Engine, way: Way) {
    if let Some(courier) = engine.take_courier() {
        tokio::spawn(match way {
            Way::HandleTask => courier,
            _ => courier.spinning(),
        });
    }
}

/// A runtime on this thread, on the client's CPU. It has no sockets to wait for, so it sleeps on a condition variable.
///
/// # Errors
/// None so far.
pub fn runtime() -> std::io::Result<Runtime> {
    pin(CLIENT_CPU);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
}

/// What should not have happened to an engine.
pub fn judge(report: &Report, figures: &mut Figures) {
    let counted = [
        (report.connections.lost, "connections were lost"),
        (report.mbufs.in_use_at_exit, "mbufs did not come home"),
    ];
    for (count, what) in counted {
        if count > 0 {
            figures.problems.push(format!("{count} {what}"));
        }
    }
}

fn server(identity: &Identity) -> Result<ServerConfig, Box<dyn Error>> {
    Ok(ServerConfig::new(identity, [perf::ALPN])?)
}

/// Serves connections behind the same handle from now on, as tasks of this runtime.
///
/// # Errors
/// A shard refuses to.
pub async fn listen(handle: &Handle, identity: &Identity) -> Result<(), Box<dyn Error>> {
    let listener = handle.listen(LEFT.port(), server(identity)?).await?;
    tokio::spawn(serve(listener));
    Ok(())
}

/// A connection to the server that shows `identity`.
///
/// # Errors
/// It does not come up.
pub async fn connect(handle: &Handle, identity: &Identity) -> Result<Connection, Box<dyn Error>> {
    let trust = Trust::Fingerprint(identity.fingerprint());
    let config = ClientConfig::new(&trust, [perf::ALPN])?;
    Ok(handle.connect_with(config, LEFT, SERVER_NAME)?.await?)
}

async fn serve(listener: Listener) {
    while let Some(connection) = listener.accept().await {
        tokio::spawn(serve_connection(connection));
    }
}

async fn serve_connection(connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(async {
            // A request that was given up needs no answer.
            let _ = answer(send, recv).await;
        });
    }
}

/// Reads a request to its end, then sends as many bytes as it asks for.
async fn answer(
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut header = Vec::with_capacity(8);
    while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
        let wanted = (8 - header.len()).min(chunk.len());
        header.extend_from_slice(&chunk[..wanted]);
    }
    let mut left = u64::from_be_bytes(header.as_slice().try_into()?);
    while left > 0 {
        let piece = left.min(ZEROES.len() as u64);
        let bytes = Bytes::from_static(&ZEROES[..piece as usize]);
        send.write_chunk(bytes).await?;
        left -= piece;
    }
    Ok(send.finish()?)
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
        let chunk = |e: stoq::handle::ReadError| e.to_string();
        while let Some(chunk) = recv.read_chunk(usize::MAX).await.map_err(chunk)? {
            received(chunk.len());
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }

    async fn stats(&self) -> Option<ConnectionStats> {
        Self::stats(self).await.ok()
    }
}
