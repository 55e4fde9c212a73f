//! Who else gets the CPUs of lcores: the scheduler, its tick, interrupts.

use super::finding::Finding;
use super::subject::Subject;
use super::tree::{Tree, cpu_list, cpu_text};

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const NOHZ_FULL: &str = "/sys/devices/system/cpu/nohz_full";

pub(super) fn findings(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    if subject.lcores.is_empty() {
        findings.push(isolated_cpus(tree));
    } else {
        findings.push(permitted(tree, &subject.lcores));
        findings.push(one_left(tree, &subject.lcores));
        findings.push(isolated(tree, &subject.lcores));
        findings.push(tick(tree, &subject.lcores));
        findings.push(interrupts(tree, &subject.lcores));
    }
    findings.push(irqbalance(tree));
    findings
}

/// Without a configuration: what there is.
fn isolated_cpus(tree: &Tree) -> Finding {
    const TOPIC: &str = "isolation";
    match tree.text(ISOLATED) {
        Ok(list) if list.is_empty() => Finding::advice(
            TOPIC,
            "no CPU is isolated: the scheduler may put anything on an lcore's",
            &["`engine doctor --config FILE` gives the kernel arguments for its lcores"],
        ),
        Ok(list) => Finding::ok(TOPIC, format!("CPUs {list} are isolated")),
        Err(error) => Finding::unknown(TOPIC, error),
    }
}

fn permitted(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "CPUs of lcores";
    let status = match tree.text("/proc/self/status") {
        Ok(status) => status,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = cpu_list(line.unwrap_or_default());
    let missing: Vec<u32> = lcores
        .iter()
        .copied()
        .filter(|cpu| !allowed.contains(cpu))
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            TOPIC,
            format!("{}, all permitted to this process", cpu_text(lcores)),
        );
    }
    let seen = format!(
        "{} are not among those this process may use ({})",
        cpu_text(&missing),
        cpu_text(&allowed)
    );
    Finding::problem(
        TOPIC,
        seen,
        &[
            "change the shards' `lcore`, or the cpuset (taskset, cgroup, AllowedCPUs= of systemd) the engine is started in",
        ],
    )
}

/// The control thread, couriers and the kernel need a place.
fn one_left(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "CPUs for the rest";
    let online = match tree.text("/sys/devices/system/cpu/online") {
        Ok(list) => cpu_list(&list),
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let free: Vec<u32> = online
        .iter()
        .copied()
        .filter(|cpu| !lcores.contains(cpu))
        .collect();
    match free.is_empty() {
        true => Finding::advice(
            TOPIC,
            "every CPU is an lcore: the control thread and the kernel take theirs from them",
            &["leave one CPU without a shard, best CPU 0, which the kernel uses most"],
        ),
        false => Finding::ok(TOPIC, format!("{} have no lcore", cpu_text(&free))),
    }
}

fn isolated(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "isolation";
    let list = match tree.text(ISOLATED) {
        Ok(list) => cpu_list(&list),
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let missing = without(lcores, &list);
    if missing.is_empty() {
        return Finding::ok(TOPIC, format!("lcores {} are isolated", cpu_text(lcores)));
    }
    let (all, rest) = (cpu_text(lcores), rest(tree, lcores));
    let mut change = vec![format!(
        "kernel arguments: isolcpus=managed_irq,domain,{all} nohz_full={all} rcu_nocbs={all}{}",
        rest.map_or(String::new(), |rest| format!(" irqaffinity={rest}"))
    )];
    change.push(format!(
        "or, without a reboot, a cpuset of their own: sudo systemd-run --slice=stoq.slice -p AllowedCPUs={all} …, with \
         AllowedCPUs= of system.slice and user.slice set to the others"
    ));
    let change: Vec<&str> = change.iter().map(String::as_str).collect();
    let seen = format!(
        "lcores {} are not: other tasks may run there",
        cpu_text(&missing)
    );
    Finding::advice(TOPIC, seen, &change)
}

fn tick(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "timer tick";
    let all = cpu_text(lcores);
    let change = format!("kernel arguments: nohz_full={all} rcu_nocbs={all}");
    let list = match tree.text(NOHZ_FULL) {
        Ok(list) => cpu_list(&list),
        Err(_) => {
            let change = format!("a kernel with CONFIG_NO_HZ_FULL, and then the {change}");
            let seen = format!("{NOHZ_FULL} is not there: this kernel ticks on every CPU");
            return Finding::advice(TOPIC, seen, &[&change]);
        }
    };
    let missing = without(lcores, &list);
    match missing.is_empty() {
        true => Finding::ok(TOPIC, format!("off on lcores {all}")),
        false => Finding::advice(
            TOPIC,
            format!("on, on lcores {}", cpu_text(&missing)),
            &[&change],
        ),
    }
}

/// Interrupts of devices that came to lcores' CPUs since the machine started, and still go there.
fn interrupts(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "interrupts";
    let text = match tree.text("/proc/interrupts") {
        Ok(text) => text,
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let found: Vec<(u32, String)> = interrupts_on(&text, lcores)
        .into_iter()
        .filter(|(number, _)| {
            let file = format!("/proc/irq/{number}/effective_affinity_list");
            let list = tree
                .text(&file)
                .or_else(|_| tree.text(&format!("/proc/irq/{number}/smp_affinity_list")));
            // Where it goes is not to be seen: it did come here.
            list.map_or(true, |list| {
                cpu_list(&list).iter().any(|cpu| lcores.contains(cpu))
            })
        })
        .collect();
    if found.is_empty() {
        return Finding::ok(
            TOPIC,
            format!("no device interrupts lcores {}", cpu_text(lcores)),
        );
    }
    let names: Vec<&str> = found
        .iter()
        .take(4)
        .map(|(_, name)| name.as_str())
        .collect();
    let more = match found.len() {
        0..=4 => String::new(),
        count => format!(" and {} more", count - 4),
    };
    let seen = format!("{}{more} interrupt lcores", names.join(", "));
    let change = match rest(tree, lcores) {
        Some(rest) => {
            let numbers: Vec<String> = found.iter().map(|(number, _)| number.to_string()).collect();
            format!(
                "for i in {}; do echo {rest} | sudo tee /proc/irq/$i/smp_affinity_list; done",
                numbers.join(" ")
            )
        }
        None => "leave a CPU without an lcore, and send them there".to_owned(),
    };
    Finding::advice(TOPIC, seen, &[&change])
}

/// Numbers and names of device interrupts that were counted on any of `cpus`.
fn interrupts_on(text: &str, cpus: &[u32]) -> Vec<(u32, String)> {
    let mut lines = text.lines();
    let columns: Vec<u32> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("CPU")?.parse().ok())
        .collect();
    let parsed = lines.filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        // Those of the CPU itself have names in place of numbers.
        let number: u32 = number.trim().parse().ok()?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let counts = columns.iter().zip(&words);
        let hit = counts.into_iter().any(|(cpu, count)| {
            cpus.contains(cpu) && count.parse::<u64>().is_ok_and(|count| count > 0)
        });
        let name = (*words.last()?).to_owned();
        hit.then_some((number, name))
    });
    parsed.collect()
}

fn irqbalance(tree: &Tree) -> Finding {
    const TOPIC: &str = "irqbalance";
    let processes = tree.names("/proc").into_iter();
    let mut numbers = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let runs = numbers.any(|id| {
        let name = tree.text(&format!("/proc/{id}/comm"));
        name.is_ok_and(|name| name == "irqbalance")
    });
    match runs {
        true => Finding::advice(
            TOPIC,
            "runs, and moves interrupts to any CPU that is not isolated",
            &[
                "sudo systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST=<lcores> in its settings",
            ],
        ),
        false => Finding::ok(TOPIC, "does not run"),
    }
}

fn without(cpus: &[u32], others: &[u32]) -> Vec<u32> {
    cpus.iter()
        .copied()
        .filter(|cpu| !others.contains(cpu))
        .collect()
}

/// The CPUs without an lcore, as a list; nothing when there is none.
fn rest(tree: &Tree, lcores: &[u32]) -> Option<String> {
    let online = cpu_list(&tree.text("/sys/devices/system/cpu/online").ok()?);
    let rest = without(&online, lcores);
    (!rest.is_empty()).then(|| cpu_text(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_found_by_cpu() {
        let text = "           CPU0       CPU1       \n 38:          0      13560 PCI-MSIX-0000:00:03.0   1-edge      \
                    virtio2-input.0\n 39:       9670          0 PCI-MSIX-0000:00:03.0   2-edge      \
                    virtio2-output.0\nLOC:   14100316    4901451   Local timer interrupts\n";
        assert_eq!(
            interrupts_on(text, &[1]),
            [(38, "virtio2-input.0".to_owned())]
        );
        assert_eq!(interrupts_on(text, &[0, 1]).len(), 2);
        assert_eq!(interrupts_on("", &[0]), []);
    }
}
