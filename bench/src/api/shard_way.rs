//! (a): client and server are applications of their shards, on two lcores or on one, over a link in this process.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use poll::wire::Checksum;
use poll::{
    Control, Eal, IdlePolicy, Lane, LcoreId, LcoreTask, QueuePair, Stop, TxPath, Worker,
    drain_queues,
};
use stoq::app::ConnectTarget;
use stoq::services::perf;
use stoq::shard::{ListenerConfig, ServiceConfig, Shard};
use stoq::transport::{IPV6_UDP_HEADERS, TransportSettings};

use super::case::{Spec, Way};
use super::requester::Requester;
use crate::lanes::{COPYBREAK, LaneSettings, MBUFS, eal_arguments, join};
use crate::memory::LEFT;
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
    let (server, client) = join(&eal, "api", settings, server, client)?;
    let lanes = match server_lcore == client_lcore {
        true => vec![(server_lcore, vec![server, client])],
        false => vec![(server_lcore, vec![server]), (client_lcore, vec![client])],
    };

    let control = Control::new(lanes.len());
    let task = |(lcore, lanes): (usize, Vec<Lane<Shard>>)| LcoreTask {
        lcore: LcoreId(lcore as u32),
        work: Box::new(|| Worker::new(lanes, IdlePolicy::Busy).run(&control))
            as Box<dyn FnOnce() -> Vec<QueuePair> + Send>,
    };
    let tasks = lanes.into_iter().map(task).collect();
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
    let figures = figures.map_err(|_| "the watching thread panicked")?;
    let mut figures = figures.map_err(|_| "the client did not come to its end")?;
    let mut queues: Vec<QueuePair> = queues?.into_iter().flatten().collect();
    drain_queues(&mut queues);
    drop(queues);
    if let Err(out) = eal.cleanup() {
        figures.problems.push(format!("at the end, {out}"));
    }
    Ok(figures)
}

/// The server's shard and the client's.
fn shards(spec: &Spec, found: mpsc::Sender<Figures>) -> Result<(Shard, Shard), Box<dyn Error>> {
    let udp_payload_max = MTU - IPV6_UDP_HEADERS;
    let transport = TransportSettings::default().build(udp_payload_max)?;
    let identity = secrets::identity()?;
    let mut server = secrets::server(&identity)?;
    server.transport_config(Arc::clone(&transport));
    let mut server_shard = shards::config(udp_payload_max);
    server_shard.listeners = vec![ListenerConfig {
        udp_port: LEFT.port(),
        server,
        services: vec![ServiceConfig {
            alpn: perf::ALPN.to_vec(),
            early_data: false,
            application: Box::new(perf::PerfService::new(Arc::default())),
        }],
    }];

    let certificate = identity.chain().first().ok_or("no certificate")?;
    let mut client = secrets::client(certificate.clone(), false, Arc::default())?;
    client.transport_config(transport);
    let target = ConnectTarget {
        remote: LEFT,
        server_name: SERVER_NAME.to_owned(),
        config: client,
        early_data: false,
    };
    let mut client_shard = shards::config(udp_payload_max);
    client_shard.clients = vec![Box::new(Requester::new(*spec, target, found))];
    let now = Instant::now();
    Ok((
        Shard::new(server_shard, now)?,
        Shard::new(client_shard, now)?,
    ))
}
