//! (a): client and server are applications of their shards, on two lcores or on one, over a link in this process.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use poll::wire::Checksum;
use poll::{
    Control, Eal, IdlePolicy, LcoreId, LcoreTask, QueuePair, Stop, TxPath, Worker, drain_queues,
};
use stoq::app::{ConnectTarget, from_fn};
use stoq::services::perf;
use stoq::shard::{ListenerConfig, ServiceConfig, Shard, ShardConfig, ShardError};
use stoq::transport::{IPV6_UDP_HEADERS, TransportSettings};

use super::case::{Spec, Way};
use super::requester::Requester;
use crate::lanes::{COPYBREAK, LaneSettings, LinkSide, MBUFS, Seat, eal_arguments, join_sides};
use crate::memory::{LEFT, RIGHT};
use crate::scale::figures::Figures;
use crate::scale::{CLIENT_CPU, SERVER_CPU, secrets};
use crate::settings::SERVER_NAME;
use crate::shards;

/// MTU of the link, bytes of IPv6 packet.
pub const MTU: u16 = 1500;

/// Runs the measurement.
///
/// # Errors
/// Too few CPUs, no memory, or the engine refuses the settings.
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let [server_lcore, client_lcore] = match spec.way {
        Way::ShardOneLcore => [SERVER_CPU; 2],
        _ => [SERVER_CPU, CLIENT_CPU],
    };
    let eal = Eal::start(&eal_arguments(&format!("0-{client_lcore}")))?;
    let (found, figures) = mpsc::channel();
    let (server, client) = shards(spec, found)?;
    let settings = LaneSettings {
        mtu: MTU,
        tx_path: TxPath::Scratch,
        checksum: Checksum::Skip,
        rx_copybreak: COPYBREAK,
        mbufs: MBUFS,
    };
    let left = LinkSide::new(LEFT, vec![(server, Arc::default())]);
    let right = LinkSide::new(RIGHT, vec![(client, Arc::default())]);
    let (server, client) = join_sides(&eal, "api", settings, left, right)?;
    let both = server.into_iter().chain(client);
    let seats: Vec<(usize, Vec<Seat<ShardConfig>>)> = match server_lcore == client_lcore {
        true => vec![(server_lcore, both.collect())],
        false => [server_lcore, client_lcore]
            .into_iter()
            .zip(both.map(|seat| vec![seat]))
            .collect(),
    };

    let control = Control::new(seats.len());
    let task = |(lcore, seats)| LcoreTask {
        lcore: LcoreId(lcore as u32),
        work: Box::new(|| Worker::run_made(|| worker(seats), &control))
            as Box<dyn FnOnce() -> Worked + Send>,
    };
    let tasks = seats.into_iter().map(task).collect();
    let (queues, figures) = std::thread::scope(|scope| {
        let control = &control;
        let watcher = scope.spawn(move || {
            let figures = figures.recv_timeout(spec.limit());
            control.request(Stop::Drain);
            figures
        });
        let queues = eal.run(tasks);
        (queues, watcher.join())
    });
    let queues: Result<Vec<_>, _> = queues?.into_iter().collect();
    let mut queues: Vec<QueuePair> = queues?.into_iter().flatten().collect();
    let figures = figures.map_err(|_| "the watching thread panicked")?;
    let mut figures = figures.map_err(|_| "the client did not come to its end")?;
    drain_queues(&mut queues);
    drop(queues);
    if let Err(out) = eal.cleanup() {
        figures.problems.push(format!("at the end, {out}"));
    }
    Ok(figures)
}

/// What a worker leaves: its queues, or why it could not be made.
type Worked = Result<Vec<QueuePair>, ShardError>;

/// Made on its lcore, as applications are.
fn worker(seats: Vec<Seat<ShardConfig>>) -> Result<Worker<Shard>, ShardError> {
    let shard = |config| Shard::new(config, Instant::now());
    let lanes: Result<Vec<_>, _> = seats.into_iter().map(|seat| seat.lane(shard)).collect();
    Ok(Worker::new(lanes?, IdlePolicy::Busy))
}

/// What the server's shard and the client's are made of.
fn shards(
    spec: &Spec,
    found: mpsc::Sender<Figures>,
) -> Result<(ShardConfig, ShardConfig), Box<dyn Error>> {
    let udp_payload_max = MTU - IPV6_UDP_HEADERS;
    let transport = TransportSettings::default().build(udp_payload_max)?;
    let identity = secrets::identity()?;
    let mut server = secrets::server(&identity)?;
    server.transport_config(Arc::clone(&transport));
    let mut server_shard = shards::config(udp_payload_max);
    server_shard.listeners = vec![ListenerConfig {
        udp_port: LEFT.port(),
        streams: None,
        server,
        services: vec![ServiceConfig {
            alpn: perf::ALPN.to_vec(),
            early_data: false,
            application: from_fn(|| perf::PerfService::new(Arc::default())),
        }],
    }];

    let certificate = identity.chain().first().ok_or("no certificate")?;
    let mut client = secrets::client(certificate.clone(), false, Arc::default())?;
    client.transport_config(transport);
    let target = ConnectTarget {
        remote: LEFT,
        streams: None,
        server_name: SERVER_NAME.to_owned(),
        config: client,
        early_data: false,
    };
    let mut client_shard = shards::config(udp_payload_max);
    let spec = *spec;
    client_shard.clients = vec![from_fn(move || Requester::new(spec, target, found))];
    Ok((server_shard, client_shard))
}
