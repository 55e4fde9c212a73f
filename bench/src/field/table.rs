//! The report as a table: for a terminal, and in Markdown.

use std::fmt::Write;

use clap::ValueEnum;

use super::case::{Better, Case, Row};
use super::way::{SECTIONS, Section, Stack, Way};
use crate::api::table::aligned;
use crate::report::{Cell, Report};
use crate::samples::Summary;

/// Between these lines of a page stands what [`markdown`] makes.
pub const MARKS: [&str; 2] = ["<!-- field: begin -->", "<!-- field: end -->"];
/// What stands where nothing is to be measured.
const NOTHING: &str = "-";

impl Section {
    /// Its columns: the other stacks, then the engine.
    pub fn ways(&self) -> Vec<Way> {
        let peers = Stack::PEERS.map(|stack| Way {
            stack,
            medium: self.peers,
        });
        let engine = self.engine.iter().map(|&medium| Way {
            stack: Stack::Engine,
            medium,
        });
        peers.into_iter().chain(engine).collect()
    }
}

/// The best of some ways, and its median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// The way.
    pub way: Way,
    /// Its median.
    pub median: f64,
}

/// The middle and the ends of a row's figure through a way.
pub fn summary(report: &Report, case: Case, row: &Row, way: Way) -> Option<Summary> {
    cell(report, case, way)?.summary(row.figure)
}

/// The best of `ways` in a row; nothing where none has a figure, or none is better than another.
pub fn best(report: &Report, case: Case, row: &Row, ways: &[Way]) -> Option<Best> {
    let medians = ways.iter().filter_map(|&way| {
        let median = summary(report, case, row, way)?.median;
        Some(Best { way, median })
    });
    match row.better {
        Better::More => medians.max_by(|a, b| a.median.total_cmp(&b.median)),
        Better::Less => medians.min_by(|a, b| a.median.total_cmp(&b.median)),
        Better::Neither => None,
    }
}

/// For a terminal.
pub fn text(report: &Report) -> String {
    let mut text = conditions(report);
    for section in &SECTIONS {
        if let Some(lines) = lines(report, section) {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{}\n{}", section.title, aligned(&lines));
        }
    }
    let _ = write!(text, "\n{}", notes(report));
    text
}

/// For `docs/benchmarks.md`.
pub fn markdown(report: &Report) -> String {
    let mut text = conditions(report).replace('\n', "  \n");
    for section in &SECTIONS {
        let Some(lines) = lines(report, section) else {
            continue;
        };
        let _ = write!(text, "\n**{}**\n\n", section.title);
        for (number, line) in lines.iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
            }
        }
    }
    let _ = write!(text, "\n{}", notes(report).replace("\n  ", "\n* "));
    text
}

/// `page` with `text` between the [`MARKS`]; nothing if it has none.
pub fn replace_between_marks(page: &str, text: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{text}{end}{after}"))
}

fn conditions(report: &Report) -> String {
    let mut text = String::new();
    for machine in &report.machines {
        let kind = if machine.virtual_machine {
            "virtual machine, "
        } else {
            ""
        };
        let (name, cpus, cpu, kernel) =
            (&machine.name, machine.cpus, &machine.cpu, &machine.kernel);
        let _ = writeln!(text, "{name}: {kind}{cpus} x {cpu}, Linux {kernel}");
    }
    let versions: Vec<String> = report
        .software
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = writeln!(text, "{}; {}", report.date, versions.join(", "));
    let (rounds, seconds) = (report.rounds, report.seconds);
    let _ = writeln!(
        text,
        "median (least .. greatest) of {rounds} rounds of {seconds} s, AES-128-GCM, ECDSA P-256"
    );
    if report.quick {
        let _ = writeln!(
            text,
            "QUICK: these figures only show that the measurements work"
        );
    }
    text
}

/// The lines of a section with their cells; nothing where nothing was measured.
fn lines(report: &Report, section: &Section) -> Option<Vec<Vec<String>>> {
    let ways = section.ways();
    let mut heads = vec!["".to_owned(), "unit".to_owned()];
    heads.extend(ways.iter().map(|way| way.title()));
    heads.extend(["best of the others", "engine by it"].map(str::to_owned));
    let mut lines = vec![heads];
    for &case in Case::value_variants()
        .iter()
        .filter(|case| section.has(**case))
    {
        if !ways.iter().any(|way| cell(report, case, *way).is_some()) {
            continue;
        }
        for row in case.rows() {
            let has = |way: &&Way| summary(report, case, row, **way).is_some();
            if row.better == Better::Neither && ways.iter().find(has).is_none() {
                continue;
            }
            let mut line = vec![row.title.to_owned(), row.unit.to_owned()];
            line.extend(ways.iter().map(|way| shown(report, case, row, *way)));
            line.extend(verdict(report, case, row, &ways));
            lines.push(line);
        }
    }
    (lines.len() > 1).then_some(lines)
}

/// The best of the other stacks, and by what factor the engine's figure is its own. For times as for rates, what is above 1
/// says that the engine is ahead.
fn verdict(report: &Report, case: Case, row: &Row, ways: &[Way]) -> [String; 2] {
    let (engine, peers): (Vec<Way>, Vec<Way>) =
        ways.iter().partition(|way| way.stack == Stack::Engine);
    let peer = best(report, case, row, &peers);
    let name = peer.map_or_else(|| NOTHING.to_owned(), |peer| peer.way.stack.to_string());
    let ratio = match (best(report, case, row, &engine), peer) {
        (Some(engine), Some(peer)) => {
            let times = match row.better {
                Better::Less => peer.median / engine.median,
                _ => engine.median / peer.median,
            };
            format!("{times:.2}x {}", engine.way.medium.title())
        }
        _ => NOTHING.to_owned(),
    };
    [name, ratio]
}

fn cell(report: &Report, case: Case, way: Way) -> Option<&Cell> {
    report.cell(
        &case.to_string(),
        &way.stack.to_string(),
        &way.medium.to_string(),
    )
}

fn shown(report: &Report, case: Case, row: &Row, way: Way) -> String {
    let Some(cell) = cell(report, case, way) else {
        return NOTHING.to_owned();
    };
    let mark = if cell.failures.is_empty() { "" } else { " !" };
    let number = |value| number(row.unit, value);
    match cell.summary(row.figure) {
        None if cell.failures.is_empty() => NOTHING.to_owned(),
        None => "failed".to_owned(),
        Some(Summary { median, min, max }) if min == max => format!("{}{mark}", number(median)),
        Some(Summary { median, min, max }) => {
            format!(
                "{} ({} .. {}){mark}",
                number(median),
                number(min),
                number(max)
            )
        }
    }
}

/// A value as tables show it.
pub fn number(unit: &str, value: f64) -> String {
    match unit {
        "Gbit/s" | "s/GB" => format!("{value:.2}"),
        "us" | "kB" => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What failed and why, and what was not measured.
fn notes(report: &Report) -> String {
    let mut text = "\"engine by it\": the best of the engine's figures by the best of the others', above 1 where the \
                    engine is ahead; \"!\": some rounds failed.\n"
        .to_owned();
    for cell in &report.cells {
        let (case, stack, medium) = (&cell.case, &cell.stack, &cell.medium);
        for failure in &cell.failures {
            // The file has all of it; the reason stands at the end of a log.
            let failure = failure.lines().next_back().unwrap_or_default();
            let _ = writeln!(text, "  failed: {case}, {stack} over {medium}: {failure}");
        }
    }
    for what in &report.not_measured {
        let _ = writeln!(text, "  not measured: {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::field::way::Medium;
    use crate::scale::figures::Figures;

    fn report() -> Report {
        let mut report = Report::begin(2, 1.0, false, BTreeMap::new());
        let mut add =
            |case: Case, stack: Stack, medium: Medium, figure: &str, unit: &str, value: f64| {
                let mut figures = Figures::default();
                figures.add(figure, unit, value);
                report.add(
                    &case.to_string(),
                    &stack.to_string(),
                    &medium.to_string(),
                    Ok(figures),
                );
            };
        for (stack, medium, bulk, p50) in [
            (Stack::Quinn, Medium::Loopback, 8.0, 25.0),
            (Stack::S2nQuic, Medium::Loopback, 10.0, 20.0),
            (Stack::Engine, Medium::Link, 15.0, 5.0),
            (Stack::Engine, Medium::Memif, 12.0, 8.0),
        ] {
            add(Case::Bulk1452, stack, medium, "goodput", "Gbit/s", bulk);
            add(Case::RequestPolling, stack, medium, "p50", "us", p50);
        }
        report.add(
            "bulk-1452",
            "quiche",
            "loopback",
            Err("its log:\nit broke".to_owned()),
        );
        report
    }

    #[test]
    fn the_best_of_both_sides_are_compared() {
        let text = text(&report());
        let line = |title: &str| text.lines().find(|line| line.contains(title)).unwrap();
        let bulk = line("bulk, 1 connection, 1452 B");
        assert!(
            bulk.contains("s2n-quic") && bulk.contains("1.50x link"),
            "{bulk}"
        );
        let p50 = line("polling, p50");
        assert!(
            p50.contains("s2n-quic") && p50.contains("4.00x link"),
            "{p50}"
        );
    }

    #[test]
    fn failures_stand_in_the_table_and_below_it() {
        let report = report();
        for text in [text(&report), markdown(&report)] {
            let line = text
                .lines()
                .find(|line| line.contains("bulk, 1 connection, 1452 B"))
                .unwrap();
            assert!(line.contains("failed"), "{line}");
            assert!(
                text.contains("failed: bulk-1452, quiche over loopback: it broke"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_page_keeps_what_is_outside_of_the_marks() {
        let page = "above\n<!-- field: begin -->\nold\n<!-- field: end -->\nbelow\n";
        let new = replace_between_marks(page, "new\n").unwrap();
        assert_eq!(
            new,
            "above\n<!-- field: begin -->\nnew\n<!-- field: end -->\nbelow\n"
        );
        assert_eq!(replace_between_marks(&new, "new\n"), Some(new.clone()));
        assert_eq!(replace_between_marks("above\n", "new\n"), None);
    }

    #[test]
    fn markdown_has_a_head_of_the_same_width() {
        let text = markdown(&report());
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        let bars = |line: &str| line.matches('|').count();
        assert!(
            table.iter().all(|line| bars(line) == bars(table[0])),
            "{text}"
        );
    }
}
