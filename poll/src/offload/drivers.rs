//! What is known of drivers beyond the bits that they show.

/// What is known of a driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Driver {
    /// The start of its name.
    prefix: &'static str,
    /// Frames never leave this process: nobody needs a checksum.
    pub(super) in_process: bool,
    /// Frames longer than an mbuf come in chains, without the offload being offered.
    pub(super) chains_unasked: bool,
    /// Why its checksums are not better than ours, if so.
    pub(super) slow_checksum: Option<&'static str>,
    /// What its UDP segmentation is.
    pub(super) segmentation: Segmentation,
}

/// What `RTE_ETH_TX_OFFLOAD_UDP_TSO` means to a driver. DPDK describes the flag as IP fragmentation, which is of no use
/// to QUIC (RFC 9000 §14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segmentation {
    /// Not known: `auto` leaves it alone.
    Unknown,
    /// Datagrams with headers of their own.
    Datagrams,
    /// Fragments of one datagram, or nothing that is cut at all, and why.
    Fragments(&'static str),
}

const PLAIN: Driver = Driver {
    prefix: "",
    in_process: false,
    chains_unasked: false,
    slow_checksum: None,
    segmentation: Segmentation::Unknown,
};

const TAP: &str =
    "net_tap sums in the driver, and copies the headers to do so: the engine's own sum costs less";
const VIRTIO: &str =
    "virtio hands the sum to its peer unfinished, which was never seen to work here";
const UFO: &str = "net_vhost asks its guest for IP fragments (UFO)";

/// The first entry whose prefix fits counts.
const DRIVERS: &[Driver] = &[
    Driver {
        prefix: "net_ring",
        in_process: true,
        ..PLAIN
    },
    Driver {
        prefix: "net_memif",
        chains_unasked: true,
        ..PLAIN
    },
    Driver {
        prefix: "net_tap",
        slow_checksum: Some(TAP),
        ..PLAIN
    },
    Driver {
        prefix: "net_vhost",
        slow_checksum: Some(VIRTIO),
        segmentation: Segmentation::Fragments(UFO),
        ..PLAIN
    },
    Driver {
        prefix: "net_virtio",
        slow_checksum: Some(VIRTIO),
        ..PLAIN
    },
    Driver {
        prefix: "emulated",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_igc",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_i40e",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_ice",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_iavf",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_bnxt",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
    Driver {
        prefix: "net_nfp",
        segmentation: Segmentation::Datagrams,
        ..PLAIN
    },
];

/// What is known of the driver called `name`.
pub(super) fn known(name: &str) -> Driver {
    let found = DRIVERS
        .iter()
        .find(|driver| name.starts_with(driver.prefix));
    found.copied().unwrap_or(PLAIN)
}
