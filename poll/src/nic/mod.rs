//! Emulated NICs: two ports of this process, each with a model of a NIC behind it, and a wire between them.
//!
//! ```text
//!   Port ── transmit rings ──► Device: offloads, timestamps ──► Wire: queue, rate, delay, loss ──► Device: verdicts, RSS ──┐
//!   (net_ring)                                                        │                                                   │
//!                                                                     ▼ capture                 Port ◄── receive rings ───┘
//! ```
//!
//! They are for proving, without hardware, what the engine asks of a NIC, and for seeing QUIC over a link with properties
//! of one's choice. A NIC here does what hardware does, and nothing more: it fills a checksum only when asked, over what the
//! field holds, so that a frame which was not prepared arrives broken; an offload that the port was not configured with is
//! not done, and counted; what the receive queue has no room for is lost. Frames are copied ("DMA"): the mbuf that was sent
//! goes back to its pool, and what arrives lies in mbufs of the receiving port's pool.
//!
//! [`emulated`] opens the two ports and gives the [`Emulation`], which does nothing by itself: [`Emulation::step`] is called
//! again and again by one thread, with the time. [`Worker`](crate::Worker) does so in each of its turns. Time being an
//! argument, and chance coming from seeds, tests run under a clock of their own and repeat.
//!
//! What is left out: a filter of MAC addresses (the ports are promiscuous), IPv4 and TCP offloads, Ethernet's own checksum,
//! pause frames.

mod capture;
mod clock;
mod config;
mod counters;
mod device;
mod fragment;
mod headers;
mod kit;
mod receive;
mod segment;
mod transmit;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dpdk_sys as sys;
use hugepages::DynField;

use crate::deadline::earlier;
use crate::eal::Eal;
use crate::link::LinkEnd;
use crate::port::{Backing, Port, PortConfig, PortError, PortId, PortInfo};
use crate::ring::{FarQueue, RingPort};
use crate::wire::ETHERNET_HEADER;
use capture::{Capture, Direction};
use device::{Device, Queue};
use headers::TAG;
use receive::Receiver;
use transmit::Transmitter;
use wire::Wire;

pub use clock::NicClock;
pub use config::{Misbehaviour, NicConfig, NicOffload, WireConfig};
pub(crate) use counters::NicCounters;
pub use counters::NicStats;

/// The name of the driver of emulated NICs.
const DRIVER: &str = "emulated";
/// Queue pairs of an emulated NIC, at most: as many as a ring port has.
const QUEUES_MAX: u16 = 16;
/// Bytes of the RSS hash key.
const RSS_KEY: u8 = 40;
/// Frames that arrive in one step at an end, at most: the lanes on the same lcore are to have their turns.
const ARRIVALS_MAX: usize = 256;

/// Opens two ports called `names` with an emulated NIC behind each, and a wire between them. Nothing moves before the
/// [`Emulation`] is stepped.
///
/// A NIC does what hardware does and the mbuf asks for, and repairs nothing: a checksum is computed over what its field
/// holds, an offload that the port was not configured with is not done, what a receive queue has no room for is lost.
/// Received frames lie in mbufs of the receiving port's own pool; sent mbufs are home once the NIC has read them.
///
/// # Errors
/// As for a device: more queues, a larger MTU or other offloads than the NIC has; a name that is taken, no memory.
pub fn emulated(
    eal: &Eal,
    names: [&str; 2],
    configs: [&PortConfig; 2],
    nics: [NicConfig; 2],
) -> Result<([LinkEnd; 2], Emulation), PortError> {
    let clock = NicClock::new(Instant::now());
    let [first, second] = nics;
    let (first_end, first) = open(eal, names[0], configs[0], first, clock)?;
    let (second_end, second) = open(eal, names[1], configs[1], second, clock)?;
    let emulation = Emulation {
        clock,
        names: names.map(str::to_owned),
        sides: [first, second],
        capture: None,
    };
    Ok(([first_end, second_end], emulation))
}

/// Two emulated NICs and the wire between them.
///
/// It does nothing by itself: one thread [steps](Self::step) it again and again, with the time, and between steps
/// sleeps no longer than its [`timeout`](Self::timeout) says. [`Worker::with_emulations`](crate::Worker::with_emulations)
/// does both.
#[derive(Debug)]
pub struct Emulation {
    clock: NicClock,
    names: [String; 2],
    sides: [Side; 2],
    capture: Option<Capture>,
}

/// A NIC, and the wire in the direction of what it sends.
#[derive(Debug)]
struct Side {
    device: Device,
    wire: Wire,
}

impl Emulation {
    /// Moves what can be moved by `now`: from the transmit queues to the wire, and what has arrived to the receive queues.
    /// Returns the number of frames moved.
    pub fn step(&mut self, now: Instant) -> usize {
        let now = self.clock.ns(now);
        let [first, second] = &mut self.sides;
        let capture = &mut self.capture;
        let mut moved = first.transmit(0, now, capture) + second.transmit(1, now, capture);
        moved += first.deliver(second, 1, now, capture) + second.deliver(first, 0, now, capture);
        for (index, side) in self.sides.iter_mut().enumerate() {
            if let Some(capture) = &self.capture {
                side.device.kit.stats.not_captured = capture.left_out(index);
            }
            side.device.end_step();
        }
        moved
    }

    /// When it is to be stepped next, even if nothing is sent: a frame arrives, or the time of one that waits has come.
    pub fn timeout(&self) -> Option<Instant> {
        let due = |side: &Side| {
            let at = [side.wire.next_arrival(), side.device.next_departure()];
            self.clock.instant(at.into_iter().flatten().min()?)
        };
        earlier(due(&self.sides[0]), due(&self.sides[1]))
    }

    /// The clock that timestamps refer to.
    pub fn clock(&self) -> NicClock {
        self.clock
    }

    /// What each NIC, and the wire from it, has counted.
    pub fn stats(&self) -> [NicStats; 2] {
        [0, 1].map(|index: usize| self.sides[index].device.kit.stats)
    }

    /// Writes all frames that cross the wire from now on to a file in the pcapng format, which is made or overwritten. The
    /// two ends are its interfaces. Each frame costs its bytes twice, and a system call now and then.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn capture_to(&mut self, path: &Path) -> std::io::Result<()> {
        let [first, second] = &self.names;
        self.capture = Some(Capture::create(path, [first, second])?);
        Ok(())
    }
}

impl Side {
    fn transmit(&mut self, index: u32, now: u64, capture: &mut Option<Capture>) -> usize {
        let Self { device, wire } = self;
        device.transmit(now, |frame, at, kit| {
            wire.enter(frame, at, kit, |at, frame| {
                if let Some(capture) = capture {
                    capture.frame(index, Direction::Leaves, at, frame);
                }
            });
        })
    }

    /// Gives `peer`, the end with that index, what has arrived there.
    fn deliver(
        &mut self,
        peer: &mut Self,
        index: u32,
        now: u64,
        capture: &mut Option<Capture>,
    ) -> usize {
        let mut count = 0;
        while count < ARRIVALS_MAX
            && let Some((at, mut frame)) = self.wire.arrive(now)
        {
            if let Some(capture) = capture {
                capture.frame(index, Direction::Arrives, at, &frame);
            }
            peer.device.receive(&mut frame);
            // Back to where it was taken.
            self.device.kit.put(frame);
            count += 1;
        }
        count
    }
}

fn open(
    eal: &Eal,
    name: &str,
    config: &PortConfig,
    nic: NicConfig,
    clock: NicClock,
) -> Result<(LinkEnd, Side), PortError> {
    let RingPort { id, rings, queues } = RingPort::new(name, config)?;
    let face = NicFace {
        info: nic.port_info(name),
        counters: Arc::default(),
        clock,
        mbps: nic.wire.rate.map_or(0, |rate| (rate / 1_000_000) as u32),
    };
    let counters = Arc::clone(&face.counters);
    let backing = Backing::Emulated {
        _rings: rings,
        nic: face,
    };
    let (port, pairs) = Port::start(id, name, config, Some(backing))?;
    let device = device(eal, &port, &nic, queues, counters)?;
    let wire = Wire::new(nic.wire);
    Ok(((port, pairs), Side { device, wire }))
}

/// A NIC as its port was configured.
fn device(
    eal: &Eal,
    port: &Port,
    nic: &NicConfig,
    queues: Vec<FarQueue>,
    counters: Arc<NicCounters>,
) -> Result<Device, PortError> {
    let offloads = port.offloads();
    let on_time = offloads.tx_bits & sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP != 0;
    let timestamps = DynField::tx_timestamp(eal.up());
    if on_time && timestamps.is_none() {
        return Err(PortError::Call {
            name: port.info().name.clone(),
            call: "rte_mbuf_dyn_tx_timestamp_register",
            reason: "mbufs have no room left for a timestamp".to_owned(),
        });
    }
    Ok(Device {
        transmitter: Transmitter {
            granted: offloads.tx_bits,
            misbehaves: nic.misbehaves.clone(),
            frame_max: frame_max(nic.mtu_max),
            fragment_id: 0,
        },
        receiver: Receiver {
            granted: offloads.rx_bits,
            rss: port.rss().cloned(),
            misbehaves: nic.misbehaves.clone(),
            frame_max: frame_max(port.mtu()),
        },
        timestamps,
        heeds_timestamps: !nic.misbehaves.contains(&Misbehaviour::TimestampIgnored),
        scatter: offloads.rx_bits & sys::RTE_ETH_RX_OFFLOAD_SCATTER != 0,
        port: port.info().id.0,
        pool: port.pool(),
        queues: queues.into_iter().map(Queue::new).collect(),
        kit: kit::Kit::default(),
        counters,
    })
}

/// Longest frame of an MTU, bytes.
fn frame_max(mtu: u16) -> usize {
    ETHERNET_HEADER + TAG + usize::from(mtu)
}

impl NicConfig {
    /// What the NIC says of itself, as a port called `name`: what can be asked before it is opened. Its number is not known
    /// then.
    pub fn port_info(&self, name: &str) -> PortInfo {
        let offers = |offload| self.offers.contains(&offload);
        let bits =
            |of: fn(NicOffload) -> u64| self.offers.iter().map(|o| of(*o)).fold(0, |a, b| a | b);
        let rss = offers(NicOffload::Rss);
        PortInfo {
            id: PortId(u16::MAX),
            name: name.to_owned(),
            driver: DRIVER.to_owned(),
            numa_node: None,
            rx_queues_max: QUEUES_MAX,
            tx_queues_max: QUEUES_MAX,
            mtu_range: (68, self.mtu_max),
            rx_frame_max: frame_max(self.mtu_max) as u32,
            rss_table: if rss { self.rss_table } else { 0 },
            rss_key_size: if rss { RSS_KEY } else { 0 },
            rss_types: if rss {
                sys::RTE_ETH_RSS_IPV6 | sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP
            } else {
                0
            },
            rx_offloads: bits(NicOffload::rx_bits),
            tx_offloads: bits(NicOffload::tx_bits),
        }
    }
}

/// What a port shows of the emulated NIC behind it.
#[derive(Debug)]
pub(crate) struct NicFace {
    /// What the NIC says of itself, in place of what the ring driver says.
    pub(crate) info: PortInfo,
    pub(crate) counters: Arc<NicCounters>,
    pub(crate) clock: NicClock,
    /// Speed of the link, Mbit/s; 0 when it has none.
    pub(crate) mbps: u32,
}

#[cfg(test)]
mod tests;
