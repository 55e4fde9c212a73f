//! What the programs say, and what the load costs both of them.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use bench::field::peer::{ClientSpec, Hello};
use bench::scale::figures::Figures;
use bench::scale::process::Process;
use serde::Serialize;

/// The versions that this program was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// The stacks, by the names of their packages.
const STACKS: [&str; 3] = ["quinn", "quiche", "s2n-quic"];

/// Says, in the first line, where a server listens.
pub fn listening(udp_port: u16) -> Result<(), Box<dyn Error>> {
    print(&Hello { udp_port })
}

/// Prints `what` as one line.
pub fn print(what: &impl Serialize) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string(what)?);
    std::io::stdout().flush()?;
    Ok(())
}

/// Ends the process with its standard input, or with who holds its other end.
pub fn end_with_standard_input() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
}

/// The version of each stack.
pub fn versions() -> BTreeMap<&'static str, &'static str> {
    STACKS
        .into_iter()
        .filter_map(|stack| Some((stack, version(stack)?)))
        .collect()
}

fn version(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    let (_, after) = LOCK.split_once(&name)?;
    after.split_once('"').map(|(version, _)| version)
}

/// What both processes have used, so that what they use from then on can be told.
pub struct Usage {
    processes: [Process; 2],
    cpu: Duration,
    memory: u64,
}

impl Usage {
    /// What has been used up to now.
    pub fn now(spec: &ClientSpec) -> Self {
        let processes = [Process::own(), Process(spec.server_pid)];
        Self {
            processes,
            cpu: processes.iter().map(|process| process.cpu_time()).sum(),
            memory: processes.iter().map(|process| process.memory()).sum(),
        }
    }

    /// Adds the processor time that was used since for each 1e9 bytes received, if there were any.
    pub fn add_cpu_by_bytes(&self, figures: &mut Figures) {
        let cpu: Duration = self
            .processes
            .iter()
            .map(|process| process.cpu_time())
            .sum();
        if let Some(bytes) = figures.value("bytes") {
            let used = cpu.saturating_sub(self.cpu).as_secs_f64();
            figures.add("CPU", "s/GB", used / (bytes / 1e9));
        }
    }

    /// Adds the memory that was taken since for each of `connections`.
    pub fn add_memory_by_connections(&self, connections: usize, figures: &mut Figures) {
        let memory: u64 = self.processes.iter().map(|process| process.memory()).sum();
        let grown = memory.saturating_sub(self.memory) as f64;
        figures.add("memory", "kB", grown / connections as f64 / 1e3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_has_a_version() {
        let versions = versions();
        assert_eq!(versions.len(), STACKS.len());
        assert!(
            versions.values().all(|version| version.contains('.')),
            "{versions:?}"
        );
    }
}
