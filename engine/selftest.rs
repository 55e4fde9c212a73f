//! `engine selftest`: what devices do with the offloads that they offer, seen on the wire.

use std::fmt;
use std::time::{Duration, Instant};

use hugepages::{Mempool, MempoolConfig, PoolError};
use poll::offload::PacingClock;
use poll::selftest::{self, Finding, TX_DATA_ROOM, TestEnd, Verdict, port_config, rx_data_room};
use poll::{Eal, EalError, Emulation, LinkEnd, Port, PortConfig, PortError, PortInfo, link_info};
use serde::Serialize;
use thiserror::Error;

use crate::plan::{Plan, PortKind, PortPlan};
use crate::run::{nic_config, patience};
use crate::table::Table;

/// mbufs to receive into: rings, and what a driver keeps (`net_af_xdp`: 2048 a queue).
const RX_MBUFS: u32 = 4095;
/// mbufs to send.
const TX_MBUFS: u32 = 511;
const MTU: u16 = 1500;
/// How long to wait for a link to come up.
const LINK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// What does not come out of a device within this time does not come.
const PATIENCE: Duration = Duration::from_millis(300);

/// Which ports to test.
#[derive(Debug)]
pub struct Choice<'a> {
    ports: Vec<ChosenPort<'a>>,
    mtu: u16,
}

/// A port to test: one of the file, or a device that EAL sees.
#[derive(Debug)]
enum ChosenPort<'a> {
    Planned(&'a PortPlan),
    Device(&'a str),
}

/// Ports that cannot be tested together.
#[derive(Debug, Error)]
pub enum ChoiceError {
    /// None is named, and the file does not settle it.
    #[error(
        "which ports? Name the two ends of a cable, or one whose cable comes back to it{}",
        if .known.is_empty() { String::new() } else { format!("; the file has {}", .known.join(", ")) }
    )]
    Unclear {
        /// The ports of the file.
        known: Vec<String>,
    },
    /// An end of a link without its other end.
    #[error("`{port}` is an end of a link: name `{peer}`, too, and nothing else")]
    HalfLink {
        /// The port named.
        port: String,
        /// The port at the other end.
        peer: String,
    },
}

/// Why nothing could be tested.
#[derive(Debug, Error)]
pub enum SelftestError {
    /// EAL.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// A pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl<'a> Choice<'a> {
    /// The ports called `names`: those of the plan by name or device, and any other device. Without names, the plan's ports
    /// if they are one or two.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub fn new(
        plan: Option<&'a Plan>,
        names: &'a [String],
        mtu: Option<u16>,
    ) -> Result<Self, ChoiceError> {
        let planned = plan.map_or(&[][..], |plan| &plan.ports);
        let find = |name: &'a String| {
            let is_it = |port: &&PortPlan| {
                port.name == *name || port.kind == PortKind::Device(name.clone())
            };
            let found = planned.iter().find(is_it);
            found.map_or(ChosenPort::Device(name), ChosenPort::Planned)
        };
        let ports: Vec<_> = match names {
            [] => planned.iter().map(ChosenPort::Planned).collect(),
            names => names.iter().map(find).collect(),
        };
        if !(1..=2).contains(&ports.len()) {
            let known = planned.iter().map(|port| port.name.clone()).collect();
            return Err(ChoiceError::Unclear { known });
        }
        let mtus = ports.iter().filter_map(|port| Some(port.planned()?.mtu));
        let choice = Self {
            mtu: mtu.or(mtus.min()).unwrap_or(MTU),
            ports,
        };
        choice.check_links(planned)?;
        Ok(choice)
    }

    /// Both ends of a link are tested, or none.
    fn check_links(&self, planned: &[PortPlan]) -> Result<(), ChoiceError> {
        for port in self.ports.iter().filter_map(ChosenPort::planned) {
            let (PortKind::Link { peer } | PortKind::Emulated { peer, .. }) = port.kind else {
                continue;
            };
            let peer = &planned[peer].name;
            let other = |chosen: &ChosenPort<'_>| {
                chosen.planned().is_some_and(|chosen| chosen.name == *peer)
            };
            if !self.ports.iter().any(other) {
                return Err(ChoiceError::HalfLink {
                    port: port.name.clone(),
                    peer: peer.clone(),
                });
            }
        }
        Ok(())
    }
}

impl<'a> ChosenPort<'a> {
    fn planned(&self) -> Option<&'a PortPlan> {
        match self {
            Self::Planned(port) => Some(port),
            Self::Device(_) => None,
        }
    }

    fn vlan(&self) -> Option<u16> {
        Some(self.planned()?.offload.0.vlan?.id)
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct SelftestReport {
    /// One entry an offload and port.
    pub findings: Vec<FindingEntry>,
    /// Whether two ports were joined, or one to itself.
    pub ports: usize,
    /// Offloads that do something else than they are for.
    pub lies: usize,
}

/// What was found of one offload of one port.
#[derive(Debug, Clone, Serialize)]
pub struct FindingEntry {
    /// The device.
    pub port: String,
    /// The offload; `frames` for plain ones.
    pub offload: &'static str,
    /// Whether the device offers it.
    pub offered: bool,
    /// What was asked of the device.
    pub asked: String,
    /// What came out at the other end.
    pub seen: String,
    /// `ok`, `lies`, `not seen`, `not offered` or `no answer`.
    pub verdict: &'static str,
}

impl SelftestReport {
    fn new(findings: Vec<Finding>, ports: usize) -> Self {
        let lies = findings.iter().filter(|f| f.verdict == Verdict::Lies);
        Self {
            lies: lies.count(),
            ports,
            findings: findings.into_iter().map(FindingEntry::from).collect(),
        }
    }

    /// True when nothing lies, and every question has an answer.
    pub fn passes(&self) -> bool {
        let silent = |entry: &FindingEntry| entry.verdict == Verdict::NoAnswer.name();
        self.lies == 0 && !self.findings.iter().any(silent)
    }
}

impl From<Finding> for FindingEntry {
    fn from(finding: Finding) -> Self {
        Self {
            port: finding.port,
            offload: finding.offload,
            offered: finding.offered,
            asked: finding.asked,
            seen: finding.seen,
            verdict: finding.verdict.name(),
        }
    }
}

impl fmt::Display for SelftestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let mut table = Table::new("");
        table.row([
            "port",
            "offload",
            "offered",
            "asked",
            "seen on the wire",
            "verdict",
        ]);
        for entry in &self.findings {
            table.row([
                entry.port.clone(),
                entry.offload.to_owned(),
                if entry.offered { "yes" } else { "no" }.to_owned(),
                or_dash(&entry.asked),
                or_dash(&entry.seen),
                entry.verdict.to_owned(),
            ]);
        }
        table.fmt(f)
    }
}

/// Starts EAL, opens the ports with everything that they offer, and tests it.
///
/// # Errors
/// See [`SelftestError`].
pub fn run(eal_arguments: &[String], choice: &Choice<'_>) -> Result<SelftestReport, SelftestError> {
    let eal = Eal::start(eal_arguments)?;
    let report = test(&eal, choice);
    // Everything is closed; what a driver keeps is no matter for a process that ends.
    let _ = eal.cleanup();
    report
}

fn test(eal: &Eal, choice: &Choice<'_>) -> Result<SelftestReport, SelftestError> {
    let mut bench = match &choice.ports[..] {
        [ChosenPort::Planned(first), ChosenPort::Planned(second)]
            if !matches!(first.kind, PortKind::Device(_)) =>
        {
            linked(eal, choice, [first, second])?
        }
        ports => {
            let ends = ports.iter().enumerate();
            Bench {
                ends: ends
                    .map(|(index, port)| device(eal, choice, index, port))
                    .collect::<Result<_, _>>()?,
                emulation: None,
                patience: PATIENCE,
            }
        }
    };
    for end in &bench.ends {
        end.port.wait_for_link(LINK_UP_TIMEOUT, || false);
    }
    let Bench {
        ends,
        emulation,
        patience,
    } = &mut bench;
    let mut turn = |now: Instant| {
        if let Some(emulation) = emulation {
            emulation.step(now);
        }
    };
    let findings = selftest::run(ends, *patience, &mut turn);
    Ok(SelftestReport::new(findings, choice.ports.len()))
}

/// Ports under test, and what stands between them.
struct Bench {
    ends: Vec<TestEnd>,
    emulation: Option<Emulation>,
    patience: Duration,
}

/// Both ends of a link.
fn linked(eal: &Eal, choice: &Choice<'_>, plans: [&PortPlan; 2]) -> Result<Bench, SelftestError> {
    let names = plans.map(|plan| plan.name.as_str());
    let nic = |plan: &PortPlan| match &plan.kind {
        PortKind::Emulated { nic, .. } => Some(nic_config(nic)),
        PortKind::Device(_) | PortKind::Link { .. } => None,
    };
    let nics = plans.map(nic);
    let mut configs = Vec::new();
    for (index, (plan, nic)) in plans.into_iter().zip(&nics).enumerate() {
        let info = match nic {
            Some(nic) => nic.port_info(&plan.name),
            None => link_info(&plan.name, 1),
        };
        let vlan = plan.offload.0.vlan.map(|vlan| vlan.id);
        configs.push(config(eal, choice, index, &info, vlan)?);
    }
    // Queue i of one end of a link is joined to queue i of the other.
    let configs = [&configs[0], &configs[1]];
    let (ends, emulation) = match nics {
        [Some(first), Some(second)] => {
            let (ends, emulation) = poll::emulated(eal, names, configs, [first, second])?;
            (ends, Some(emulation))
        }
        _ => (poll::link(eal, names, configs)?, None),
    };
    Ok(Bench {
        ends: ends.into_iter().map(|opened| end(eal, opened)).collect(),
        emulation,
        patience: PATIENCE + plans.map(patience).into_iter().sum::<Duration>(),
    })
}

fn device(
    eal: &Eal,
    choice: &Choice<'_>,
    index: usize,
    port: &ChosenPort<'_>,
) -> Result<TestEnd, SelftestError> {
    let name = match port {
        ChosenPort::Device(name) => name,
        ChosenPort::Planned(plan) => match &plan.kind {
            PortKind::Device(device) => device.as_str(),
            PortKind::Link { .. } | PortKind::Emulated { .. } => plan.name.as_str(),
        },
    };
    let devices = poll::ports(eal);
    let info = devices.iter().find(|info| info.name == name);
    let info = info.ok_or_else(|| PortError::NoDevice {
        name: name.to_owned(),
        known: devices.iter().map(|info| info.name.clone()).collect(),
    })?;
    let config = config(eal, choice, index, info, port.vlan())?;
    Ok(end(eal, Port::open(eal, name, &config)?))
}

/// How a port is opened, with pools of its own.
fn config(
    eal: &Eal,
    choice: &Choice<'_>,
    index: usize,
    info: &PortInfo,
    vlan: Option<u16>,
) -> Result<PortConfig, SelftestError> {
    let pool = |way: &str, mbufs, data_room| {
        let config = MempoolConfig {
            name: format!("selftest_{way}{index}"),
            mbufs,
            cache: 0,
            data_room,
            numa_node: info.numa_node,
        };
        Mempool::create(eal.up(), &config)
    };
    let pools = [
        pool("rx", RX_MBUFS, rx_data_room(info, choice.mtu))?,
        pool("tx", TX_MBUFS, TX_DATA_ROOM)?,
    ];
    Ok(port_config(info, choice.mtu, vlan, pools))
}

fn end(eal: &Eal, (port, queues): LinkEnd) -> TestEnd {
    let clock = port
        .offloads()
        .pacing
        .then(|| PacingClock::new(eal.up(), &port));
    TestEnd {
        pool: port.tx_pool(),
        clock: clock.flatten(),
        port,
        queues,
    }
}
