//! The files in which the kernel describes a machine: `/sys`, `/proc`, and where DPDK's plug-ins are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file system of a machine, below a root: `/`, or a made-up one in tests.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

/// Why a file could not be read: its path, and what the system said.
pub type Unreadable = String;

impl Tree {
    /// The machine below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text of a file, without blanks around it. `path` begins with `/`.
    ///
    /// # Errors
    /// It is not there, or not for us.
    pub fn text(&self, path: &str) -> Result<String, Unreadable> {
        let text = fs::read(self.at(path)).map_err(|error| unreadable(path, &error))?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The number in a file.
    pub fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path).ok()?.parse().ok()
    }

    /// The names in a folder, sorted; none when it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// The last part of what a link points to.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The kernel's command line, by words.
    pub fn kernel_arguments(&self) -> Vec<String> {
        let line = self.text("/proc/cmdline").unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// The value of a kernel argument `name=value`; the last one, if it is there several times.
    pub fn kernel_argument(&self, name: &str) -> Option<String> {
        let arguments = self.kernel_arguments();
        let mut values = arguments.iter().rev().filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            (key == name).then(|| value.to_owned())
        });
        values.next()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn unreadable(path: &str, error: &io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{path} is not there"),
        _ => format!("{path}: {error}"),
    }
}

/// CPUs of a list such as `0-3,8`, ascending. Flags before the CPUs, as `isolcpus=` has them, are passed over.
pub fn cpu_list(text: &str) -> Vec<u32> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // No kernel has more; a mistaken file is not to fill the memory.
        (last < 1 << 16).then_some(first..=last)
    });
    let mut cpus: Vec<u32> = ranges.flatten().collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// The same, as a text: `0-3,8`.
pub fn cpu_text(cpus: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_lists_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list("managed_irq,domain,2-3"), [2, 3]);
        assert_eq!(cpu_list(""), [0; 0]);
        assert_eq!(cpu_list("(null)"), [0; 0]);
        assert_eq!(cpu_list("0-4294967295"), [0; 0]);
        assert_eq!(cpu_text(&[0, 1, 2, 3, 8]), "0-3,8");
    }

    proptest! {
        #[test]
        fn lists_survive_being_written(cpus in prop::collection::btree_set(0..300u32, 0..40)) {
            let cpus: Vec<u32> = cpus.into_iter().collect();
            prop_assert_eq!(cpu_list(&cpu_text(&cpus)), cpus);
        }

        #[test]
        fn any_text_is_no_trouble(text in ".{0,40}") {
            cpu_list(&text);
        }
    }

    #[test]
    fn what_is_not_there_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path());
        assert_eq!(
            tree.text("/proc/swaps").unwrap_err(),
            "/proc/swaps is not there"
        );
        assert_eq!(tree.names("/sys"), [""; 0]);
        assert_eq!(tree.kernel_argument("isolcpus"), None);
    }
}
