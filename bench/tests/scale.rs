//! Each case of `scale` on both stacks, as short as it goes: it ends, nothing is lost, and every figure is there.

use std::process::Command;

use bench::scale::case::{Case, Spec};
use bench::scale::figures::Figures;
use clap::ValueEnum;

/// Runs one measurement in its process.
fn measure(stack: &str, spec: &Spec) -> Figures {
    let output = Command::new(env!("CARGO_BIN_EXE_scale"))
        .arg(stack)
        .args(spec.arguments())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stack}, {spec:?}: {log}");
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{stack}: {error}: {text} {log}"))
}

/// Figures of a case that are above 0 when it did what it is for.
fn positive(case: Case) -> &'static [&'static str] {
    match case {
        Case::Connections => &["goodput", "Jain index of the connections' bytes"],
        Case::Idle => &["memory of a connection, both ends"],
        Case::Handshakes => &["full, handshakes", "resumed, handshakes"],
        Case::Scaling => &["goodput, CPUs: 2"],
        Case::Fairness => &[
            "bulk alone",
            "bulk together",
            "small alone, p99",
            "small together, p99",
        ],
        Case::Flood => &[
            "no flood",
            "50 k/s to nobody, sent",
            "50 k/s invalid, sent",
            "50 k/s valid, sent",
        ],
    }
}

#[test]
fn every_case_finds_its_figures_on_both_stacks() {
    for &case in Case::value_variants() {
        let spec = Spec {
            case,
            quick: true,
            pairs: if case == Case::Scaling { 2 } else { 1 },
            connections: Some(200),
            seconds: Some(0.2),
            handshakes: None,
        };
        for stack in ["engine", "quinn"] {
            let figures = measure(stack, &spec);
            for name in positive(case) {
                let value = figures.value(name);
                assert!(
                    value.is_some_and(|value| value > 0.0),
                    "{stack}, {case}, {name}: {value:?} in {figures:?}"
                );
            }
            if stack == "engine" {
                let lost = figures.value("connections lost");
                assert_eq!(lost, Some(0.0), "{case}: {figures:?}");
            }
        }
    }
}
