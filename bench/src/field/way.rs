//! The stacks, what their packets cross, and which of them are compared with each other.

use std::fmt;

use clap::ValueEnum;

use super::case::Case;

/// A QUIC stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Stack {
    /// This project.
    Engine,
    /// quinn on tokio.
    Quinn,
    /// quiche in a loop of its own.
    Quiche,
    /// s2n-quic on tokio.
    S2nQuic,
}

/// What packets cross between the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Medium {
    /// The kernel's loopback device, with super-packets of up to 64 KiB that are never cut.
    Loopback,
    /// Rings between two ports of one process.
    Link,
    /// Shared memory between two processes.
    Memif,
    /// A veth pair between two network namespaces that carries super-packets as they are.
    Veth,
    /// The same pair without segmentation offload: the kernel cuts super-packets before they cross.
    VethCut,
    /// The same, and without GSO and GRO in the sockets: each datagram passes the kernel by itself.
    VethSingle,
    /// The same pair, by packet sockets (`net_af_packet`).
    AfPacket,
    /// The same pair, by XDP sockets (`net_af_xdp`).
    AfXdp,
    /// Two TAP interfaces between which the kernel forwards.
    Tap,
}

/// A stack over a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// The stack.
    pub stack: Stack,
    /// The medium.
    pub medium: Medium,
}

/// Ways whose figures stand side by side.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// The medium of the other stacks.
    pub peers: Medium,
    /// The media of the engine.
    pub engine: &'static [Medium],
}

/// What is compared with what.
pub const SECTIONS: [Section; 4] = [
    Section {
        title: "Within memory: kernel UDP on loopback, GSO on, beside the engine over a link and over memif",
        peers: Medium::Loopback,
        engine: &[Medium::Link, Medium::Memif],
    },
    Section {
        title: "A veth pair with packets cut to the MTU (GSO in the sockets, none in the devices)",
        peers: Medium::VethCut,
        engine: &[Medium::AfPacket, Medium::AfXdp, Medium::Tap],
    },
    Section {
        title: "A veth pair without GSO anywhere (each datagram passes the kernel by itself)",
        peers: Medium::VethSingle,
        engine: &[Medium::AfPacket, Medium::AfXdp, Medium::Tap],
    },
    Section {
        title: "A veth pair that carries super-packets (GSO in sockets and devices)",
        peers: Medium::Veth,
        engine: &[Medium::AfPacket, Medium::AfXdp, Medium::Tap],
    },
];

impl Section {
    /// Whether a case has rows here: those that the other stacks have nothing beside are in another section.
    pub fn has(&self, case: Case) -> bool {
        let medium = self.peers;
        Stack::PEERS
            .into_iter()
            .any(|stack| Way { stack, medium }.runs(case))
    }
}

impl Stack {
    /// Those that this project is compared with.
    pub const PEERS: [Self; 3] = [Self::Quinn, Self::Quiche, Self::S2nQuic];
}

impl Way {
    /// All ways.
    pub fn all() -> Vec<Self> {
        let peers = SECTIONS.iter().flat_map(|section| {
            Stack::PEERS.map(|stack| Self {
                stack,
                medium: section.peers,
            })
        });
        let engine = [
            Medium::Link,
            Medium::Memif,
            Medium::AfPacket,
            Medium::AfXdp,
            Medium::Tap,
        ]
        .map(|medium| Self {
            stack: Stack::Engine,
            medium,
        });
        peers.chain(engine).collect()
    }

    /// How it is called within its section, which says what the packets of the other stacks cross.
    pub fn title(self) -> String {
        match self.stack {
            Stack::Engine => format!("engine, {}", self.medium.title()),
            stack => stack.to_string(),
        }
    }

    /// Whether a case is measured this way.
    pub fn runs(self, case: Case) -> bool {
        match self.medium {
            Medium::Loopback | Medium::Link => true,
            // The engine's clients make connections once.
            Medium::Memif => !matches!(case, Case::Handshakes | Case::Resumed | Case::Idle),
            Medium::VethSingle => case == Case::Bulk1452,
            Medium::Veth | Medium::VethCut | Medium::AfPacket | Medium::AfXdp => {
                matches!(
                    case,
                    Case::Bulk1452
                        | Case::Bulk100
                        | Case::RequestSleeping
                        | Case::RequestPolling
                        | Case::Requests64
                        | Case::Datagrams
                )
            }
            Medium::Tap => matches!(
                case,
                Case::Bulk1452 | Case::RequestPolling | Case::Requests64
            ),
        }
    }
}

impl Medium {
    /// How tables and pictures call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Link => "link",
            Self::Memif => "memif",
            Self::Veth => "veth",
            Self::VethCut => "veth, cut",
            Self::VethSingle => "veth, no GSO",
            Self::AfPacket => "af_packet",
            Self::AfXdp => "af_xdp",
            Self::Tap => "tap",
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.stack, self.medium)
    }
}

fn write_name(value: &impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = value.to_possible_value();
    f.write_str(value.as_ref().map_or("", |value| value.get_name()))
}
