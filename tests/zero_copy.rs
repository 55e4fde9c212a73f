//! A program with the packet-aware allocator: what handles receive is packet memory, and outlives the engine.

use std::time::Duration;

use stoq::{ClientConfig, Engine, Identity, ServerConfig};

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// One test, because a process can have one engine.
#[test]
fn received_bytes_outlive_the_engine() {
    let engine = Engine::builder().link().start().unwrap();
    assert!(engine.is_zero_copy());
    let handle = engine.handle();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pattern = |number: usize| (number % 251) as u8;
    let (held, unread, connections) = runtime.block_on(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let config = ServerConfig::new(&identity, ["test"]).unwrap();
        let listener = handle.listen(4433, config).await.unwrap();
        let config = ClientConfig::new(&identity.trust(), ["test"]).unwrap();
        let server = "[fd00:5701::2]:4433".parse().unwrap();
        let client = handle.connect_with(config, server, "localhost").unwrap();
        let client = client.await.unwrap();
        let server = listener.accept().await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut send = client.open_uni().await.unwrap();
            let data: Vec<u8> = (0..100_000).map(pattern).collect();
            send.write_all(&data).await.unwrap();
            send.finish().unwrap();
            assert_eq!(send.stopped().await, Ok(None));
            streams.push(server.accept_uni().await.unwrap());
        }
        let unread = streams.pop().unwrap();
        let mut read = streams.pop().unwrap();
        let mut held = Vec::new();
        while let Some(chunk) = read.read_chunk(usize::MAX).await.unwrap() {
            held.push(chunk);
        }
        (held, unread, (client, server))
    });
    let report = engine.shutdown().unwrap();
    assert!(report.rx.zero_copy > 100, "{}", report.rx.zero_copy);
    // What the program holds; what it has not read holds nothing.
    let most = held.len() as u64;
    assert!(
        (1..=most).contains(&report.mbufs.in_use_at_exit),
        "{}",
        report.mbufs.in_use_at_exit
    );

    // The pools stay, so what was held stays what it was.
    std::thread::sleep(Duration::from_millis(10));
    let all: Vec<u8> = held.iter().flatten().copied().collect();
    assert!(all.into_iter().eq((0..100_000).map(pattern)));
    let mut unread = unread;
    let rest = runtime.block_on(unread.read_to_end(1 << 20)).unwrap();
    assert!(rest.into_iter().eq((0..100_000).map(pattern)));
    drop((held, unread, connections));
}
