//! `emulated:` of a port: a model of a NIC, and the wire to the other end.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::StrDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::scalar::OrOff;
use super::units::{BitRate, Interval, Percent};

/// An emulated NIC.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nic {
    /// What it offers: `all`, `none`, or a list; default `all`.
    pub offloads: NicOffloads,
    /// In which ways it does not do what it announces; default: in none.
    pub misbehaves: Vec<Misbehaviour>,
    /// Largest MTU in bytes, 1280..=9702; default 9702.
    pub mtu_max: Option<u16>,
    /// Entries of the RSS redirection table, a power of two 1..=512; default 128.
    pub rss_table: Option<u16>,
    /// The wire, in the direction of what this end sends.
    pub wire: Wire,
    /// File that all frames which cross the wire are written to, in both directions; at one end of a link.
    pub capture: Option<PathBuf>,
}

/// What an emulated NIC offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NicOffloads {
    /// Everything.
    #[default]
    All,
    /// Nothing.
    None,
    /// These.
    List(Vec<NicOffload>),
}

/// Something that an emulated NIC can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicOffload {
    /// Fills UDP checksums.
    TxChecksum,
    /// Verifies UDP checksums.
    RxChecksum,
    /// Cuts large datagrams into several.
    UdpSegmentation,
    /// Inserts and takes off VLAN tags.
    Vlan,
    /// Spreads flows over queues.
    Rss,
    /// Receives into several mbufs.
    Scatter,
    /// Sends from several mbufs.
    MultiSegs,
    /// Sends at the time that the mbuf says.
    SendOnTimestamp,
    /// Frees what was sent in bulk.
    FastFree,
}

impl NicOffload {
    /// Everything there is.
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

    /// The word of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TxChecksum => "tx_checksum",
            Self::RxChecksum => "rx_checksum",
            Self::UdpSegmentation => "udp_segmentation",
            Self::Vlan => "vlan",
            Self::Rss => "rss",
            Self::Scatter => "scatter",
            Self::MultiSegs => "multi_segs",
            Self::SendOnTimestamp => "send_on_timestamp",
            Self::FastFree => "fast_free",
        }
    }
}

/// What an emulated NIC may do other than it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// Makes IPv6 fragments where it is asked for segments.
    UsoFragments,
    /// Leaves checksums as they were prepared.
    TxChecksumLeft,
    /// Calls every checksum good.
    RxChecksumGoodAlways,
    /// Leaves out VLAN tags.
    VlanNotInserted,
    /// Puts flows on other queues than their hashes say.
    RssWrong,
    /// Sends at once what is to wait for its time.
    TimestampIgnored,
}

impl Misbehaviour {
    /// The word of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsoFragments => "uso_fragments",
            Self::TxChecksumLeft => "tx_checksum_left",
            Self::RxChecksumGoodAlways => "rx_checksum_good_always",
            Self::VlanNotInserted => "vlan_not_inserted",
            Self::RssWrong => "rss_wrong",
            Self::TimestampIgnored => "timestamp_ignored",
        }
    }
}

/// One direction of the wire.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// Bits a second, or `off`: frames take no time; default `off`.
    pub rate: Option<OrOff<BitRate>>,
    /// Frames that may wait for the wire, 1..=1000000; default 1000. Needs `rate`.
    pub queue: Option<u32>,
    /// Waiting frames above which ECN marks are set, or `off`; default `off`. Needs `rate`.
    pub ecn_above: Option<OrOff<u32>>,
    /// Time on the way; default 0.
    pub delay: Option<Interval>,
    /// Up to so much more; default 0.
    pub jitter: Option<Interval>,
    /// Share of lost frames; default 0.
    pub loss: Percent,
    /// Frames lost in a row on average, 1..=1000000, or `off`; default `off`: each by itself. Needs `loss`.
    pub loss_burst: Option<OrOff<u32>>,
    /// Share of frames that later ones overtake; default 0.
    pub reorder: Percent,
    /// How much longer those take; default 1ms.
    pub reorder_delay: Option<Interval>,
    /// Share of frames that arrive twice; default 0.
    pub duplicate: Percent,
    /// Makes chance repeat itself; default: a random one at every start.
    pub seed: Option<u64>,
}

impl<'de> Deserialize<'de> for NicOffloads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OffloadsVisitor)
    }
}

struct OffloadsVisitor;

impl<'de> Visitor<'de> for OffloadsVisitor {
    type Value = NicOffloads;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`all`, `none`, or a list of offloads")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<NicOffloads, E> {
        match word {
            "all" => Ok(NicOffloads::All),
            "none" => Ok(NicOffloads::None),
            // One that stands alone.
            _ => NicOffload::deserialize(StrDeserializer::new(word))
                .map(|offload| NicOffloads::List(vec![offload])),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NicOffloads, A::Error> {
        let mut offloads = Vec::new();
        while let Some(offload) = items.next_element()? {
            offloads.push(offload);
        }
        Ok(NicOffloads::List(offloads))
    }
}
