//! Connections: how they begin, what they know, how they end.

use std::net::SocketAddrV6;
use std::time::Duration;

use bytes::Bytes;
use quinn_proto::{Side, VarInt};

use super::rig::{
    ALPN, CLIENT, CLIENT_PORT, NAME, Pair, Rig, SERVER, Setup, address, identity, server,
};
use crate::app::PANICKED;
use crate::handle::{ClientConfig, ConnectError, ConnectionError, HandleLimits, ServerConfig};
use crate::tls::{Anchors, ClientAuth, ClientTls, Identity, ServerTls, Trust};
use crate::transport::TransportSettings;

fn closed_by_peer(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_know_each_other() {
    let pair = Pair::new(Setup::default());
    let (client, server) = (&pair.client, &pair.server);
    assert_eq!((client.side(), server.side()), (Side::Client, Side::Server));
    assert_eq!(client.alpn(), ALPN.as_bytes());
    assert_eq!(server.alpn(), ALPN.as_bytes());
    assert_eq!(client.remote_address(), super::rig::server());
    let from = SocketAddrV6::new(address(CLIENT), CLIENT_PORT, 0, 0);
    assert_eq!(server.remote_address(), from);
    let known = client.peer_identity().unwrap();
    assert_eq!(known.fingerprint(), identity().fingerprint());
    assert!(server.peer_identity().is_none());
    assert!(!client.is_early_data() && !server.is_early_data());
    assert!(client.close_reason().is_none());
    assert_ne!(client.stable_id(), server.stable_id());
    assert!(client.same_connection(&client.clone()) && !client.same_connection(server));
}

/// Identities that an authority signed, for these names, and the authority.
fn signed<const N: usize>(names: [&str; N]) -> (Anchors, [Identity; N]) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, key);
    let identities = names.map(|name| {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = write("cert.pem", params.signed_by(&key, &issuer).unwrap().pem());
        Identity::from_files(&certificate, &write("key.pem", key.serialize_pem())).unwrap()
    });
    (Anchors::from_files(&[authority]).unwrap(), identities)
}

#[test]
fn certificates_name_both_ends() {
    let (anchors, [own, of_client]) = signed([NAME, "client.test"]);
    let mut rig = Rig::new(Setup::default());
    let config = ServerConfig::with_tls(ServerTls {
        identity: &own,
        alpns: vec![ALPN.into()],
        client_auth: ClientAuth::Required(anchors.clone()),
        early_data: false,
    });
    let listener = rig.listen_with(config.unwrap());
    let config = ClientConfig::with_tls(ClientTls {
        trust: &Trust::Anchors(anchors),
        identity: Some(&of_client),
        alpns: vec![ALPN.into()],
        early_data: false,
    });
    let config = config.unwrap();
    let (server, client) = rig.connect_with(&listener, config.clone());
    let known = |end: &crate::Connection| end.peer_identity().unwrap().fingerprint();
    assert_eq!(known(&server), of_client.fingerprint());
    assert_eq!(known(&client), own.fingerprint());

    // Under another name it is not believed.
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, super::rig::server(), "other.test");
    let error = rig.block_on(connecting.unwrap()).unwrap_err();
    assert!(
        matches!(error, ConnectionError::TransportError(_)),
        "{error:?}"
    );
}

#[test]
fn statistics_come_from_the_shard() {
    let Pair {
        mut rig, client, ..
    } = Pair::new(Setup::default());
    let stats = rig.block_on(async move { client.stats().await }).unwrap();
    assert!(stats.udp_tx.datagrams > 0 && stats.udp_rx.datagrams > 0);
}

#[test]
fn statistics_of_a_connection_that_ends_meanwhile_say_how_it_ended() {
    let Pair {
        mut rig,
        client,
        server,
        ..
    } = Pair::new(Setup::default());
    // The couriers know nothing yet, the shards do.
    server.close(VarInt::from_u32(7), b"");
    rig.couriers_away = true;
    rig.settle();
    let asked = rig.spawn("stats", async move { client.stats().await });
    rig.run_for(Duration::from_millis(1));
    rig.couriers_away = false;
    assert_eq!(closed_by_peer(&rig.join(&asked).unwrap_err()), 7);
}

#[test]
fn a_close_says_its_code_and_reason() {
    let Pair {
        mut rig,
        client,
        server,
        ..
    } = Pair::new(Setup::default());
    let waits = client.closed();
    client.close(VarInt::from_u32(42), b"enough");
    assert_eq!(rig.block_on(waits), ConnectionError::LocallyClosed);
    assert_eq!(client.close_reason(), Some(ConnectionError::LocallyClosed));
    let reason = rig.block_on(server.closed());
    let ConnectionError::ApplicationClosed(close) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(close.error_code, VarInt::from_u32(42));
    assert_eq!(close.reason, Bytes::from_static(b"enough"));
    // A second one changes nothing.
    server.close(VarInt::from_u32(1), b"");
    assert_eq!(closed_by_peer(&server.close_reason().unwrap()), 42);
}

#[test]
fn everything_that_waits_ends_with_the_connection() {
    let Pair {
        mut rig,
        client,
        server,
        ..
    } = Pair::new(Setup::default());
    let (mut send, mut recv) = rig.block_on(client.open_bi()).unwrap();
    rig.block_on(async move {
        send.write_all(b"x").await.unwrap();
        // Kept, so that the other direction goes on.
        std::mem::forget(send);
    });
    let mut ends = Vec::new();
    macro_rules! waits {
        ($name:literal, $future:expr) => {
            ends.push(rig.spawn($name, $future));
        };
    }
    let own = client.clone();
    waits!(
        "accept bi",
        async move { own.accept_bi().await.unwrap_err() }
    );
    let own = client.clone();
    waits!(
        "accept uni",
        async move { own.accept_uni().await.unwrap_err() }
    );
    let own = client.clone();
    waits!(
        "datagram",
        async move { own.read_datagram().await.unwrap_err() }
    );
    let own = client.clone();
    waits!("closed", async move { own.closed().await });
    waits!("read", async move {
        match recv.read_chunk(1).await.unwrap_err() {
            crate::handle::ReadError::ConnectionLost(error) => error,
            other => panic!("{other:?}"),
        }
    });
    rig.settle();
    assert!(ends.iter().all(|end| !end.is_done()));
    server.close(VarInt::from_u32(3), b"");
    rig.finish();
    for end in ends {
        assert_eq!(closed_by_peer(&end.take()), 3);
    }
    // And later calls.
    let later = async move {
        let open = client.open_bi().await.map(drop).unwrap_err();
        let uni = client.open_uni().await.map(drop).unwrap_err();
        let stats = client.stats().await.unwrap_err();
        [open, uni, stats, client.closed().await]
    };
    for error in rig.block_on(later) {
        assert_eq!(closed_by_peer(&error), 3);
    }
}

#[test]
fn the_last_handle_closes_with_code_0() {
    let Pair {
        mut rig,
        client,
        server,
        ..
    } = Pair::new(Setup::default());
    let other = client.clone();
    let stream = rig.block_on(client.open_uni()).unwrap();
    drop(client);
    rig.settle();
    drop(other);
    rig.settle();
    assert!(server.close_reason().is_none(), "a stream is left");
    drop(stream);
    assert_eq!(closed_by_peer(&rig.block_on(server.closed())), 0);
}

#[test]
fn who_waits_to_connect_may_give_up() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let config = rig.client_config();
    let handle = rig.handle(CLIENT);
    // Before the shard knows of it; while the handshake runs; and when it is done and nobody has looked.
    for time in [0, 1, 7_000, 50_000] {
        let connecting = handle.connect_with(config.clone(), server(), NAME).unwrap();
        rig.run_for(Duration::from_micros(time));
        drop(connecting);
        // A client that was never answered waits longest before it forgets.
        rig.run_for(Duration::from_secs(20));
        assert_eq!(rig.counters(CLIENT).connections_current.get(), 0, "{time}");
        assert_eq!(rig.counters(SERVER).connections_current.get(), 0, "{time}");
    }
    assert_eq!(rig.counters(CLIENT).connections_opened.get(), 4);
    drop(listener);
}

#[test]
fn connections_that_cannot_be() {
    let mut rig = Rig::new(Setup::default());
    let _listener = rig.listen();
    let (handle, config) = (rig.handle(CLIENT), rig.client_config());
    let refused = |remote: &str, name: &str| {
        let connecting = handle.connect_with(config.clone(), remote.parse().unwrap(), name);
        connecting.map(drop).unwrap_err()
    };
    let no_route = refused("[2001:db8::1]:1", NAME);
    assert!(matches!(no_route, ConnectError::NoRoute(_)), "{no_route:?}");
    let oneself = refused("[fd00::2]:1", NAME);
    assert!(matches!(oneself, ConnectError::NoRoute(_)), "{oneself:?}");
    let nowhere = refused("[fd00::1]:0", NAME);
    assert!(matches!(nowhere, ConnectError::InvalidRemoteAddress(_)));
    let name = refused("[fd00::1]:1", "not a name");
    assert_eq!(
        name,
        ConnectError::InvalidServerName("not a name".to_owned())
    );
    let none = handle.connect(server(), NAME).map(drop).unwrap_err();
    assert_eq!(none, ConnectError::NoDefaultClientConfig);
    let settings = TransportSettings {
        send_window: 0,
        ..TransportSettings::default()
    };
    let unfit = handle.connect_with(config.clone().transport(settings), server(), NAME);
    assert!(matches!(unfit, Err(ConnectError::Transport(_))));

    handle.set_default_client_config(config);
    let other_name = handle.connect(server(), "other.test").unwrap();
    // Believed by its fingerprint, so the name does not matter.
    rig.block_on(other_name).unwrap();
}

#[test]
fn a_certificate_that_is_not_believed_is_an_error_of_the_transport() {
    let mut rig = Rig::new(Setup::default());
    let _listener = rig.listen();
    let other = Identity::self_signed([NAME]).unwrap();
    let config = ClientConfig::new(&Trust::Fingerprint(other.fingerprint()), [ALPN]).unwrap();
    let connecting = rig.handle(CLIENT).connect_with(config, server(), NAME);
    let error = rig.block_on(connecting.unwrap()).unwrap_err();
    assert!(
        matches!(error, ConnectionError::TransportError(_)),
        "{error:?}"
    );
    // Nor is a protocol that the server does not speak.
    let config = ClientConfig::new(&Trust::Fingerprint(identity().fingerprint()), ["other"]);
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config.unwrap(), server(), NAME);
    let error = rig.block_on(connecting.unwrap()).unwrap_err();
    assert!(
        matches!(error, ConnectionError::ConnectionClosed(_)),
        "{error:?}"
    );
}

#[test]
fn nobody_listens() {
    let mut rig = Rig::new(Setup {
        settings: [(); 2].map(|()| TransportSettings {
            idle_timeout: Some(Duration::from_secs(5)),
            ..TransportSettings::default()
        }),
        ..Setup::default()
    });
    let config = rig.client_config();
    let connecting = rig.handle(CLIENT).connect_with(config, server(), NAME);
    let error = rig.block_on(connecting.unwrap()).unwrap_err();
    assert_eq!(error, ConnectionError::TimedOut);
}

#[test]
fn a_shard_that_is_full_says_so() {
    let mut rig = Rig::new(Setup {
        connections_max: 1,
        ..Setup::default()
    });
    let listener = rig.listen();
    let (server_end, client) = rig.connect(&listener);
    let config = rig.client_config();
    let more = rig
        .handle(CLIENT)
        .connect_with(config.clone(), server(), NAME);
    let error = rig.block_on(more.unwrap()).unwrap_err();
    assert_eq!(error, ConnectionError::TooManyConnections);
    drop((server_end, client));
    rig.settle();
    rig.connect_with(&listener, config);
}

#[test]
fn a_panic_on_the_other_side_has_a_code() {
    // What the shard does when an application panics is tested there; here, that its code arrives.
    let Pair {
        mut rig,
        client,
        server,
        ..
    } = Pair::new(Setup::default());
    server.close(PANICKED, b"internal error");
    let code = closed_by_peer(&rig.block_on(client.closed()));
    assert_eq!(code, PANICKED.into_inner());
}

#[test]
fn connections_have_settings_of_their_own() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let settings = TransportSettings {
        idle_timeout: Some(Duration::from_secs(2)),
        ..TransportSettings::default()
    };
    let config = rig.client_config().transport(settings);
    let (server, client) = rig.connect_with(&listener, config);
    assert_eq!(rig.block_on(client.closed()), ConnectionError::TimedOut);
    assert_eq!(rig.block_on(server.closed()), ConnectionError::TimedOut);
}

#[test]
fn no_more_can_be_begun_than_may_wait() {
    let mut rig = Rig::new(Setup::limits(HandleLimits {
        commands: 3,
        ..HandleLimits::default()
    }));
    let _listener = rig.listen();
    let (handle, config) = (rig.handle(CLIENT), rig.client_config());
    let mut begun = Vec::new();
    let refused = loop {
        match handle.connect_with(config.clone(), super::rig::server(), NAME) {
            Ok(connecting) => begun.push(connecting),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ConnectError::TooManyBegun);
    assert_eq!(begun.len(), 6, "three in the queue, three behind it");
    for connecting in begun {
        rig.block_on(connecting).unwrap();
    }
}
