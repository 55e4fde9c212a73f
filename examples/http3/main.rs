//! HTTP/3 over the engine, with the `h3` crate: a file server and a client.
//!
//! ```sh
//! cargo run --features h3 --example http3                     # both, over an in-process link: no root
//! cargo run --features h3 --example http3 -- serve --help     # the server, on the ports of a file
//! cargo run --features h3 --example http3 -- fetch --help     # the client, likewise
//! ```

mod client;
mod files;
mod key;
mod server;

use std::error::Error;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use stoq::{ClientConfig, Engine, Identity, ServerConfig};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Without it received bytes would be copied out of the packets that brought them.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Serve(server::Serve),
    Fetch(client::Fetch),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        None => demonstrate().await,
        Some(Command::Serve(arguments)) => server::run(arguments).await,
        Some(Command::Fetch(arguments)) => client::run(arguments).await,
    };
    if let Err(error) = result {
        eprintln!("http3: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A server on one end of a link, a client on the other: a page and 64 MiB go over it.
async fn demonstrate() -> Result {
    let folder = tempfile::tempdir()?;
    let (served, fetched) = (folder.path().join("served"), folder.path().join("fetched"));
    std::fs::create_dir(&served)?;
    std::fs::write(served.join("index.html"), "<h1>Hello over HTTP/3</h1>\n")?;
    let block: Vec<u8> = (0..=255).cycle().take(64 << 20).collect();
    std::fs::write(served.join("big.bin"), &block)?;

    let engine = Engine::builder().link().start()?;
    let identity = Identity::self_signed(["localhost"])?;
    let config = ServerConfig::new(&identity, [stoq::h3::ALPN])?;
    let listener = engine.handle().listen(4433, config).await?;
    let files = Arc::new(files::Root::open(&served)?);
    let server = tokio::spawn(server::serve(listener, files));

    let config = ClientConfig::new(&identity.trust(), [stoq::h3::ALPN])?;
    let right = SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2), 4433, 0, 0);
    let connection = engine
        .handle()
        .connect_with(config, right, "localhost")?
        .await?;
    let urls = [
        "https://localhost:4433/index.html",
        "https://localhost:4433/big.bin",
    ];
    client::fetch_all(
        connection,
        urls.map(|url| url.parse().expect("a URL")),
        &fetched,
    )
    .await?;

    print!("{}", std::fs::read_to_string(fetched.join("index.html"))?);
    assert!(
        std::fs::read(fetched.join("big.bin"))? == block,
        "what arrived is what was sent"
    );
    server.abort();
    println!("{}", engine.shutdown()?);
    Ok(())
}
