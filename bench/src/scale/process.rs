//! Memory and processor time of a process, as the kernel counts them.

use std::time::Duration;

/// Clock ticks of `/proc/PID/stat` in a second: Linux shows 100 on every architecture (`USER_HZ`).
const TICKS: u64 = 100;

/// A process, by its number.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// This process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Memory that it has in RAM now, bytes; 0 when it is gone.
    pub fn memory(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it had in RAM at a time, bytes; 0 when it is gone.
    pub fn memory_peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Processor time that it has used, to 10 ms.
    pub fn cpu_time(self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        cpu_time(&stat)
    }

    fn status(self, key: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        kilobytes(&status, key) * 1024
    }
}

fn kilobytes(status: &str, key: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Fields 14 and 15, counted from the program's name, which stands in parentheses and may hold anything.
fn cpu_time(stat: &str) -> Duration {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t     100 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), 100);
        assert_eq!(kilobytes(status, "VmHWM:"), 2048);
        assert_eq!(kilobytes(status, "VmSwap:"), 0);
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0";
        assert_eq!(cpu_time(stat), Duration::from_millis(1500));
        assert_eq!(cpu_time(""), Duration::ZERO);
    }

    #[test]
    fn this_process_has_memory() {
        let own = Process::own();
        assert!(own.memory() > 1 << 20 && own.memory_peak() >= own.memory() / 2);
    }
}
