//! Two shards and a network that the input rules: it passes on, changes, drops, doubles and invents datagrams.
//!
//! The input is a sequence of steps: one byte of instructions, one byte of length, so many bytes of material.
//!
//! To be built without debug assertions (`cargo fuzz run -O shard`): quinn-proto 0.11.19 has one that a migration while
//! nothing is in flight trips (`pto_time_and_space`); without it the only consequence is a needless probe.

#![no_main]

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use poll::{Datagram, Ecn, Path, Transport};
use stoq::app::{Application, ConnectTarget, Connection, Context, Dir, StreamId};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardLimits};
use stoq::steering::ClientPorts;
use stoq::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config};
use stoq::transport::TransportSettings;

const PAYLOAD_MAX: u16 = 1_452;
const UDP_PORT: u16 = 4433;
const CONNECTIONS_MAX: usize = 4;

/// Bits of the byte of instructions.
const TO_CLIENT: u8 = 1;
const INVENT: u8 = 2;
const CHANGE: u8 = 4;
const DROP: u8 = 8;
const DOUBLE: u8 = 16;
const CUT: u8 = 32;
const WAIT: u8 = 64;
const ELSEWHERE: u8 = 128;

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::self_signed(&["fuzz".to_owned()]).unwrap());

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut shards = [server(now), client(now)];
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut buf = Vec::with_capacity(usize::from(PAYLOAD_MAX));
    let mut rest = input;
    while let Some((&[instructions, len], following)) = rest.split_first_chunk::<2>() {
        let (material, following) = following.split_at(usize::from(len).min(following.len()));
        rest = following;
        for (index, shard) in shards.iter_mut().enumerate() {
            for _ in 0..64 {
                buf.clear();
                let Some(transmit) = shard.transmit(now, &mut buf) else {
                    break;
                };
                assert!(transmit.size == buf.len() && buf.len() <= usize::from(PAYLOAD_MAX));
                assert_eq!(*transmit.destination.ip(), address(1 - index));
                let ports = (transmit.source_udp_port, transmit.destination.port());
                queues[1 - index].push_back((ports, buf.clone()));
            }
            assert!(shard.counters().connections_current.get() <= CONNECTIONS_MAX as u64);
        }
        if instructions & WAIT != 0 {
            now += Duration::from_millis(1 << (len % 16));
        }
        let to = usize::from(instructions & TO_CLIENT);
        let port = shards[to].udp_ports().next().unwrap_or(UDP_PORT);
        let (mut ports, mut payload) = match instructions & INVENT != 0 {
            true => ((1_234, port), material.to_vec()),
            false => match queues[to].pop_front() {
                Some(datagram) => datagram,
                None => continue,
            },
        };
        if instructions & DROP != 0 {
            continue;
        }
        if instructions & CHANGE != 0 {
            for change in material.chunks_exact(3) {
                let position = usize::from(u16::from_be_bytes([change[0], change[1]]));
                if let Some(byte) = payload.get_mut(position) {
                    *byte ^= change[2];
                }
            }
        }
        if instructions & CUT != 0 {
            payload.truncate(usize::from(len) * 6);
        }
        if instructions & ELSEWHERE != 0 {
            ports.0 ^= 1;
        }
        for _ in 0..1 + usize::from(instructions & DOUBLE != 0) {
            let path = Path {
                remote: SocketAddrV6::new(address(1 - to), ports.0, 0, 0),
                local: address(to),
                local_udp_port: ports.1,
            };
            let payload = BytesMut::from(&payload[..]);
            let ecn = Ecn::from_bits(len);
            shards[to].receive(now, Datagram { path, ecn, payload });
        }
    }
    for shard in &mut shards {
        shard.stop(now);
    }
});

fn address(shard: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, shard as u16 + 1)
}

fn server(now: Instant) -> Shard {
    let mut server = server_config(ServerTls {
        identity: &IDENTITY,
        alpns: vec![b"echo".to_vec()],
        client_auth: ClientAuth::None,
        early_data: true,
    })
    .unwrap();
    server.transport_config(TransportSettings::default().build(PAYLOAD_MAX).unwrap());
    let service = ServiceConfig {
        alpn: b"echo".to_vec(),
        early_data: true,
        application: Box::new(Echo),
    };
    let listener = ListenerConfig {
        udp_port: UDP_PORT,
        server,
        services: vec![service],
    };
    shard(vec![listener], Vec::new(), now)
}

fn client(now: Instant) -> Shard {
    let mut config = client_config(ClientTls {
        trust: &Trust::Insecure,
        identity: None,
        alpns: vec![b"echo".to_vec()],
        early_data: true,
    })
    .unwrap();
    config.transport_config(TransportSettings::default().build(PAYLOAD_MAX).unwrap());
    let target = ConnectTarget {
        remote: SocketAddrV6::new(address(0), UDP_PORT, 0, 0),
        server_name: "fuzz".to_owned(),
        config,
        early_data: true,
    };
    shard(Vec::new(), vec![Box::new(Asker { target, asked: false })], now)
}

fn shard(
    listeners: Vec<ListenerConfig>,
    clients: Vec<Box<dyn Application>>,
    now: Instant,
) -> Shard {
    let config = ShardConfig {
        seed: Some(1),
        limits: ShardLimits {
            connections: CONNECTIONS_MAX,
            incoming: 3,
            retry_above: 2,
            turn_budget: 4,
            responses: 4,
        },
        udp_payload_max: PAYLOAD_MAX,
        listeners,
        client_ports: ClientPorts::one(50_000),
        clients,
        steering: None,
        reset_key: [7; 32],
        drain_timeout: Duration::from_secs(1),
        counters: Arc::default(),
    };
    Shard::new(config, now).unwrap()
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
