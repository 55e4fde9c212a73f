//! From what is wanted and what is offered to what is in force.

use std::borrow::Cow;

use dpdk_sys as sys;

use super::drivers::{Driver, Segmentation, known};
use super::{
    Buffers, Decision, Mode, OffloadConfig, Offloads, RxChecksum, SEGMENTS_MAX, Tagging, Vlan,
    VlanInForce,
};
use crate::port::{PortError, PortInfo, rx_offload_name, tx_offload_name};
use crate::wire::{Checksum, ETHERNET_HEADER, HEADERS, UDP_HEADER, VLAN_TAG};

/// Why nobody sums inside the process.
const IN_PROCESS: &str = "frames do not leave the process";
const NOT_OFFERED: &str = "not offered";
const CONFIGURED: &str = "as configured";
/// Why the engine paces by itself unless something else is asked for.
const PACING_DELAYS: &str =
    "what other connections send would wait up to 2 ms behind frames that are held back";

/// Decides who does what on a port.
///
/// # Errors
/// [`PortError::Unsupported`], naming device, driver, the key and what the device offers, for
/// [`Mode::Hardware`] that is not offered; for checksums that are off on a device whose frames leave the process; and for
/// a receive data room that is smaller than a frame on a device that does not scatter.
pub fn negotiate(
    info: &PortInfo,
    config: &OffloadConfig,
    buffers: Buffers,
) -> Result<Offloads, PortError> {
    let port = Negotiation {
        info,
        driver: known(&info.driver),
        buffers,
    };
    let tx_checksum = port.checksum(
        "tx_checksum",
        config.tx_checksum,
        port.sends(sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM),
    )?;
    let rx_checksum = port.checksum(
        "rx_checksum",
        config.rx_checksum,
        port.receives(sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM),
    )?;
    let segmentation = port.segmentation(config.udp_segmentation, &tx_checksum)?;
    let rss = port.rss(config.rss)?;
    let insert = port.sends(sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
    let insert = port.vlan("vlan_insert", config.vlan, insert)?;
    let strip = port.receives(sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
    let strip = port.vlan("vlan_strip", config.vlan, strip)?;
    let scatter = port.scatter()?;
    let fast_free = port.fast_free(config.mbuf_fast_free)?;
    let pacing = port.pacing(config.hardware_pacing)?;

    let by_device = |decision: &Decision| decision.granted == Mode::Hardware;
    let bit = |decision: &Decision, bit: u64| if by_device(decision) { bit } else { 0 };
    Ok(Offloads {
        tx_checksum: match tx_checksum.granted {
            Mode::Hardware => Checksum::PseudoHeader,
            Mode::Off => Checksum::Skip,
            Mode::Software | Mode::Auto => Checksum::Software,
        },
        rx_checksum: match rx_checksum.granted {
            Mode::Hardware => RxChecksum::Trust,
            Mode::Off => RxChecksum::Skip,
            Mode::Software | Mode::Auto => RxChecksum::Verify,
        },
        segments_max: if by_device(&segmentation) {
            port.segments()
        } else {
            1
        },
        rss: by_device(&rss),
        vlan: config.vlan.map(|vlan| VlanInForce {
            id: vlan.id,
            insert: tagging(&insert),
            strip: tagging(&strip),
        }),
        scatter: by_device(&scatter),
        mbuf_fast_free: by_device(&fast_free),
        pacing: by_device(&pacing),
        rx_bits: bit(&rx_checksum, sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM)
            | bit(&strip, sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP)
            // Some drivers scatter without having a bit for it.
            | bit(&scatter, info.rx_offloads & sys::RTE_ETH_RX_OFFLOAD_SCATTER),
        tx_bits: bit(&tx_checksum, sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
            | bit(&segmentation, sys::RTE_ETH_TX_OFFLOAD_UDP_TSO)
            | bit(&insert, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT)
            | bit(&fast_free, sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE)
            | bit(&pacing, sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP),
        decisions: vec![
            tx_checksum,
            rx_checksum,
            segmentation,
            rss,
            insert,
            strip,
            scatter,
            fast_free,
            pacing,
        ],
    })
}

fn tagging(decision: &Decision) -> Tagging {
    match decision.granted {
        Mode::Hardware => Tagging::Hardware,
        Mode::Software | Mode::Auto | Mode::Off => Tagging::Software,
    }
}

/// A reason why `auto` does not use what is offered.
type Objection = Result<(), Cow<'static, str>>;

struct Negotiation<'a> {
    info: &'a PortInfo,
    driver: Driver,
    buffers: Buffers,
}

impl Negotiation<'_> {
    fn checksum(
        &self,
        name: &'static str,
        wanted: Mode,
        offered: bool,
    ) -> Result<Decision, PortError> {
        if self.driver.in_process && matches!(wanted, Mode::Auto | Mode::Off) {
            return Ok(Decision {
                name,
                offered,
                wanted,
                granted: Mode::Off,
                reason: IN_PROCESS.into(),
            });
        }
        if wanted == Mode::Off {
            return Err(self.unsupported(format!(
                "offload.{name}: off is for links only: frames that leave the process carry UDP checksums \
                 (RFC 8200 §8.1); use auto or software"
            )));
        }
        let objection = self
            .driver
            .slow_checksum
            .map_or(Ok(()), |why| Err(why.into()));
        self.decide(name, wanted, offered, objection, Mode::Software)
    }

    fn segmentation(&self, wanted: Mode, tx_checksum: &Decision) -> Result<Decision, PortError> {
        const NAME: &str = "udp_segmentation";
        let offered = self.sends(sys::RTE_ETH_TX_OFFLOAD_UDP_TSO);
        let missing = if tx_checksum.granted != Mode::Hardware {
            Some("the device would have to compute the checksums, too".to_owned())
        } else if self.segments() < 2 {
            Some(format!(
                "a data room of {} bytes holds one datagram of the MTU",
                self.buffers.tx_data_room
            ))
        } else {
            None
        };
        if let Some(missing) = &missing
            && wanted == Mode::Hardware
            && offered
        {
            return Err(self.unsupported(format!("offload.{NAME}: hardware: {missing}")));
        }
        let known: Objection = match self.driver.segmentation {
            Segmentation::Datagrams => Ok(()),
            Segmentation::Fragments(why) => Err(why.into()),
            Segmentation::Unknown => Err(
                "this driver was never seen to cut datagrams, and not to make IP fragments: \
                                          try `engine selftest`, then ask for hardware"
                    .into(),
            ),
        };
        let objection = known.and(missing.map_or(Ok(()), |why| Err(why.into())));
        self.decide(NAME, wanted, offered, objection, Mode::Off)
    }

    fn rss(&self, wanted: Mode) -> Result<Decision, PortError> {
        let types = sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP | sys::RTE_ETH_RSS_IPV6;
        // Some drivers of virtual devices list hash types, and yet have no table to make use of them.
        let offered = self.info.rss_table != 0 && self.info.rss_types & types != 0;
        let mut decision = self.decide("rss", wanted, offered, Ok(()), Mode::Software)?;
        if self.buffers.queues < 2 {
            decision.granted = Mode::Off;
            decision.reason = "one queue".into();
        } else if self.driver.in_process {
            decision.granted = Mode::Off;
            decision.reason = "the other end of the link chooses the queue".into();
        } else if decision.granted != Mode::Hardware {
            let why = std::mem::take(&mut decision.reason);
            decision.reason = format!("{why}: shards hand over what is theirs").into();
        }
        Ok(decision)
    }

    fn vlan(
        &self,
        name: &'static str,
        vlan: Option<Vlan>,
        offered: bool,
    ) -> Result<Decision, PortError> {
        let wanted = match vlan {
            Some(Vlan {
                mode: Mode::Off, ..
            }) => Mode::Auto,
            Some(vlan) => vlan.mode,
            None => Mode::Off,
        };
        let mut decision = self.decide(name, wanted, offered, Ok(()), Mode::Software)?;
        if vlan.is_none() {
            decision.reason = "the port is in no VLAN".into();
        }
        Ok(decision)
    }

    /// Whether received frames may come in chains: only if they do not fit one mbuf.
    fn scatter(&self) -> Result<Decision, PortError> {
        let mut decision = Decision {
            name: "scatter",
            offered: self.receives(sys::RTE_ETH_RX_OFFLOAD_SCATTER),
            wanted: Mode::Off,
            granted: Mode::Off,
            reason: "frames fit one mbuf".into(),
        };
        let frame = usize::from(self.buffers.mtu) + ETHERNET_HEADER + VLAN_TAG;
        let headroom = sys::RTE_PKTMBUF_HEADROOM as usize;
        let room = usize::from(self.buffers.rx_data_room).saturating_sub(headroom);
        // What crosses a link stays in the mbuf of its sender.
        if frame <= room || self.driver.in_process {
            return Ok(decision);
        }
        if !decision.offered && !self.driver.chains_unasked {
            return Err(self.unsupported(format!(
                "a frame of up to {frame} bytes does not fit a data room of {room} bytes behind {headroom} of headroom, \
                 and the device does not scatter; raise data_room, or lower the MTU"
            )));
        }
        decision.wanted = Mode::Hardware;
        decision.granted = Mode::Hardware;
        decision.reason =
            format!("frames of up to {frame} bytes take several mbufs of {room}").into();
        Ok(decision)
    }

    fn fast_free(&self, wanted: Mode) -> Result<Decision, PortError> {
        let offered = self.sends(sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
        self.decide("mbuf_fast_free", wanted, offered, Ok(()), Mode::Off)
    }

    fn pacing(&self, wanted: Mode) -> Result<Decision, PortError> {
        let offered = self.sends(sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP);
        let objection = Err(PACING_DELAYS.into());
        self.decide(
            "hardware_pacing",
            wanted,
            offered,
            objection,
            Mode::Software,
        )
    }

    /// `fallback`: who does it when the device does not; [`Mode::Off`] where there is no software for it.
    fn decide(
        &self,
        name: &'static str,
        wanted: Mode,
        offered: bool,
        objection: Objection,
        fallback: Mode,
    ) -> Result<Decision, PortError> {
        let (granted, reason) = match (wanted, objection) {
            (Mode::Hardware, _) if !offered => return Err(self.not_offered(name)),
            (Mode::Hardware, Ok(())) => (Mode::Hardware, "".into()),
            (Mode::Hardware, Err(why)) => (
                Mode::Hardware,
                format!("{CONFIGURED}, although {why}").into(),
            ),
            (Mode::Auto, _) if !offered => (fallback, NOT_OFFERED.into()),
            (Mode::Auto, Ok(())) => (Mode::Hardware, "".into()),
            (Mode::Auto, Err(why)) => (fallback, why),
            (Mode::Software, _) => (fallback, CONFIGURED.into()),
            (Mode::Off, _) => (Mode::Off, CONFIGURED.into()),
        };
        Ok(Decision {
            name,
            offered,
            wanted,
            granted,
            reason,
        })
    }

    /// Datagrams of the MTU that fit one mbuf behind its headers.
    fn segments(&self) -> u16 {
        let payload = usize::from(self.buffers.mtu) + ETHERNET_HEADER - HEADERS;
        let room = usize::from(self.buffers.tx_data_room).saturating_sub(hugepages::TX_HEADROOM);
        // The length fields of IPv6 and UDP have 16 bits.
        let room = room.min(usize::from(u16::MAX) - UDP_HEADER);
        (room / payload).clamp(1, SEGMENTS_MAX.into()) as u16
    }

    fn sends(&self, bit: u64) -> bool {
        self.info.tx_offloads & bit != 0
    }

    fn receives(&self, bit: u64) -> bool {
        self.info.rx_offloads & bit != 0
    }

    fn not_offered(&self, name: &str) -> PortError {
        let mut offers: Vec<String> = bits(self.info.rx_offloads)
            .map(|bit| format!("rx {}", rx_offload_name(bit)))
            .collect();
        offers
            .extend(bits(self.info.tx_offloads).map(|bit| format!("tx {}", tx_offload_name(bit))));
        if self.info.rss_table != 0 {
            offers.push("RSS".to_owned());
        }
        let offers = if offers.is_empty() {
            "nothing".to_owned()
        } else {
            offers.join(", ")
        };
        self.unsupported(format!(
            "offload.{name}: hardware, but the device does not offer it (it offers {offers}); use auto"
        ))
    }

    fn unsupported(&self, problem: String) -> PortError {
        PortError::Unsupported {
            name: self.info.name.clone(),
            driver: self.info.driver.clone(),
            problem,
        }
    }
}

fn bits(word: u64) -> impl Iterator<Item = u64> {
    (0..u64::BITS)
        .map(|bit| 1 << bit)
        .filter(move |bit| word & bit != 0)
}
