//! Emulated NICs at the ends of links.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::seconds;
use crate::config::{
    Config, ConfigError, Misbehaviour, NicOffload, NicOffloads, OrOff, Percent, Source, Wire,
};

const MTU_MIN: u16 = 1280;
const MTU_MAX: u16 = 9702;
const RSS_TABLE: u16 = 128;
const RSS_TABLE_MAX: u16 = 512;
const QUEUE: u32 = 1000;
const QUEUE_MAX: u32 = 1_000_000;
const REORDER_DELAY: Duration = Duration::from_millis(1);
/// What a wire may take at most, on the way. QUIC gives up long before.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// An emulated NIC at an end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NicPlan {
    /// What it offers.
    pub offloads: Vec<NicOffload>,
    /// In which ways it does not do what it announces.
    pub misbehaves: Vec<Misbehaviour>,
    /// Largest MTU, bytes.
    pub mtu_max: u16,
    /// Entries of the RSS redirection table.
    pub rss_table: u16,
    /// The wire, in the direction of what this end sends.
    pub wire: WirePlan,
    /// File for the frames that cross the wire of this end's link, in both directions.
    pub capture: Option<PathBuf>,
}

/// One direction of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WirePlan {
    /// Bits a second; without one, frames take no time.
    pub rate_bps: Option<u64>,
    /// Frames that may wait for the wire.
    pub queue: u32,
    /// Waiting frames above which ECN marks are set.
    pub ecn_above: Option<u32>,
    /// Time on the way.
    #[serde(rename = "delay_s", serialize_with = "seconds::one")]
    pub delay: Duration,
    /// Up to so much more.
    #[serde(rename = "jitter_s", serialize_with = "seconds::one")]
    pub jitter: Duration,
    /// Share of lost frames, 0 to 1.
    #[serde(serialize_with = "share")]
    pub loss: Percent,
    /// Frames lost in a row on average; nothing: each is lost by itself.
    pub loss_burst: Option<u32>,
    /// Share of frames that later ones overtake, 0 to 1.
    #[serde(serialize_with = "share")]
    pub reorder: Percent,
    /// How much longer those take.
    #[serde(rename = "reorder_delay_s", serialize_with = "seconds::one")]
    pub reorder_delay: Duration,
    /// Share of frames that arrive twice, 0 to 1.
    #[serde(serialize_with = "share")]
    pub duplicate: Percent,
    /// Makes chance repeat itself; nothing: a random one at every start.
    pub seed: Option<u64>,
}

fn share<S: serde::Serializer>(percent: &Percent, to: S) -> Result<S::Ok, S::Error> {
    percent.share().serialize(to)
}

/// The emulated NIC of a port, if it is to have one.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    index: usize,
    peer: usize,
    mtu: u16,
) -> Result<Option<NicPlan>, ConfigError> {
    let at = |key: &str| format!("ports[{index}].emulated{key}");
    let other = &config.ports[peer];
    let Some(nic) = &config.ports[index].emulated else {
        return match other.emulated {
            None => Ok(None),
            Some(_) => {
                let message = format!(
                    "`{}` at the other end of the link is an emulated NIC, and this is none; give it `emulated: {{}}`",
                    other.name
                );
                Err(source.error(format!("ports[{index}]"), message))
            }
        };
    };
    let mtu_max = nic.mtu_max.unwrap_or(MTU_MAX);
    if !(MTU_MIN..=MTU_MAX).contains(&mtu_max) {
        let message = format!("{mtu_max} is out of range: {MTU_MIN}..={MTU_MAX}");
        return Err(source.error(at(".mtu_max"), message));
    }
    if mtu > mtu_max {
        let message =
            format!("{mtu_max} is less than the MTU of the port, {mtu}; raise it, or lower `mtu`");
        return Err(source.error(at(".mtu_max"), message));
    }
    let rss_table = nic.rss_table.unwrap_or(RSS_TABLE);
    if !(1..=RSS_TABLE_MAX).contains(&rss_table) || !rss_table.is_power_of_two() {
        let message =
            format!("{rss_table} does not do: give a power of two from 1 to {RSS_TABLE_MAX}");
        return Err(source.error(at(".rss_table"), message));
    }
    let earlier = other.emulated.as_ref().filter(|_| peer < index);
    if nic.capture.is_some() && earlier.is_some_and(|nic| nic.capture.is_some()) {
        let message = format!(
            "`{}` at the other end has a capture, which shows both directions; remove one",
            other.name
        );
        return Err(source.error(at(".capture"), message));
    }
    Ok(Some(NicPlan {
        offloads: offloads(&nic.offloads),
        misbehaves: nic.misbehaves.clone(),
        mtu_max,
        rss_table,
        wire: wire(source, &at(".wire"), &nic.wire)?,
        capture: nic.capture.as_ref().map(|path| source.resolve(path)),
    }))
}

fn offloads(offloads: &NicOffloads) -> Vec<NicOffload> {
    let mut list = match offloads {
        NicOffloads::None => Vec::new(),
        NicOffloads::List(list) => list.clone(),
        NicOffloads::All => NicOffload::ALL.to_vec(),
    };
    list.sort_unstable();
    list.dedup();
    list
}

fn wire(source: &Source, at: &str, wire: &Wire) -> Result<WirePlan, ConfigError> {
    let error = |key: &str, message: String| Err(source.error(format!("{at}.{key}"), message));
    let rate = wire.rate.and_then(OrOff::on);
    let ecn_above = wire.ecn_above.and_then(OrOff::on);
    let loss_burst = wire.loss_burst.and_then(OrOff::on);
    let needs_rate = [
        ("queue", wire.queue.is_some()),
        ("ecn_above", ecn_above.is_some()),
    ];
    for (key, given) in needs_rate {
        if given && rate.is_none() {
            let message = "without a `rate` no frame ever waits; give one, or remove this key";
            return error(key, message.to_owned());
        }
    }
    let queue = wire.queue.unwrap_or(QUEUE);
    if !(1..=QUEUE_MAX).contains(&queue) {
        return error(
            "queue",
            format!("{queue} is out of range: 1..={QUEUE_MAX} frames"),
        );
    }
    if ecn_above.is_some_and(|above| above >= queue) {
        let message = format!("never reached: the queue holds {queue} frames; give less than that");
        return error("ecn_above", message);
    }
    if loss_burst.is_some() && wire.loss == Percent(0) {
        return error(
            "loss_burst",
            "nothing is lost; give `loss`, or remove this key".to_owned(),
        );
    }
    if loss_burst == Some(0) {
        return error("loss_burst", "give 1 or more, or `off`".to_owned());
    }
    let times = [
        ("delay", wire.delay, Duration::ZERO),
        ("jitter", wire.jitter, Duration::ZERO),
        ("reorder_delay", wire.reorder_delay, REORDER_DELAY),
    ];
    let mut durations = [Duration::ZERO; 3];
    for ((key, given, default), duration) in times.into_iter().zip(&mut durations) {
        *duration = given.map_or(default, |interval| interval.0);
        if *duration > DELAY_MAX {
            return error(key, "more than 60s".to_owned());
        }
    }
    let [delay, jitter, reorder_delay] = durations;
    Ok(WirePlan {
        rate_bps: rate.map(|rate| rate.0),
        queue,
        ecn_above,
        delay,
        jitter,
        loss: wire.loss,
        loss_burst,
        reorder: wire.reorder,
        reorder_delay,
        duplicate: wire.duplicate,
        seed: wire.seed,
    })
}
