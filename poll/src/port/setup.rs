//! The steps from a device that was found to one that runs.

use dpdk_sys as sys;

use super::rss::{Rss, Wanted};
use super::{PortConfig, PortError, PortId, PortInfo};
use crate::eal::error_text;
use crate::offload::{Offloads, carries_longer_frames};
use crate::wire::{ETHERNET_HEADER, MacAddr};

/// What is known of a device once it runs.
pub(super) struct Ready {
    pub(super) mac: MacAddr,
    pub(super) rss: Option<Rss>,
}

/// A device, what it says of itself, and what is wanted of it.
pub(super) struct Setup<'a> {
    id: PortId,
    name: &'a str,
    config: &'a PortConfig,
    info: &'a PortInfo,
    offloads: &'a Offloads,
    rss: Option<&'a mut Wanted>,
}

impl<'a> Setup<'a> {
    /// What is wanted of RSS lives until the device is closed.
    pub(super) fn new(
        info: &'a PortInfo,
        config: &'a PortConfig,
        offloads: &'a Offloads,
        rss: Option<&'a mut Wanted>,
    ) -> Self {
        Self {
            id: info.id,
            name: &info.name,
            config,
            info,
            offloads,
            rss,
        }
    }

    /// Configures and starts the device. A link has no MAC address of its own.
    pub(super) fn run(mut self, is_link: bool) -> Result<Ready, PortError> {
        self.check()?;
        self.configure()?;
        let mac = self.mac(is_link)?;
        self.queues()?;
        self.go()?;
        let rss = self.rss.as_mut().and_then(|wanted| wanted.apply(self.info));
        Ok(Ready { mac, rss })
    }

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
        let frame = usize::from(self.config.mtu) + ETHERNET_HEADER;
        if self.is_beyond_frame_max() && !carries_longer_frames(&self.info.driver) {
            return Err(self.unsupported(format!(
                "an MTU of {} asked for, which takes frames of {frame} bytes, and it receives {} at most",
                self.config.mtu, self.info.rx_frame_max
            )));
        }
        Ok(())
    }

    fn is_beyond_frame_max(&self) -> bool {
        usize::from(self.config.mtu) + ETHERNET_HEADER > self.info.rx_frame_max as usize
    }

    fn configure(&mut self) -> Result<(), PortError> {
        // SAFETY: rte_eth_conf is plain data whose all-zero value means "defaults".
        let mut conf: sys::rte_eth_conf = unsafe { std::mem::zeroed() };
        // Of a driver that carries longer frames than it says, DPDK takes no MTU beyond that: it is left at its default, and
        // so is that of an interface of the kernel.
        let beyond = self.is_beyond_frame_max();
        conf.rxmode.mtu = if beyond {
            0
        } else {
            u32::from(self.config.mtu)
        };
        conf.rxmode.offloads = self.offloads.rx_bits;
        conf.txmode.offloads = self.offloads.tx_bits;
        if let Some(rss) = &mut self.rss {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf = rss.conf(self.info);
        }
        let queues = self.config.queues;
        // SAFETY: the port exists. `conf` is copied by the call; the key it points to is not, and lives, unchanged, until
        // the device is closed (`Device::wanted`).
        let code = unsafe { sys::rte_eth_dev_configure(self.id.0, queues, queues, &conf) };
        self.done("rte_eth_dev_configure", code)?;
        if beyond {
            return Ok(());
        }
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
