//! An echo server and its client, with async handles: whoever knows quinn will find nothing new here but the engine.
//!
//! ```sh
//! cargo run --release --example echo
//! ```

use std::error::Error;

use stoq::{ClientConfig, Connection, Engine, Identity, Listener, ServerConfig};

/// Datagrams are received into, and sent from, packet memory without copying.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Two ports, `left` and `right`, joined within the process. `config_file` takes the YAML of the `engine` binary.
    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();

    let identity = Identity::self_signed(["localhost"])?;
    let config = ServerConfig::new(&identity, ["echo"])?;
    let listener = handle.listen(4433, config).await?;
    let server_task = tokio::spawn(serve(listener));

    let config = ClientConfig::new(&identity.trust(), ["echo"])?;
    let server = "[fd00:5701::2]:4433".parse()?;
    let connection = handle.connect_with(config, server, "localhost")?.await?;
    println!("connected to {}", connection.remote_address());
    for words in ["hello", "and", "goodbye"] {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(words.as_bytes()).await?;
        send.finish()?;
        let answer = receive.read_to_end(1024).await?;
        println!("{words} -> {}", String::from_utf8_lossy(&answer));
    }
    connection.close(0_u32.into(), b"done");
    println!("server: {}", server_task.await?);

    // Blocks for the drain, so not on a thread that other tasks need.
    let report = tokio::task::spawn_blocking(|| engine.shutdown()).await??;
    println!("{} datagrams received without copying", report.rx.zero_copy);
    Ok(())
}

/// Serves one client, and says how that ended. A real server spawns a task for each connection that it accepts.
async fn serve(listener: Listener) -> String {
    match listener.accept().await {
        Some(connection) => echo(connection).await.to_string(),
        None => "the engine stopped".to_owned(),
    }
}

/// Echoes every stream of a connection, each in a task of its own, until the connection ends.
async fn echo(connection: Connection) -> stoq::ConnectionError {
    loop {
        let (mut send, mut receive) = match connection.accept_bi().await {
            Ok(streams) => streams,
            Err(error) => return error,
        };
        tokio::spawn(async move {
            while let Some(chunk) = receive.read_chunk(usize::MAX).await? {
                // The chunk is the memory it was received in, and is sent from there.
                send.write_chunk(chunk).await?;
            }
            send.finish()?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
}
