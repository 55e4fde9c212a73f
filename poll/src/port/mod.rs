//! Ports: a device EAL knows, configured, started, and closed after its last queue.

mod info;
mod rss;
mod setup;
mod stats;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use dpdk_sys as sys;
use hugepages::Mempool;

use crate::eal::{Eal, error_text};
use crate::nic::{NicClock, NicFace, NicStats};
use crate::offload::{Buffers, OffloadConfig, Offloads, negotiate};
use crate::queue::{QueuePair, RxQueue, TxQueue};
use crate::ring::Rings;
use crate::wire::MacAddr;
use rss::Wanted;
use setup::{Ready, Setup};

pub use info::{PortInfo, ports, rx_offload_name, tx_offload_name};
pub use rss::{DEFAULT_RSS_KEY, Rss, rss_type_names};
pub use stats::{DeviceStats, LinkState};

/// DPDK's number of a port (a device, not a UDP port).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// EAL knows no device of this name.
    #[error(
        "no device {name:?}: EAL sees {}; give it with -a (PCI) or --vdev (virtual); a virtual device that is \
         given and yet missing could not be made: EAL's messages above say why, mostly a lack of permission \
         (run as root, or with CAP_NET_ADMIN and CAP_NET_RAW)",
        if .known.is_empty() { "none".to_owned() } else { .known.join(", ") }
    )]
    NoDevice {
        /// The name asked for.
        name: String,
        /// The devices EAL sees.
        known: Vec<String>,
    },
    /// The device cannot do what the configuration asks.
    #[error("{name} ({driver}): {problem}")]
    Unsupported {
        /// The device.
        name: String,
        /// Its driver.
        driver: String,
        /// What it cannot do, and what it can.
        problem: String,
    },
    /// A DPDK call failed.
    #[error("{name}: {call} failed: {reason}")]
    Call {
        /// The device.
        name: String,
        /// The function of DPDK.
        call: &'static str,
        /// Its text for the error.
        reason: String,
    },
}

/// How a port is set up.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Largest IPv6 packet, bytes, without the Ethernet header: 1280 to 9600.
    pub mtu: u16,
    /// Queue pairs, at least 1.
    pub queues: u16,
    /// Descriptors of each receive queue; the device may round it.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; the device may round it.
    pub tx_descriptors: u16,
    /// Where received frames are put. A data room that is smaller than a frame of `mtu` takes a device that scatters.
    pub pool: Mempool,
    /// Where frames to send are built; its data room holds a whole frame of `mtu`. Usually the same as `pool`.
    pub tx_pool: Mempool,
    /// What the device is asked to do.
    pub offload: OffloadConfig,
    /// The key of receive side scaling, cut or repeated to the length the device takes; [`DEFAULT_RSS_KEY`] without
    /// one. It matters with several queues on a device that has RSS.
    pub rss_key: Option<Vec<u8>>,
}

/// A started device. Its queue pairs were handed out when it was opened; it stops and closes after the last of them
/// and the last `Port` are gone, so a queue is never polled on a stopped device.
#[derive(Debug, Clone)]
pub struct Port {
    device: Arc<Device>,
}

/// Packet memory of a port.
#[derive(Debug, Clone, Copy)]
struct Pools {
    rx: Mempool,
    tx: Mempool,
}

/// The device behind a port; closed on drop.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) info: PortInfo,
    mac: MacAddr,
    pub(crate) mtu: u16,
    pools: Pools,
    pub(crate) offloads: Offloads,
    /// What RSS was asked to do. `rte_eth_dev_configure` keeps the pointer to its key, and drivers go back to it when they
    /// start or reset the device: it stays where it is until the device is closed.
    wanted: Option<Wanted>,
    rss: Option<Rss>,
    backing: Option<Backing>,
}

/// What is behind a port that is no device of EAL's: rings, which are freed after it is closed.
#[derive(Debug)]
pub(crate) enum Backing {
    /// A link.
    Link { _rings: Arc<Rings> },
    /// An emulated NIC, which answers wherever the driver of rings would not do.
    Emulated { _rings: Arc<Rings>, nic: NicFace },
}

impl Port {
    /// Configures and starts the device called `name`, and hands out its queue pairs, once each.
    ///
    /// # Errors
    /// No such device, more queues or a larger MTU than it has, an offload that it does not have, or a DPDK call that
    /// failed.
    pub fn open(
        eal: &Eal,
        name: &str,
        config: &PortConfig,
    ) -> Result<(Self, Vec<QueuePair>), PortError> {
        let id = info::find(name).ok_or_else(|| PortError::NoDevice {
            name: name.to_owned(),
            known: ports(eal).into_iter().map(|info| info.name).collect(),
        })?;
        Self::start(id, name, config, None)
    }

    pub(crate) fn start(
        id: PortId,
        name: &str,
        config: &PortConfig,
        backing: Option<Backing>,
    ) -> Result<(Self, Vec<QueuePair>), PortError> {
        let has_rings = backing.is_some();
        let mut info = {
            let _turn = control();
            info::info(id, name)?
        };
        if let Some(Backing::Emulated { nic, .. }) = &backing {
            info = PortInfo {
                id: info.id,
                ..nic.info.clone()
            };
        }
        // From here on the device is ours to close, whatever fails.
        OPEN.fetch_add(1, Ordering::SeqCst);
        let mut device = Device {
            info,
            mac: MacAddr([0; 6]),
            mtu: config.mtu,
            pools: Pools {
                rx: config.pool,
                tx: config.tx_pool,
            },
            offloads: Offloads::default(),
            wanted: None,
            rss: None,
            backing,
        };
        device.offloads = negotiate(&device.info, &config.offload, config.buffers())?;
        if device.offloads.rss {
            device.wanted = Wanted::new(&device.info, config.queues, config.rss_key.as_deref());
        }
        let ready = {
            let _turn = control();
            let Device {
                info,
                offloads,
                wanted,
                backing,
                ..
            } = &mut device;
            match backing {
                // The driver of rings is told nothing of what the model does: it would refuse.
                Some(Backing::Emulated { .. }) => {
                    let ready =
                        Setup::new(info, config, &Offloads::default(), None).run(has_rings)?;
                    Ready {
                        rss: wanted.as_ref().map(Wanted::as_wanted),
                        ..ready
                    }
                }
                _ => Setup::new(info, config, offloads, wanted.as_mut()).run(has_rings)?,
            }
        };
        device.mac = ready.mac;
        device.rss = ready.rss;
        let device = Arc::new(device);
        let pairs = (0..config.queues)
            .map(|queue| QueuePair {
                rx: RxQueue::new(Arc::clone(&device), queue),
                tx: TxQueue::new(Arc::clone(&device), queue),
            })
            .collect();
        Ok((Self { device }, pairs))
    }

    /// What the device says of itself.
    pub fn info(&self) -> &PortInfo {
        &self.device.info
    }

    /// The Ethernet address our host uses on this port.
    ///
    /// It is the device's own, with two exceptions. A link has none, so one is made from the port's number. The kernel's
    /// end of a `net_tap` interface has the same address as the port, and two hosts with one address cannot talk, so
    /// ours differs from it in the "locally administered" and the last bit.
    pub fn mac(&self) -> MacAddr {
        self.device.mac
    }

    /// The MTU in force, bytes of IPv6 packet.
    pub fn mtu(&self) -> u16 {
        self.device.mtu
    }

    /// Where received frames are put.
    pub fn pool(&self) -> Mempool {
        self.device.pools.rx
    }

    /// Where frames to send are built.
    pub fn tx_pool(&self) -> Mempool {
        self.device.tx_pool()
    }

    /// What the device was asked to do, and why not more.
    pub fn offloads(&self) -> &Offloads {
        &self.device.offloads
    }

    /// Receive side scaling as the device does it: read back after it was set. `None` with one queue, and where the
    /// device has no RSS, does not let it be read, or does not hash UDP over IPv6: a flow's queue is unknown then.
    pub fn rss(&self) -> Option<&Rss> {
        self.device.rss.as_ref()
    }

    /// What the emulated NIC behind the port has counted, and the wire from it; `None` where there is none.
    pub fn nic_stats(&self) -> Option<NicStats> {
        Some(self.device.nic()?.counters.read())
    }

    /// The clock of the emulated NIC behind the port, which timestamps refer to; `None` where there is none.
    pub fn nic_clock(&self) -> Option<NicClock> {
        Some(self.device.nic()?.clock)
    }

    /// Waits until the link is up, at most for `limit` and until `give_up` says so; returns its last state.
    pub fn wait_for_link(&self, limit: Duration, give_up: impl Fn() -> bool) -> LinkState {
        let start = Instant::now();
        loop {
            let link = self.link();
            if link.up || start.elapsed() >= limit || give_up() {
                return link;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the given multicast addresses in. A device without such a filter lets in all multicast instead, and one
    /// without either needs nothing: it does not filter.
    ///
    /// # Errors
    /// The device has the filter but refuses the addresses, and refuses all multicast too.
    pub fn set_multicast(&self, addresses: &[MacAddr]) -> Result<(), PortError> {
        let mut list: Vec<sys::rte_ether_addr> = addresses
            .iter()
            .map(|mac| sys::rte_ether_addr { addr_bytes: mac.0 })
            .collect();
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let _turn = control();
        // SAFETY: the port is started, `list` holds `count` addresses and the driver copies them.
        let filtered = unsafe {
            sys::rte_eth_dev_set_mc_addr_list(self.device.id(), list.as_mut_ptr(), count)
        };
        if filtered == 0 {
            return Ok(());
        }
        // SAFETY: the port is started.
        let all = unsafe { sys::rte_eth_allmulticast_enable(self.device.id()) };
        if all == 0 || all == -libc::ENOTSUP {
            return Ok(());
        }
        Err(PortError::Call {
            name: self.device.info.name.clone(),
            call: "rte_eth_allmulticast_enable",
            reason: error_text(all),
        })
    }
}

impl PortConfig {
    fn buffers(&self) -> Buffers {
        Buffers {
            mtu: self.mtu,
            queues: self.queues,
            rx_data_room: self.pool.data_room(),
            tx_data_room: self.tx_pool.data_room(),
        }
    }
}

impl Device {
    pub(crate) fn id(&self) -> u16 {
        self.info.id.0
    }

    pub(crate) fn tx_pool(&self) -> Mempool {
        self.pools.tx
    }

    fn nic(&self) -> Option<&NicFace> {
        match &self.backing {
            Some(Backing::Emulated { nic, .. }) => Some(nic),
            _ => None,
        }
    }
}

/// Devices that exist, for [`Eal::cleanup`].
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many devices are open.
pub(crate) fn open_devices() -> usize {
    OPEN.load(Ordering::SeqCst)
}

impl Drop for Device {
    fn drop(&mut self) {
        let _turn = control();
        // SAFETY: every queue holds an Arc of the device, so nobody polls it any more. Stopping a port that was never
        // started and closing it after a failed set-up are allowed. Closing releases the mbufs of its descriptors.
        unsafe {
            sys::rte_eth_dev_stop(self.id());
            sys::rte_eth_dev_close(self.id());
        }
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One control call at a time: DPDK leaves it to the caller that calls which configure or ask a device do not overlap.
/// One lock for all devices, for opening and closing touch what they share. Polling queues needs none.
static CONTROL: Mutex<()> = Mutex::new(());

/// The turn to make control calls; it ends when the guard is dropped.
pub(crate) fn control() -> MutexGuard<'static, ()> {
    // It guards no data, so a holder that panicked leaves nothing broken.
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The turn to make control calls, if nobody has it.
pub(crate) fn try_control() -> Option<MutexGuard<'static, ()>> {
    match CONTROL.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
