//! Links with emulated NICs: from the plan to the models.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use poll::offload::Mode;
use poll::selftest::{self, TestEnd, Verdict};
use poll::{Eal, Emulation, LinkEnd, NicConfig, NicStats, WireConfig};
use tracing::{info, warn};

use super::ports::{OpenError, OpenPort, config, pools};
use crate::plan::{Misbehaviour, NicOffload, NicPlan, Plan, PortKind, PortPlan, WirePlan};

/// Opens both ends of a link with emulated NICs. The first has the model.
pub(super) fn open(eal: &Eal, plans: [&PortPlan; 2]) -> Result<[OpenPort; 2], OpenError> {
    let configs = [
        config(plans[0], pools(eal, plans[0], plans[0].tx_pool, None)?),
        config(plans[1], pools(eal, plans[1], plans[1].tx_pool, None)?),
    ];
    let names = plans.map(|plan| plan.name.as_str());
    let nics = plans.map(|plan| nic(plan).map(nic_config).unwrap_or_default());
    let (ends, mut emulation) = poll::emulated(eal, names, [&configs[0], &configs[1]], nics)
        .map_err(|source| OpenError::Port {
            port: plans[0].name.clone(),
            source,
        })?;
    let mut open = prove(plans, ends, &mut emulation)?;
    for plan in plans {
        if let Some(path) = nic(plan).and_then(|nic| nic.capture.as_ref()) {
            emulation
                .capture_to(path)
                .map_err(|source| OpenError::Capture {
                    port: plan.name.clone(),
                    path: path.clone(),
                    source,
                })?;
            info!(port = %plan.name, capture = %path.display(), "what crosses the wire is written to a file");
        }
    }
    open[0].emulation = Some(emulation);
    Ok(open)
}

/// Looks on the wire whether the NICs that are to segment do so, and does without where they do not.
fn prove(
    plans: [&PortPlan; 2],
    ends: [LinkEnd; 2],
    emulation: &mut Emulation,
) -> Result<[OpenPort; 2], OpenError> {
    let patience = plans.map(patience).into_iter().sum();
    let mut ends = ends.map(|(port, queues)| TestEnd {
        pool: port.tx_pool(),
        clock: None,
        port,
        queues,
    });
    let mut segments = [1; 2];
    for (index, plan) in plans.into_iter().enumerate() {
        segments[index] = ends[index].port.offloads().segments_max;
        let mut turn = |now: Instant| {
            emulation.step(now);
        };
        let finding = selftest::segmentation(&mut ends, index, patience, &mut turn);
        let (port, seen) = (plan.name.clone(), finding.seen);
        match (finding.verdict, plan.offload.0.udp_segmentation) {
            (Verdict::Lies, Mode::Hardware) => return Err(OpenError::Segmentation { port, seen }),
            (Verdict::Lies, _) => {
                warn!(%port, %seen, "UDP segmentation is not what the device says: the engine does without it");
                segments[index] = 1;
            }
            (Verdict::Ok, _) => info!(%port, %seen, "UDP segmentation"),
            (Verdict::NoAnswer, Mode::Hardware) => {
                warn!(%port, %seen, "whether the device does UDP segmentation could not be found out: it is believed");
            }
            (Verdict::NotOffered | Verdict::NotSeen | Verdict::NoAnswer, _) => {}
        }
    }
    let mut open = ends.map(|end| OpenPort::new(end.port, end.queues));
    for (open, segments) in open.iter_mut().zip(segments) {
        open.segments_max = segments;
    }
    Ok(open)
}

/// How long to wait for a frame on the wire from an emulated NIC.
pub(crate) fn patience(plan: &PortPlan) -> Duration {
    /// Some time for the process itself.
    const PATIENCE: Duration = Duration::from_millis(100);
    /// What is sent for one question, bytes, roughly.
    const QUESTION: f64 = 64e3;
    let Some(NicPlan { wire, .. }) = nic(plan) else {
        return PATIENCE;
    };
    let rate = wire.rate_bps.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(QUESTION * 8.0 / rate as f64)
    });
    PATIENCE + wire.delay + wire.jitter + wire.reorder_delay + rate
}

/// What emulated NICs have counted so far, by the name of their port.
pub(super) fn stats(plan: &Plan, ports: &[OpenPort]) -> Vec<(String, NicStats)> {
    let pairs = plan.ports.iter().zip(ports);
    pairs
        .filter_map(|(plan, open)| Some((plan.name.clone(), open.port.nic_stats()?)))
        .collect()
}

fn nic(plan: &PortPlan) -> Option<&NicPlan> {
    match &plan.kind {
        PortKind::Emulated { nic, .. } => Some(nic),
        PortKind::Device(_) | PortKind::Link { .. } => None,
    }
}

/// A NIC of a plan.
pub(crate) fn nic_config(plan: &NicPlan) -> NicConfig {
    NicConfig {
        offers: plan.offloads.iter().copied().map(offload).collect(),
        misbehaves: plan.misbehaves.iter().copied().map(misbehaviour).collect(),
        mtu_max: plan.mtu_max,
        rss_table: plan.rss_table,
        wire: wire(&plan.wire),
    }
}

fn offload(offload: NicOffload) -> poll::NicOffload {
    match offload {
        NicOffload::TxChecksum => poll::NicOffload::TxChecksum,
        NicOffload::RxChecksum => poll::NicOffload::RxChecksum,
        NicOffload::UdpSegmentation => poll::NicOffload::UdpSegmentation,
        NicOffload::Vlan => poll::NicOffload::Vlan,
        NicOffload::Rss => poll::NicOffload::Rss,
        NicOffload::Scatter => poll::NicOffload::Scatter,
        NicOffload::MultiSegs => poll::NicOffload::MultiSegs,
        NicOffload::SendOnTimestamp => poll::NicOffload::SendOnTimestamp,
        NicOffload::FastFree => poll::NicOffload::FastFree,
    }
}

fn misbehaviour(misbehaviour: Misbehaviour) -> poll::Misbehaviour {
    match misbehaviour {
        Misbehaviour::UsoFragments => poll::Misbehaviour::UsoFragments,
        Misbehaviour::TxChecksumLeft => poll::Misbehaviour::TxChecksumLeft,
        Misbehaviour::RxChecksumGoodAlways => poll::Misbehaviour::RxChecksumGoodAlways,
        Misbehaviour::VlanNotInserted => poll::Misbehaviour::VlanNotInserted,
        Misbehaviour::RssWrong => poll::Misbehaviour::RssWrong,
        Misbehaviour::TimestampIgnored => poll::Misbehaviour::TimestampIgnored,
    }
}

fn wire(plan: &WirePlan) -> WireConfig {
    WireConfig {
        rate: plan.rate_bps,
        queue: plan.queue as usize,
        ecn_above: plan.ecn_above.map(|frames| frames as usize),
        delay: plan.delay,
        jitter: plan.jitter,
        loss: plan.loss.share(),
        loss_burst: plan.loss_burst.map(f64::from),
        reorder: plan.reorder.share(),
        reorder_delay: plan.reorder_delay,
        duplicate: plan.duplicate.share(),
        // Hash keys of the standard library are random in every process.
        seed: plan
            .seed
            .unwrap_or_else(|| RandomState::new().build_hasher().finish()),
    }
}
