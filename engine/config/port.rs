//! `ports:`, `memory:` and `shards:`.

use serde::{Deserialize, Serialize};

use super::address::{Address, Prefix};
use super::connection_ids::Hex;
use super::nic::Nic;
use super::offload::Offload;
use super::units::{Interval, Size};

/// A port: a device that EAL knows, or one end of an in-process link.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// How the rest of the file calls it.
    pub name: String,
    /// A PCI address, or the name of a virtual device that `--vdev` makes. Excludes `link`.
    pub device: Option<String>,
    /// The port at the other end of an in-process link. Excludes `device`.
    pub link: Option<String>,
    /// Puts an emulated NIC behind this end of a link; both ends have one or none.
    #[serde(default, deserialize_with = "super::present")]
    pub emulated: Option<Nic>,
    /// IP MTU in bytes, 1280..=9600; default 1500.
    pub mtu: Option<u16>,
    /// Static addresses; a link-local one is added.
    #[serde(default)]
    pub addresses: Vec<Prefix>,
    /// Static default gateway.
    pub gateway: Option<Address>,
    /// Whether router advertisements give addresses, prefixes, MTU and gateways; default false.
    #[serde(default)]
    pub router_advertisements: bool,
    /// Queue pairs, 1..=16; default: as many as shards use.
    pub queues: Option<u16>,
    /// Key of receive-side scaling, 40 or 52 bytes in hexadecimal; default: the engine's own.
    pub rss_key: Option<Hex>,
    /// Descriptors of a receive queue, a power of two 64..=32768; default 1024.
    pub rx_descriptors: Option<u16>,
    /// Descriptors of a transmit queue, a power of two 64..=32768; default 1024.
    pub tx_descriptors: Option<u16>,
    /// What the device is to do for the engine.
    #[serde(default)]
    pub offload: Offload,
    /// Frames received, and frames sent, at a time, 1..=64; default 32.
    pub burst: Option<u16>,
    /// Room in an mbuf that frames are received into, headroom of 128 B included; `auto`: a whole frame fits.
    #[serde(default)]
    pub data_room: DataRoom,
    /// Where a datagram is built.
    #[serde(default)]
    pub tx_path: TxPath,
    /// How long to wait at start for the link to come up; default 5s.
    pub link_up_timeout: Option<Interval>,
}

/// Where a datagram is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxPath {
    /// `in_place` on devices, `scratch` on links.
    #[default]
    Auto,
    /// In the mbuf: no copy.
    InPlace,
    /// In a warm buffer, then copied to the mbuf.
    Scratch,
}

/// Packet memory of each port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// mbufs of a port's pool, or `auto` (by formula).
    pub mbufs: Mbufs,
    /// Received datagrams that applications of a port may hold at once without copies; default 4096.
    pub held_slices: Option<u32>,
    /// Free mbufs below which what is received is copied, or `auto` (by formula).
    pub low_mark: Mbufs,
    /// Datagrams shorter than this are copied out of their mbuf at once; default 256 B.
    pub rx_copybreak: Option<Size>,
}

/// mbufs of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mbufs {
    /// By formula.
    #[default]
    Auto,
    /// This many.
    Count(u32),
}

impl std::str::FromStr for Mbufs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Count).map_err(|_| {
                format!("`{text}` is not `auto` or a whole number from 0 to 4294967295")
            }),
        }
    }
}

/// Room in an mbuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataRoom {
    /// As much as a frame of the MTU takes.
    #[default]
    Auto,
    /// This many bytes.
    Size(Size),
}

impl std::str::FromStr for DataRoom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Size),
        }
    }
}

/// One (port, queue pair, lcore).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// How the rest of the file calls it.
    pub name: String,
    /// The port's name.
    pub port: String,
    /// The queue pair; default 0.
    #[serde(default)]
    pub queue: u16,
    /// The lcore that drives it, one of EAL's core list.
    pub lcore: u32,
    /// What the lcore does when there is no work; default `adaptive`.
    #[serde(default)]
    pub idle: Idle,
    /// UDP port that this shard's clients send from; default: a block of 256 of the dynamic range, chosen at start,
    /// which all shards of a port share.
    pub client_udp_port: Option<u16>,
}

/// What an lcore does when there is no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Polls on: lowest latency, a whole core.
    Busy,
    /// Polls on for a while, then pauses, then sleeps shortly, never past the next timer.
    #[default]
    Adaptive,
}
