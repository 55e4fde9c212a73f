//! A server and a client in one process, over an in-process link: no device, no root.

use stoq::{ClientConfig, Engine, Identity, ServerConfig, Trust};

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let engine = Engine::builder().link().start()?;
    let handle = engine.handle();
    let identity = Identity::self_signed(&["localhost".to_owned()])?;
    let listener = handle
        .listen(4433, ServerConfig::new(&identity, ["hello"])?)
        .await?;
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let name = receive.read_to_end(100).await.unwrap();
                send.write_all(&[b"hello, ", name.as_slice()].concat())
                    .await
                    .unwrap();
            }
        }
    });
    let trust = Trust::Certificate(identity.chain()[0].clone());
    let config = ClientConfig::new(&trust, ["hello"])?;
    let connection = handle
        .connect_with(config, "[fd00:5701::2]:4433".parse()?, "localhost")?
        .await?;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"world").await?;
        send.finish()?;
        println!(
            "{} {:?}",
            String::from_utf8(receive.read_to_end(100).await?)?,
            start.elapsed()
        );
    }
    println!("{:?}", connection.stats().await?.path.rtt);
    drop(connection);
    let report = engine.shutdown()?;
    println!("{report}");
    Ok(())
}
