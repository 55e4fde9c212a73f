//! Makes a world from a seed.

use std::net::Ipv6Addr;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use poll::DEFAULT_RSS_KEY;
use stoq::app::{ConnectTarget, NewApplication, from_fn};
use stoq::clients::echo::EchoClient;
use stoq::clients::perf::PerfClient;
use stoq::services::echo::EchoService;
use stoq::services::perf::PerfService;
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardLimits};
use stoq::steering::{CidCodec, CidConfig, CidKey, ClientPorts, RssQueue, Steering, mesh};
use stoq::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config};

use crate::client::Client;
use crate::network::UDP_PORT;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::server::{self, Server};
use crate::trace::say;
use crate::world::{Host, World};

const NAME: &str = "server.test";
/// The UDP ports of clients.
const CLIENT_PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_063;
/// Buckets of a device's redirection table.
const BUCKETS: usize = 128;

/// Ed25519, whose signatures always have the same length: with ECDSA the sizes of datagrams would differ from run to
/// run, and with them everything else.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let [chain_file, key_file] = ["chain.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&chain_file, certificate.pem()).expect("room for a certificate");
    std::fs::write(&key_file, key.serialize_pem()).expect("room for a key");
    Identity::from_files(&chain_file, &key_file).expect("what was just made")
});

/// The clock of tokens.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn set(&self, since_start: Duration) {
        let ns = since_start.as_nanos() as u64;
        self.0.store(ns, Ordering::Relaxed);
    }
}

impl quinn_proto::TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let since_start = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since_start
    }
}

/// The world of a seed.
pub fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let scenario = Scenario::new(&mut random);
    say(|| format!("{scenario:#?}"));
    let codec = codec(&mut random);
    let mut world = World::new(scenario, random, Instant::now(), codec);
    add_servers(&mut world);
    for host in 0..world.scenario.clients.len() {
        add_clients(&mut world, host);
    }
    world
}

fn codec(random: &mut Random) -> CidCodec {
    let mut keys: Vec<_> = (0..3)
        .map(|rotation| CidKey {
            rotation,
            key: seed_bytes(random),
        })
        .collect();
    keys.rotate_left(random.below(3));
    let host_id = (0..random.between(2, 8)).map(|_| random.next() as u8);
    let config = CidConfig {
        host_id: host_id.collect(),
        keys,
    };
    CidCodec::new(&config).expect("keys with rotations of their own")
}

fn seed_bytes<const N: usize>(random: &mut Random) -> [u8; N] {
    std::array::from_fn(|_| random.next() as u8)
}

fn host(number: usize, first: usize, shards: usize) -> Host {
    Host {
        address: address(number),
        nodes: first..first + shards,
        rss_key: DEFAULT_RSS_KEY.to_vec(),
        rss_table: (0..BUCKETS)
            .map(|bucket| (bucket % shards) as u16)
            .collect(),
    }
}

fn address(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

/// The ends of a port's shards; a shard that is alone may go without.
fn steering(world: &mut World, codec: &CidCodec, shards: usize) -> Vec<Option<Steering>> {
    if shards == 1 && world.random.chance(0.5) {
        return vec![None];
    }
    let numbers: Vec<_> = (0..shards as u8).collect();
    let ends = mesh(codec, &numbers, world.scenario.handover);
    ends.into_iter().map(Some).collect()
}

/// What the shards of all hosts have in common.
fn shard(world: &mut World, steering: Option<Steering>, reset_key: [u8; 32]) -> ShardConfig {
    ShardConfig {
        seed: Some(world.random.next()),
        limits: ShardLimits::default(),
        udp_payload_max: world.scenario.payload_max,
        listeners: Vec::new(),
        client_ports: ClientPorts {
            range: CLIENT_PORTS,
            rss: None,
        },
        clients: Vec::new(),
        agents: Vec::new(),
        steering,
        reset_key,
        paced_by_device: false,
        drain_timeout: world.scenario.drain_timeout,
        counters: Arc::default(),
    }
}

fn add_servers(world: &mut World) {
    let scenario = world.scenario.clone();
    let alpns = ["world", "perf", "echo"].map(|alpn| alpn.as_bytes().to_vec());
    let tls = ServerTls {
        identity: &IDENTITY,
        alpns: alpns.to_vec(),
        client_auth: ClientAuth::None,
        early_data: scenario.early_data,
    };
    let mut server = server_config(tls).expect("an identity that fits");
    let transport = scenario.server_settings.build(scenario.payload_max);
    server.transport_config(transport.expect("settings in range"));
    server.time_source(Arc::new(world.clock.clone()));
    let reset_key = seed_bytes(&mut world.random);
    let codec = world.codec.clone();
    let mut shards = Vec::new();
    for (index, steering) in steering(world, &codec, scenario.servers)
        .into_iter()
        .enumerate()
    {
        let speaker = Server::new(&world.book, index);
        let applications = [
            from_fn(|| speaker),
            from_fn(PerfService::default),
            from_fn(EchoService::default),
        ];
        let services = alpns.iter().zip(applications);
        let services = services.map(|(alpn, application)| ServiceConfig {
            alpn: alpn.clone(),
            early_data: alpn == server::ALPN,
            application,
        });
        let config = ShardConfig {
            limits: scenario.server_limits.clone(),
            listeners: vec![ListenerConfig {
                udp_port: UDP_PORT,
                streams: None,
                server: server.clone(),
                services: services.collect(),
            }],
            ..shard(world, steering, reset_key)
        };
        shards.push(Shard::new(config, world.start).expect("a server's shard"));
    }
    world.add(host(0, 0, scenario.servers), shards);
}

/// How to reach the servers with this protocol.
fn target(scenario: &Scenario, alpn: &[u8]) -> ConnectTarget {
    let tls = ClientTls {
        trust: &Trust::Fingerprint(IDENTITY.fingerprint()),
        identity: None,
        alpns: vec![alpn.to_vec()],
        early_data: scenario.early_data,
    };
    let mut config = client_config(tls).expect("settings that fit");
    let transport = scenario.client_settings.build(scenario.payload_max);
    config.transport_config(transport.expect("settings in range"));
    ConnectTarget {
        remote: SocketAddrV6::new(address(0), UDP_PORT, 0, 0),
        streams: None,
        server_name: NAME.to_owned(),
        config,
        early_data: scenario.early_data,
    }
}

fn add_clients(world: &mut World, index: usize) {
    let scenario = world.scenario.clone();
    let count = scenario.clients[index];
    let own = host(index + 1, world.nodes.len(), count);
    world.network.hide(own.address);
    let codec = codec(&mut world.random);
    let reset_key = seed_bytes(&mut world.random);
    let checked = target(&scenario, server::ALPN);
    let mut shards = Vec::new();
    for (queue, steering) in steering(world, &codec, count).into_iter().enumerate() {
        let first = (own.nodes.start + queue) as u32 * 100;
        let plans = scenario.connections(&mut world.random, first, &checked);
        world.planned += plans.len();
        let client = Client::new(&world.book, world.start, plans);
        let mut clients = vec![from_fn(|| client)];
        if scenario.perf && index == 0 && queue == 0 {
            clients.push(perf(world, &scenario));
        }
        if scenario.echo && index == 0 && queue == count - 1 {
            clients.push(echo(world, &scenario));
        }
        let rss = (scenario.rss && count > 1).then(|| RssQueue {
            key: own.rss_key.clone(),
            table: own.rss_table.clone(),
            queue: queue as u16,
            addresses: vec![own.address],
        });
        let limits = ShardLimits {
            streams: scenario.client_settings.streams(),
            ..ShardLimits::default()
        };
        let config = ShardConfig {
            limits,
            clients,
            client_ports: ClientPorts {
                range: CLIENT_PORTS,
                rss,
            },
            ..shard(world, steering, reset_key)
        };
        shards.push(Shard::new(config, world.start).expect("a client's shard"));
    }
    world.add(own, shards);
}

fn perf(world: &mut World, scenario: &Scenario) -> NewApplication {
    let random = &mut world.random;
    let requests = random.between(1, 20);
    let client = PerfClient {
        target: target(scenario, b"perf"),
        connections: random.between(1, 2) as usize,
        streams: random.between(1, 4) as usize,
        upload: random.magnitude(1, 20_000),
        download: random.magnitude(1, 20_000),
        repeat: false,
        requests: Some(requests),
        rate: None,
        duration: None,
    };
    let (application, handle) = client.application();
    world.handles.push((handle, requests));
    from_fn(|| application)
}

fn echo(world: &mut World, scenario: &Scenario) -> NewApplication {
    let random = &mut world.random;
    let requests = random.between(1, 30);
    let client = EchoClient {
        target: target(scenario, b"echo"),
        connections: random.between(1, 2) as usize,
        streams: random.between(1, 4) as usize,
        size: random.magnitude(8, 900) as usize,
        datagrams: random.chance(0.5),
        rate: None,
        requests: Some(requests),
        duration: None,
        datagram_timeout: Duration::from_secs(1),
    };
    let (application, handle) = client
        .application()
        .expect("messages of eight bytes or more");
    world.handles.push((handle, requests));
    from_fn(|| application)
}
