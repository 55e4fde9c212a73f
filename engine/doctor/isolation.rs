//! Who else gets the CPUs of lcores: the scheduler, its tick, interrupts.

use super::finding::Finding;
use super::subject::Subject;
use super::tree::{Tree, cpu_list, cpu_text};

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const NOHZ_FULL: &str = "/sys/devices/system/cpu/nohz_full";
/// Where every CPU is an lcore, there is nobody to keep away and nowhere to send it.
const LEAVE_ONE: &str = "leave a CPU without an lcore first: the kernel needs one";

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
    let all = cpu_text(lcores);
    let online = match tree.text("/sys/devices/system/cpu/online") {
        Ok(list) => cpu_list(&list),
        Err(error) => return Finding::unknown(TOPIC, error),
    };
    let absent = without(lcores, &online);
    if !absent.is_empty() {
        let seen = format!(
            "{} are not online: this machine has {}",
            cpu_text(&absent),
            cpu_text(&online)
        );
        return Finding::problem(TOPIC, seen, &["change the shards' `lcore`"]);
    }
    // An affinity is not looked at: EAL pins its threads beyond it. A cpuset holds.
    let Some((file, cpuset)) = cpuset(tree) else {
        return Finding::ok(TOPIC, format!("{all} are online; no cpuset is to be seen"));
    };
    let missing = without(lcores, &cpuset);
    if missing.is_empty() {
        return Finding::ok(TOPIC, format!("{all} are online, and in the cpuset"));
    }
    let seen = format!(
        "{} are not in the cpuset of this process, which has {}",
        cpu_text(&missing),
        cpu_text(&cpuset)
    );
    let change = format!("change the shards' `lcore`, or {file} (AllowedCPUs= of systemd)");
    Finding::problem(TOPIC, seen, &[&change])
}

/// The CPUs of this process's control group, and the file that says so.
fn cpuset(tree: &Tree) -> Option<(String, Vec<u32>)> {
    let groups = tree.text("/proc/self/cgroup").unwrap_or_default();
    let candidates = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_end_matches('/');
        // Version 2 has one hierarchy without a name, version 1 one for each controller.
        match controllers {
            "" => Some(format!("/sys/fs/cgroup{path}/cpuset.cpus.effective")),
            _ if controllers.split(',').any(|name| name == "cpuset") => {
                Some(format!("/sys/fs/cgroup/cpuset{path}/cpuset.effective_cpus"))
            }
            _ => None,
        }
    });
    candidates.into_iter().find_map(|file| {
        let cpus = cpu_list(&tree.text(&file).ok()?);
        (!cpus.is_empty()).then_some((file, cpus))
    })
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
    let seen = format!(
        "lcores {} are not: other tasks may run there",
        cpu_text(&missing)
    );
    let Some(rest) = rest(tree, lcores) else {
        return Finding::advice(TOPIC, seen, &[LEAVE_ONE]);
    };
    let all = cpu_text(lcores);
    let change = [
        format!(
            "kernel arguments: isolcpus=managed_irq,domain,{all} nohz_full={all} rcu_nocbs={all} irqaffinity={rest}"
        ),
        format!(
            "or, without a reboot, a cpuset of their own: sudo systemd-run --slice=stoq.slice -p AllowedCPUs={all} …, \
             with AllowedCPUs={rest} for system.slice and user.slice"
        ),
    ];
    Finding::advice(TOPIC, seen, &[&change[0], &change[1]])
}

fn tick(tree: &Tree, lcores: &[u32]) -> Finding {
    const TOPIC: &str = "timer tick";
    let all = cpu_text(lcores);
    let change = match rest(tree, lcores) {
        Some(_) => format!("kernel arguments: nohz_full={all} rcu_nocbs={all}"),
        None => LEAVE_ONE.to_owned(),
    };
    let list = match tree.text(NOHZ_FULL) {
        Ok(list) => cpu_list(&list),
        Err(_) => {
            let change = format!("a kernel with CONFIG_NO_HZ_FULL; then {change}");
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
        None => LEAVE_ONE.to_owned(),
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
        let name = format!("{} ({number})", words.last()?);
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
            [(38, "virtio2-input.0 (38)".to_owned())]
        );
        assert_eq!(interrupts_on(text, &[0, 1]).len(), 2);
        assert_eq!(interrupts_on("", &[0]), []);
    }
}
