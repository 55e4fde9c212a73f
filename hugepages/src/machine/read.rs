//! Reads `/sys` and `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{HugeMount, Machine, Node, Pages};

/// The machine whose `sys` and `proc` are below `root`.
pub(super) fn machine(root: &Path) -> Machine {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let mounts = fs::read_to_string(root.join("proc/mounts")).unwrap_or_default();
    let default_page_size = meminfo_bytes(&meminfo, "Hugepagesize").unwrap_or(0);
    Machine {
        nodes: nodes(root),
        mounts: huge_mounts(&mounts, default_page_size),
        memory_total: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
        memory_available: meminfo_bytes(&meminfo, "MemAvailable").unwrap_or(0),
    }
}

fn nodes(root: &Path) -> Vec<Node> {
    let mut nodes: Vec<Node> = entries(&root.join("sys/devices/system/node"))
        .into_iter()
        .filter_map(|(name, path)| {
            let id = name.strip_prefix("node")?.parse().ok()?;
            let meminfo = fs::read_to_string(path.join("meminfo")).unwrap_or_default();
            let memory_free = meminfo_bytes(&meminfo, "MemFree").unwrap_or(0);
            Some(Node {
                id,
                memory_free,
                pages: pages(&path.join("hugepages")),
            })
        })
        .collect();
    if nodes.is_empty() {
        // A kernel without NUMA: its pages are those of the machine.
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let memory_free = meminfo_bytes(&meminfo, "MemFree").unwrap_or(0);
        let pages = pages(&root.join("sys/kernel/mm/hugepages"));
        nodes.push(Node {
            id: 0,
            memory_free,
            pages,
        });
    }
    nodes.sort_unstable_by_key(|node| node.id);
    nodes
}

fn pages(folder: &Path) -> Vec<Pages> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
    let mut pages: Vec<Pages> = entries(folder)
        .into_iter()
        .filter_map(|(name, path)| {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            Some(Pages {
                page_size: kib.checked_mul(1024)?,
                total: number(path.join("nr_hugepages"))?,
                free: number(path.join("free_hugepages"))?,
            })
        })
        .collect();
    pages.sort_unstable_by_key(|pages| pages.page_size);
    pages
}

/// Names and paths of what a folder contains; nothing when it cannot be read.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect()
}

/// A value of `/proc/meminfo` or of a node's, whose lines start with `Node 0 `, in bytes.
fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (label, value) = line.split_once(':')?;
        if label.split_whitespace().last()? != key {
            return None;
        }
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    })
}

/// Lines such as `hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0`.
fn huge_mounts(text: &str, default_page_size: u64) -> Vec<HugeMount> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (_, path, kind, options) = (
                fields.next()?,
                fields.next()?,
                fields.next()?,
                fields.next()?,
            );
            if kind != "hugetlbfs" {
                return None;
            }
            let page_size = options
                .split(',')
                .find_map(|option| option.strip_prefix("pagesize="))
                .and_then(page_size)
                .unwrap_or(default_page_size);
            Some(HugeMount {
                path: PathBuf::from(path),
                page_size,
            })
        })
        .collect()
}

/// `2M` or `1024M` or `1G`, in bytes.
fn page_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.chars().next() {
        None => 0,
        Some('K' | 'k') => 10,
        Some('M' | 'm') => 20,
        Some('G' | 'g') => 30,
        Some(_) => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
