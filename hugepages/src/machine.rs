//! What the machine offers: huge pages per NUMA node and page size, and where they are mounted.
//!
//! Read from `/sys` and `/proc`, without EAL and without privileges.
//!
//! ```
//! use hugepages::machine::{Machine, Need};
//!
//! let machine = Machine::read();
//! println!("{machine}");
//! if let Some(shortfall) = machine.shortfall(Need { numa_node: Some(0), bytes: 256 << 20 }) {
//!     println!("{shortfall}"); // what is missing, and the command that reserves it
//! }
//! ```

mod read;
mod shortfall;

use std::fmt;
use std::path::{Path, PathBuf};

pub use shortfall::{Need, Remedy, Shortfall};

/// The memory of a machine, as far as DPDK is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// NUMA nodes by number; one, node 0, on a machine without NUMA.
    pub nodes: Vec<Node>,
    /// Mounted hugetlbfs file systems. EAL needs one, unless it runs with `--in-memory`.
    pub mounts: Vec<HugeMount>,
    /// Memory of the machine, bytes.
    pub memory_total: u64,
    /// Memory that could be had without swapping, bytes.
    pub memory_available: u64,
}

/// The huge pages of one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Memory that is not in use at all, bytes; 0 when unknown.
    pub memory_free: u64,
    /// One entry a page size, smallest first.
    pub pages: Vec<Pages>,
}

/// Huge pages of one size on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Size of a page, bytes.
    pub page_size: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages of those that nobody uses.
    pub free: u64,
}

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugeMount {
    /// Where.
    pub path: PathBuf,
    /// Size of its pages, bytes.
    pub page_size: u64,
}

impl Machine {
    /// Reads this machine. What cannot be read is taken for absent.
    pub fn read() -> Self {
        Self::read_from(Path::new("/"))
    }

    /// Reads the machine whose `sys` and `proc` are below `root`.
    pub fn read_from(root: &Path) -> Self {
        read::machine(root)
    }

    /// Free memory in huge pages of any size, on one node or on all, bytes.
    pub fn free_huge(&self, numa_node: Option<u32>) -> u64 {
        self.nodes_of(numa_node)
            .flat_map(|node| &node.pages)
            .map(Pages::bytes_free)
            .sum()
    }

    fn nodes_of(&self, numa_node: Option<u32>) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(move |node| numa_node.is_none_or(|wanted| wanted == node.id))
    }
}

impl Pages {
    fn bytes_free(&self) -> u64 {
        self.free.saturating_mul(self.page_size)
    }
}

/// A table with one line per node and page size.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "NUMA node   page size   reserved       free       in bytes"
        )?;
        for node in &self.nodes {
            for pages in &node.pages {
                writeln!(
                    f,
                    "{:>9}   {:>9}   {:>8}   {:>8}   {:>12}",
                    node.id,
                    ByteSize(pages.page_size).to_string(),
                    pages.total,
                    pages.free,
                    ByteSize(pages.bytes_free()).to_string(),
                )?;
            }
            if node.pages.is_empty() {
                writeln!(f, "{:>9}   none offered by this kernel", node.id)?;
            }
        }
        for mount in &self.mounts {
            let size = ByteSize(mount.page_size);
            writeln!(f, "hugetlbfs of {size} pages at {}", mount.path.display())?;
        }
        if self.mounts.is_empty() {
            writeln!(f, "no hugetlbfs is mounted")?;
        }
        let (available, total) = (ByteSize(self.memory_available), ByteSize(self.memory_total));
        write!(f, "memory: {available} of {total} available")
    }
}

/// Shows a number of bytes in the largest binary unit that leaves a number above 1: `2 MiB`, `1.5
/// GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ];
        match UNITS.iter().find(|&&(_, size)| self.0 >= size) {
            Some((unit, size)) if self.0.is_multiple_of(*size) => {
                write!(f, "{} {unit}", self.0 / size)
            }
            Some((unit, size)) => write!(f, "{:.1} {unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
