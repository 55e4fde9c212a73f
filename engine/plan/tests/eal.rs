//! EAL arguments, of the file and of the command line.

use super::*;

#[test]
fn the_command_line_wins() {
    let eal = ["-l", "0-3", "--vdev", "net_tap0"]
        .map(String::from)
        .to_vec();
    let given = Given {
        eal,
        duration: Some(Duration::from_secs(3)),
        cpus: Vec::new(),
    };
    let plan = plan_of(BASE.to_owned(), &given).unwrap();
    assert_eq!(plan.eal.arguments, ["-l", "0-3", "--vdev", "net_tap0"]);
    assert_eq!(plan.eal.lcores, [0, 1, 2, 3]);
    assert!(plan.eal.huge_pages);
    assert_eq!(plan.memory.granted, None);
    assert_eq!(plan.run.duration, Some(Duration::from_secs(3)));
}

#[test]
fn without_huge_pages_engines_do_not_share_files() {
    let arguments = |more: &str| {
        let text = edited(&[("\"--no-pci\"", &format!("\"--no-pci\"{more}"))]);
        plan_of(text, &Given::default()).unwrap().eal.arguments
    };
    let added = |more: &str| {
        arguments(more)
            .last()
            .is_some_and(|last| last == "--no-shconf")
    };
    assert!(added(""));
    assert!(!added(", \"--file-prefix\", \"mine\""));
    assert!(!added(", \"--file-prefix=mine\""));
    assert_eq!(
        arguments(", \"--no-shconf\"").len(),
        base().eal.arguments.len()
    );
}

#[test]
fn lcores_default_to_the_cpus_of_the_machine() {
    let edits = [("\"-l\", \"0-1\", ", "")];
    let given = Given {
        cpus: vec![0, 1, 2],
        ..Given::default()
    };
    assert_eq!(
        plan_of(edited(&edits), &given).unwrap().eal.lcores,
        [0, 1, 2]
    );
    let given = Given {
        cpus: vec![0],
        ..Given::default()
    };
    let error = plan_of(edited(&edits), &given).unwrap_err().to_string();
    assert!(
        error.contains("lcore 1 is not in EAL's core list 0;"),
        "{error}"
    );
}

#[test]
fn eal_arguments() {
    assert_eq!(
        problem(&[("\"0-1\"", "\"zero\"")]),
        "x.yaml:1:7: eal[0]: `zero` is no list of lcores such as 0-3 or 0,2"
    );
    assert_eq!(
        problem(&[("\"--vdev=net_tap0,iface=stoq0\"", "\"--vdev\"")]),
        "x.yaml:1:58: eal[6]: `--vdev` lacks its value"
    );
    assert_eq!(
        problem(&[("\"--no-pci\"", "\"--in-memory\"")]),
        "x.yaml:1:46: eal[5]: EAL refuses `-m` with `--no-huge` and `--in-memory`; leave out \
         `--in-memory`"
    );
    let eal = ["-l", "0-1", "-m", "lots"].map(String::from).to_vec();
    let given = Given {
        eal,
        ..Given::default()
    };
    assert_eq!(
        plan_of(BASE.to_owned(), &given).unwrap_err().to_string(),
        "EAL arguments: `-m lots` is no whole number of megabytes"
    );
}
