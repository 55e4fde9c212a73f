//! What is missing, and how to get it.

use std::fmt;

use super::{ByteSize, Machine};

/// Memory a run needs in huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// On which node; `None` for anywhere.
    pub numa_node: Option<u32>,
    /// How much, bytes.
    pub bytes: u64,
}

/// Why a [`Need`] cannot be met. Its display says what is missing and gives the command that mends
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// What was needed.
    pub need: Need,
    /// What there is of it in free huge pages, bytes.
    pub free: u64,
    /// How to mend it.
    pub remedy: Remedy,
}

/// What has to be done about a [`Shortfall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Write `pages_total` to `path`.
    Reserve {
        /// Size of the pages, bytes.
        page_size: u64,
        /// How many more are needed.
        pages_missing: u64,
        /// How many there have to be.
        pages_total: u64,
        /// The file that sets their number.
        path: String,
        /// The kernel may not find that much memory.
        memory_is_short: bool,
    },
    /// Mount a hugetlbfs with pages of this size, bytes: the memory is there, but EAL cannot map
    /// it.
    Mount {
        /// Size of the pages, bytes.
        page_size: u64,
    },
    /// The machine has no such node, or the kernel no huge pages.
    Unavailable,
}

impl Machine {
    /// What is missing for `need`; `None` when it can be met.
    pub fn shortfall(&self, need: Need) -> Option<Shortfall> {
        let free = self.free_huge(need.numa_node);
        let shortfall = |remedy| Some(Shortfall { need, free, remedy });
        // The smallest page size that the node has: the finest steps, and it can be reserved at run
        // time.
        let Some((node, pages)) = self
            .nodes_of(need.numa_node)
            .filter_map(|node| Some((node, *node.pages.first()?)))
            .max_by_key(|(node, _)| node.memory_free)
        else {
            return shortfall(Remedy::Unavailable);
        };
        if free >= need.bytes {
            let largest = node.pages.iter().rev().find(|pages| pages.free > 0);
            let page_size = largest.map_or(pages.page_size, |pages| pages.page_size);
            return match self.mounts.is_empty() && need.bytes > 0 {
                true => shortfall(Remedy::Mount { page_size }),
                false => None,
            };
        }
        let pages_missing = (need.bytes - free).div_ceil(pages.page_size);
        let folder = format!("hugepages-{}kB", pages.page_size >> 10);
        shortfall(Remedy::Reserve {
            page_size: pages.page_size,
            pages_missing,
            pages_total: pages.total + pages_missing,
            path: match self.nodes.len() {
                1 => format!("/sys/kernel/mm/hugepages/{folder}/nr_hugepages"),
                _ => format!(
                    "/sys/devices/system/node/node{}/hugepages/{folder}/nr_hugepages",
                    node.id
                ),
            },
            memory_is_short: node.memory_free < pages_missing.saturating_mul(pages.page_size),
        })
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.need.numa_node {
            Some(node) => write!(f, "NUMA node {node} has ")?,
            None => write!(f, "the machine has ")?,
        }
        let (free, needed) = (ByteSize(self.free), ByteSize(self.need.bytes));
        write!(
            f,
            "{free} free in huge pages, {needed} are needed: {}",
            self.remedy
        )
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve {
                page_size,
                pages_missing,
                pages_total,
                path,
                memory_is_short,
            } => {
                write!(
                    f,
                    "reserve {pages_missing} more of {} with `echo {pages_total} | sudo tee {path}`",
                    ByteSize(*page_size)
                )?;
                if *memory_is_short {
                    write!(
                        f,
                        " (little memory is free there: stop other programs first, or reserve \
                         at boot with hugepages={pages_total} on the kernel command line)"
                    )?;
                }
                Ok(())
            }
            Self::Mount { page_size } => write!(
                f,
                "they are there but not mounted: `sudo mkdir -p /dev/hugepages && sudo mount -t \
                 hugetlbfs -o pagesize={}K nodev /dev/hugepages`, or run with --in-memory",
                page_size >> 10
            ),
            Self::Unavailable => write!(
                f,
                "this machine offers none there; run with --no-huge, which is slower, or name \
                 another node"
            ),
        }
    }
}
