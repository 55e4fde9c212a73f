//! Run to completion: an echo service and a client that are called on the lcore, with borrowed handles. There is no
//! thread hop, no lock and no allocation of theirs on the way of a message.
//!
//! ```sh
//! cargo run --release --example echo_on_shard
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stoq::app::{Application, ConnectTarget, Connection, ConnectionKey, Context, ReadEnd};
use stoq::{Dir, Engine, Identity, ServerConfig, StreamId, VarInt};

/// Datagrams are received into, and sent from, packet memory without copying.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

const ROUNDS: u32 = 10_000;
const MESSAGE: &[u8] = b"as fast as it goes";

fn main() -> Result<(), Box<dyn Error>> {
    let identity = Identity::self_signed(["localhost"])?;
    let trust = identity.trust();
    let target = ConnectTarget {
        remote: "[fd00:5701::2]:4433".parse()?,
        streams: None,
        server_name: "localhost".to_owned(),
        config: stoq::tls::client_config(stoq::tls::ClientTls {
            trust: &trust,
            identity: None,
            alpns: vec![b"echo".to_vec()],
            early_data: false,
        })?,
        early_data: false,
    };
    let (report, times) = mpsc::channel();
    let engine = Engine::builder()
        .link()
        .serve(
            "right",
            4433,
            ServerConfig::new(&identity, ["echo"])?,
            |_| Echo,
        )
        .drive("left", move |_| Caller {
            target: target.clone(),
            report: report.clone(),
            started: None,
            left: ROUNDS,
            got: 0,
        })
        .start()?;
    let elapsed = times.recv_timeout(Duration::from_secs(60))??;
    let each = elapsed / ROUNDS;
    println!("{ROUNDS} round trips in {elapsed:.2?}: {each:.2?} each");
    engine.shutdown()?;
    Ok(())
}

/// The service: what arrives on a stream goes back on it.
struct Echo;

impl Application for Echo {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            // It may hold data already.
            self.readable(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let mut echo: Vec<Bytes> = Vec::new();
        let end = connection.read_with(id, usize::MAX, |chunk| echo.push(chunk));
        for mut chunk in echo {
            // Messages are small and one at a time, so the send buffer takes them whole.
            let _ = connection.write_bytes(id, &mut chunk);
        }
        if !matches!(end, Ok(ReadEnd::Blocked)) {
            connection.finish(id);
        }
    }
}

/// The client: one message at a time, on one stream.
struct Caller {
    target: ConnectTarget,
    report: mpsc::Sender<Result<Duration, String>>,
    started: Option<Instant>,
    left: u32,
    got: usize,
}

impl Application for Caller {
    /// Called once at the start.
    fn run(&mut self, shard: &mut Context<'_>) {
        if let Err(error) = shard.connect(&self.target) {
            let _ = self.report.send(Err(error.to_string()));
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.started = Some(Instant::now());
        let id = connection
            .open(Dir::Bi)
            .expect("the server permits streams");
        let _ = connection.write(id, MESSAGE);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let got = &mut self.got;
        let _ = connection.read_with(id, usize::MAX, |chunk| *got += chunk.len());
        if self.got < MESSAGE.len() {
            return;
        }
        self.got = 0;
        self.left -= 1;
        if self.left > 0 {
            let _ = connection.write(id, MESSAGE);
        } else {
            let elapsed = self.started.map(|started| started.elapsed());
            let _ = self
                .report
                .send(elapsed.ok_or("never connected".to_owned()));
            connection.close(VarInt::from_u32(0), Bytes::from_static(b"done"));
        }
    }

    fn closed(&mut self, _: ConnectionKey, reason: &stoq::app::ConnectionError) {
        if self.left > 0 {
            let _ = self.report.send(Err(reason.to_string()));
        }
    }
}
