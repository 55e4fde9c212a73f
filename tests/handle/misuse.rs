//! Bad input and misuse: each a typed error, or what is written down.

use std::net::SocketAddrV6;

use bytes::Bytes;
use stoq::app::PANICKED;
use stoq::handle::{ConnectError, ListenError, SendDatagramError};
use stoq::transport::TransportSettings;
use stoq::{ClientConfig, ConnectionError, Engine, Identity, StartError};

use crate::program::alone;
use crate::shared::{
    ALPN, NAME, PANICS, client_config, connect, handle, identity, right, run, server_config,
};

#[test]
fn an_address_without_a_route() {
    let nowhere: SocketAddrV6 = "[2001:db8::1]:4433".parse().unwrap();
    let error = handle().connect_with(client_config(), nowhere, NAME);
    let error = error.map(drop).unwrap_err();
    assert_eq!(error, ConnectError::NoRoute(nowhere));
    assert!(error.to_string().contains("gateway"), "{error}");
}

#[test]
fn names_that_are_none_and_names_of_others() {
    let handle = handle();
    let none = handle.connect_with(client_config(), right(1), "not a name");
    assert!(matches!(none, Err(ConnectError::InvalidServerName(_))));
    // Authorities of a file, so that the name counts: a self-signed certificate is its own authority.
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = rcgen_certificate(file.path());
    let identity = Identity::from_files(file.path(), key.path()).unwrap();
    run(async move {
        let anchors = stoq::tls::Anchors::from_files(&[file.path().to_owned()]).unwrap();
        let trust = stoq::Trust::Anchors(anchors);
        let config = stoq::ServerConfig::new(&identity, [ALPN]).unwrap();
        let _listener = handle.listen(9_001, config).await.unwrap();
        let client = ClientConfig::new(&trust, [ALPN]).unwrap();
        let right_name = handle.connect_with(client.clone(), right(9_001), "right.test");
        right_name.unwrap().await.unwrap();
        let wrong_name = handle.connect_with(client, right(9_001), "wrong.test");
        let error = wrong_name.unwrap().await.unwrap_err();
        // TLS's alert bad_certificate (RFC 9001 §4.8).
        let ConnectionError::TransportError(alert) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(u64::from(alert.code), 0x100 + 42, "{error:?}");
    });
}

/// A self-signed certificate for `right.test`, and the file of its key.
fn rcgen_certificate(file: &std::path::Path) -> tempfile::NamedTempFile {
    let names = vec!["right.test".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(file, made.cert.pem()).unwrap();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), made.signing_key.serialize_pem()).unwrap();
    key
}

#[test]
fn a_datagram_too_large_for_the_path() {
    run(async {
        let (server, client, _listener) = connect(&handle()).await;
        let max = client.max_datagram_size().unwrap();
        let error = client.send_datagram(Bytes::from(vec![0; 100_000]));
        let Err(SendDatagramError::TooLarge(told)) = error else {
            panic!("{error:?}");
        };
        assert!(told >= max, "the MTU only grows here");
        client.send_datagram(Bytes::from(vec![1; max])).unwrap();
        assert_eq!(server.read_datagram().await.unwrap().len(), max);
    });
}

#[test]
fn streams_past_the_limit_wait() {
    run(async {
        let handle = handle();
        let config = server_config().transport(TransportSettings {
            bidi_streams: 2,
            ..TransportSettings::default()
        });
        let listener = handle.listen(9_002, config).await.unwrap();
        let connecting = handle.connect_with(client_config(), right(9_002), NAME);
        let client = connecting.unwrap().await.unwrap();
        let server = listener.accept().await.unwrap();
        let serve = tokio::spawn(async move {
            for _ in 0..50 {
                let (mut send, mut recv) = server.accept_bi().await.unwrap();
                let all = recv.read_to_end(100).await.unwrap();
                send.write_all(&all).await.unwrap();
            }
            server
        });
        let mut tasks = Vec::new();
        for number in 0..50_u8 {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                let (mut send, mut recv) = client.open_bi().await.unwrap();
                send.write_all(&[number]).await.unwrap();
                send.finish().unwrap();
                assert_eq!(recv.read_to_end(100).await.unwrap(), [number]);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        serve.await.unwrap();
    });
}

#[test]
fn a_panic_in_an_application_costs_its_connection_alone() {
    run(async {
        let handle = handle();
        let open = async || {
            let connecting = handle.connect_with(client_config(), right(PANICS), NAME);
            connecting.unwrap().await.unwrap()
        };
        let echo = async |client: &stoq::Connection, words: &[u8]| {
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            send.write_all(words).await.unwrap();
            send.finish().unwrap();
            recv.read_to_end(100).await
        };
        let (other, client) = (open().await, open().await);
        let by_handle = connect(&handle).await;
        assert_eq!(echo(&client, b"hello").await.unwrap(), b"hello");
        echo(&client, b"!").await.unwrap_err();
        match client.closed().await {
            ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, PANICKED),
            other => panic!("{other:?}"),
        }
        // Others on the shard live, and more come.
        assert_eq!(echo(&other, b"still here").await.unwrap(), b"still here");
        assert_eq!(
            echo(&open().await, b"here, too").await.unwrap(),
            b"here, too"
        );
        by_handle
            .1
            .open_uni()
            .await
            .unwrap()
            .write_all(b"x")
            .await
            .unwrap();
        by_handle
            .0
            .accept_uni()
            .await
            .unwrap()
            .read_to_end(1)
            .await
            .unwrap();
    });
}

#[test]
fn a_udp_port_that_somebody_has() {
    run(async {
        // An application on one of the two ports of the engine.
        let error = handle().listen(PANICS, server_config()).await.map(drop);
        assert_eq!(error, Err(ListenError::UdpPortInUse(PANICS)));
        let _mine = handle().listen(9_003, server_config()).await.unwrap();
        let error = handle().listen(9_003, server_config()).await.map(drop);
        assert_eq!(error, Err(ListenError::UdpPortInUse(9_003)));
    });
}

#[test]
fn a_runtime_that_is_dropped_takes_nothing_with_it() {
    let handle = handle();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (told, tell) = tokio::sync::oneshot::channel();
    let own = handle.clone();
    runtime.spawn(async move {
        let (server, client, listener) = connect(&own).await;
        let accept = server.clone();
        tokio::spawn(async move { accept.accept_bi().await.map(drop) });
        let reads = server.clone();
        tokio::spawn(async move { reads.read_datagram().await.map(drop) });
        let (mut send, mut recv) = client.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        tokio::spawn(async move { recv.read_chunk(1).await.map(drop) });
        tokio::spawn(async move { send.write_all(&vec![0; 1 << 30]).await });
        told.send((client.clone(), server.clone())).ok().unwrap();
        listener.accept().await;
    });
    let (client, server) = tell.blocking_recv().unwrap();
    drop(runtime);
    // The connection lives, as long as it has handles; a new runtime works with it.
    run(async move {
        assert!(client.close_reason().is_none());
        client
            .open_uni()
            .await
            .unwrap()
            .write_all(b"hello")
            .await
            .unwrap();
        let mut recv = server.accept_uni().await.unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"hello");
        drop((client, recv));
        server.closed().await;
        connect(&handle).await;
    });
}

#[test]
fn descriptions_of_engines_that_cannot_be() {
    // Before anything is started, so any number of times in a process.
    let text = Engine::builder()
        .config_text("ports: [{ name: 5")
        .start()
        .unwrap_err();
    assert!(matches!(text, StartError::Config(_)), "{text:?}");
    assert!(text.to_string().starts_with("text:1:"), "{text}");
    let file = Engine::builder()
        .config_file("/nonexistent.yaml")
        .start()
        .unwrap_err();
    assert!(file.to_string().contains("/nonexistent.yaml"), "{file}");
    let middle = Engine::builder()
        .link()
        .serve("middle", 1, server_config(), |_| crate::shared::Panics)
        .start()
        .unwrap_err();
    assert!(
        matches!(middle, StartError::UnknownPort { .. }),
        "{middle:?}"
    );
    assert!(middle.to_string().contains("left, right"), "{middle}");
    let two = stoq::ServerConfig::new(identity(), ["one", "two"]).unwrap();
    let two = Engine::builder()
        .link()
        .serve("left", 5, two, |_| crate::shared::Panics)
        .start()
        .unwrap_err();
    assert!(matches!(two, StartError::Protocols(5)), "{two:?}");
}

#[test]
fn a_second_engine_in_the_process() {
    alone("misuse::a_second_engine_in_the_process", || {
        let first = Engine::builder().link().start().unwrap();
        let second = Engine::builder().link().start().unwrap_err();
        assert!(matches!(second, StartError::Run(_)), "{second:?}");
        assert!(second.to_string().contains("once"), "{second}");
        // The first one does not mind.
        run(async { drop(connect(&first.handle()).await) });
        first.shutdown().unwrap();
        let third = Engine::builder().link().start().unwrap_err();
        assert!(third.to_string().contains("once"), "{third}");
    });
}
