//! Shards to send datagrams to: servers on one port, joined by steering, and a client.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use poll::{Datagram, Ecn, Path};
use quinn_proto::{ClientConfig, ServerConfig};
use stoq::app::{Application, ConnectTarget, Connection, Context, Dir, StreamId, from_fn};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardLimits};
use stoq::steering::{CidCodec, CidConfig, CidKey, ClientPorts, mesh};
use stoq::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config};
use stoq::transport::TransportSettings;

pub const PAYLOAD_MAX: u16 = 1_452;
pub const UDP_PORT: u16 = 4433;
pub const CLIENT_PORT: u16 = 50_000;
pub const CONNECTIONS_MAX: usize = 4;
/// Server shards on the port.
pub const SERVERS: usize = 2;
/// Datagrams that may wait to be taken over.
pub const HANDOVER: usize = 8;

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::self_signed(&["fuzz".to_owned()]).unwrap());

/// The keys of the servers' connection IDs.
pub fn codec() -> CidCodec {
    let keys = [0, 5].map(|rotation| CidKey {
        rotation,
        key: [rotation; 16],
    });
    CidCodec::new(&CidConfig {
        host_id: vec![0xab],
        keys: keys.to_vec(),
    })
    .unwrap()
}

/// The address of servers (0) or clients (1).
pub fn address(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

pub fn datagram(from: SocketAddrV6, to: SocketAddrV6, ecn: u8, payload: &[u8]) -> Datagram {
    Datagram {
        path: Path {
            remote: from,
            local: *to.ip(),
            local_udp_port: to.port(),
        },
        ecn: Ecn::from_bits(ecn),
        payload: BytesMut::from(payload),
    }
}

/// Settings of the servers: one, since its clones share their keys.
pub fn server() -> ServerConfig {
    let mut server = server_config(ServerTls {
        identity: &IDENTITY,
        alpns: vec![b"echo".to_vec()],
        client_auth: ClientAuth::None,
        early_data: true,
    })
    .unwrap();
    server.transport_config(TransportSettings::default().build(PAYLOAD_MAX).unwrap());
    server
}

pub fn limits() -> ShardLimits {
    ShardLimits {
        connections: CONNECTIONS_MAX,
        incoming: 3,
        retry_above: 2,
        turn_budget: 4,
        responses: 4,
        ..ShardLimits::default()
    }
}

/// The shards of the servers' port.
pub fn servers(server: &ServerConfig, limits: &ShardLimits, now: Instant) -> Vec<Shard> {
    let numbers: Vec<_> = (0..SERVERS as u8).collect();
    let ends = mesh(&codec(), &numbers, HANDOVER);
    ends.into_iter()
        .map(|end| {
            let service = ServiceConfig {
                alpn: b"echo".to_vec(),
                early_data: true,
                application: from_fn(|| Echo),
            };
            let listener = ListenerConfig {
                udp_port: UDP_PORT,
                streams: None,
                server: server.clone(),
                services: vec![service],
            };
            let config = ShardConfig {
                limits: limits.clone(),
                listeners: vec![listener],
                steering: Some(end),
                ..shard()
            };
            Shard::new(config, now).unwrap()
        })
        .collect()
}

/// Settings of the client.
pub fn client() -> ClientConfig {
    let mut config = client_config(ClientTls {
        trust: &Trust::Insecure,
        identity: None,
        alpns: vec![b"echo".to_vec()],
        early_data: true,
    })
    .unwrap();
    config.transport_config(TransportSettings::default().build(PAYLOAD_MAX).unwrap());
    config
}

/// A shard with one connection to the servers.
pub fn clients(config: ClientConfig, now: Instant) -> Shard {
    let target = ConnectTarget {
        remote: SocketAddrV6::new(address(0), UDP_PORT, 0, 0),
        streams: None,
        server_name: "fuzz".to_owned(),
        config,
        early_data: true,
    };
    let asker = Asker {
        target,
        asked: false,
    };
    let config = ShardConfig {
        limits: limits(),
        clients: vec![from_fn(|| asker)],
        ..shard()
    };
    Shard::new(config, now).unwrap()
}

fn shard() -> ShardConfig {
    ShardConfig {
        seed: Some(1),
        limits: ShardLimits::default(),
        udp_payload_max: PAYLOAD_MAX,
        listeners: Vec::new(),
        client_ports: ClientPorts::one(CLIENT_PORT),
        clients: Vec::new(),
        agents: Vec::new(),
        steering: None,
        reset_key: [7; 32],
        paced_by_device: false,
        drain_timeout: Duration::from_secs(1),
        counters: Arc::default(),
    }
}

/// What came in has gone somewhere, shard by shard.
pub fn assert_adds_up(shard: &Shard) {
    let counters = shard.counters();
    let taken = counters.udp_received.get() + counters.taken_over.get();
    assert_eq!(taken, counters.accounted());
}

/// Sends streams and datagrams back.
struct Echo;

impl Application for Echo {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            self.readable(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let mut chunks = Vec::new();
        let _ = connection.read_with(id, usize::MAX, |chunk| chunks.push(chunk));
        for mut chunk in chunks {
            let _ = connection.write_bytes(id, &mut chunk);
        }
    }

    fn datagrams(&mut self, connection: &mut Connection<'_>) {
        while let Some(datagram) = connection.recv_datagram() {
            let _ = connection.send_datagram(datagram);
        }
    }
}

/// Connects once, and sends something of each kind.
struct Asker {
    target: ConnectTarget,
    asked: bool,
}

impl Application for Asker {
    fn run(&mut self, shard: &mut Context<'_>) {
        if !std::mem::replace(&mut self.asked, true) {
            shard.connect(&self.target).unwrap();
        }
    }

    fn connected(&mut self, connection: &mut Connection<'_>) {
        let _ = connection.send_datagram(Bytes::from_static(b"datagram"));
        for dir in [Dir::Bi, Dir::Uni] {
            if let Some(id) = connection.open(dir) {
                let _ = connection.write(id, &[7; 3_000]);
                connection.finish(id);
            }
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let _ = connection.read_with(id, usize::MAX, drop);
    }
}
