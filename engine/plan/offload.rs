//! What is asked of the devices.

use poll::offload::{Mode, OffloadConfig, Vlan};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::port::{PortKind, PortPlan};
use crate::config::{Config, ConfigError, Offload, OffloadMode, OrOff, Source};

/// VLAN ids that a port may have: 0 and 4095 mean something else (IEEE 802.1Q).
const VLAN_MAX: u16 = 4094;

/// What is asked of a port's device. What it grants is known when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OffloadPlan(pub OffloadConfig);

impl OffloadPlan {
    /// Every offload with what is wanted, in the order of the file's keys.
    pub fn wanted(&self) -> [(&'static str, Mode); 6] {
        let config = &self.0;
        [
            ("tx_checksum", config.tx_checksum),
            ("rx_checksum", config.rx_checksum),
            ("udp_segmentation", config.udp_segmentation),
            ("rss", config.rss),
            ("mbuf_fast_free", config.mbuf_fast_free),
            ("hardware_pacing", config.hardware_pacing),
        ]
    }
}

impl Serialize for OffloadPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, mode) in self.wanted() {
            map.serialize_entry(name, mode.name())?;
        }
        let vlan = self.0.vlan.map(|vlan| VlanShown {
            id: vlan.id,
            tagging: vlan.mode.name(),
        });
        map.serialize_entry("vlan", &vlan)?;
        map.end()
    }
}

#[derive(serde::Serialize)]
struct VlanShown {
    id: u16,
    tagging: &'static str,
}

/// `at` is the path of the port, such as `ports[0]`. `in_process`: its frames never leave the process.
pub(super) fn plan(
    source: &Source,
    at: &str,
    offload: &Offload,
    in_process: bool,
) -> Result<OffloadPlan, ConfigError> {
    let rules = Rules {
        source,
        at,
        in_process,
    };
    let checksum = |key, mode| {
        rules.mode(key, mode, |mode| match mode {
            Mode::Off if !in_process => Some(
                "is for links only: frames of a device must carry UDP checksums (RFC 8200 §8.1)",
            ),
            _ => None,
        })
    };
    let no_software = |key, mode, why: &'static str| {
        rules.mode(key, mode, |mode| (mode == Mode::Software).then_some(why))
    };
    Ok(OffloadPlan(OffloadConfig {
        tx_checksum: checksum("tx_checksum", offload.tx_checksum)?,
        rx_checksum: checksum("rx_checksum", offload.rx_checksum)?,
        udp_segmentation: no_software(
            "udp_segmentation",
            offload.udp_segmentation,
            "does not do: without the device, each datagram has a buffer of its own",
        )?,
        rss: no_software(
            "rss",
            offload.rss,
            "does not do: without the device, shards hand over what is theirs",
        )?,
        vlan: match offload.vlan {
            None | Some(OrOff::Off) => None,
            Some(OrOff::On(vlan)) => Some(rules.vlan(vlan.id, vlan.tagging)?),
        },
        mbuf_fast_free: no_software(
            "mbuf_fast_free",
            offload.mbuf_fast_free,
            "does not do: it is a promise to the device",
        )?,
        hardware_pacing: rules.mode("hardware_pacing", offload.hardware_pacing, |mode| {
            (mode == Mode::Off).then_some("does not do: without the device, the engine paces")
        })?,
    }))
}

/// What one end of a link within the process expects, the other has to send.
pub(super) fn links(
    config: &Config,
    source: &Source,
    ports: &[PortPlan],
) -> Result<(), ConfigError> {
    for (index, port) in ports.iter().enumerate() {
        let PortKind::Link { peer } = port.kind else {
            continue;
        };
        if config.ports[index].emulated.is_some() {
            continue;
        }
        let peer = &ports[peer];
        let expects = port.offload.0.rx_checksum == Mode::Software;
        if expects && peer.offload.0.tx_checksum != Mode::Software {
            let message = format!(
                "`software`, but `{}` at the other end sends no checksums; give it `offload: {{ tx_checksum: software }}`, \
                 too",
                peer.name
            );
            return Err(source.error(format!("ports[{index}].offload.rx_checksum"), message));
        }
    }
    Ok(())
}

struct Rules<'a> {
    source: &'a Source,
    at: &'a str,
    in_process: bool,
}

impl Rules<'_> {
    /// `objection`: what is wrong with a mode, if anything; words that follow it.
    fn mode(
        &self,
        key: &str,
        typed: OffloadMode,
        objection: impl Fn(Mode) -> Option<&'static str>,
    ) -> Result<Mode, ConfigError> {
        let objection = |mode| match mode {
            Mode::Hardware if self.in_process => {
                Some("does not do: a link within the process has no hardware")
            }
            _ => objection(mode),
        };
        let mode = match typed {
            OffloadMode::Auto => Mode::Auto,
            OffloadMode::Hardware => Mode::Hardware,
            OffloadMode::Software => Mode::Software,
            OffloadMode::Off => Mode::Off,
        };
        let Some(problem) = objection(mode) else {
            return Ok(mode);
        };
        let fitting: Vec<String> = [Mode::Auto, Mode::Hardware, Mode::Software, Mode::Off]
            .into_iter()
            .filter(|mode| objection(*mode).is_none())
            .map(|mode| format!("`{mode}`"))
            .collect();
        let fitting = match fitting.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => fitting.concat(),
        };
        let message = format!("`{mode}` {problem}; use {fitting}");
        Err(self
            .source
            .error(format!("{}.offload.{key}", self.at), message))
    }

    fn vlan(&self, id: u16, tagging: OffloadMode) -> Result<Vlan, ConfigError> {
        if !(1..=VLAN_MAX).contains(&id) {
            let message = format!("the VLAN id is out of range: give 1..={VLAN_MAX}, or `off`");
            let key = format!("{}.offload.vlan", self.at);
            return Err(self.source.error(key, message));
        }
        let mode = self.mode("vlan.tagging", tagging, |mode| {
            (mode == Mode::Off).then_some("does not do: frames of a VLAN have tags")
        })?;
        Ok(Vlan { id, mode })
    }
}
