//! What an emulated NIC offers, and what lies between it and the other one.

use std::time::Duration;

use dpdk_sys as sys;

/// An emulated NIC and its way to the other end.
#[derive(Debug, Clone)]
pub struct NicConfig {
    /// What it offers; the rest it does not have.
    pub offers: Vec<NicOffload>,
    /// What it does other than it announces.
    pub misbehaves: Vec<Misbehaviour>,
    /// Largest MTU, bytes.
    pub mtu_max: u16,
    /// Entries of the RSS redirection table.
    pub rss_table: u16,
    /// What lies between this end and the other, in the direction of what this end sends.
    pub wire: WireConfig,
}

impl Default for NicConfig {
    /// A NIC with every offload, on a perfect wire.
    fn default() -> Self {
        Self {
            offers: NicOffload::ALL.to_vec(),
            misbehaves: Vec::new(),
            mtu_max: 9702,
            rss_table: 128,
            wire: WireConfig::default(),
        }
    }
}

/// Something that an emulated NIC can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NicOffload {
    /// Fills the UDP checksum of what is sent.
    TxChecksum,
    /// Verifies the UDP checksum of what is received.
    RxChecksum,
    /// Cuts a large datagram into several (USO).
    UdpSegmentation,
    /// Inserts the VLAN tag of what is sent, and takes it off what is received.
    Vlan,
    /// Spreads flows over the receive queues by their Toeplitz hash.
    Rss,
    /// Receives frames into several chained mbufs.
    Scatter,
    /// Sends frames that lie in several chained mbufs. Where it is not granted, the first mbuf alone is sent.
    MultiSegs,
    /// Holds a frame back until the time that its mbuf says.
    SendOnTimestamp,
    /// Frees what was sent in bulk, which takes mbufs of one pool with one owner each.
    FastFree,
}

impl NicOffload {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::TxChecksum,
        Self::RxChecksum,
        Self::UdpSegmentation,
        Self::Vlan,
        Self::Rss,
        Self::Scatter,
        Self::MultiSegs,
        Self::SendOnTimestamp,
        Self::FastFree,
    ];

    /// Its receive offloads (`RTE_ETH_RX_OFFLOAD_*`).
    pub(super) fn rx_bits(self) -> u64 {
        match self {
            Self::RxChecksum => sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM,
            Self::Vlan => sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP,
            Self::Rss => sys::RTE_ETH_RX_OFFLOAD_RSS_HASH,
            Self::Scatter => sys::RTE_ETH_RX_OFFLOAD_SCATTER,
            Self::TxChecksum
            | Self::UdpSegmentation
            | Self::MultiSegs
            | Self::SendOnTimestamp
            | Self::FastFree => 0,
        }
    }

    /// Its transmit offloads (`RTE_ETH_TX_OFFLOAD_*`).
    pub(super) fn tx_bits(self) -> u64 {
        match self {
            Self::TxChecksum => sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM,
            Self::UdpSegmentation => sys::RTE_ETH_TX_OFFLOAD_UDP_TSO,
            Self::Vlan => sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT,
            Self::MultiSegs => sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
            Self::SendOnTimestamp => sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP,
            Self::FastFree => sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
            Self::RxChecksum | Self::Rss | Self::Scatter => 0,
        }
    }
}

/// Something that an emulated NIC does other than it announces, as devices do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Misbehaviour {
    /// Cuts into IPv6 fragments where it is asked for datagrams: the flag (`RTE_MBUF_F_TX_UDP_SEG`) is documented as either.
    UsoFragments,
    /// Leaves checksums as they were prepared, those of segments, too.
    TxChecksumLeft,
    /// Calls every UDP checksum good.
    RxChecksumGoodAlways,
    /// Leaves out VLAN tags.
    VlanNotInserted,
    /// Puts every flow on the queue of the next entry of the redirection table.
    RssWrong,
    /// Sends at once what is to wait for its time.
    TimestampIgnored,
}

impl Misbehaviour {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::UsoFragments,
        Self::TxChecksumLeft,
        Self::RxChecksumGoodAlways,
        Self::VlanNotInserted,
        Self::RssWrong,
        Self::TimestampIgnored,
    ];
}

/// One direction of the wire. The default is a perfect one: without a rate, a delay, or a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct WireConfig {
    /// Bits a second; without one, frames take no time. A frame counts with the 24 bytes that Ethernet adds: preamble,
    /// checksum and the gap to the next frame.
    pub rate: Option<u64>,
    /// Frames that may wait for the wire, the one that is being sent among them; more are dropped. Without a rate none
    /// waits.
    pub queue: usize,
    /// Frames in that queue above which those that are capable of ECN are marked "congestion experienced" (RFC 3168).
    pub ecn_above: Option<usize>,
    /// Time on the way, from the last bit sent to the last bit received.
    pub delay: Duration,
    /// Up to so much more, evenly distributed. It does not reorder.
    pub jitter: Duration,
    /// Share of frames that are lost on the way, 0 to 1.
    pub loss: f64,
    /// Frames that are lost in a row on average, 1 or more: the model of Gilbert, whose bad state loses all. Without it
    /// every frame is lost or not by itself.
    pub loss_burst: Option<f64>,
    /// Share of frames that are overtaken by later ones, 0 to 1.
    pub reorder: f64,
    /// How much longer those take.
    pub reorder_delay: Duration,
    /// Share of frames that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// What chance takes its numbers from: the same seed and the same frames at the same times give the same result.
    pub seed: u64,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            rate: None,
            queue: 1000,
            ecn_above: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            loss_burst: None,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(1),
            duplicate: 0.0,
            seed: 0,
        }
    }
}
