//! A measurement of the engine: shards on lcores, a link between them, all in this process.
//!
//! Server on lcore 0 and client on lcore 1, but for [`Case::Scaling`]: there, each lcore drives a server shard and the
//! client shard of the same queue, so that two lcores do twice what one does. The server shards share a port, a UDP
//! port and connection IDs that name them, as those of one listener do.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use poll::wire::Checksum;
use poll::{
    Control, Eal, IdlePolicy, LaneCounters, LcoreId, LcoreTask, QueuePair, Stop, TxPath, Worker,
    drain_queues,
};
use stoq::app::{ConnectTarget, NewApplication, from_fn};
use stoq::services::perf;
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardError, ShardLimits};
use stoq::steering::{CidCodec, ClientPorts, Steering, mesh};
use stoq::tls::Identity;
use stoq::transport::{IPV6_UDP_HEADERS, TransportSettings};

use super::case::{Case, Spec};
use super::control::{self, Environment};
use super::engine_load::EngineLoad;
use super::figures::Figures;
use super::flood::{Flood, Flooder, Node, addresses};
use super::load::{Load, Work};
use super::process::Process;
use super::{CLIENT_CPU, SERVER_CPU, initials, secrets};
use crate::lanes::{COPYBREAK, LaneSettings, LinkSide, MBUFS, Seat, eal_arguments, join_sides};
use crate::memory::{LEFT, RIGHT};
use crate::settings::SERVER_NAME;
use crate::shards;

/// MTU of the link, bytes of IPv6 packet.
const MTU: u16 = 1500;
/// Largest UDP payload.
const UDP_PAYLOAD_MAX: u16 = MTU - IPV6_UDP_HEADERS;
/// How often connections at rest ping, well within the idle time-out.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Datagrams that may wait to be handed over to a shard.
const HANDOVER: usize = 1024;

/// Transport settings of both stacks: the engine's, with keep-alive where connections are at rest.
pub fn transport(spec: &Spec) -> TransportSettings {
    TransportSettings {
        keep_alive: (spec.case == Case::Idle).then_some(KEEP_ALIVE),
        ..Default::default()
    }
}

/// Runs the measurement.
///
/// # Errors
/// Too few CPUs, no memory, or the engine refuses the settings.
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let placement = placement(spec);
    let lcores = placement.iter().flatten().max().copied().unwrap_or(0);
    let eal = Eal::start(&eal_arguments(&format!("0-{lcores}")))?;
    let setup = Setup::new(spec)?;
    let (seats, server_counters) = setup.seats(&eal, spec)?;

    let mut tasks: Vec<(u32, Vec<Seat<Seed>>)> = Vec::new();
    for (pair, [server, client]) in seats.into_iter().enumerate() {
        for (seat, end) in [(server, 0), (client, 1)] {
            let lcore = placement[pair][end] as u32;
            match tasks.iter_mut().find(|(of, _)| *of == lcore) {
                Some((_, seats)) => seats.push(seat),
                None => tasks.push((lcore, vec![seat])),
            }
        }
    }
    let control = Control::new(tasks.len());
    let tasks = tasks.into_iter().map(|(lcore, seats)| LcoreTask {
        lcore: LcoreId(lcore),
        work: Box::new(|| Worker::run_made(|| worker(seats), &control))
            as Box<dyn FnOnce() -> Worked + Send>,
    });
    let tasks = tasks.collect();

    let (queues, figures) = std::thread::scope(|scope| {
        let controller = scope.spawn(|| {
            let own = Process::own();
            let busy = || server_counters.iter().map(|lane| lane.read().busy_ns).sum();
            let figures = control::run(
                spec,
                &Environment {
                    loads: &setup.loads,
                    flood: setup.flood.as_deref(),
                    full_handshakes: &setup.full_handshakes,
                    server_busy: &|| Duration::from_nanos(busy()),
                    memory: &|| own.memory(),
                    memory_peak: &|| own.memory_peak(),
                },
            );
            control.request(Stop::Drain);
            figures
        });
        let queues = eal.run(tasks);
        // Whatever happened to them, the controller is not to wait for workers that are gone.
        control.request(Stop::Now);
        (queues, controller.join())
    });
    let mut figures = figures.map_err(|_| "the control thread panicked")?;
    let queues: Result<Vec<_>, _> = queues?.into_iter().collect();
    let mut queues: Vec<QueuePair> = queues?.into_iter().flatten().collect();
    drain_queues(&mut queues);
    drop(queues);
    if let Err(out) = eal.cleanup() {
        figures.problems.push(format!("at the end, {out}"));
    }
    Ok(figures)
}

/// The lcores of server and client of each pair.
fn placement(spec: &Spec) -> Vec<[usize; 2]> {
    match spec.case {
        Case::Scaling => (0..spec.pairs).map(|lcore| [lcore, lcore]).collect(),
        _ => vec![[SERVER_CPU, CLIENT_CPU]],
    }
}

/// What all shards of a measurement share.
struct Setup {
    identity: Identity,
    transport: Arc<quinn_proto::TransportConfig>,
    full_handshakes: Arc<AtomicU64>,
    loads: Vec<Arc<Load>>,
    flood: Option<Arc<Flood>>,
}

/// What a worker leaves: its queues, or why it could not be made.
type Worked = Result<Vec<QueuePair>, ShardError>;

/// What a node is made of, on its lcore.
struct Seed {
    config: ShardConfig,
    flooder: Option<Flooder>,
}

/// The lanes of each server and its client, and where the servers' lanes count.
type Pairs = (Vec<[Seat<Seed>; 2]>, Vec<Arc<LaneCounters>>);

impl Setup {
    fn new(spec: &Spec) -> Result<Self, Box<dyn Error>> {
        let identity = secrets::identity()?;
        let full_handshakes = Arc::new(AtomicU64::new(0));
        let loads = (0..placement(spec).len()).flat_map(|_| spec.loads());
        let mut setup = Self {
            transport: transport(spec).build(UDP_PAYLOAD_MAX)?,
            loads: loads.map(Load::new).map(Arc::new).collect(),
            flood: None,
            full_handshakes,
            identity,
        };
        if spec.initials() > 0 {
            let valid = initials::valid(spec.initials(), &setup.client(false)?)?;
            let invalid = initials::invalid(&valid);
            setup.flood = Some(Arc::new(Flood::new(valid, invalid)));
        }
        Ok(setup)
    }

    fn seats(&self, eal: &Eal, spec: &Spec) -> Result<Pairs, Box<dyn Error>> {
        let pairs = placement(spec).len();
        let limits = ShardLimits {
            connections: spec.connections_max(),
            // Except in a flood, all clients are wanted, and all have one address.
            handshakes_per_prefix: match spec.case {
                Case::Flood => ShardLimits::default().handshakes_per_prefix,
                _ => None,
            },
            ..Default::default()
        };
        // One configuration for all shards of the listener: what they share is behind its pointers.
        let mut server = secrets::server(&self.identity)?;
        server.transport_config(Arc::clone(&self.transport));
        let mut numbers = 0_u8..;
        let mut steer = || -> Result<Vec<Option<Steering>>, Box<dyn Error>> {
            if pairs == 1 {
                return Ok(vec![None]);
            }
            let numbers: Vec<u8> = numbers.by_ref().take(pairs).collect();
            let codec = CidCodec::random()?;
            Ok(mesh(&codec, &numbers, HANDOVER)
                .into_iter()
                .map(Some)
                .collect())
        };
        let client_ports = RIGHT.port()..=RIGHT.port() + pairs as u16 - 1;
        let config = |steering| ShardConfig {
            limits: limits.clone(),
            steering,
            ..shards::config(UDP_PAYLOAD_MAX)
        };

        let mut servers = Vec::new();
        for steering in steer()? {
            let mut config = config(steering);
            config.listeners = vec![listener(server.clone())];
            let flooder = None;
            servers.push((Seed { config, flooder }, Arc::default()));
        }
        let counters = servers.iter().map(|(_, counters)| Arc::clone(counters));
        let counters: Vec<Arc<LaneCounters>> = counters.collect();
        let mut clients = Vec::new();
        let loads_each = self.loads.len() / pairs;
        for (steering, loads) in steer()?.into_iter().zip(self.loads.chunks(loads_each)) {
            let mut config = config(steering);
            config.client_ports = ClientPorts {
                range: client_ports.clone(),
                rss: None,
            };
            for load in loads {
                config.clients.push(self.application(load)?);
            }
            let flooder = self.flood.clone().map(Flooder::new);
            clients.push((Seed { config, flooder }, Arc::default()));
        }

        let mut left = LinkSide::new(LEFT, servers);
        let mut right = LinkSide::new(RIGHT, clients);
        right.udp_ports = client_ports.collect();
        if self.flood.is_some() {
            // What the server answers to the flood goes to the flooder, as to a router.
            left.gateway = Some(*RIGHT.ip());
            right.more_addresses = addresses().split_off(1);
        }
        let settings = LaneSettings {
            mtu: MTU,
            tx_path: TxPath::Scratch,
            checksum: Checksum::Skip,
            rx_copybreak: COPYBREAK,
            mbufs: MBUFS,
        };
        let (servers, clients) = join_sides(eal, "scale", settings, left, right)?;
        let pairs = servers.into_iter().zip(clients);
        Ok((
            pairs.map(|(server, client)| [server, client]).collect(),
            counters,
        ))
    }

    fn client(&self, resume: bool) -> Result<quinn_proto::ClientConfig, Box<dyn Error>> {
        let certificate = self.identity.chain().first().ok_or("no certificate")?;
        let full = Arc::clone(&self.full_handshakes);
        let mut client = secrets::client(certificate.clone(), resume, full)?;
        client.transport_config(Arc::clone(&self.transport));
        Ok(client)
    }

    fn application(&self, load: &Arc<Load>) -> Result<NewApplication, Box<dyn Error>> {
        let resume = load.spec.work == Work::Handshakes { resume: true };
        let target = ConnectTarget {
            remote: LEFT,
            streams: None,
            server_name: SERVER_NAME.to_owned(),
            config: self.client(resume)?,
            early_data: false,
        };
        let load = Arc::clone(load);
        Ok(from_fn(|| EngineLoad::new(load, target)))
    }
}

fn listener(server: quinn_proto::ServerConfig) -> ListenerConfig {
    ListenerConfig {
        udp_port: LEFT.port(),
        streams: None,
        server,
        services: vec![ServiceConfig {
            alpn: perf::ALPN.to_vec(),
            early_data: false,
            application: from_fn(perf::PerfService::default),
        }],
    }
}

fn worker(seats: Vec<Seat<Seed>>) -> Result<Worker<Node>, ShardError> {
    let lanes = seats.into_iter().map(|seat| seat.lane(node));
    Ok(Worker::new(
        lanes.collect::<Result<_, _>>()?,
        IdlePolicy::Busy,
    ))
}

fn node(seed: Seed) -> Result<Node, ShardError> {
    let shard = Shard::new(seed.config, Instant::now())?;
    let flooder = seed.flooder;
    Ok(Node { shard, flooder })
}
