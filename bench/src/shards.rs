//! The same transfer as [`bare`](crate::bare) on the engine's shards: one stream that never ends.

use std::error::Error;
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionKey, Context, Dir, StreamId, from_fn,
};
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardCounters, ShardLimits};
use stoq::steering::ClientPorts;

use crate::bare::ZEROES;
use crate::memory::Bulk;
use crate::settings::{ALPN, SERVER_NAME, Settings};

/// How often the sender looks whether MTU discovery has come to its end.
const LOOK: Duration = Duration::from_millis(1);

impl Bulk for Shard {
    fn received(&self) -> u64 {
        self.counters().bytes_received.get()
    }

    fn is_sending(&self) -> bool {
        self.counters().bytes_sent.get() > 0
    }

    fn lost_packets(&self) -> u64 {
        self.publish();
        self.counters().lost_packets.get()
    }
}

/// The end that connects to `remote` and sends without end, once MTU discovery has reached the path's MTU.
///
/// # Errors
/// The shard refuses the settings.
pub fn sender(
    settings: &Settings,
    udp_port: u16,
    remote: SocketAddrV6,
) -> Result<Shard, Box<dyn Error>> {
    let target = ConnectTarget {
        remote,
        streams: None,
        server_name: SERVER_NAME.to_owned(),
        config: settings.client(),
        early_data: false,
    };
    let sender = Sender {
        target,
        mtu: settings.udp_payload_max(),
        phase: Phase::Idle,
        look_at: None,
    };
    let mut config = config(settings.udp_payload_max());
    config.client_ports = ClientPorts::one(udp_port);
    config.clients = vec![from_fn(|| sender)];
    Ok(Shard::new(config, Instant::now())?)
}

/// The end that reads what it is sent.
///
/// # Errors
/// The shard refuses the settings.
pub fn receiver(settings: &Settings, udp_port: u16) -> Result<Shard, Box<dyn Error>> {
    let service = ServiceConfig {
        alpn: ALPN.to_vec(),
        early_data: false,
        application: from_fn(|| Receiver),
    };
    let mut config = config(settings.udp_payload_max());
    config.listeners = vec![ListenerConfig {
        udp_port,
        streams: None,
        server: settings.server(),
        services: vec![service],
    }];
    Ok(Shard::new(config, Instant::now())?)
}

/// A shard alone on its port, with neither listeners nor clients: the one place here that names every field.
pub fn config(udp_payload_max: u16) -> ShardConfig {
    ShardConfig {
        seed: None,
        limits: ShardLimits::default(),
        udp_payload_max,
        listeners: Vec::new(),
        client_ports: ClientPorts::one(50_000),
        clients: Vec::new(),
        agents: Vec::new(),
        steering: None,
        reset_key: [0; 32],
        paced_by_device: false,
        drain_timeout: Duration::from_secs(1),
        counters: Arc::new(ShardCounters::default()),
    }
}

struct Sender {
    target: ConnectTarget,
    mtu: u16,
    phase: Phase,
    look_at: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Phase {
    Idle,
    /// Connected; quinn-proto probes for the MTU only while it has nothing else to send.
    Probing(ConnectionKey),
    Sending,
}

impl Sender {
    fn write(connection: &mut Connection<'_>, id: StreamId) {
        loop {
            let mut piece = Bytes::from_static(&ZEROES);
            // Only a write that takes nothing at all is followed by `writable`.
            if !matches!(connection.write_bytes(id, &mut piece), Ok(1..)) {
                return;
            }
        }
    }
}

impl Application for Sender {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.phase = Phase::Probing(connection.key());
        self.look_at = Some(connection.now());
    }

    fn writable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        Self::write(connection, id);
    }

    fn timeout(&self) -> Option<Instant> {
        self.look_at
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        match self.phase {
            Phase::Idle => {
                // A failure shows as a transfer that never starts.
                let _ = shard.connect(&self.target);
            }
            Phase::Probing(key) => {
                self.look_at = Some(shard.now() + LOOK);
                let Some(mut connection) = shard.connection(key) else {
                    return;
                };
                if connection.stats().path.current_mtu == self.mtu
                    && let Some(id) = connection.open(Dir::Uni)
                {
                    self.phase = Phase::Sending;
                    self.look_at = None;
                    Self::write(&mut connection, id);
                }
            }
            Phase::Sending => {}
        }
    }
}

struct Receiver;

impl Receiver {
    fn read(connection: &mut Connection<'_>, id: StreamId) {
        // A stream that was reset has nothing to read, which ends it as well.
        let _ = connection.read_with(id, usize::MAX, drop);
    }
}

impl Application for Receiver {
    fn opened(&mut self, connection: &mut Connection<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            Self::read(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        Self::read(connection, id);
    }
}
