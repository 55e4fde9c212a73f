//! Listeners.

use std::time::Duration;

use quinn_proto::VarInt;

use super::rig::{
    ALPN, CLIENT, CLIENT_PORT, NAME, Pair, Rig, SERVER, Setup, UDP_PORT, identity, server,
};
use super::tasks::Manual;
use crate::handle::{ConnectionError, ListenError, ServerConfig};

fn listen(rig: &mut Rig, udp_port: u16, alpns: &[&str]) -> Option<ListenError> {
    let alpns = alpns.iter().copied();
    let config = ServerConfig::new(identity(), alpns).unwrap();
    let handle = rig.handle(SERVER);
    rig.block_on(async move { handle.listen(udp_port, config).await.err() })
}

#[test]
fn some_listeners_cannot_be() {
    let mut rig = Rig::new(Setup::default());
    let _listener = rig.listen();
    assert_eq!(
        listen(&mut rig, UDP_PORT, &[ALPN]),
        Some(ListenError::UdpPortInUse(UDP_PORT))
    );
    assert_eq!(
        listen(&mut rig, CLIENT_PORT, &[ALPN]),
        Some(ListenError::UdpPortInUse(CLIENT_PORT))
    );
    assert_eq!(listen(&mut rig, 0, &[ALPN]), Some(ListenError::UdpPortZero));
    assert_eq!(listen(&mut rig, 1, &[]), Some(ListenError::Protocols));
    assert_eq!(
        listen(&mut rig, 1, &["a", "b", "a"]),
        Some(ListenError::Protocols)
    );
    // The one that was there listens on.
    let _ends = rig.connect(&_listener);
}

#[test]
fn a_backlog_has_an_end() {
    let mut rig = Rig::new(Setup::default());
    let config = rig.server_config().backlog(2);
    let listener = rig.listen_with(config);
    let (handle, config) = (rig.handle(CLIENT), rig.client_config());
    let mut clients = Vec::new();
    for _ in 0..3 {
        let connecting = handle.connect_with(config.clone(), server(), NAME).unwrap();
        clients.push(rig.block_on(connecting).unwrap());
    }
    let turned_away = rig.block_on(clients[2].closed());
    assert!(matches!(turned_away, ConnectionError::ApplicationClosed(_)));
    assert_eq!(listener.turned_away(), 1);
    for client in &clients[..2] {
        assert!(client.close_reason().is_none());
        rig.block_on(listener.accept()).unwrap();
    }
    // Accepted and dropped.
    rig.block_on(clients[0].closed());
}

#[test]
fn what_waits_when_a_listener_closes_is_still_handed_out() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let (handle, config) = (rig.handle(CLIENT), rig.client_config());
    let connecting = handle.connect_with(config.clone(), server(), NAME).unwrap();
    let waiting = rig.block_on(connecting).unwrap();
    rig.settle();
    listener.close();
    rig.settle();
    let late = handle.connect_with(config, server(), NAME).unwrap();
    let refused = rig.block_on(late).unwrap_err();
    assert!(
        matches!(refused, ConnectionError::ConnectionClosed(_)),
        "{refused:?}"
    );
    let accept = listener.accept();
    let accepted = rig.block_on(accept).unwrap();
    assert!(rig.block_on(listener.accept()).is_none());
    drop(listener);
    rig.settle();
    assert!(waiting.close_reason().is_none(), "it lives on");
    accepted.close(VarInt::from_u32(1), b"");
    rig.block_on(waiting.closed());
}

#[test]
fn those_who_wait_for_a_connection_hear_of_the_close() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let first = rig.spawn("first", listener.accept());
    let second = rig.spawn("second", listener.accept());
    rig.settle();
    drop(listener);
    assert!(rig.join(&first).is_none());
    assert!(rig.join(&second).is_none());
}

#[test]
fn what_waits_in_a_dropped_listener_is_closed() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    let config = rig.client_config();
    let connecting = rig
        .handle(CLIENT)
        .connect_with(config, server(), NAME)
        .unwrap();
    let client = rig.block_on(connecting).unwrap();
    rig.settle();
    drop(listener);
    let closed = rig.block_on(client.closed());
    assert!(matches!(closed, ConnectionError::ApplicationClosed(_)));
}

#[test]
fn a_udp_port_can_be_listened_on_again() {
    let mut pair = Pair::new(Setup::default());
    let (old_server, old_client) = (pair.server.clone(), pair.client.clone());
    for _ in 0..3 {
        pair.listener.close();
        let listener = pair.rig.listen();
        // Closing the one before once more, and dropping it, closes nothing of this one.
        pair.listener.close();
        drop(std::mem::replace(&mut pair.listener, listener));
        pair.rig.settle();
        pair.rig.connect(&pair.listener);
    }
    let echoed = pair.rig.block_on(async move {
        old_client
            .open_uni()
            .await
            .unwrap()
            .write_all(b"still there")
            .await
            .unwrap();
        old_server
            .accept_uni()
            .await
            .unwrap()
            .read_to_end(100)
            .await
            .unwrap()
    });
    assert_eq!(echoed, b"still there");
}

#[test]
fn a_listen_that_is_given_up_leaves_no_listener() {
    let mut rig = Rig::new(Setup::default());
    // Before the shard knows of it; when the shard does and the handle does not; when nobody has looked at the answer.
    for stage in 0..3 {
        let (handle, config) = (rig.handle(SERVER), rig.server_config());
        let mut listening = Manual::new(async move { handle.listen(UDP_PORT, config).await });
        assert!(listening.poll().is_pending());
        rig.couriers_away = stage == 1;
        if stage > 0 {
            rig.run_for(Duration::from_millis(1));
        }
        assert_eq!(listening.is_woken(), stage == 2);
        drop(listening);
        rig.couriers_away = false;
        rig.settle();
        let config = rig.client_config();
        let refused = rig
            .handle(CLIENT)
            .connect_with(config, server(), NAME)
            .unwrap();
        let mut refused = Manual::new(refused);
        let _ = refused.poll();
        rig.settle();
        let end = refused.poll();
        assert!(
            !matches!(end, std::task::Poll::Ready(Ok(_))),
            "stage {stage}"
        );
        // The UDP port is free.
        drop(rig.listen());
        rig.settle();
    }
}

#[test]
fn a_refused_listen_leaves_the_other_alone() {
    let mut rig = Rig::new(Setup::default());
    let listener = rig.listen();
    assert_eq!(
        listen(&mut rig, UDP_PORT, &[ALPN]),
        Some(ListenError::UdpPortInUse(UDP_PORT))
    );
    rig.settle();
    rig.connect(&listener);
}
