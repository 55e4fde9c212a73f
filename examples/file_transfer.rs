//! Sends a file, with progress on both sides and its hash compared at the end.
//!
//! ```sh
//! cargo run --release --example file_transfer            # 64 MiB of made-up bytes
//! cargo run --release --example file_transfer -- FILE    # a file of yours
//! ```

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use stoq::{ClientConfig, Engine, Identity, Listener, ServerConfig};
use tokio::io::AsyncReadExt;

/// Datagrams are received into, and sent from, packet memory without copying.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

type Failure = Box<dyn Error + Send + Sync>;

/// What is read from the file, and then sent, at a time.
const PIECE: usize = 256 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let file = match std::env::args().nth(1) {
        Some(path) => tokio::fs::File::open(&path)
            .await
            .map_err(|error| format!("{path}: {error}"))?,
        None => made_up(64 << 20)?,
    };
    let size = file.metadata().await?.len();

    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();
    let identity = Identity::self_signed(["localhost"])?;
    let config = ServerConfig::new(&identity, ["file"])?;
    let listener = handle.listen(4433, config).await?;
    let receiver = tokio::spawn(receive(listener));

    let config = ClientConfig::new(&identity.trust(), ["file"])?;
    let server = "[fd00:5701::2]:4433".parse()?;
    let connection = handle.connect_with(config, server, "localhost")?.await?;
    let mut stream = connection.open_uni().await?;
    stream.write_all(&size.to_be_bytes()).await?;
    let sent = send(file, size, &mut stream).await?;
    stream.finish()?;
    // All of it has arrived when the peer has acknowledged the end.
    if let Some(code) = stream.stopped().await? {
        return Err(format!("the receiver stopped with code {code}").into());
    }

    let received = receiver.await??;
    println!("sha256 sent     {}", hex(&sent));
    println!("sha256 received {}", hex(&received));
    connection.close(0_u32.into(), b"done");
    tokio::task::spawn_blocking(|| engine.shutdown()).await??;
    match sent == received {
        true => Ok(()),
        false => Err("the file has changed on its way".into()),
    }
}

async fn send(
    mut file: tokio::fs::File,
    size: u64,
    stream: &mut stoq::SendStream,
) -> Result<Vec<u8>, Failure> {
    let mut hash = Context::new(&SHA256);
    let mut progress = Progress::new("sent", size);
    loop {
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece).await?;
        if count == 0 {
            return Ok(hash.finish().as_ref().to_vec());
        }
        piece.truncate(count);
        hash.update(&piece);
        // Handed over, not copied; waits while as much is under way as may be.
        stream.write_chunk(Bytes::from(piece)).await?;
        progress.add(count);
    }
}

async fn receive(listener: Listener) -> Result<Vec<u8>, Failure> {
    let connection = listener.accept().await.ok_or("the engine stopped")?;
    let mut stream = connection.accept_uni().await?;
    let mut size = [0; 8];
    stream.read_exact(&mut size).await?;
    let mut progress = Progress::new("received", u64::from_be_bytes(size));
    let mut hash = Context::new(&SHA256);
    while let Some(chunk) = stream.read_chunk(usize::MAX).await? {
        hash.update(&chunk);
        progress.add(chunk.len());
    }
    Ok(hash.finish().as_ref().to_vec())
}

/// Tells how far it is: on a terminal ten times a second, else once at the end.
struct Progress {
    what: &'static str,
    size: u64,
    done: u64,
    start: Instant,
    next: Instant,
}

impl Progress {
    fn new(what: &'static str, size: u64) -> Self {
        let start = Instant::now();
        let (done, next) = (0, start);
        Self {
            what,
            size,
            done,
            start,
            next,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let now = Instant::now();
        let (ended, shows) = (self.done == self.size, std::io::stdout().is_terminal());
        if !(ended || shows && now >= self.next) {
            return;
        }
        self.next = now + Duration::from_millis(100);
        let percent = 100 * self.done / self.size.max(1);
        let rate = self.done as f64 * 8e-9 / (now - self.start).as_secs_f64();
        let end = if ended { '\n' } else { '\r' };
        print!("{:<8} {percent:>3} %, {rate:.2} Gbit/s{end}", self.what);
        let _ = std::io::stdout().flush();
    }
}

fn made_up(size: usize) -> Result<tokio::fs::File, Failure> {
    let mut file = tempfile::tempfile()?;
    let bytes = (0_u32..).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    file.write_all(&bytes.take(size).collect::<Vec<u8>>())?;
    std::io::Seek::rewind(&mut file)?;
    Ok(tokio::fs::File::from_std(file))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
