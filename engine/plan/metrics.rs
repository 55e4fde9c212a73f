//! Counters for Prometheus.

use std::net::SocketAddr;

use serde::Serialize;

use super::port::PortPlan;
use crate::config::{Config, ConfigError, Source};

/// Counters in the text format of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MetricsPlan {
    /// Address of this machine's kernel and TCP port that they are served at; with port 0 the kernel chooses one.
    pub listen: SocketAddr,
}

pub(super) fn plan(
    config: &Config,
    source: &Source,
    ports: &[PortPlan],
    notes: &mut Vec<String>,
) -> Result<Option<MetricsPlan>, ConfigError> {
    let Some(listen) = config.metrics.map(|metrics| metrics.listen.0) else {
        return Ok(None);
    };
    let has = |port: &&PortPlan| {
        let mut addresses = port.addresses.iter();
        addresses.any(|&(address, _)| listen.ip() == address)
    };
    if let Some(port) = ports.iter().find(has) {
        let message = format!(
            "{} is an address of the port `{}`, which the kernel knows nothing of; choose one of the \
             kernel's, such as [::1]:{}",
            listen.ip(),
            port.name,
            listen.port()
        );
        return Err(source.error("metrics.listen", message));
    }
    if !listen.ip().is_loopback() {
        notes.push(format!(
            "metrics are served at {listen} to whoever reaches it, without encryption or a password"
        ));
    }
    Ok(Some(MetricsPlan { listen }))
}
