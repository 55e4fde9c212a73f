//! What the figures were measured on.

use std::fmt;

/// A machine, as far as a figure depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The processor's model name.
    pub cpu: String,
    /// Processors the system shows.
    pub cpus: usize,
    /// Whether the system is a guest of a hypervisor.
    pub virtual_machine: bool,
}

/// Describes this machine.
pub fn describe() -> Machine {
    parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

fn parse(cpuinfo: &str) -> Machine {
    let value = |key: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim().to_owned())
    };
    Machine {
        cpu: value("model name").unwrap_or_else(|| "unknown processor".to_owned()),
        cpus: cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        virtual_machine: value("flags")
            .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.virtual_machine {
            "virtual machine, "
        } else {
            ""
        };
        write!(f, "{kind}{} x {}", self.cpus, self.cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_processors_and_sees_a_hypervisor() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n\n\
                       processor\t: 1\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n";
        assert_eq!(parse(cpuinfo).to_string(), "virtual machine, 2 x Some CPU");
        assert_eq!(parse("").cpus, 0);
    }
}
