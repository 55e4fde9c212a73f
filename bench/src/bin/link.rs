//! Packet I/O alone: one lcore sends datagrams of zeroes as fast as it can, the other counts them.
//!
//! A process of its own, because EAL can be started once in a process and because it needs the packet-aware allocator.
//! `compare` runs it; the JSON it prints is a `LinkReport`.

use std::error::Error;
use std::net::SocketAddrV6;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::lanes::{COPYBREAK, LaneSettings, MBUFS, eal_arguments, join};
use bench::link::LinkReport;
use bench::memory::{LEFT, RIGHT};
use clap::Parser;
use poll::wire::Checksum;
use poll::{
    Control, Datagram, Eal, Ecn, IdlePolicy, Lane, LcoreTask, QueuePair, Stop, Transmit, Transport,
    TxPath, Worker, drain_queues,
};
use stoq::transport::IPV6_UDP_HEADERS;

#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

/// Time that is left out: neighbour discovery and cold caches.
const WARM_UP: Duration = Duration::from_millis(200);

/// Sends datagrams over a link and counts them at its other end.
#[derive(Debug, Parser)]
struct Arguments {
    /// MTU of the link, bytes of IPv6 packet.
    #[arg(long, default_value_t = 1500)]
    mtu: u16,
    /// Length of the measurement, seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Mbufs of each port's pool.
    #[arg(long, default_value_t = MBUFS)]
    mbufs: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let eal = Eal::start(&eal_arguments("0-1"))?;
    let [first, second] = eal.lcores() else {
        return Err("two CPUs are needed, 0 and 1".into());
    };
    let settings = LaneSettings {
        mtu: arguments.mtu,
        tx_path: TxPath::InPlace,
        checksum: Checksum::Skip,
        rx_copybreak: COPYBREAK,
        mbufs: arguments.mbufs,
    };
    let size = usize::from(arguments.mtu - IPV6_UDP_HEADERS);
    let count = Arc::new(AtomicU64::new(0));
    let sink = End::Sink {
        received: 0,
        published: Arc::clone(&count),
    };
    let (left, right) = join(&eal, "io", settings, sink, End::Blaster { to: LEFT, size })?;

    let control = Control::new(2);
    let task = |lcore, lane: Lane<End>| LcoreTask {
        lcore,
        work: Box::new(|| Worker::new(vec![lane], IdlePolicy::Busy).run(&control))
            as Box<dyn FnOnce() -> Vec<QueuePair> + Send>,
    };
    let tasks = vec![task(*first, left), task(*second, right)];
    let (queues, observed) = std::thread::scope(|scope| {
        let observer = scope.spawn(|| observe(&count, arguments.seconds, &control));
        (eal.run(tasks), observer.join())
    });
    let (datagrams, elapsed) = observed.map_err(|_| "the observing thread panicked")?;

    let mut queues: Vec<QueuePair> = queues?.into_iter().flatten().collect();
    drain_queues(&mut queues);
    drop(queues);
    if let Err(out) = eal.cleanup() {
        return Err(format!("{out} mbufs did not come home").into());
    }
    if datagrams == 0 {
        return Err("no datagram crossed the link".into());
    }
    let ns = elapsed.as_nanos() as f64;
    let report = LinkReport {
        goodput_gbps: datagrams as f64 * size as f64 * 8.0 / ns,
        ns_per_datagram: ns / datagrams as f64,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Counts datagrams for a while after the warm-up, then stops the workers.
fn observe(count: &AtomicU64, seconds: f64, control: &Control) -> (u64, Duration) {
    std::thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), count.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (elapsed, after) = (start.elapsed(), count.load(Ordering::Relaxed));
    control.request(Stop::Drain);
    (after - before, elapsed)
}

/// What both lanes run: lanes of one `Eal::run` have one type.
enum End {
    Blaster {
        to: SocketAddrV6,
        size: usize,
    },
    Sink {
        received: u64,
        published: Arc<AtomicU64>,
    },
}

impl Transport for End {
    #[inline]
    fn receive(&mut self, _now: Instant, _datagram: Datagram) {
        if let Self::Sink {
            received,
            published,
        } = self
        {
            *received += 1;
            published.store(*received, Ordering::Relaxed);
        }
    }

    #[inline]
    fn transmit(
        &mut self,
        _now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        let Self::Blaster { to, size } = *self else {
            return None;
        };
        buf.resize(size, 0);
        Some(Transmit {
            destination: to,
            source: None,
            source_udp_port: RIGHT.port(),
            ecn: Ecn::NotEct,
            size,
            segment_size: None,
            departure: None,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        None
    }
}
