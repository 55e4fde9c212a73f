//! Ports: a device EAL knows, configured, started, and closed after its last queue.

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dpdk_sys as sys;
use hugepages::Mempool;

use crate::eal::{Eal, error_text};
use crate::queue::{QueuePair, RxQueue, TxQueue};
use crate::wire::MacAddr;

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
    /// Where received frames are put; its data room holds a whole frame of `mtu`.
    pub pool: Mempool,
}

/// What a device says of itself.
#[derive(Debug, Clone)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// Its name: a PCI address or a vdev's name.
    pub name: String,
    /// Its driver, such as `net_tap`.
    pub driver: String,
    /// The NUMA node it is attached to, when it says so.
    pub numa_node: Option<u32>,
    /// Largest number of receive queues.
    pub rx_queues_max: u16,
    /// Largest number of transmit queues.
    pub tx_queues_max: u16,
    /// Smallest and largest MTU.
    pub mtu_range: (u16, u16),
    /// Entries of the RSS redirection table; 0 without RSS.
    pub rss_table: u16,
    /// Hash types RSS can use (`RTE_ETH_RSS_*`).
    pub rss_types: u64,
    /// Receive offloads offered (`RTE_ETH_RX_OFFLOAD_*`).
    pub rx_offloads: u64,
    /// Transmit offloads offered (`RTE_ETH_TX_OFFLOAD_*`).
    pub tx_offloads: u64,
}

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether frames can pass.
    pub up: bool,
    /// Speed in Mbit/s; 0 where the device does not know it.
    pub mbps: u32,
}

/// Counters that the device itself keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames the device dropped because no descriptor was free.
    pub rx_missed: u64,
    /// Frames received with an error.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Receive buffers that could not be allocated.
    pub rx_no_mbuf: u64,
}

/// A started device. Its queue pairs were handed out when it was opened; it stops and closes after the last of them
/// and the last `Port` are gone, so a queue is never polled on a stopped device.
#[derive(Debug, Clone)]
pub struct Port {
    device: Arc<Device>,
}

/// The device behind a port; closed on drop.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) info: PortInfo,
    mac: MacAddr,
    mtu: u16,
    /// For a link: the rings behind the port, freed after it is closed.
    _rings: Option<Arc<crate::link::Rings>>,
}

impl Port {
    /// Configures and starts the device called `name`, and hands out its queue pairs, once each.
    ///
    /// # Errors
    /// No such device, more queues or a larger MTU than it has, or a DPDK call that failed.
    pub fn open(
        eal: &Eal,
        name: &str,
        config: &PortConfig,
    ) -> Result<(Self, Vec<QueuePair>), PortError> {
        let id = find(name).ok_or_else(|| PortError::NoDevice {
            name: name.to_owned(),
            known: ports(eal).into_iter().map(|info| info.name).collect(),
        })?;
        Self::start(id, name, config, None)
    }

    pub(crate) fn start(
        id: PortId,
        name: &str,
        config: &PortConfig,
        rings: Option<Arc<crate::link::Rings>>,
    ) -> Result<(Self, Vec<QueuePair>), PortError> {
        let setup = Setup {
            id,
            name,
            config,
            info: info(id, name)?,
        };
        let is_link = rings.is_some();
        // From here on the device is ours to close, whatever fails.
        OPEN.fetch_add(1, Ordering::SeqCst);
        let mut device = Device {
            info: setup.info.clone(),
            mac: MacAddr([0; 6]),
            mtu: config.mtu,
            _rings: rings,
        };
        setup.check()?;
        setup.configure()?;
        device.mac = setup.mac(is_link)?;
        setup.queues()?;
        let device = Arc::new(device);
        setup.go()?;
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

    /// The state of the link now.
    pub fn link(&self) -> LinkState {
        let (mut mbps, mut up, mut full_duplex) = (0, 0, 0);
        // SAFETY: the port exists while the device lives, and the three places are valid.
        let code =
            unsafe { sys::stoq_link(self.device.id(), &mut mbps, &mut up, &mut full_duplex) };
        let mbps = if mbps == u32::MAX { 0 } else { mbps };
        LinkState {
            up: code == 0 && up != 0,
            mbps,
        }
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

    /// The device's own counters.
    pub fn stats(&self) -> DeviceStats {
        let mut stats = MaybeUninit::<sys::rte_eth_stats>::zeroed();
        // SAFETY: as in `link`: a started port, a valid place, and zero is a valid value.
        let stats = unsafe {
            sys::rte_eth_stats_get(self.device.id(), stats.as_mut_ptr());
            stats.assume_init()
        };
        DeviceStats {
            rx_frames: stats.ipackets,
            tx_frames: stats.opackets,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
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

impl Device {
    pub(crate) fn id(&self) -> u16 {
        self.info.id.0
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
        // SAFETY: every queue holds an Arc of the device, so nobody polls it any more. Stopping a port that was never
        // started and closing it after a failed set-up are allowed. Closing releases the mbufs of its descriptors.
        unsafe {
            sys::rte_eth_dev_stop(self.id());
            sys::rte_eth_dev_close(self.id());
        }
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The ports EAL sees.
pub fn ports(_eal: &Eal) -> Vec<PortInfo> {
    (0..sys::RTE_MAX_ETHPORTS as u16)
        // SAFETY: any number may be asked for.
        .filter(|&id| unsafe { sys::rte_eth_dev_is_valid_port(id) } != 0)
        .filter_map(|id| {
            let name = name(PortId(id))?;
            info(PortId(id), &name).ok()
        })
        .collect()
}

/// The name DPDK gives a bit of `RTE_ETH_RX_OFFLOAD_*`.
pub fn rx_offload_name(bit: u64) -> String {
    // SAFETY: returns a pointer to a static string for any value.
    unsafe { CStr::from_ptr(sys::rte_eth_dev_rx_offload_name(bit)) }
        .to_string_lossy()
        .into_owned()
}

/// The name DPDK gives a bit of `RTE_ETH_TX_OFFLOAD_*`.
pub fn tx_offload_name(bit: u64) -> String {
    // SAFETY: returns a pointer to a static string for any value.
    unsafe { CStr::from_ptr(sys::rte_eth_dev_tx_offload_name(bit)) }
        .to_string_lossy()
        .into_owned()
}

fn find(name: &str) -> Option<PortId> {
    let name = CString::new(name).ok()?;
    let mut id = 0_u16;
    // SAFETY: a NUL-terminated string and a place for the number.
    let code = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(PortId(id))
}

fn name(id: PortId) -> Option<String> {
    let mut buffer = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: the function writes at most RTE_ETH_NAME_MAX_LEN bytes, NUL included, and checks the id.
    let code = unsafe { sys::rte_eth_dev_get_name_by_port(id.0, buffer.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so the buffer holds a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

fn info(id: PortId, name: &str) -> Result<PortInfo, PortError> {
    let mut raw = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: a valid place; the id is checked by the function, which fills the whole structure on success.
    let code = unsafe { sys::rte_eth_dev_info_get(id.0, raw.as_mut_ptr()) };
    if code != 0 {
        return Err(PortError::Call {
            name: name.to_owned(),
            call: "rte_eth_dev_info_get",
            reason: error_text(code),
        });
    }
    // SAFETY: filled by the successful call above.
    let raw = unsafe { raw.assume_init() };
    let driver = if raw.driver_name.is_null() {
        "unknown".to_owned()
    } else {
        // SAFETY: a driver's name is a static NUL-terminated string.
        unsafe { CStr::from_ptr(raw.driver_name) }
            .to_string_lossy()
            .into_owned()
    };
    // SAFETY: the id is valid, as the call above has shown.
    let node = unsafe { sys::rte_eth_dev_socket_id(id.0) };
    Ok(PortInfo {
        id,
        name: name.to_owned(),
        driver,
        numa_node: u32::try_from(node).ok(),
        rx_queues_max: raw.max_rx_queues,
        tx_queues_max: raw.max_tx_queues,
        mtu_range: (raw.min_mtu, raw.max_mtu),
        rss_table: raw.reta_size,
        rss_types: raw.flow_type_rss_offloads,
        rx_offloads: raw.rx_offload_capa,
        tx_offloads: raw.tx_offload_capa,
    })
}

/// The steps from a device that was found to one that runs.
struct Setup<'a> {
    id: PortId,
    name: &'a str,
    config: &'a PortConfig,
    info: PortInfo,
}

impl Setup<'_> {
    fn check(&self) -> Result<(), PortError> {
        let queues = self.info.rx_queues_max.min(self.info.tx_queues_max);
        if self.config.queues == 0 || self.config.queues > queues {
            return Err(self.unsupported(format!(
                "{} queue pairs asked for, it has {queues} at most (virtual devices take the number in their \
                 --vdev arguments, network cards need one with as many queues)",
                self.config.queues
            )));
        }
        let (_, largest) = self.info.mtu_range;
        if largest != 0 && self.config.mtu > largest {
            return Err(self.unsupported(format!(
                "an MTU of {} asked for, it has {largest} at most",
                self.config.mtu
            )));
        }
        Ok(())
    }

    fn configure(&self) -> Result<(), PortError> {
        // SAFETY: rte_eth_conf is plain data whose all-zero value means "defaults".
        let mut conf: sys::rte_eth_conf = unsafe { std::mem::zeroed() };
        conf.rxmode.mtu = u32::from(self.config.mtu);
        if self.config.queues > 1 && self.info.rss_types != 0 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf =
                sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP & self.info.rss_types;
        }
        let queues = self.config.queues;
        // SAFETY: the port exists and `conf` is valid for the call, which copies it.
        let code = unsafe { sys::rte_eth_dev_configure(self.id.0, queues, queues, &conf) };
        self.done("rte_eth_dev_configure", code)?;
        // Drivers apply the MTU at different moments; asking again is harmless, and where it cannot be asked for
        // (rings, memif) the device has no limit of its own.
        // SAFETY: the port is configured.
        let code = unsafe { sys::rte_eth_dev_set_mtu(self.id.0, self.config.mtu) };
        if code == -libc::ENOTSUP {
            Ok(())
        } else {
            self.done("rte_eth_dev_set_mtu", code)
        }
    }

    fn mac(&self, is_link: bool) -> Result<MacAddr, PortError> {
        if is_link {
            let [high, low] = self.id.0.to_be_bytes();
            return Ok(MacAddr([0x02, b's', b't', b'q', high, low]));
        }
        let mut raw = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port exists and the place is valid.
        let code = unsafe { sys::rte_eth_macaddr_get(self.id.0, &mut raw) };
        self.done("rte_eth_macaddr_get", code)?;
        let mut mac = raw.addr_bytes;
        if self.info.driver == "net_tap" {
            mac[0] |= 0x02;
            mac[5] ^= 0x01;
        }
        Ok(MacAddr(mac))
    }

    fn queues(&self) -> Result<(), PortError> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        // SAFETY: the port is configured and the two places are valid.
        let code = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id.0, &mut rx, &mut tx) };
        self.done("rte_eth_dev_adjust_nb_rx_tx_desc", code)?;
        // SOCKET_ID_ANY where the device does not say.
        let node = self.info.numa_node.unwrap_or(u32::MAX);
        for queue in 0..self.config.queues {
            // SAFETY: a configured port, a queue below the configured number, NULL for the driver's defaults, and a
            // pool that lives as long as the process.
            let code = unsafe {
                sys::rte_eth_rx_queue_setup(
                    self.id.0,
                    queue,
                    rx,
                    node,
                    std::ptr::null(),
                    self.config.pool.as_ptr(),
                )
            };
            self.done("rte_eth_rx_queue_setup", code)?;
            // SAFETY: as above.
            let code = unsafe {
                sys::rte_eth_tx_queue_setup(self.id.0, queue, tx, node, std::ptr::null())
            };
            self.done("rte_eth_tx_queue_setup", code)?;
        }
        Ok(())
    }

    fn go(&self) -> Result<(), PortError> {
        // SAFETY: the port and all its queues are set up.
        let code = unsafe { sys::rte_eth_dev_start(self.id.0) };
        self.done("rte_eth_dev_start", code)?;
        // SAFETY: the port is started. A device that cannot be asked is not promiscuous.
        let code = unsafe { sys::rte_eth_promiscuous_disable(self.id.0) };
        if code == -libc::ENOTSUP {
            Ok(())
        } else {
            self.done("rte_eth_promiscuous_disable", code)
        }
    }

    fn done(&self, call: &'static str, code: i32) -> Result<(), PortError> {
        if code == 0 {
            return Ok(());
        }
        Err(PortError::Call {
            name: self.name.to_owned(),
            call,
            reason: error_text(code),
        })
    }

    fn unsupported(&self, problem: String) -> PortError {
        PortError::Unsupported {
            name: self.name.to_owned(),
            driver: self.info.driver.clone(),
            problem,
        }
    }
}
