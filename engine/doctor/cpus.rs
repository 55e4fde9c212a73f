//! Processors: what they can do, how fast they run, who else is on a core.

use super::finding::Finding;
use super::memory::has_flag;
use super::subject::Subject;
use super::tree::{Tree, cpu_list, cpu_text};

const CPUS: &str = "/sys/devices/system/cpu";

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let mut findings = vec![hypervisor(tree), encryption(tree), clock(tree)];
    let cpus = match subject.lcores.is_empty() {
        true => cpu_list(&tree.text(&format!("{CPUS}/online")).unwrap_or_default()),
        false => subject.lcores.clone(),
    };
    findings.push(governor(tree, &cpus));
    findings.extend(turbo(tree));
    findings.push(siblings(tree, subject, &cpus));
    findings
}

fn hypervisor(tree: &Tree) -> Finding {
    const TOPIC: &str = "hypervisor";
    if !tree.has("/proc/cpuinfo") {
        return Finding::unknown(TOPIC, "/proc/cpuinfo is not there");
    }
    match has_flag(tree, "hypervisor") {
        true => {
            let vendor = tree.text("/sys/class/dmi/id/sys_vendor");
            let vendor = vendor.map_or(String::new(), |vendor| format!(" ({vendor})"));
            let seen = format!(
                "this is a virtual machine{vendor}: its CPUs are shared, and figures drift"
            );
            Finding::advice(
                TOPIC,
                seen,
                &["measure on bare metal, or have its CPUs pinned by the host"],
            )
        }
        false => Finding::ok(TOPIC, "none: the CPU does not say that it is a guest's"),
    }
}

fn encryption(tree: &Tree) -> Finding {
    const TOPIC: &str = "encryption";
    if !tree.has("/proc/cpuinfo") {
        return Finding::unknown(TOPIC, "/proc/cpuinfo is not there");
    }
    let wide = ["vaes", "vpclmulqdq", "avx512f"];
    let has: Vec<&str> = wide
        .into_iter()
        .filter(|flag| has_flag(tree, flag))
        .collect();
    // AArch64 has its own line of features.
    let features = tree.text("/proc/cpuinfo").unwrap_or_default();
    let arm = features
        .lines()
        .any(|line| line.starts_with("Features") && line.contains(" pmull"));
    if arm {
        return Finding::ok(TOPIC, "aes and pmull");
    }
    match has_flag(tree, "aes") && has_flag(tree, "pclmulqdq") {
        true if has.is_empty() => Finding::ok(TOPIC, "AES-NI and PCLMULQDQ, no vector AES"),
        true => Finding::ok(
            TOPIC,
            format!("AES-NI and PCLMULQDQ, and {}", has.join(", ")),
        ),
        false => Finding::advice(
            TOPIC,
            "no AES instructions: AES-GCM is computed in software, many times slower",
            &[
                "use another CPU, or have the hypervisor pass on `aes` and `pclmulqdq`; ChaCha20-Poly1305 suffers less",
            ],
        ),
    }
}

/// Each turn of a worker reads the clock.
fn clock(tree: &Tree) -> Finding {
    const TOPIC: &str = "clock";
    const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
    let current = match tree.text(&format!("{FOLDER}/current_clocksource")) {
        Ok(current) => current,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let steady = ["constant_tsc", "nonstop_tsc"]
        .iter()
        .all(|flag| has_flag(tree, flag));
    let seen = match steady {
        true => format!("{current}; the TSC has a constant rate"),
        false => format!("{current}; the CPU does not promise a TSC of constant rate"),
    };
    match current.as_str() {
        // Read by instructions, without a system call.
        "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => {
            Finding::ok(TOPIC, seen)
        }
        _ => {
            let available = tree.text(&format!("{FOLDER}/available_clocksource"));
            let usable =
                available.is_ok_and(|list| list.split_whitespace().any(|name| name == "tsc"));
            let change = match usable {
                true => format!("echo tsc | sudo tee {FOLDER}/current_clocksource"),
                false => {
                    "kernel argument: tsc=reliable, if the CPU's TSC can be trusted".to_owned()
                }
            };
            let seen = format!("{seen}: reading it is a system call, in every turn of an lcore");
            Finding::advice(TOPIC, seen, &[&change])
        }
    }
}

fn governor(tree: &Tree, cpus: &[u32]) -> Finding {
    const TOPIC: &str = "frequency governor";
    let read = |cpu: &u32| {
        let file = format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor");
        tree.text(&file).map(|governor| (*cpu, governor))
    };
    let governors: Result<Vec<(u32, String)>, String> = cpus.iter().map(read).collect();
    let governors = match governors {
        Ok(governors) => governors,
        Err(error) => {
            let why = format!(
                "{error}: no frequency scaling that the kernel could steer (usual in a guest)"
            );
            return Finding::unknown(TOPIC, why);
        }
    };
    let slow: Vec<u32> = governors
        .iter()
        .filter(|(_, governor)| governor != "performance")
        .map(|(cpu, _)| *cpu)
        .collect();
    let Some((_, first)) = governors.iter().find(|(cpu, _)| slow.contains(cpu)) else {
        return Finding::ok(TOPIC, format!("performance on CPUs {}", cpu_text(cpus)));
    };
    let list = cpu_text(&slow);
    let change = format!("sudo cpupower -c {list} frequency-set -g performance");
    Finding::advice(TOPIC, format!("{first} on CPUs {list}"), &[&change])
}

fn turbo(tree: &Tree) -> Option<Finding> {
    const TOPIC: &str = "turbo";
    const INTEL: &str = "/sys/devices/system/cpu/intel_pstate/no_turbo";
    const OTHERS: &str = "/sys/devices/system/cpu/cpufreq/boost";
    let (file, on, off) = match (tree.text(INTEL), tree.text(OTHERS)) {
        (Ok(no_turbo), _) => (INTEL, no_turbo == "0", "1"),
        (_, Ok(boost)) => (OTHERS, boost == "1", "0"),
        // Nothing that could be switched.
        _ => return None,
    };
    Some(match on {
        true => Finding::advice(
            TOPIC,
            "on: the frequency depends on how many cores work, and on heat",
            &[&format!(
                "for figures that repeat: echo {off} | sudo tee {file}"
            )],
        ),
        false => Finding::ok(TOPIC, "off"),
    })
}

fn siblings(tree: &Tree, subject: &Subject, cpus: &[u32]) -> Finding {
    const TOPIC: &str = "hyperthreads";
    let mut shared: Vec<(u32, Vec<u32>)> = Vec::new();
    for &cpu in cpus {
        match tree.text(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list")) {
            Ok(list) => {
                let others = cpu_list(&list).into_iter().filter(|&other| other != cpu);
                shared.push((cpu, others.collect()));
            }
            Err(error) => return Finding::unknown(TOPIC, error),
        }
    }
    shared.retain(|(_, others)| !others.is_empty());
    let Some((cpu, others)) = shared.first() else {
        return Finding::ok(TOPIC, "each CPU is a core of its own");
    };
    let both = shared
        .iter()
        .find(|(_, others)| others.iter().any(|other| subject.lcores.contains(other)));
    if let Some((cpu, others)) = both {
        let seen = format!(
            "lcores {cpu} and {} are one core, and slow each other down",
            cpu_text(others)
        );
        return Finding::advice(TOPIC, seen, &["give the shards lcores of different cores"]);
    }
    if subject.lcores.is_empty() {
        let seen = format!(
            "CPU {cpu} shares its core with {}, and others do",
            cpu_text(others)
        );
        return Finding::advice(
            TOPIC,
            seen,
            &["give shards one CPU of each core, and leave the other idle"],
        );
    }
    let idle: Vec<u32> = shared
        .iter()
        .flat_map(|(_, others)| others.clone())
        .collect();
    let change = format!(
        "for c in {}; do echo 0 | sudo tee {CPUS}/cpu$c/online; done",
        words(&idle)
    );
    let seen = format!(
        "CPUs {} share cores with lcores: what runs there slows them down",
        cpu_text(&idle)
    );
    Finding::advice(TOPIC, seen, &[&change])
}

fn words(cpus: &[u32]) -> String {
    cpus.iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}
