//! Runs of packet I/O alone: datagrams that say nothing, over a link between two lcores, without QUIC.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child::{ChildError, run_json};

/// Time that a run may take beyond its duration.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);

/// What a run of the `link` program prints.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LinkReport {
    /// UDP payload received, 1e9 bit/s.
    pub goodput_gbps: f64,
    /// Time between two datagrams, ns: what the slower lcore needs for one.
    pub ns_per_datagram: f64,
}

/// Runs the `link` program for `duration` over a link of `mtu` bytes of IPv6 packet.
///
/// # Errors
/// It fails, or prints something else than a [`LinkReport`].
pub fn run(
    link: &Path,
    mtu: u16,
    duration: Duration,
    folder: &Path,
) -> Result<LinkReport, ChildError> {
    let mut command = Command::new(link);
    command
        .args(["--mtu", &mtu.to_string()])
        .args(["--seconds", &duration.as_secs_f64().to_string()]);
    let report = run_json(&mut command, folder, duration + OVERHEAD_MAX)?;
    serde_json::from_value(report).map_err(|error| ChildError::Output {
        program: "link".to_owned(),
        problem: error.to_string(),
    })
}
