//! Links with emulated NICs: from the plan to the models.

use std::hash::{BuildHasher, Hasher, RandomState};

use poll::{Eal, LinkEnd, NicConfig, NicStats, WireConfig};
use tracing::info;

use super::ports::{OpenError, OpenPort, config, pools};
use crate::plan::{Misbehaviour, NicOffload, NicPlan, Plan, PortKind, PortPlan, WirePlan};

/// Opens both ends of a link with emulated NICs. The first has the model.
pub(super) fn open(eal: &Eal, plans: [&PortPlan; 2]) -> Result<[OpenPort; 2], OpenError> {
    let configs = [
        config(plans[0], pools(eal, plans[0], None)?),
        config(plans[1], pools(eal, plans[1], None)?),
    ];
    let names = plans.map(|plan| plan.name.as_str());
    let nics = plans.map(|plan| nic(plan).map(nic_config).unwrap_or_default());
    let (ends, mut emulation) = poll::emulated(eal, names, [&configs[0], &configs[1]], nics)
        .map_err(|source| OpenError::Port {
            port: plans[0].name.clone(),
            source,
        })?;
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
    let [first, second] = ends;
    let open = |(port, queues): LinkEnd| OpenPort::new(port, queues);
    let mut first = open(first);
    first.emulation = Some(emulation);
    Ok([first, open(second)])
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
        fragments: plan.misbehaves.contains(&Misbehaviour::UsoFragments),
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
