//! EAL's arguments: which win, what is added, and what they grant.

use serde::Serialize;

use super::Given;
use crate::config::{Config, ConfigError, Source};

/// What `--no-huge` gives without `-m` (DPDK's `MEMSIZE_IF_NO_HUGE_PAGE`), bytes.
const MEMORY_WITHOUT_HUGE_PAGES: u64 = 64 << 20;

/// EAL's arguments and what they grant.
#[derive(Debug, Clone, Serialize)]
pub struct EalPlan {
    /// The arguments, without a program name in front.
    pub arguments: Vec<String>,
    /// The lcores there will be, ascending.
    pub lcores: Vec<u32>,
    /// Whether packet memory is in huge pages.
    pub huge_pages: bool,
    /// Bytes of packet memory, where the arguments say how many.
    pub memory: Option<u64>,
}

/// Arguments with what was read out of them, for the checks of other parts of the plan.
pub(super) struct Arguments<'a> {
    source: &'a Source,
    from_file: bool,
    list: Vec<String>,
    lcores: Vec<u32>,
    /// Where memory is limited, and to how many bytes.
    memory: Option<(usize, u64)>,
    no_huge: bool,
    no_pci: bool,
    vdevs: Vec<String>,
    allowed: Vec<String>,
    blocked: Vec<String>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(
        config: &Config,
        source: &'a Source,
        given: &Given,
    ) -> Result<Self, ConfigError> {
        let from_file = given.eal.is_empty();
        let list = if from_file {
            config.eal.clone()
        } else {
            given.eal.clone()
        };
        let mut arguments = Self {
            source,
            from_file,
            list,
            lcores: given.cpus.clone(),
            memory: None,
            no_huge: false,
            no_pci: false,
            vdevs: Vec::new(),
            allowed: Vec::new(),
            blocked: Vec::new(),
        };
        arguments.read()?;
        Ok(arguments)
    }

    fn read(&mut self) -> Result<(), ConfigError> {
        let list = self.list.clone();
        let mut own_runtime_files = false;
        let mut in_memory = None;
        let mut memory_option = None;
        let mut no_huge_at = 0;
        let mut index = 0;
        while let Some(argument) = list.get(index) {
            let at = index;
            index += 1;
            let (name, attached) = split(argument);
            match name {
                "--no-huge" => (self.no_huge, no_huge_at) = (true, at),
                "--no-pci" => self.no_pci = true,
                "--in-memory" => (own_runtime_files, in_memory) = (true, Some(at)),
                "--no-shconf" => own_runtime_files = true,
                _ if !TAKES_VALUE.contains(&name) => {}
                _ => {
                    let value = match attached {
                        Some(value) => value,
                        None => {
                            index += 1;
                            list.get(at + 1).map(String::as_str).ok_or_else(|| {
                                self.error(at, format!("`{name}` lacks its value"))
                            })?
                        }
                    };
                    own_runtime_files |= name == "--file-prefix";
                    if matches!(name, "-m" | "--socket-mem" | "--numa-mem") {
                        memory_option = Some(name);
                    }
                    self.option(at, name, value)?;
                }
            }
        }
        if self.no_huge {
            if let (Some(at), Some("-m")) = (in_memory, memory_option) {
                let message = "EAL refuses `-m` with `--no-huge` and `--in-memory`; leave out \
                               `--in-memory`";
                return Err(self.error(at, message));
            }
            self.memory
                .get_or_insert((no_huge_at, MEMORY_WITHOUT_HUGE_PAGES));
            if !own_runtime_files {
                // Without huge pages nothing is shared with other processes, but EAL would still lock its shared
                // configuration file, and a second engine could not start.
                self.list.push("--no-shconf".to_owned());
            }
        }
        Ok(())
    }

    fn option(&mut self, at: usize, name: &str, value: &str) -> Result<(), ConfigError> {
        match name {
            "-l" | "--lcores" => {
                self.lcores = lcore_list(value).ok_or_else(|| {
                    self.error(
                        at,
                        format!("`{value}` is no list of lcores such as 0-3 or 0,2"),
                    )
                })?;
            }
            "-c" => {
                self.lcores = core_mask(value).ok_or_else(|| {
                    self.error(at, format!("`{value}` is no core mask such as 0x3"))
                })?;
            }
            "-m" | "--socket-mem" | "--numa-mem" => {
                // One number, or one for each NUMA node.
                let bytes = value.split(',').try_fold(0_u64, |sum, node| {
                    let node: u64 = node.trim().parse().ok()?;
                    sum.checked_add(node.checked_mul(1 << 20)?)
                });
                let bytes = bytes.ok_or_else(|| {
                    self.error(
                        at,
                        format!("`{name} {value}` is no whole number of megabytes"),
                    )
                })?;
                self.memory = Some((at, bytes));
            }
            "--vdev" => self.vdevs.push(device_name(value)),
            "-a" | "--allow" => self.allowed.push(device_name(value)),
            "-b" | "--block" => self.blocked.push(device_name(value)),
            _ => {}
        }
        Ok(())
    }

    /// The lcores there will be, ascending.
    pub(super) fn lcores(&self) -> &[u32] {
        &self.lcores
    }

    /// Bytes of packet memory, where the arguments say how many.
    pub(super) fn memory(&self) -> Option<u64> {
        self.memory.map(|(_, bytes)| bytes)
    }

    /// An error about the memory limit.
    pub(super) fn memory_error(&self, message: String) -> ConfigError {
        self.error(self.memory.map_or(0, |(at, _)| at), message)
    }

    /// Says why EAL will not know `device`, or nothing where only EAL can tell.
    pub(super) fn device_problem(&self, device: &str) -> Option<String> {
        if let Some(address) = pci_address(device) {
            let listed = |list: &[String]| {
                list.iter()
                    .any(|entry| pci_address(entry).as_deref() == Some(address.as_str()))
            };
            if self.no_pci {
                return Some(format!(
                    "EAL's `--no-pci` hides the PCI device `{device}`; replace it with `-a {device}`"
                ));
            }
            if listed(&self.blocked) || !(self.allowed.is_empty() || listed(&self.allowed)) {
                return Some(format!(
                    "EAL's `-a` and `-b` arguments leave out `{device}`; add `-a {device}`"
                ));
            }
            return None;
        }
        if !device.starts_with("net_") || self.vdevs.iter().any(|vdev| vdev == device) {
            return None;
        }
        let made = if self.vdevs.is_empty() {
            "none is made".to_owned()
        } else {
            format!("made are {}", self.vdevs.join(", "))
        };
        Some(format!(
            "no `--vdev` of the EAL arguments makes the device `{device}` ({made}); add \
             `--vdev={device},…`"
        ))
    }

    pub(super) fn into_plan(self) -> EalPlan {
        EalPlan {
            lcores: self.lcores.clone(),
            huge_pages: !self.no_huge,
            memory: self.memory(),
            arguments: self.list,
        }
    }

    fn error(&self, index: usize, message: impl Into<String>) -> ConfigError {
        let message = message.into();
        if self.from_file {
            self.source.error(format!("eal[{index}]"), message)
        } else {
            ConfigError::Eal { message }
        }
    }
}

/// Options read here that have a value.
const TAKES_VALUE: [&str; 12] = [
    "-l",
    "--lcores",
    "-c",
    "-m",
    "--socket-mem",
    "--numa-mem",
    "--vdev",
    "-a",
    "--allow",
    "-b",
    "--block",
    "--file-prefix",
];

/// `--name=value` and `-xvalue` into name and value.
fn split(argument: &str) -> (&str, Option<&str>) {
    if argument.starts_with("--") {
        return match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
    }
    match (argument.get(..2), argument.get(2..)) {
        (Some(name), Some(value)) if name.starts_with('-') && !value.is_empty() => {
            (name, Some(value))
        }
        _ => (argument, None),
    }
}

/// The device of `net_tap0,iface=stoq0` or `0000:3b:00.0,arg=1`.
fn device_name(value: &str) -> String {
    value.split(',').next().unwrap_or_default().to_owned()
}

/// `domain:bus:device.function`, the domain filled in, or nothing for what is no PCI address.
fn pci_address(device: &str) -> Option<String> {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (rest, function) = device.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (number, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let is_address = hex(function, 1) && hex(number, 2) && hex(bus, 2) && hex(domain, 4);
    (is_address && parts.next().is_none())
        .then(|| format!("{domain}:{bus}:{number}.{function}").to_lowercase())
}

/// Lcores of `-l 0-3,5` or `--lcores 0@4,(1-2)@(5,6)`, ascending.
fn lcore_list(text: &str) -> Option<Vec<u32>> {
    let mut lcores = Vec::new();
    for item in split_outside_parentheses(text) {
        let item = item.split('@').next()?.trim();
        match item.strip_prefix('(') {
            Some(group) => {
                for range in group.strip_suffix(')')?.split(',') {
                    push_range(&mut lcores, range)?;
                }
            }
            None => push_range(&mut lcores, item)?,
        }
    }
    lcores.sort_unstable();
    lcores.dedup();
    Some(lcores)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn push_range(lcores: &mut Vec<u32>, range: &str) -> Option<()> {
    /// More than any DPDK build has (`RTE_MAX_LCORE`).
    const LCORES_MAX: u32 = 4096;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    if first.max(last) >= LCORES_MAX {
        return None;
    }
    lcores.extend(first.min(last)..=first.max(last));
    Some(())
}

/// Lcores of `-c 0x3`, ascending.
fn core_mask(text: &str) -> Option<Vec<u32>> {
    let digits = text
        .strip_prefix("0x")
        .or(text.strip_prefix("0X"))
        .unwrap_or(text);
    let mut lcores = Vec::new();
    for (index, digit) in digits.chars().rev().enumerate() {
        let digit = digit.to_digit(16)?;
        let first = 4 * u32::try_from(index).ok()?;
        lcores.extend(
            (0..4)
                .filter(|bit| digit >> bit & 1 == 1)
                .map(|bit| first + bit),
        );
    }
    (!lcores.is_empty()).then_some(lcores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lcores() {
        assert_eq!(lcore_list("0"), Some(vec![0]));
        assert_eq!(lcore_list("0-3,7,2"), Some(vec![0, 1, 2, 3, 7]));
        assert_eq!(lcore_list("0@4,(1-2,9)@(5,6)"), Some(vec![0, 1, 2, 9]));
        assert_eq!(lcore_list("0-x"), None);
        assert_eq!(lcore_list(""), None);
        assert_eq!(lcore_list("(0-1"), None);
        assert_eq!(lcore_list("0-4000000000"), None);
        assert_eq!(core_mask("0x3"), Some(vec![0, 1]));
        assert_eq!(core_mask("f0"), Some(vec![4, 5, 6, 7]));
        assert_eq!(core_mask("0x"), None);
        assert_eq!(core_mask("0xzz"), None);
    }

    #[test]
    fn pci_addresses() {
        assert_eq!(pci_address("0000:3B:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(pci_address("3b:00.1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(pci_address("net_tap0"), None);
        assert_eq!(pci_address("0:0000:3b:00.0"), None);
    }

    #[test]
    fn options_and_values() {
        assert_eq!(split("-l0-1"), ("-l", Some("0-1")));
        assert_eq!(split("-l"), ("-l", None));
        assert_eq!(
            split("--vdev=net_null0,size=64"),
            ("--vdev", Some("net_null0,size=64"))
        );
        assert_eq!(split("--no-huge"), ("--no-huge", None));
        assert_eq!(split("stray"), ("stray", None));
    }
}
