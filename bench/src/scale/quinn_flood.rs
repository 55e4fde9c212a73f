//! A flood through kernel sockets: from many UDP ports, on a thread beside the client.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::CLIENT_CPU;
use super::flood::{Allowance, Flood, FloodKind, UNLIMITED};
use super::quinn_server::pin;

/// Sockets that a flood comes from.
const SOCKETS: usize = 256;
/// Datagrams sent between two looks at the clock.
const BATCH: usize = 64;
/// How long the flooder sleeps when it is ahead of its rate; it shares its CPU with the client.
const SLEEP: Duration = Duration::from_micros(100);

/// Starts a thread that floods `server` as `flood` says, until the process ends.
///
/// # Errors
/// Too few sockets.
pub fn start(flood: Arc<Flood>, server: SocketAddr) -> std::io::Result<()> {
    let bind = || UdpSocket::bind((Ipv6Addr::LOCALHOST, 0));
    let sockets = (0..SOCKETS)
        .map(|_| bind())
        .collect::<Result<Vec<_>, _>>()?;
    // Its buffer is full soon, and what comes then is dropped by the kernel.
    let unread = bind()?;
    let nobody = unread.local_addr()?;
    std::thread::Builder::new()
        .name("flood".to_owned())
        .spawn(move || {
            pin(CLIENT_CPU);
            let _unread = unread;
            let mut allowance = Allowance::new(Instant::now());
            let mut sent: u64 = 0;
            loop {
                let (kind, rate) = flood.order();
                let due = match kind {
                    FloodKind::Off => 0,
                    _ => allowance.take(Instant::now(), rate, BATCH),
                };
                let to = if kind == FloodKind::Dead {
                    nobody
                } else {
                    server
                };
                for _ in 0..due {
                    let Some(datagram) = flood.datagram(kind, sent) else {
                        break;
                    };
                    let socket = &sockets[sent as usize % SOCKETS];
                    // What the kernel does not take is not counted.
                    let taken = socket.send_to(datagram, to).is_ok();
                    sent += 1;
                    flood.sent.fetch_add(u64::from(taken), Ordering::Relaxed);
                }
                if rate != UNLIMITED || kind == FloodKind::Off {
                    std::thread::sleep(SLEEP);
                }
            }
        })?;
    Ok(())
}
