//! What the control thread does with the loads of a case, and what it finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::case::{Case, DIAL_MAX, DIALING, Spec};
use super::figures::{Figures, jain_index};
use super::flood::{Flood, FloodKind, UNLIMITED};
use super::load::{Load, Work};

/// How often the control thread says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long a load that was switched off has to come to rest.
const REST: Duration = Duration::from_millis(200);
/// Share of handshakes that may be of the other kind: those before the first ticket.
const OTHER_KIND_MAX: f64 = 0.01;
/// Goodput under a flood by that beside the same flood to nobody: what is to be reached.
pub const FLOOD_GOAL: f64 = 0.9;

/// What the control thread works with.
pub struct Environment<'a> {
    /// The loads of all pairs.
    pub loads: &'a [Arc<Load>],
    /// The flood, where the case has one.
    pub flood: Option<&'a Flood>,
    /// Handshakes in which the server showed its certificate.
    pub full_handshakes: &'a AtomicU64,
    /// Time for which the server has been busy.
    pub server_busy: &'a dyn Fn() -> Duration,
    /// Memory of client and server now, bytes.
    pub memory: &'a dyn Fn() -> u64,
    /// The most memory of client and server, bytes.
    pub memory_peak: &'a dyn Fn() -> u64,
}

/// Runs the case and says what was found.
pub fn run(spec: &Spec, environment: &Environment<'_>) -> Figures {
    let mut run = Run {
        length: spec.length(),
        settle: if spec.quick { 300 } else { 1000 },
        environment,
        figures: Figures::default(),
    };
    match spec.case {
        Case::Connections => run.connections(),
        Case::Idle => run.idle(),
        Case::Handshakes => run.handshakes(),
        Case::Scaling => run.scaling(spec.pairs),
        Case::Fairness => run.fairness(),
        Case::Flood => run.flood(spec.flood_rates()),
    }
    run.judge_losses();
    run.figures
}

struct Run<'a> {
    length: Duration,
    /// Milliseconds to wait after a load was switched on.
    settle: u64,
    environment: &'a Environment<'a>,
    figures: Figures,
}

impl Run<'_> {
    fn loads(&self) -> &[Arc<Load>] {
        self.environment.loads
    }

    fn settle(&self) {
        sleep(Duration::from_millis(self.settle));
    }

    fn connections(&mut self) {
        self.dial();
        let load = Arc::clone(&self.loads()[0]);
        load.switch(true);
        self.settle();
        let bytes = || load.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed));
        let (start, before): (_, Vec<u64>) = (Instant::now(), bytes().collect());
        self.wait("transferring");
        let (elapsed, after): (_, Vec<u64>) = (start.elapsed(), bytes().collect());
        load.switch(false);
        let shares: Vec<f64> = (before.iter().zip(&after))
            .map(|(before, after)| (after - before) as f64)
            .collect();
        let sum: f64 = shares.iter().sum();
        let mean = sum / shares.len().max(1) as f64;
        let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
        let figures = &mut self.figures;
        figures.add("goodput", "Gbit/s", gbps(sum, elapsed));
        figures.add(
            "Jain index of the connections' bytes",
            "",
            jain_index(&shares),
        );
        figures.add(
            "least connection's share of the mean",
            "%",
            least * 100.0 / mean,
        );
        let peak = (self.environment.memory_peak)();
        self.figures
            .add("peak memory, client and server", "MiB", mib(peak));
    }

    fn idle(&mut self) {
        let before = (self.environment.memory)();
        let count = self.loads()[0].spec.connections;
        self.dial();
        self.settle();
        let after = (self.environment.memory)();
        let grown = after.saturating_sub(before) as f64;
        let busy = (self.environment.server_busy)();
        self.wait("holding");
        let busy = (self.environment.server_busy)().saturating_sub(busy);
        let at_end = (self.environment.memory)();
        let figures = &mut self.figures;
        figures.add("memory, client and server", "MiB", mib(after));
        figures.add(
            "memory of a connection, both ends",
            "kB",
            grown / count as f64 / 1e3,
        );
        figures.add("memory at the end", "MiB", mib(at_end));
        let share = busy.as_secs_f64() * 100.0 / self.length.as_secs_f64();
        figures.add("server busy while holding", "%", share);
    }

    fn handshakes(&mut self) {
        for load in self.environment.loads {
            let Work::Handshakes { resume } = load.spec.work else {
                continue;
            };
            let name = if resume { "resumed" } else { "full" };
            load.begin();
            load.switch(true);
            self.settle();
            let counts = || {
                let full = self.environment.full_handshakes.load(Ordering::Relaxed);
                (load.completed.load(Ordering::Relaxed), full)
            };
            let (start, before) = (Instant::now(), counts());
            let busy = (self.environment.server_busy)();
            sleep(self.length);
            let (elapsed, after) = (start.elapsed(), counts());
            let busy = (self.environment.server_busy)().saturating_sub(busy);
            load.switch(false);
            sleep(REST);
            let done = (after.0 - before.0) as f64;
            let full = (after.1 - before.1) as f64;
            let figures = &mut self.figures;
            let busy = busy.as_secs_f64();
            figures.add(
                format!("{name}, handshakes"),
                "/s",
                done / elapsed.as_secs_f64(),
            );
            figures.add(
                format!("{name}, server busy"),
                "%",
                busy * 100.0 / elapsed.as_secs_f64(),
            );
            figures.add(
                format!("{name}, a busy second of the server"),
                "/s",
                done / busy,
            );
            let other = if resume { full } else { done - full };
            if done == 0.0 || other > done * OTHER_KIND_MAX + DIALING as f64 {
                let problem = format!("{name}: {full} of {done} handshakes were full ones");
                figures.problems.push(problem);
            }
        }
    }

    fn scaling(&mut self, pairs: usize) {
        self.dial();
        self.switch_all(true);
        self.settle();
        let goodput = self.goodput(|loads| loads.iter().map(|load| load.bytes_received()).sum());
        self.switch_all(false);
        self.figures
            .add(format!("goodput, CPUs: {pairs}"), "Gbit/s", goodput);
    }

    fn fairness(&mut self) {
        self.dial();
        let [bulk, small] = [0, 1].map(|n| Arc::clone(&self.loads()[n]));
        for (name, bulk_on, small_on) in [
            ("alone", true, false),
            ("alone", false, true),
            ("together", true, true),
        ] {
            bulk.switch(bulk_on);
            small.switch(small_on);
            self.settle();
            small.take_latency();
            let before = small.completed.load(Ordering::Relaxed);
            let goodput = self.goodput(|loads| loads[0].bytes_received());
            let answers = small.completed.load(Ordering::Relaxed) - before;
            let latency = small.take_latency();
            bulk.switch(false);
            small.switch(false);
            sleep(REST);
            let figures = &mut self.figures;
            if bulk_on {
                figures.add(format!("bulk {name}"), "Gbit/s", goodput);
            }
            if small_on {
                let per_second = answers as f64 / self.length.as_secs_f64();
                figures.add(format!("small {name}, answers"), "/s", per_second);
                for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
                    let us = latency.value_at_quantile(quantile) as f64 / 1e3;
                    figures.add(format!("small {name}, {label}"), "us", us);
                }
            }
        }
        let skipped = small.skipped.load(Ordering::Relaxed);
        if skipped > 0 {
            let problem = format!("{skipped} requests could not be begun or were not answered");
            self.figures.problems.push(problem);
        }
    }

    fn flood(&mut self, rates: &[u64]) {
        let Some(flood) = self.environment.flood else {
            return;
        };
        self.dial();
        self.switch_all(true);
        self.settle();
        let quiet = self.goodput(|loads| loads[0].bytes_received());
        self.figures.add("no flood", "Gbit/s", quiet);
        for &rate in rates {
            let rate_name = match rate {
                UNLIMITED => "unlimited".to_owned(),
                rate => format!("{} k/s", rate / 1000),
            };
            let mut to_nobody = 0.0;
            for kind in [FloodKind::Dead, FloodKind::Invalid, FloodKind::Valid] {
                flood.switch(kind, rate);
                sleep(Duration::from_millis(self.settle / 3));
                let (start, before) = (Instant::now(), flood.sent.load(Ordering::Relaxed));
                let goodput = self.goodput(|loads| loads[0].bytes_received());
                let sent = flood.sent.load(Ordering::Relaxed) - before;
                let sent = sent as f64 / start.elapsed().as_secs_f64();
                flood.switch(FloodKind::Off, 0);
                sleep(REST);
                let name = format!("{rate_name} {}", kind.describe());
                let figures = &mut self.figures;
                figures.add(format!("{name}, sent"), "k/s", sent / 1e3);
                figures.add(name.clone(), "Gbit/s", goodput);
                if kind == FloodKind::Dead {
                    to_nobody = goodput;
                } else {
                    let ratio = goodput * 100.0 / to_nobody;
                    figures.add(format!("{name}, of that to nobody"), "%", ratio);
                }
            }
        }
        self.switch_all(false);
    }

    /// Lets all connections come up.
    fn dial(&mut self) {
        let start = Instant::now();
        let mut said = start;
        let loads = self.environment.loads;
        let wanted: usize = loads.iter().map(|load| load.spec.connections).sum();
        loads.iter().for_each(|load| load.begin());
        loop {
            let up: u64 = loads.iter().map(|l| l.up.load(Ordering::Relaxed)).sum();
            let lost: u64 = loads.iter().map(|l| l.lost.load(Ordering::Relaxed)).sum();
            if (up + lost) as usize >= wanted {
                break;
            }
            if start.elapsed() > DIAL_MAX {
                let problem = format!("only {up} of {wanted} connections came up");
                self.figures.problems.push(problem);
                break;
            }
            if said.elapsed() > PROGRESS {
                said = Instant::now();
                eprintln!("    {up} of {wanted} connections are up");
            }
            sleep(LOOK);
        }
        if wanted > self.loads().len() {
            let figures = &mut self.figures;
            figures.add("connections", "", wanted as f64);
            figures.add("time to connect", "s", start.elapsed().as_secs_f64());
        }
    }

    fn switch_all(&self, on: bool) {
        self.loads().iter().for_each(|load| load.switch(on));
    }

    /// What `bytes` grows by in the length of a measurement, Gbit/s.
    fn goodput(&self, bytes: impl Fn(&[Arc<Load>]) -> u64) -> f64 {
        let (start, before) = (Instant::now(), bytes(self.loads()));
        sleep(self.length);
        let (elapsed, after) = (start.elapsed(), bytes(self.loads()));
        gbps((after - before) as f64, elapsed)
    }

    /// Waits for the length of a measurement, and says so if that is long.
    fn wait(&self, what: &str) {
        let end = Instant::now() + self.length;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if left > PROGRESS {
                eprintln!("    {what}, {:.0} s to go", left.as_secs_f64());
            }
            sleep(left.min(PROGRESS));
        }
    }

    fn judge_losses(&mut self) {
        let lost = |load: &Arc<Load>| load.lost.load(Ordering::Relaxed);
        let lost: u64 = self.loads().iter().map(lost).sum();
        self.figures.add("connections lost", "", lost as f64);
        if lost > 0 {
            self.figures
                .problems
                .push(format!("{lost} connections were lost"));
        }
    }
}

fn gbps(bytes: f64, elapsed: Duration) -> f64 {
    bytes * 8.0 / elapsed.as_secs_f64() / 1e9
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_case(case: Case, pretend: impl Fn(&[Arc<Load>]) + Send + Sync) -> Figures {
        let spec = Spec {
            case,
            quick: true,
            pairs: 1,
            connections: Some(2),
            seconds: Some(0.05),
            handshakes: None,
        };
        let loads: Vec<_> = spec
            .loads()
            .into_iter()
            .map(Load::new)
            .map(Arc::new)
            .collect();
        let environment = Environment {
            loads: &loads,
            flood: None,
            full_handshakes: &AtomicU64::new(0),
            server_busy: &|| Duration::ZERO,
            memory: &|| 0,
            memory_peak: &|| 0,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pretend(&loads));
            run(&spec, &environment)
        })
    }

    #[test]
    fn bytes_of_connections_become_goodput_and_an_index() {
        let figures = run_case(Case::Connections, |loads| {
            loads[0].up.store(2, Ordering::Relaxed);
            while !loads[0].is_on() {
                sleep(Duration::from_millis(1));
            }
            // Only one of the two receives.
            while loads[0].is_on() {
                loads[0].received(0, 1000);
                sleep(Duration::from_millis(1));
            }
        });
        assert!(figures.value("goodput").unwrap() > 0.0);
        assert_eq!(
            figures.value("Jain index of the connections' bytes"),
            Some(0.5)
        );
        assert_eq!(
            figures.value("least connection's share of the mean"),
            Some(0.0)
        );
        assert!(figures.problems.is_empty());
    }

    #[test]
    fn a_lost_connection_is_a_problem() {
        let figures = run_case(Case::Scaling, |loads| {
            loads[0].lost.store(1, Ordering::Relaxed);
        });
        assert_eq!(figures.value("connections lost"), Some(1.0));
        assert_eq!(figures.problems.len(), 1);
    }

    #[test]
    fn handshakes_of_the_wrong_kind_are_a_problem() {
        let figures = run_case(Case::Handshakes, |loads| {
            // Full ones that were none: the counter of full handshakes stays at 0.
            while !loads[0].is_on() {
                sleep(Duration::from_millis(1));
            }
            while loads[0].is_on() {
                loads[0].completed.fetch_add(1000, Ordering::Relaxed);
                sleep(Duration::from_millis(1));
            }
        });
        assert!(
            figures
                .problems
                .iter()
                .any(|problem| problem.starts_with("full"))
        );
    }
}
