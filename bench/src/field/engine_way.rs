//! A measurement of the engine: the program that ships, in one process or two, or `scale` for what its clients do not do.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stoq::transport::IPV6_UDP_HEADERS;

use super::OVERHEAD_MAX;
use super::case::{Case, REQUEST};
use super::engine_config::{Setting, TAPS};
use super::peer::{MTU_SHARE_MIN, Work};
use super::peer_way::Place;
use super::way::Medium;
use super::wire::Wire;
use crate::child::run_json;
use crate::scale::case::{Case as ScaleCase, Handshake, Spec};
use crate::scale::figures::Figures;

/// What is left out at the start. Devices come up in it, and TAP interfaces are joined.
const WARM_UP: Duration = Duration::from_millis(500);
/// The same over TAP: a handshake that found no bridge yet is tried again after a second.
const WARM_UP_TAP: Duration = Duration::from_millis(1700);
/// How long a server may take to be ready.
const START_MAX: Duration = Duration::from_secs(15);
/// How long it may take to end.
const END_MAX: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Mbufs that `net_af_xdp` still holds when it is closed: what is in its fill and completion rings (DPDK 22.11).
const AF_XDP_HOLDS: f64 = 4096.0;
/// Lcores of a measurement, both ends together.
const LCORES: f64 = 2.0;

/// Measures `case` once.
///
/// # Errors
/// Why there is no figure.
pub fn measure(
    place: &Place,
    medium: Medium,
    case: Case,
    seconds: f64,
    quick: bool,
) -> Result<Figures, String> {
    match case.work() {
        Work::Handshakes | Work::Resumed | Work::Idle => by_scale(place, case, seconds, quick),
        Work::Bulk | Work::Requests | Work::Datagrams => {
            by_engine(place, medium, case, seconds, quick)
        }
    }
}

fn by_engine(
    place: &Place,
    medium: Medium,
    case: Case,
    seconds: f64,
    quick: bool,
) -> Result<Figures, String> {
    let wire = Wire::lay(medium, case.mtu())?;
    let load = case.load(seconds, quick);
    let warm_up = if medium == Medium::Tap {
        WARM_UP_TAP
    } else {
        WARM_UP
    };
    let setting = Setting {
        medium,
        case,
        load,
        folder: &place.folder,
        warm_up,
    };
    let length = warm_up + load.length();
    let limit = length + OVERHEAD_MAX;
    let mut report = if medium == Medium::Link {
        let mut command = engine(Command::new(&place.engine), place, "link", &setting.link())?;
        run(
            command.arg("--duration").arg(milliseconds(length)),
            &place.folder,
            limit,
        )?
    } else {
        let command = engine(
            wire.server(&place.engine),
            place,
            "server",
            &setting.server(),
        )?;
        let server = Server::start(command, &place.folder)?;
        let mut command = engine(
            wire.client(&place.engine),
            place,
            "client",
            &setting.client(),
        )?;
        command.arg("--duration").arg(milliseconds(length));
        let report = if medium == Medium::Tap {
            wire.join(TAPS[0])?;
            std::thread::scope(|scope| {
                let joined = scope.spawn(|| wire.join(TAPS[1]));
                let report = run(&mut command, &place.folder, limit);
                joined
                    .join()
                    .map_err(|_| "the bridge was not joined".to_owned())??;
                report
            })?
        } else {
            run(&mut command, &place.folder, limit)?
        };
        server.stop()?;
        report
    };
    if medium == Medium::AfXdp
        && let Some(held) = report.pointer_mut("/mbufs/in_use_at_exit")
        && held.as_f64().is_some_and(|held| held <= AF_XDP_HOLDS)
    {
        *held = 0.into();
    }
    let mut figures = figures_of(&report, case, medium == Medium::Link)?;
    if let Some(mean) = wire.packet_mean() {
        figures.add("packet on the wire", "B", mean);
    }
    Ok(figures)
}

/// What a report of the engine says about a case. With `both_ends` in one process, bytes that the server received are
/// among those it counts.
///
/// # Errors
/// A key is missing, or the run was not clean.
pub fn figures_of(report: &Value, case: Case, both_ends: bool) -> Result<Figures, String> {
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.ok_or_else(|| format!("the report has no number at {pointer}"))
    };
    for pointer in ["/mbufs/in_use_at_exit", "/connections/lost"] {
        let value = number(pointer)?;
        if value != 0.0 {
            return Err(format!("{pointer} is {value}, not 0"));
        }
    }
    let answer = case.load(1.0, false).answer;
    let goodput = number("/goodput_gbps")?;
    if goodput == 0.0 {
        return Err("nothing was received".to_owned());
    }
    let mut figures = Figures::default();
    match case.work() {
        Work::Bulk => {
            let (mtu, full) = (
                number("/quic/mtu")?,
                f64::from(case.mtu() - IPV6_UDP_HEADERS),
            );
            if mtu < full * MTU_SHARE_MIN {
                return Err(format!("datagrams had {mtu} bytes at most, not {full}"));
            }
            figures.add("goodput", "Gbit/s", goodput);
            // A polling lcore takes its CPU whole.
            figures.add("CPU", "s/GB", LCORES * 8.0 / goodput);
        }
        work => {
            let back = match (work, both_ends) {
                (_, false) => 0,
                (Work::Datagrams, true) => answer,
                (_, true) => REQUEST,
            };
            figures.add(
                "requests",
                "/s",
                goodput * 1e9 / 8.0 / (answer + back) as f64,
            );
            for (name, pointer) in [("p50", "/latency_us/p50"), ("p99", "/latency_us/p99")] {
                figures.add(name, "us", number(pointer)?);
            }
        }
    }
    figures.add("lost packets", "", number("/quic/lost_packets")?);
    Ok(figures)
}

/// Handshakes and connections at rest, over a link.
fn by_scale(place: &Place, case: Case, seconds: f64, quick: bool) -> Result<Figures, String> {
    let spec = Spec {
        case: match case.work() {
            Work::Idle => ScaleCase::Idle,
            _ => ScaleCase::Handshakes,
        },
        quick: true,
        pairs: 1,
        connections: (case.work() == Work::Idle).then_some(case.load(seconds, quick).connections),
        seconds: Some(seconds),
        handshakes: match case.work() {
            Work::Resumed => Some(Handshake::Resumed),
            _ => Some(Handshake::Full),
        },
    };
    let mut command = Command::new(&place.scale);
    command.arg("engine").args(spec.arguments());
    let found = run(&mut command, &place.folder, spec.limit())?;
    let found: Figures = serde_json::from_value(found).map_err(|error| error.to_string())?;
    let (name, figure, unit) = match case.work() {
        Work::Idle => ("memory of a connection, both ends", "memory", "kB"),
        Work::Resumed => ("resumed, handshakes", "requests", "/s"),
        _ => ("full, handshakes", "requests", "/s"),
    };
    let value = found
        .value(name)
        .ok_or_else(|| format!("scale found no {name}"))?;
    let mut figures = Figures {
        problems: found.problems,
        ..Figures::default()
    };
    figures.add(figure, unit, value);
    Ok(figures)
}

fn run(command: &mut Command, folder: &Path, limit: Duration) -> Result<Value, String> {
    run_json(command, folder, limit).map_err(|error| error.to_string())
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// The engine with a configuration, as far as both kinds of process have it in common.
fn engine(mut command: Command, place: &Place, name: &str, yaml: &str) -> Result<Command, String> {
    let config = place.folder.join(format!("{name}.yaml"));
    std::fs::write(&config, yaml).map_err(|error| format!("{}: {error}", config.display()))?;
    command.args(["run", "--json", "--config"]).arg(config);
    Ok(command)
}

/// The engine as a server; it is killed with this value, unless it was stopped.
struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it, and waits until it serves.
    fn start(mut command: Command, folder: &Path) -> Result<Self, String> {
        let log = folder.join("server.log");
        let file = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        command
            .stdin(Stdio::null())
            .stdout(file("server.out")?)
            .stderr(file("server.log")?);
        let process = command
            .spawn()
            .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let mut server = Self { process, log };
        let start = Instant::now();
        while !server.log().contains("ready") {
            let ended = server
                .process
                .try_wait()
                .map_err(|error| error.to_string())?;
            if ended.is_some() || start.elapsed() > START_MAX {
                return Err(format!(
                    "the server is not ready; its log:\n{}",
                    server.log()
                ));
            }
            sleep(LOOK);
        }
        Ok(server)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Has it drain and end, as a user would.
    fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw)
        {
            kill_process(pid, Signal::TERM).map_err(|error| error.to_string())?;
        }
        let start = Instant::now();
        while start.elapsed() < END_MAX {
            match self.process.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!(
                        "the server ended with {status}; its log:\n{}",
                        self.log()
                    ));
                }
                None => sleep(LOOK),
            }
        }
        Err(format!("the server did not end within {END_MAX:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It usually has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({
            "goodput_gbps": 4.0,
            "connections": {"lost": 0},
            "mbufs": {"in_use_at_exit": 0},
            "quic": {"lost_packets": 0, "mtu": 1452},
            "latency_us": {"p50": 8.0, "p99": 12.0},
        })
    }

    #[test]
    fn bytes_become_requests_whoever_counted_them() {
        let requests = |case, both_ends| {
            let figures = figures_of(&report(), case, both_ends).unwrap();
            figures.value("requests").unwrap()
        };
        let bytes = 0.5e9;
        assert_eq!(requests(Case::RequestPolling, false), bytes / 4096.0);
        assert_eq!(
            requests(Case::RequestPolling, true),
            bytes / (4096.0 + 512.0)
        );
        assert_eq!(requests(Case::Datagrams, true), bytes / 2000.0);
        let bulk = figures_of(&report(), Case::Bulk1452, true).unwrap();
        assert_eq!(bulk.value("CPU"), Some(4.0));
    }

    #[test]
    fn a_run_that_leaks_or_does_not_reach_the_mtu_has_no_figure() {
        for (pointer, value) in [
            ("/mbufs/in_use_at_exit", json!(1)),
            ("/connections/lost", json!(1)),
            ("/quic/mtu", json!(1389)),
            ("/goodput_gbps", json!(0.0)),
        ] {
            let mut report = report();
            *report.pointer_mut(pointer).unwrap() = value;
            assert!(
                figures_of(&report, Case::Bulk1452, true).is_err(),
                "{pointer}"
            );
        }
    }
}
