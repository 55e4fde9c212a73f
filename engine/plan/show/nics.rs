//! The table of emulated NICs.

use crate::config::{BitRate, Interval, NicOffload};
use crate::plan::{NicPlan, PortKind, PortPlan, WirePlan};
use crate::table::Table;

/// What emulated NICs offer, and the wires from them; nothing where there are none.
pub(super) fn table(ports: &[PortPlan]) -> Option<Table> {
    let mut table = Table::new("");
    table.row([
        "emulated",
        "offers",
        "MTU up to",
        "wire",
        "queue",
        "delay",
        "lost",
        "overtaken",
        "doubled",
        "capture",
    ]);
    let mut any = false;
    for port in ports {
        if let PortKind::Emulated { nic, .. } = &port.kind {
            table.row(row(&port.name, nic));
            any = true;
        }
    }
    any.then_some(table)
}

fn row(port: &str, nic: &NicPlan) -> [String; 10] {
    let wire = &nic.wire;
    let capture = nic.capture.as_ref();
    [
        port.to_owned(),
        offers(nic),
        nic.mtu_max.to_string(),
        wire.rate_bps
            .map_or("no rate".to_owned(), |rate| BitRate(rate).to_string()),
        queue(wire),
        delay(wire),
        match wire.loss_burst {
            Some(burst) => format!("{}, {burst} in a row", wire.loss),
            None => wire.loss.to_string(),
        },
        wire.reorder.to_string(),
        wire.duplicate.to_string(),
        capture.map_or("none".to_owned(), |path| path.display().to_string()),
    ]
}

fn offers(nic: &NicPlan) -> String {
    let names: Vec<&str> = nic.offloads.iter().map(|offload| offload.name()).collect();
    let offers = match names.len() {
        0 => "nothing".to_owned(),
        all if all == NicOffload::ALL.len() => "everything".to_owned(),
        _ => names.join(" "),
    };
    match nic.misbehaves.is_empty() {
        true => offers,
        false => {
            let lies: Vec<&str> = nic.misbehaves.iter().map(|lie| lie.name()).collect();
            format!("{offers}; misbehaves: {}", lies.join(" "))
        }
    }
}

fn queue(wire: &WirePlan) -> String {
    match (wire.rate_bps, wire.ecn_above) {
        (None, _) => "none".to_owned(),
        (Some(_), None) => wire.queue.to_string(),
        (Some(_), Some(above)) => format!("{}, marks above {above}", wire.queue),
    }
}

fn delay(wire: &WirePlan) -> String {
    let delay = Interval(wire.delay).to_string();
    match wire.jitter.is_zero() {
        true => delay,
        false => format!("{delay} and up to {}", Interval(wire.jitter)),
    }
}
