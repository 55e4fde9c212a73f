//! Who speaks with whom: protocols, certificates, resumption, early data.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quinn_proto::{ConnectionError, TransportErrorCode};
use stoq::tls::{
    Anchors, ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config,
};

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Setup, Wire, address, ready};

const SECOND: Duration = Duration::from_secs(1);

/// A client that makes one request of 1000 bytes; its log and the server's.
fn one_request(setup: &Setup, alpn: &str, identity: Option<&Identity>) -> (Net, Log, Log) {
    let (server, client) = (Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.server("test", Server::new(&server)));
    let target = setup.target_as(alpn, identity);
    let application = Client::new(&client, target, vec![Request::download(1_000)]);
    net.add(setup.clients(vec![ready(application)]));
    net.run_until(10 * SECOND, |_| {
        let client = client.lock();
        client.completed.len() + client.closed.len() == 1
    });
    (net, server, client)
}

fn is_alert(reason: &ConnectionError, alert: u8) -> bool {
    let crypto = TransportErrorCode::crypto(alert);
    match reason {
        ConnectionError::ConnectionClosed(close) => close.error_code == crypto,
        ConnectionError::TransportError(error) => error.code == crypto,
        _ => false,
    }
}

#[test]
fn both_sides_learn_the_protocol_and_the_client_learns_the_server() {
    let setup = Setup::default();
    let (net, server, client) = one_request(&setup, "test", None);
    let (server, client) = (&server.lock().connected[0], &client.lock().connected[0]);
    assert_eq!(
        (&server.alpn[..], &client.alpn[..]),
        (&b"test"[..], &b"test"[..])
    );
    assert!(!server.early && !client.early);
    let (fingerprint, names) = client.peer.as_ref().expect("the server's certificate");
    assert_eq!(*fingerprint, setup.identity.fingerprint());
    assert_eq!(*names, ["server.test"]);
    assert!(server.peer.is_none());
    for node in [0, 1] {
        assert_eq!(net.counters(node).handshakes.get(), 1);
        assert_eq!(net.counters(node).connections_current.get(), 1);
    }
    assert_eq!(net.counters(0).connections_accepted.get(), 1);
    assert_eq!(net.counters(1).connections_opened.get(), 1);
}

#[test]
fn an_unknown_protocol_is_refused() {
    let (mut net, server, client) = one_request(&Setup::default(), "other", None);
    let no_application_protocol = 120;
    assert!(
        is_alert(&client.reasons()[0], no_application_protocol),
        "{:?}",
        client.reasons()
    );
    net.run_for(10 * SECOND);
    assert!(server.lock().connected.is_empty() && server.lock().closed.is_empty());
    assert_eq!(net.counters(0).handshakes_failed.get(), 1);
    assert_eq!(net.counters(0).connections_lost.get(), 0);
    assert_eq!(net.counters(1).connections_lost.get(), 1);
    assert_eq!(net.counters(0).connections_current.get(), 0);
}

#[test]
fn the_protocol_chooses_the_service() {
    let setup = Setup::default();
    let (one, two, client) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    net.add(setup.services(vec![
        ("one", false, ready(Server::new(&one))),
        ("two", false, ready(Server::new(&two))),
    ]));
    let to = |alpn| {
        ready(Client::new(
            &client,
            setup.target(alpn),
            vec![Request::download(1)],
        ))
    };
    net.add(setup.clients(vec![to("two"), to("one"), to("two")]));
    net.run_until(SECOND, |_| client.lock().completed.len() == 3);
    let alpns = |log: &Log| -> Vec<_> {
        log.lock()
            .connected
            .iter()
            .map(|connected| connected.alpn.clone())
            .collect()
    };
    assert_eq!(alpns(&one), [b"one"]);
    assert_eq!(alpns(&two), [b"two", b"two"]);
}

/// An authority, and identities that it signed, in files as an operator has them.
struct Authority {
    dir: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let name = dir.path().display().to_string();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        Self { dir, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn anchors(&self) -> Anchors {
        Anchors::from_files(&[self.file("ca.pem")]).unwrap()
    }

    fn identity(&self, name: &str) -> Identity {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file("chain.pem"), certificate.pem()).unwrap();
        fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
        Identity::from_files(&self.file("chain.pem"), &self.file("key.pem")).unwrap()
    }
}

/// What the server saw of a client under a policy, or why the client was turned away.
fn with_policy(
    client_auth: ClientAuth,
    identity: Option<&Identity>,
) -> Result<Option<Vec<String>>, ConnectionError> {
    let setup = Setup {
        client_auth,
        ..Setup::default()
    };
    let (_, server, client) = one_request(&setup, "test", identity);
    if let Some(reason) = client.reasons().pop() {
        assert!(server.lock().connected.is_empty());
        return Err(reason);
    }
    let server = server.lock();
    Ok(server.connected[0]
        .peer
        .as_ref()
        .map(|(_, names)| names.clone()))
}

#[test]
fn mutual_tls() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (friend, stranger) = (
        ours.identity("friend.test"),
        theirs.identity("stranger.test"),
    );
    let known = Ok(Some(vec!["friend.test".to_owned()]));
    let unknown_ca = 48;
    let certificate_required = 116;

    assert_eq!(with_policy(ClientAuth::None, Some(&friend)), Ok(None));

    let optional = || ClientAuth::Optional(ours.anchors());
    assert_eq!(with_policy(optional(), Some(&friend)), known);
    assert_eq!(with_policy(optional(), None), Ok(None));
    assert!(is_alert(
        &with_policy(optional(), Some(&stranger)).unwrap_err(),
        unknown_ca
    ));

    let required = || ClientAuth::Required(ours.anchors());
    assert_eq!(with_policy(required(), Some(&friend)), known);
    assert!(is_alert(
        &with_policy(required(), None).unwrap_err(),
        certificate_required
    ));
    assert!(is_alert(
        &with_policy(required(), Some(&stranger)).unwrap_err(),
        unknown_ca
    ));
}

#[test]
fn a_client_believes_whom_it_is_told_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let identity = ours.identity("server.test");
    let other = Identity::self_signed(&["server.test".to_owned()]).unwrap();
    let connects = |trust: Trust, name: &str| {
        let setup = Setup {
            identity: identity.clone(),
            ..Setup::default()
        };
        let tls = ClientTls {
            trust: &trust,
            identity: None,
            alpns: vec![b"test".to_vec()],
            early_data: false,
        };
        let mut target = setup.target("test");
        target.config = client_config(tls).unwrap();
        target.server_name = name.to_owned();
        let (server, client) = (Log::default(), Log::default());
        let mut net = Net::new(Link::default());
        net.add(setup.server("test", Server::new(&server)));
        let application = Client::new(&client, target, Vec::new());
        net.add(setup.clients(vec![ready(application)]));
        net.settle();
        let client = client.lock();
        assert_eq!(client.connected.len() + client.closed.len(), 1);
        client.connected.len() == 1
    };
    assert!(connects(Trust::Anchors(ours.anchors()), "server.test"));
    assert!(!connects(Trust::Anchors(ours.anchors()), "elsewhere.test"));
    assert!(!connects(Trust::Anchors(theirs.anchors()), "server.test"));
    assert!(connects(
        Trust::Fingerprint(identity.fingerprint()),
        "elsewhere.test"
    ));
    assert!(!connects(
        Trust::Fingerprint(other.fingerprint()),
        "server.test"
    ));
    assert!(connects(
        Trust::Certificate(identity.chain()[0].clone()),
        "server.test"
    ));
    assert!(!connects(
        Trust::Certificate(other.chain()[0].clone()),
        "server.test"
    ));
    assert!(connects(Trust::Insecure, "elsewhere.test"));
}

/// Connects, lets the session be kept, and connects again with `setup.early_data`. `between` may change the server.
fn connect_twice(
    setup: &Setup,
    service_takes_early_data: bool,
    between: impl FnOnce(&mut Net),
) -> (Net, Log, Log) {
    let (server, first, second) = (Log::default(), Log::default(), Log::default());
    let mut net = Net::new(Link::default());
    let application = ready(Server::new(&server));
    net.add(setup.services(vec![("test", service_takes_early_data, application)]));
    let target = setup.target("test");
    let client = |log, start| {
        let mut client = Client::new(log, target.clone(), vec![Request::download(1_000)]);
        client.start = Some(start);
        ready(client)
    };
    let (now, later) = (net.now, net.now + 2 * SECOND);
    net.add(setup.clients(vec![client(&first, now), client(&second, later)]));
    net.run_for(SECOND);
    assert_eq!(first.lock().completed.len(), 1);
    assert!(!first.lock().connected[0].early);
    between(&mut net);
    net.run_until(5 * SECOND, |_| second.lock().completed.len() == 1);
    net.settle();
    (net, server, second)
}

fn early() -> Setup {
    Setup {
        early_data: true,
        ..Setup::default()
    }
}

#[test]
fn early_data_is_accepted_and_saves_a_round_trip() {
    let (net, server, client) = connect_twice(&early(), true, |_| {});
    assert!(client.lock().connected[0].early);
    assert_eq!(client.lock().handshake_done, [true]);
    assert!(server.lock().connected[1].early);
    assert_eq!(server.lock().handshake_done, [true]);
    assert!(server.lock().early_reads > 0);
    assert_eq!(net.counters(0).early_data_accepted.get(), 1);
    // The client began at two seconds, and a round trip takes ten milliseconds.
    let took = client.lock().completed[0].0 - net.start - 2 * SECOND;
    assert!(took < Duration::from_millis(15), "{took:?}");
}

#[test]
fn early_data_is_withheld_from_a_service_that_does_not_take_it() {
    let (_, server, client) = connect_twice(&early(), false, |_| {});
    assert!(client.lock().connected[0].early);
    assert_eq!(client.lock().handshake_done, [true]);
    assert!(!server.lock().connected[1].early);
    assert!(server.lock().handshake_done.is_empty());
    assert_eq!(server.lock().early_reads, 0);
}

#[test]
fn refused_early_data_is_sent_again() {
    let setup = early();
    let log = Log::default();
    let identity = setup.identity.clone();
    let (net, _, client) = connect_twice(&setup, true, |net| {
        let setup = Setup {
            identity,
            early_data: false,
            ..Setup::default()
        };
        net.replace(0, setup.server("test", Server::new(&log)));
    });
    assert!(client.lock().connected[0].early);
    assert_eq!(client.lock().handshake_done, [false]);
    assert!(!log.lock().connected[0].early);
    assert_eq!(net.counters(1).early_data_accepted.get(), 0);
}

#[test]
fn without_early_data_sessions_are_resumed_by_tickets() {
    // A resumed handshake carries no certificate, which makes the server's first flight small.
    let setup = Setup::default();
    let (mut net, ..) = connect_twice(&setup, false, |net| net.tap = Some(Vec::new()));
    let resumed = server_handshake_bytes(&mut net);
    let (mut net, ..) = connect_twice(&setup, false, |net| {
        net.replace(0, setup.server("test", Server::default())); // It cannot open the other's tickets.
        net.tap = Some(Vec::new());
    });
    let full = server_handshake_bytes(&mut net);
    assert!(
        resumed > 0 && resumed + 300 < full,
        "{resumed} bytes resumed, {full} bytes in full"
    );
}

/// Bytes in Handshake packets (RFC 9000 §17.2.4) that the server sent since the tap was opened.
fn server_handshake_bytes(net: &mut Net) -> usize {
    let from_server = |wire: &Wire| *wire.from.ip() == address(0);
    let sent = net.tap.take().unwrap();
    sent.iter()
        .filter(|wire| from_server(wire))
        .map(|wire| handshake_bytes(&wire.payload))
        .sum()
}

fn handshake_bytes(mut datagram: &[u8]) -> usize {
    let mut bytes = 0;
    while datagram.first().is_some_and(|first| first & 0x80 != 0) {
        let kind = datagram[0] >> 4 & 3;
        let mut at = 5;
        at += 1 + usize::from(datagram[at]);
        at += 1 + usize::from(datagram[at]);
        if kind == 0 {
            at += 1; // An Initial packet of a server has an empty token.
        }
        let length = usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]) & 0x3fff);
        let end = at + 2 + length;
        if kind == 2 {
            bytes += length;
        }
        datagram = &datagram[end..];
    }
    bytes
}

#[test]
fn the_lists_of_protocols_may_differ_without_harm() {
    // TLS permits what no service speaks: the connection is closed, not the shard lost.
    let setup = Setup::default();
    let (server, client) = (Log::default(), Log::default());
    let mut config = setup.server("test", Server::new(&server));
    config.listeners[0].server = server_config(ServerTls {
        identity: &setup.identity,
        alpns: vec![b"other".to_vec()],
        client_auth: ClientAuth::None,
        early_data: false,
    })
    .unwrap();
    let mut net = Net::new(Link::default());
    net.add(config);
    let application = Client::new(&client, setup.target("other"), Vec::new());
    net.add(setup.clients(vec![ready(application)]));
    net.settle();
    assert_eq!(client.lock().closed.len(), 1);
    assert!(server.lock().connected.is_empty());
}
