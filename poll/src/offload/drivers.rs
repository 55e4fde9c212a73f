//! What is known of drivers beyond the bits that they show.

/// What is known of a driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Driver {
    /// The start of its name.
    prefix: &'static str,
    /// Frames never leave this process: nobody needs a checksum.
    pub(super) in_process: bool,
    /// What it gives as its longest frame is that of plain Ethernet; it carries any that its own buffers have room for
    /// (memif: `bsize`, af_packet: `framesz`). `net_tap` gives the same, but does not send longer ones.
    pub(super) nominal_frame: bool,
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
    nominal_frame: false,
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
        nominal_frame: true,
        chains_unasked: true,
        ..PLAIN
    },
    Driver {
        prefix: "net_tap",
        slow_checksum: Some(TAP),
        ..PLAIN
    },
    Driver {
        prefix: "net_af_packet",
        nominal_frame: true,
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

/// Whether a driver's longest frame is a word only: it carries longer ones, but DPDK holds it to what it says.
pub(crate) fn carries_longer_frames(name: &str) -> bool {
    known(name).nominal_frame
}
