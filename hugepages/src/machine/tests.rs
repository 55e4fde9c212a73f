//! Against made-up `/sys` and `/proc` trees.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A machine with two nodes, 2 MiB and 1 GiB pages.
fn two_nodes() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let write = |path: String, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    };
    write(
        "proc/meminfo".into(),
        "MemTotal:  16777216 kB\nMemAvailable: 8388608 kB\nHugepagesize: 2048 kB\n",
    );
    write(
        "proc/mounts".into(),
        "proc /proc proc rw 0 0\n\
         hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n\
         nodev /mnt/huge1g hugetlbfs rw,pagesize=1024M 0 0\n\
         nodev /mnt/default hugetlbfs rw 0 0\n",
    );
    for (node, total, free) in [(0, 512, 100), (1, 0, 0)] {
        let base = format!("sys/devices/system/node/node{node}");
        write(
            format!("{base}/meminfo"),
            &format!("Node {node} MemFree:  4194304 kB\n"),
        );
        write(
            format!("{base}/hugepages/hugepages-2048kB/nr_hugepages"),
            &format!("{total}\n"),
        );
        write(
            format!("{base}/hugepages/hugepages-2048kB/free_hugepages"),
            &format!("{free}\n"),
        );
        write(
            format!("{base}/hugepages/hugepages-1048576kB/nr_hugepages"),
            "1\n",
        );
        write(
            format!("{base}/hugepages/hugepages-1048576kB/free_hugepages"),
            "0\n",
        );
    }
    root
}

#[test]
fn reads_nodes_pages_and_mounts() {
    let root = two_nodes();
    let machine = Machine::read_from(root.path());
    assert_eq!(machine.memory_total, 16 << 30);
    assert_eq!(machine.memory_available, 8 << 30);
    assert_eq!(machine.nodes.len(), 2);
    assert_eq!(
        machine.nodes[0],
        Node {
            id: 0,
            memory_free: 4 << 30,
            pages: vec![
                Pages {
                    page_size: 2 << 20,
                    total: 512,
                    free: 100
                },
                Pages {
                    page_size: 1 << 30,
                    total: 1,
                    free: 0
                },
            ],
        }
    );
    let sizes: Vec<u64> = machine.mounts.iter().map(|mount| mount.page_size).collect();
    assert_eq!(sizes, [2 << 20, 1 << 30, 2 << 20]);
    assert_eq!(machine.free_huge(Some(0)), 200 << 20);
    assert_eq!(machine.free_huge(Some(1)), 0);
    assert_eq!(machine.free_huge(None), 200 << 20);
}

#[test]
fn the_table_has_a_line_for_every_node_and_size() {
    let root = two_nodes();
    let table = Machine::read_from(root.path()).to_string();
    assert_eq!(
        table,
        "NUMA node   page size   reserved       free       in bytes\n\
         \x20       0       2 MiB        512        100        200 MiB\n\
         \x20       0       1 GiB          1          0            0 B\n\
         \x20       1       2 MiB          0          0            0 B\n\
         \x20       1       1 GiB          1          0            0 B\n\
         hugetlbfs of 2 MiB pages at /dev/hugepages\n\
         hugetlbfs of 1 GiB pages at /mnt/huge1g\n\
         hugetlbfs of 2 MiB pages at /mnt/default\n\
         memory: 8 GiB of 16 GiB available"
    );
}

#[test]
fn enough_memory_is_no_shortfall() {
    let root = two_nodes();
    let machine = Machine::read_from(root.path());
    assert_eq!(
        machine.shortfall(Need {
            numa_node: Some(0),
            bytes: 200 << 20
        }),
        None
    );
    assert_eq!(
        machine.shortfall(Need {
            numa_node: None,
            bytes: 1
        }),
        None
    );
}

#[test]
fn a_shortfall_names_node_pages_and_command() {
    let root = two_nodes();
    let machine = Machine::read_from(root.path());
    let shortfall = machine
        .shortfall(Need {
            numa_node: Some(0),
            bytes: (200 << 20) + 1,
        })
        .expect("one byte too much");
    assert_eq!(
        shortfall.to_string(),
        "NUMA node 0 has 200 MiB free in huge pages, 200.0 MiB are needed: reserve 1 more of \
         2 MiB with `echo 513 | sudo tee /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages`"
    );
    let shortfall = machine
        .shortfall(Need {
            numa_node: Some(1),
            bytes: 8 << 30,
        })
        .expect("node 1 has none");
    let Remedy::Reserve {
        pages_total,
        memory_is_short,
        ..
    } = shortfall.remedy
    else {
        panic!("{shortfall}");
    };
    assert_eq!((pages_total, memory_is_short), (4096, true));
    let elsewhere = machine.shortfall(Need {
        numa_node: Some(7),
        bytes: 1,
    });
    assert_eq!(
        elsewhere.map(|shortfall| shortfall.remedy),
        Some(Remedy::Unavailable)
    );
}

#[test]
fn pages_that_are_not_mounted_are_a_shortfall() {
    let root = two_nodes();
    fs::write(root.path().join("proc/mounts"), "proc /proc proc rw 0 0\n").expect("a file");
    let machine = Machine::read_from(root.path());
    let shortfall = machine
        .shortfall(Need {
            numa_node: Some(0),
            bytes: 1,
        })
        .expect("no mount");
    assert_eq!(shortfall.remedy, Remedy::Mount { page_size: 2 << 20 });
    assert!(
        shortfall
            .to_string()
            .contains("mount -t hugetlbfs -o pagesize=2048K")
    );
}

#[test]
fn a_machine_without_numa_or_huge_pages_is_read_too() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let empty = Machine::read_from(root.path());
    assert_eq!(empty.nodes, [Node::default()]);
    let shortfall = empty
        .shortfall(Need {
            numa_node: None,
            bytes: 1,
        })
        .expect("there is nothing");
    assert_eq!(shortfall.remedy, Remedy::Unavailable);
    assert!(shortfall.to_string().contains("--no-huge"));

    let pages = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
    fs::create_dir_all(&pages).expect("folders");
    fs::write(pages.join("nr_hugepages"), "8\n").expect("a file");
    fs::write(pages.join("free_hugepages"), "8\n").expect("a file");
    assert_eq!(Machine::read_from(root.path()).free_huge(None), 16 << 20);
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::read();
    assert!(machine.memory_total > 0);
    assert!(!machine.nodes.is_empty());
}
