//! Each case of `api` through each way, as short as it goes: it ends, nothing is lost, and every figure is there. Then
//! the program as it is run, with its table and its file.

use std::process::{Command, Output};

use bench::api::case::{Case, Spec, Way};
use bench::scale::figures::Figures;
use clap::ValueEnum;
use serde_json::Value;

fn api(arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api"));
    let output = command.args(arguments).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {log} {found}");
    output
}

/// Runs one measurement in its process.
fn measure(way: Way, case: Case) -> Figures {
    let spec = Spec {
        way,
        case,
        seconds: 0.1,
    };
    let mut arguments = vec!["measure".to_owned()];
    arguments.extend(spec.arguments());
    let text = String::from_utf8(api(&arguments).stdout).unwrap();
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{spec:?}: {error}: {text}"))
}

/// Figures of a case that are above 0 when it did what it is for.
fn positive(case: Case) -> &'static [&'static str] {
    match case {
        Case::Requests1 | Case::Requests16 | Case::Requests256 => {
            &["p50", "p99", "p999", "requests"]
        }
        Case::Bulk => &["goodput", "received datagram"],
        // What an lcore's time was taken for is a difference, which a machine with other work may turn.
        Case::Crossing => &[
            "command, caller",
            "command and event, beside",
            "there and back, p50",
            "turn",
            "commands",
            "looks",
        ],
    }
}

#[test]
fn every_case_finds_its_figures_through_every_way() {
    for &case in Case::value_variants() {
        for &way in case.ways() {
            let figures = measure(way, case);
            assert!(figures.problems.is_empty(), "{way}, {case}: {figures:?}");
            for name in positive(case) {
                let value = figures.value(name);
                assert!(
                    value.is_some_and(|value| value > 0.0),
                    "{way}, {case}, {name}: {value:?} in {figures:?}"
                );
            }
            if case == Case::Crossing {
                continue;
            }
            let answers = figures.value("answers").unwrap_or(0.0);
            assert!(answers >= case.outstanding() as f64, "{way}, {case}");
            let bytes = answers * case.answer() as f64;
            assert_eq!(figures.value("bytes"), Some(bytes), "{way}, {case}");
        }
    }
}

#[test]
fn the_program_shows_and_writes_what_it_found() {
    let path = std::env::temp_dir().join(format!("stoq-api-{}.json", std::process::id()));
    let arguments = format!(
        "--case=requests-1 --rounds=2 --seconds=0.05 --json={}",
        path.display()
    );
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let shown = String::from_utf8(api(&arguments).stdout).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let rows = written["cases"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), Case::Requests1.ways().len());
    for row in rows {
        let title = row["title"].as_str().unwrap();
        assert!(shown.contains(title), "{title} in {shown}");
        let samples = row["figures"][0]["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 2, "{row}");
    }
    assert!(!written["goals"].as_array().unwrap().is_empty());
    assert!(shown.contains("Goals:"), "{shown}");
}
