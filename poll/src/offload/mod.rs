//! Offloads: what a device is asked to do for the engine, what it offers, and what is in force.
//!
//! ```text
//!   OffloadConfig (what is wanted) ─┐
//!   PortInfo (what is offered) ─────┼── negotiate ──► Offloads (what is in force, and why)
//!   Buffers (MTU, queues, rooms) ───┘                   bits for rte_eth_dev_configure
//! ```
//!
//! Pure functions over numbers: nothing here talks to a device, so `engine ports` can say beforehand what a start would
//! grant. That a device *keeps* its word is seen on the wire alone; segmentation has a self-test for that.

mod drivers;
mod frames;
mod negotiate;
mod pacing;
pub(crate) mod segmentation;

use std::borrow::Cow;
use std::fmt;

pub(crate) use drivers::carries_longer_frames;
pub use frames::ChecksumVerdict;
pub(crate) use frames::FrameOffloads;
pub use negotiate::negotiate;
pub use pacing::PacingClock;

use crate::wire::Checksum;

/// Most datagrams that one mbuf carries for the device to cut up: what Linux takes as a bound, too.
pub const SEGMENTS_MAX: u16 = 64;

/// Who is to do a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The device, where it offers it and is known to do it well; else the engine.
    #[default]
    Auto,
    /// The device; it is an error if it does not offer it.
    Hardware,
    /// The engine.
    Software,
    /// Nobody.
    Off,
}

impl Mode {
    /// The word of the configuration file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The VLAN of a port (IEEE 802.1Q): everything sent is tagged, and nothing else is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// Who writes and removes the tag; [`Mode::Off`] counts as [`Mode::Auto`].
    pub mode: Mode,
}

/// What is wanted of a device. By default everything that it does better than the engine, and no VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OffloadConfig {
    /// UDP checksums of sent datagrams. [`Mode::Off`] only for links, whose frames never leave the process.
    pub tx_checksum: Mode,
    /// UDP checksums of received datagrams. [`Mode::Off`] as above.
    pub rx_checksum: Mode,
    /// Cutting up of one large buffer into many datagrams. There is no software for it: [`Mode::Software`] is
    /// [`Mode::Off`].
    pub udp_segmentation: Mode,
    /// Spreading of flows over queues by their hash. Without it, [`Mode::Software`] or [`Mode::Off`], shards hand over
    /// what arrives on the wrong queue.
    pub rss: Mode,
    /// The VLAN of the port.
    pub vlan: Option<Vlan>,
    /// The device may give back sent mbufs without looking at them. [`Mode::Software`] is [`Mode::Off`].
    pub mbuf_fast_free: Mode,
    /// The device holds frames back until the time that their mbufs say. Without it, the engine sends when it is time:
    /// [`Mode::Auto`] is [`Mode::Software`], for what comes later waits behind a frame that is held back.
    pub hardware_pacing: Mode,
}

/// What of a port matters to its offloads besides the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Largest IPv6 packet, bytes.
    pub mtu: u16,
    /// Queue pairs.
    pub queues: u16,
    /// Data room of the mbufs that are received into, headroom included, bytes.
    pub rx_data_room: u16,
    /// Data room of the mbufs that frames are built in, headroom included, bytes.
    pub tx_data_room: u16,
}

/// What becomes of UDP checksums of received datagrams. Those of ICMPv6 are always verified by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// The device's verdict counts; where it has none, the engine verifies.
    Trust,
    /// The engine verifies.
    #[default]
    Verify,
    /// Nobody does: no sum is sent inside the process.
    Skip,
}

/// Who writes or removes VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// The device; the tag travels in the mbuf.
    Hardware,
    /// The engine; the tag is in the frame.
    Software,
}

/// The VLAN of a port, as it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanInForce {
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// Who writes tags.
    pub insert: Tagging,
    /// Who removes them. Drivers exist that do so unasked; what they say of a frame counts, whatever this says.
    pub strip: Tagging,
}

/// What is in force on a port. The default is that of a device which offers nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offloads {
    /// Who computes UDP checksums of sent datagrams.
    pub tx_checksum: Checksum,
    /// Who verifies those of received ones.
    pub rx_checksum: RxChecksum,
    /// Datagrams that one mbuf may carry, as many as fit; 1: the device does not cut.
    pub segments_max: u16,
    /// Whether RSS is set up.
    pub rss: bool,
    /// The VLAN, if the port is in one.
    pub vlan: Option<VlanInForce>,
    /// Received frames may come in chains of mbufs.
    pub scatter: bool,
    /// Sent mbufs come back unlooked at: they are single, direct, not shared, and of one pool.
    pub mbuf_fast_free: bool,
    /// Frames leave when their mbufs say.
    pub pacing: bool,
    /// What was decided, and why: one entry an offload, in the order of [`OffloadConfig`].
    pub decisions: Vec<Decision>,
    /// `RTE_ETH_RX_OFFLOAD_*` to ask the device for.
    pub rx_bits: u64,
    /// `RTE_ETH_TX_OFFLOAD_*` to ask the device for.
    pub tx_bits: u64,
}

impl Default for Offloads {
    fn default() -> Self {
        Self {
            tx_checksum: Checksum::Software,
            rx_checksum: RxChecksum::Verify,
            segments_max: 1,
            rss: false,
            vlan: None,
            scatter: false,
            mbuf_fast_free: false,
            pacing: false,
            decisions: Vec::new(),
            rx_bits: 0,
            tx_bits: 0,
        }
    }
}

/// What was decided of one offload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its name: the key of the configuration file, or one that has none (`scatter`).
    pub name: &'static str,
    /// Does the device offer it?
    pub offered: bool,
    /// What the configuration wants.
    pub wanted: Mode,
    /// Who does it; never [`Mode::Auto`].
    pub granted: Mode,
    /// Why; empty where the device simply does what it offers.
    pub reason: Cow<'static, str>,
}

impl Decision {
    /// Was more wanted of the device, or hoped for, than it does?
    pub fn falls_back(&self) -> bool {
        self.granted != Mode::Hardware && matches!(self.wanted, Mode::Auto | Mode::Hardware)
    }
}

#[cfg(test)]
mod tests;
