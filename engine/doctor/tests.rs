//! Against made-up machines, and this one.

use std::os::unix::fs::symlink;

use hugepages::machine::Need;
use tempfile::TempDir;

use super::*;

/// A machine in a folder.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        symlink(target, path).expect("a link");
        self
    }

    fn examine(&self, subject: &Subject) -> Diagnosis {
        examine(&Tree::new(self.0.path()), subject, "DPDK 22.11")
    }

    /// A server with two nodes of four CPUs, an E810 on node 1, made ready for lcores 5 to 7.
    fn server() -> Self {
        let made = Self::new();
        made.file(
            "proc/cmdline",
            "quiet intel_iommu=on iommu=pt isolcpus=managed_irq,domain,5-7 nohz_full=5-7",
        )
        .file(
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu pdpe1gb aes pclmulqdq vaes constant_tsc nonstop_tsc\n",
        )
        .file(
            "proc/meminfo",
            "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\nHugepagesize: 1048576 kB\n",
        )
        .file(
            "proc/mounts",
            "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=1024M 0 0\n",
        )
        .file("proc/swaps", "Filename Type Size Used Priority\n")
        .file(
            "proc/self/status",
            "Name:\tengine\nCapEff:\t000001ffffffffff\n",
        )
        .file(
            "proc/self/limits",
            "Max locked memory         8388608              8388608              bytes\n",
        )
        .file(
            "proc/interrupts",
            "      CPU0 CPU5 CPU6\n 30:   9  0  0  PCI-MSI 1-edge  nvme0q1\nLOC:   9   9 9 timer\n",
        )
        .file(
            "proc/net/route",
            "Iface\tDestination\tGateway\neno1\t00000000\t0101A8C0\n",
        )
        .file("proc/sys/kernel/numa_balancing", "0\n")
        .file(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        )
        .file(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        )
        .file("sys/devices/system/cpu/online", "0-7\n")
        .file("sys/devices/system/cpu/isolated", "5-7\n")
        .file("sys/devices/system/cpu/nohz_full", "5-7\n")
        .file("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n")
        .file("sys/kernel/iommu_groups/7/devices/0000:3b:00.0", "")
        .file("sys/bus/pci/drivers/vfio-pci/bind", "")
        .file(
            "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_ice.so.23",
            "",
        );
        for cpu in 0..8 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            made.file(
                &format!("{folder}/cpufreq/scaling_governor"),
                "performance\n",
            );
            made.file(
                &format!("{folder}/topology/thread_siblings_list"),
                &format!("{cpu}\n"),
            );
        }
        for (node, cpus) in [(0, "0-3"), (1, "4-7")] {
            let folder = format!("sys/devices/system/node/node{node}");
            made.file(&format!("{folder}/cpulist"), cpus);
            made.file(
                &format!("{folder}/meminfo"),
                &format!("Node {node} MemFree: 30000000 kB\n"),
            );
            let pages = format!("{folder}/hugepages/hugepages-1048576kB");
            made.file(&format!("{pages}/nr_hugepages"), "4");
            made.file(&format!("{pages}/free_hugepages"), "4");
        }
        let card = "sys/bus/pci/devices/0000:3b:00.0";
        made.file(&format!("{card}/class"), "0x020000\n")
            .file(&format!("{card}/numa_node"), "1\n")
            .file(&format!("{card}/current_link_speed"), "16.0 GT/s PCIe\n")
            .file(&format!("{card}/max_link_speed"), "16.0 GT/s PCIe\n")
            .file(&format!("{card}/current_link_width"), "16\n")
            .file(&format!("{card}/max_link_width"), "16\n")
            .link(
                &format!("{card}/driver"),
                "../../../bus/pci/drivers/vfio-pci",
            )
            .link(
                &format!("{card}/iommu_group"),
                "../../../kernel/iommu_groups/7",
            );
        made
    }

    /// The card is bound to another driver.
    fn bound_to(&self, driver: &str) -> &Self {
        let link = "sys/bus/pci/devices/0000:3b:00.0/driver";
        std::fs::remove_file(self.0.path().join(link)).expect("a link");
        self.link(link, &format!("../../../bus/pci/drivers/{driver}"))
    }
}

fn subject() -> Subject {
    Subject {
        planned: true,
        lcores: vec![5, 6],
        cards: vec![Card {
            address: "0000:3b:00.0".to_owned(),
            mtu: Some(1500),
            pool: 2 << 30,
        }],
        huge: Some(Need {
            numa_node: None,
            bytes: 3 << 30,
        }),
        ..Subject::default()
    }
}

/// The findings about `topic` of one verdict, as texts.
fn texts(diagnosis: &Diagnosis, topic: &str, verdict: Verdict) -> Vec<String> {
    let findings = diagnosis.findings.iter();
    let found = findings.filter(|finding| finding.topic == topic && finding.verdict == verdict);
    found
        .map(|finding| format!("{} -> {}", finding.seen, finding.change.join("; ")))
        .collect()
}

fn assert_finding(diagnosis: &Diagnosis, topic: &str, verdict: Verdict, words: &[&str]) {
    let texts = texts(diagnosis, topic, verdict);
    let found = texts
        .iter()
        .any(|text| words.iter().all(|word| text.contains(word)));
    assert!(
        found,
        "no {verdict:?} of {topic} with {words:?} in\n{diagnosis}"
    );
}

#[test]
fn a_server_that_is_ready_has_nothing_to_change() {
    let diagnosis = Made::server().examine(&subject());
    let rest: Vec<_> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Ok)
        .collect();
    // The link of a card that vfio has is its driver's alone to see.
    let topics: Vec<_> = rest.iter().map(|finding| finding.topic).collect();
    assert_eq!(topics, ["link"], "{diagnosis}");
    assert_eq!(
        (diagnosis.problems, diagnosis.advice, diagnosis.unknown),
        (0, 0, 1)
    );
    let mut jumbo = subject();
    jumbo.cards[0].mtu = Some(9000);
    let diagnosis = Made::server().examine(&jumbo);
    assert_finding(
        &diagnosis,
        "MTU",
        Verdict::Unknown,
        &["9000", "engine ports"],
    );
}

#[test]
fn pages_that_are_missing_are_counted() {
    let made = Made::server();
    let more = Subject {
        huge: Some(Need {
            numa_node: None,
            bytes: 10 << 30,
        }),
        ..subject()
    };
    assert_finding(
        &made.examine(&more),
        "huge pages",
        Verdict::Problem,
        &["10 GiB are needed", "reserve 2 more of 1 GiB"],
    );
    made.file("proc/mounts", "");
    assert_finding(
        &made.examine(&subject()),
        "hugetlbfs",
        Verdict::Problem,
        &["sudo mount -t hugetlbfs"],
    );
    let in_memory = Subject {
        in_memory: true,
        ..subject()
    };
    assert!(texts(&made.examine(&in_memory), "hugetlbfs", Verdict::Problem).is_empty());
}

#[test]
fn pages_are_needed_on_the_node_of_the_card() {
    let made = Made::server();
    let free = "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages";
    made.file(free, "1");
    let diagnosis = made.examine(&subject());
    let words = [
        "NUMA node 1 has 1 GiB free",
        "2 GiB are needed",
        "node1/hugepages",
    ];
    assert_finding(&diagnosis, "huge pages", Verdict::Problem, &words);
    made.file(free, "2");
    assert_eq!(made.examine(&subject()).problems, 0);
}

#[test]
fn a_card_of_the_kernel_is_to_be_bound() {
    let made = Made::server();
    made.bound_to("ice");
    made.file("sys/bus/pci/devices/0000:3b:00.0/net/ens1/operstate", "up");
    let bind = "dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0";
    assert_finding(
        &made.examine(&subject()),
        "driver binding",
        Verdict::Problem,
        &["bound to ice", bind],
    );
    // Without a configuration nobody has asked for it.
    let machine = Subject::of_machine(&Tree::new(made.0.path()));
    assert_finding(
        &made.examine(&machine),
        "driver binding",
        Verdict::Advice,
        &[bind],
    );
}

#[test]
fn an_e810_needs_its_package() {
    let made = Made::server();
    made.file("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x8086")
        .file("sys/bus/pci/devices/0000:3b:00.0/device", "0x1592");
    let words = ["0000:3b:00.0 is an E810", "linux-firmware"];
    assert_finding(
        &made.examine(&subject()),
        "DDP package",
        Verdict::Problem,
        &words,
    );
    made.file("lib/firmware/intel/ice/ddp/ice.pkg.xz", "");
    assert_eq!(made.examine(&subject()).problems, 0);
}

#[test]
fn the_way_to_the_machine_is_not_cut_off() {
    let made = Made::server();
    made.bound_to("ice");
    made.file("sys/bus/pci/devices/0000:3b:00.0/net/eno1/operstate", "up");
    let diagnosis = made.examine(&subject());
    assert_finding(
        &diagnosis,
        "driver binding",
        Verdict::Problem,
        &["eno1", "cuts the machine off"],
    );
    assert!(
        !diagnosis.to_string().contains("dpdk-devbind"),
        "{diagnosis}"
    );
    let machine = Subject::of_machine(&Tree::new(made.0.path()));
    assert_finding(
        &made.examine(&machine),
        "driver binding",
        Verdict::Ok,
        &["leave it there"],
    );
}

#[test]
fn a_bifurcated_card_stays_where_it_is() {
    let made = Made::server();
    made.bound_to("mlx5_core");
    assert_finding(
        &made.examine(&subject()),
        "driver binding",
        Verdict::Problem,
        &["ib_uverbs", "rdma-core"],
    );
    assert_finding(
        &made.examine(&subject()),
        "DPDK drivers",
        Verdict::Problem,
        &["net_mlx5", "librte-net-mlx5*"],
    );
    made.file(
        "sys/bus/pci/devices/0000:3b:00.0/infiniband_verbs/uverbs0/dev",
        "",
    )
    .file(
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_mlx5.so.23",
        "",
    );
    let diagnosis = made.examine(&subject());
    assert_eq!(diagnosis.problems, 0, "{diagnosis}");
    assert_finding(&diagnosis, "IOMMU", Verdict::Ok, &["not needed"]);
}

#[test]
fn without_an_iommu_vfio_takes_no_card() {
    let made = Made::server();
    let groups = made.0.path().join("sys/kernel/iommu_groups");
    std::fs::remove_dir_all(&groups).expect("groups");
    std::fs::remove_dir_all(made.0.path().join("sys/bus/pci/drivers/vfio-pci")).expect("a driver");
    let diagnosis = made.examine(&subject());
    assert_finding(
        &diagnosis,
        "IOMMU",
        Verdict::Problem,
        &["intel_iommu=on", "noiommu"],
    );
    assert_finding(&diagnosis, "vfio", Verdict::Problem, &["modprobe vfio-pci"]);
    made.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    assert_finding(
        &made.examine(&subject()),
        "IOMMU",
        Verdict::Advice,
        &["no-IOMMU mode"],
    );
}

#[test]
fn a_card_on_uio_needs_no_iommu_and_none_in_its_way() {
    for driver in ["igb_uio", "uio_pci_generic"] {
        let made = Made::server();
        made.bound_to(driver);
        let diagnosis = made.examine(&subject());
        assert_eq!(diagnosis.problems, 0, "{diagnosis}");
        assert_finding(&diagnosis, "IOMMU", Verdict::Ok, &["which needs none"]);
        let kind = "sys/kernel/iommu_groups/7/type";
        made.file(kind, "DMA-FQ\n");
        let words = ["translates (DMA-FQ)", "--bind=vfio-pci 0000:3b:00.0"];
        let diagnosis = made.examine(&subject());
        assert_finding(&diagnosis, "IOMMU", Verdict::Problem, &words);
        made.file(kind, "identity\n");
        assert_eq!(made.examine(&subject()).problems, 0);
        // The machine of most who use it: no IOMMU, no vfio, and nothing that is pinned.
        for folder in ["sys/kernel/iommu_groups", "sys/bus/pci/drivers/vfio-pci"] {
            std::fs::remove_dir_all(made.0.path().join(folder)).expect("a folder");
        }
        made.file("proc/self/status", "CapEff:\t0000000000200000\n");
        let diagnosis = made.examine(&subject());
        assert_eq!(diagnosis.problems, 0, "{diagnosis}");
    }
}

#[test]
fn cards_that_nobody_planned_are_no_problem() {
    let made = Made::server();
    made.file("proc/self/status", "CapEff:\t0000000000000000\n")
        .file("sys/kernel/iommu_groups/7/devices/0000:3b:00.1", "")
        .link(
            "sys/bus/pci/devices/0000:3b:00.1/driver",
            "../../../bus/pci/drivers/ice",
        );
    for driver in ["vfio-pci", "mlx5_core", "igb_uio", "ice"] {
        made.bound_to(driver);
        let machine = Subject::of_machine(&Tree::new(made.0.path()));
        assert_eq!(machine.cards.len(), 1);
        let diagnosis = made.examine(&machine);
        assert_eq!(diagnosis.problems, 0, "{driver}:\n{diagnosis}");
        let planned = made.examine(&subject());
        assert!(planned.problems > 0, "{driver}:\n{planned}");
    }
}

#[test]
fn a_group_is_taken_as_a_whole() {
    let made = Made::server();
    made.file("sys/kernel/iommu_groups/7/devices/0000:3b:00.1", "")
        .link(
            "sys/bus/pci/devices/0000:3b:00.1/driver",
            "../../../bus/pci/drivers/ice",
        );
    assert_finding(
        &made.examine(&subject()),
        "IOMMU group",
        Verdict::Problem,
        &["0000:3b:00.1 (ice)"],
    );
}

#[test]
fn lcores_that_are_far_from_the_card_or_share_a_core() {
    let made = Made::server();
    let far = Subject {
        lcores: vec![2, 5],
        ..subject()
    };
    let diagnosis = made.examine(&far);
    assert_finding(
        &diagnosis,
        "NUMA node",
        Verdict::Advice,
        &["lcores 2 are not", "4-7"],
    );
    assert_finding(
        &diagnosis,
        "isolation",
        Verdict::Advice,
        &[
            "lcores 2 are not",
            "isolcpus=managed_irq,domain,2,5",
            "irqaffinity=0-1,3-4,6-7",
        ],
    );
    made.file(
        "sys/devices/system/cpu/cpu5/topology/thread_siblings_list",
        "5-6",
    );
    assert_finding(
        &made.examine(&subject()),
        "hyperthreads",
        Verdict::Advice,
        &["lcores 5 and 6 are one core"],
    );
    made.file(
        "sys/devices/system/cpu/cpu5/topology/thread_siblings_list",
        "5,7",
    );
    assert_finding(
        &made.examine(&subject()),
        "hyperthreads",
        Verdict::Advice,
        &["CPUs 7 share cores", "cpu$c/online"],
    );
}

#[test]
fn lcores_that_are_not_there_or_not_permitted_are_a_problem() {
    let made = Made::server();
    let far = Subject {
        lcores: vec![7, 8],
        ..subject()
    };
    let problem = |subject: &Subject, words: &[&str]| {
        let diagnosis = made.examine(subject);
        assert_finding(&diagnosis, "CPUs of lcores", Verdict::Problem, words);
    };
    problem(&far, &["8 are not online", "0-7"]);
    made.file("proc/self/cgroup", "0::/system.slice/engine.service\n");
    let v2 = "sys/fs/cgroup/system.slice/engine.service/cpuset.cpus.effective";
    made.file(v2, "0-5\n");
    problem(&subject(), &["6 are not in the cpuset", "0-5"]);
    made.file("proc/self/cgroup", "4:cpuset,cpu:/\n1:name=systemd:/\n");
    made.file("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-4\n");
    problem(&subject(), &["5-6 are not in the cpuset", "0-4"]);
}

#[test]
fn a_user_may_lock_too_little_for_vfio() {
    let made = Made::server();
    made.file("proc/self/status", "CapEff:\t0000000000000000\n");
    let words = ["8 MiB", "LimitMEMLOCK"];
    assert_finding(
        &made.examine(&subject()),
        "locked memory",
        Verdict::Problem,
        &words,
    );
}

#[test]
fn what_slows_lcores_down() {
    let made = Made::server();
    made.file(
        "sys/devices/system/cpu/cpu6/cpufreq/scaling_governor",
        "powersave",
    )
    .file("sys/devices/system/cpu/intel_pstate/no_turbo", "0")
    .file(
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet",
    )
    .file(
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet",
    )
    .file(
        "proc/interrupts",
        "      CPU0 CPU5 CPU6\n 30:   9  7  0  PCI-MSI 1-edge  nvme0q1\n",
    )
    .file("proc/irq/30/smp_affinity_list", "0-7")
    .file("proc/812/comm", "irqbalance\n")
    .file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/sda2 partition 999 0 -2\n",
    )
    .file(
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
    )
    .file("sys/bus/pci/devices/0000:3b:00.0/current_link_width", "4");
    let diagnosis = made.examine(&subject());
    let advice = |topic, words: &[&str]| assert_finding(&diagnosis, topic, Verdict::Advice, words);
    advice(
        "frequency governor",
        &["powersave on CPUs 6", "cpupower -c 6"],
    );
    advice(
        "turbo",
        &["echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"],
    );
    advice("clock", &["hpet", "echo tsc"]);
    advice("interrupts", &["nvme0q1", "for i in 30; do echo 0-4,7"]);
    advice("irqbalance", &["systemctl disable"]);
    advice("swap", &["/dev/sda2", "swapoff"]);
    advice("transparent huge pages", &["echo madvise"]);
    advice("PCIe link", &["x4 at 16.0 GT/s PCIe, of x16"]);
    assert_eq!(diagnosis.problems, 0, "{diagnosis}");
}

#[test]
fn interfaces_under_virtual_devices() {
    let made = Made::server();
    made.file("sys/class/net/veth0/operstate", "up")
        .file("sys/class/net/veth0/carrier", "1")
        .file("sys/class/net/veth0/mtu", "1500")
        .file("sys/class/net/veth0/speed", "10000");
    let on = |name: &str, mtu| Subject {
        cards: Vec::new(),
        huge: None,
        interfaces: vec![Interface {
            name: name.to_owned(),
            mtu,
        }],
        vdevs: vec!["net_af_packet".to_owned()],
        ..subject()
    };
    let diagnosis = made.examine(&on("veth0", 9000));
    assert_finding(
        &diagnosis,
        "link",
        Verdict::Ok,
        &["veth0 is up, 10000 Mbit/s"],
    );
    assert_finding(
        &diagnosis,
        "MTU",
        Verdict::Problem,
        &["1500", "ip link set dev veth0 mtu 9000"],
    );
    assert_finding(
        &diagnosis,
        "DPDK drivers",
        Verdict::Problem,
        &["net_af_packet", "librte-net-af-packet*"],
    );
    assert_finding(
        &made.examine(&on("veth7", 1500)),
        "link",
        Verdict::Problem,
        &["no interface veth7"],
    );
    // /sys may be that of another network namespace.
    made.file("proc/net/dev", "Inter-| Receive\n veth7: 0 0 0\n");
    assert_finding(
        &made.examine(&on("veth7", 1500)),
        "link",
        Verdict::Unknown,
        &["another network namespace"],
    );
    made.file("sys/class/net/veth0/carrier", "0");
    assert_finding(
        &made.examine(&on("veth0", 1500)),
        "link",
        Verdict::Problem,
        &["no carrier"],
    );
    made.file("proc/self/status", "CapEff:\t0000000000000000\n");
    assert_finding(
        &made.examine(&on("veth0", 1500)),
        "permissions",
        Verdict::Problem,
        &["setcap cap_net_raw+ep"],
    );
}

#[test]
fn with_an_lcore_on_every_cpu_one_is_to_be_left() {
    let made = Made::server();
    made.file("sys/devices/system/cpu/online", "5-6");
    made.file("sys/devices/system/cpu/isolated", "");
    let diagnosis = made.examine(&subject());
    for topic in ["CPUs for the rest", "isolation"] {
        assert_finding(&diagnosis, topic, Verdict::Advice, &["leave"]);
    }
    // To isolate all CPUs is no advice.
    assert!(!diagnosis.to_string().contains("isolcpus"), "{diagnosis}");
}

#[test]
fn tap_needs_its_driver() {
    let made = Made::server();
    let tap = Subject {
        vdevs: vec!["net_tap".to_owned()],
        ..subject()
    };
    assert_finding(
        &made.examine(&tap),
        "TAP",
        Verdict::Problem,
        &["modprobe tun"],
    );
    made.file("dev/net/tun", "");
    assert!(texts(&made.examine(&tap), "TAP", Verdict::Problem).is_empty());
}

#[test]
fn a_machine_that_shows_nothing_is_unknown_not_well() {
    let diagnosis = Made::new().examine(&subject());
    for topic in [
        "clock",
        "frequency governor",
        "hyperthreads",
        "isolation",
        "permissions",
        "swap",
    ] {
        assert_finding(&diagnosis, topic, Verdict::Unknown, &["is not there"]);
    }
    assert_finding(
        &diagnosis,
        "network card",
        Verdict::Problem,
        &["0000:3b:00.0 is not there"],
    );
    assert_finding(
        &diagnosis,
        "huge pages",
        Verdict::Problem,
        &["3 GiB are needed"],
    );
}

#[test]
fn this_machine_is_looked_at() {
    let tree = Tree::new("/");
    let diagnosis = examine(&tree, &Subject::of_machine(&tree), &poll::dpdk_version());
    let text = diagnosis.to_string();
    for topic in [
        "huge pages",
        "clock",
        "hyperthreads",
        "isolation",
        "IOMMU",
        "DPDK",
        "permissions",
    ] {
        assert!(
            diagnosis
                .findings
                .iter()
                .any(|finding| finding.topic == topic),
            "no {topic} in\n{text}"
        );
    }
    // What can be counted in another way.
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let online = tree::cpu_list(&tree.text("/sys/devices/system/cpu/online").expect("CPUs")).len();
    assert!(online >= cpus, "{online} {cpus}");
    let problems = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Problem);
    assert_eq!(problems.count(), diagnosis.problems);
}
