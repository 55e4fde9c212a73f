//! `offload:` of a port.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::scalar::OrOff;

/// Who does what a device may be able to do; what is absent is `auto`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Offload {
    /// UDP checksums of sent datagrams; `off` on links only.
    pub tx_checksum: OffloadMode,
    /// UDP checksums of received datagrams; `off` on links only.
    pub rx_checksum: OffloadMode,
    /// Large buffers cut into datagrams by the device; no `software`.
    pub udp_segmentation: OffloadMode,
    /// Flows spread over queues by the device; no `software`.
    pub rss: OffloadMode,
    /// The VLAN that the port is in; default: none.
    pub vlan: Option<OrOff<Vlan>>,
    /// Sent mbufs given back unlooked at; no `software`.
    pub mbuf_fast_free: OffloadMode,
    /// Frames held back by the device until it is time; no `off`: the engine paces then.
    pub hardware_pacing: OffloadMode,
}

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffloadMode {
    /// The device, where it offers it and does it well; else the engine.
    #[default]
    Auto,
    /// The device, or it is an error.
    Hardware,
    /// The engine.
    Software,
    /// Nobody.
    Off,
}

/// A VLAN: its id alone, or with who tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN id, 1..=4094.
    pub id: u16,
    /// Who writes and removes tags; no `off`.
    pub tagging: OffloadMode,
}

impl<'de> Deserialize<'de> for Vlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VlanVisitor)
    }
}

struct VlanVisitor;

impl<'de> Visitor<'de> for VlanVisitor {
    type Value = Vlan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a VLAN id, `{ id, tagging }`, or `off`")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vlan, E> {
        // What does not fit is out of range, and so is this.
        let id = u16::try_from(number).unwrap_or(u16::MAX);
        let tagging = OffloadMode::Auto;
        Ok(Vlan { id, tagging })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vlan, E> {
        match text.parse() {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!(
                "`{text}` does not do: give a VLAN id, `{{ id, tagging }}`, or `off`"
            ))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vlan, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            id: u16,
            #[serde(default)]
            tagging: OffloadMode,
        }
        let Keys { id, tagging } = Keys::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Vlan { id, tagging })
    }
}
