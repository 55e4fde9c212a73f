//! Runs of the whole engine: two shards on two lcores, joined by a link, in a process of their own.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stoq::transport::IPV6_UDP_HEADERS;

use crate::child::{ChildError, run_json};

/// Time at the start of a run that its goodput leaves out.
const WARM_UP: Duration = Duration::from_millis(500);
/// Time that a run may take beyond that: start and drain.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);

/// What differs between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// MTU of the link, bytes of IPv6 packet.
    pub mtu: u16,
    /// `tx_path` of both ports.
    pub tx_path: &'static str,
    /// `tx_checksum` and `rx_checksum` of both ports.
    pub checksum: &'static str,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine, tx {}, checksum {}", self.tx_path, self.checksum)
    }
}

/// What a run reported.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Bytes that applications received, warm-up left out, 1e9 bit/s.
    pub goodput_gbps: f64,
    /// Busy time of the slower lcore for each frame it moved, ns.
    pub ns_per_frame: f64,
}

/// Runs `engine` on `variant` for `duration` after its warm-up; its files go to `folder`.
///
/// # Errors
/// The run fails or its report lacks a key. A run that lost packets, did not take the path it was told to, or left
/// mbufs behind is an error too: its figure would say nothing.
pub fn run(
    engine: &Path,
    variant: Variant,
    duration: Duration,
    folder: &Path,
) -> Result<Report, ChildError> {
    let config = folder.join("engine.yaml");
    std::fs::write(&config, yaml(variant)).map_err(|error| ChildError::Io {
        what: config.display().to_string(),
        error,
    })?;
    let mut command = Command::new(engine);
    command
        .arg("run")
        .arg("--config")
        .arg(&config)
        .args([
            "--duration",
            &format!("{}ms", (WARM_UP + duration).as_millis()),
        ])
        .arg("--json");
    let report = run_json(&mut command, folder, duration + OVERHEAD_MAX)?;
    judge(&report, variant).map_err(|problem| ChildError::Output {
        program: variant.to_string(),
        problem,
    })
}

fn judge(report: &Value, variant: Variant) -> Result<Report, String> {
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.ok_or_else(|| format!("the report has no number at {pointer}: {report}"))
    };
    for pointer in [
        "/mbufs/in_use_at_exit",
        "/connections/lost",
        "/quic/lost_packets",
    ] {
        let value = number(pointer)?;
        if value != 0.0 {
            return Err(format!("{pointer} is {value}, not 0"));
        }
    }
    let (mtu, udp_payload) = (number("/quic/mtu")?, variant.mtu - IPV6_UDP_HEADERS);
    if mtu != f64::from(udp_payload) {
        return Err(format!(
            "datagrams carried {mtu} bytes at most, not {udp_payload}"
        ));
    }
    let other_path = if variant.tx_path == "in_place" {
        "/tx/copied"
    } else {
        "/tx/in_place"
    };
    for pointer in [other_path, "/rx/copied"] {
        // Small datagrams (acknowledgements) may be copied; bulk data may not.
        if number(pointer)? > number("/rx/frames")? / 2.0 + 100.0 {
            return Err(format!(
                "{pointer} says that bulk data took the other path: {report}"
            ));
        }
    }
    let lcores = report.pointer("/lcores").and_then(Value::as_array);
    let ns_per_frame = lcores
        .into_iter()
        .flatten()
        .filter_map(|lcore| lcore.pointer("/ns_per_frame").and_then(Value::as_f64))
        .fold(0.0, f64::max);
    Ok(Report {
        goodput_gbps: number("/goodput_gbps")?,
        ns_per_frame,
    })
}

/// configs/loopback.yaml with the keys of `variant`.
fn yaml(variant: Variant) -> String {
    let Variant {
        mtu,
        tx_path,
        checksum,
    } = variant;
    format!(
        r#"eal: ["-l", "0-1", "--no-huge", "-m", "512", "--no-pci"]
ports:
  - name: left
    link: right
    mtu: {mtu}
    addresses: ["fd00:5701::1/64"]
    offload: {{ tx_checksum: {checksum}, rx_checksum: {checksum} }}
    tx_path: {tx_path}
  - name: right
    link: left
    mtu: {mtu}
    addresses: ["fd00:5701::2/64"]
    offload: {{ tx_checksum: {checksum}, rx_checksum: {checksum} }}
    tx_path: {tx_path}
shards:
  - {{ name: server, port: left, queue: 0, lcore: 0, idle: busy }}
  - {{ name: client, port: right, queue: 0, lcore: 1, idle: busy }}
identities:
  - name: made-here
    self_signed: ["localhost"]
listeners:
  - name: main
    shard: server
    udp_port: 4433
    identity: made-here
    services:
      perf: {{}}
clients:
  - name: bulk
    shard: client
    remote: "[fd00:5701::1]:4433"
    server_name: localhost
    trust: {{ identity: made-here }}
    perf: {{ streams: 1, upload: 0, download: 64MiB, repeat: true }}
run:
  warmup: {}ms
"#,
        WARM_UP.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const IN_PLACE: Variant = Variant {
        mtu: 1500,
        tx_path: "in_place",
        checksum: "off",
    };

    fn report() -> Value {
        json!({
            "goodput_gbps": 9.5,
            "connections": {"lost": 0},
            "rx": {"frames": 10_000, "copied": 800},
            "tx": {"in_place": 10_000, "copied": 0},
            "mbufs": {"in_use_at_exit": 0},
            "quic": {"lost_packets": 0, "mtu": 1452},
            "lcores": [{"ns_per_frame": 700.0}, {"ns_per_frame": 900.0}],
        })
    }

    #[test]
    fn a_clean_run_counts() {
        let judged = judge(&report(), IN_PLACE).unwrap();
        assert_eq!((judged.goodput_gbps, judged.ns_per_frame), (9.5, 900.0));
    }

    #[test]
    fn a_run_that_leaks_or_takes_another_path_does_not() {
        let cases = [
            ("/mbufs/in_use_at_exit", json!(1)),
            ("/connections/lost", json!(1)),
            ("/quic/mtu", json!(1389)),
            ("/rx/copied", json!(9_000)),
            ("/tx/copied", json!(9_000)),
            ("/goodput_gbps", json!(null)),
        ];
        for (pointer, value) in cases {
            let mut report = report();
            *report.pointer_mut(pointer).unwrap() = value;
            assert!(judge(&report, IN_PLACE).is_err(), "{pointer}");
        }
    }
}
