//! Looks at a machine, and says what to change so that the engine runs, and runs well.
//!
//! Nothing is changed and no device is touched: everything is read from `/sys` and `/proc`, as far as they can be read. A
//! [`Subject`] says what is to run; with a configuration it names lcores, cards, interfaces and memory, without one the
//! findings are about the machine as such.

mod cards;
mod cpus;
mod dpdk;
mod finding;
mod iommu;
mod isolation;
mod links;
mod memory;
mod process;
mod subject;
mod tree;

use std::fmt;

use serde::Serialize;

pub use finding::{Finding, Verdict};
pub use subject::{Card, Interface, Subject};
pub use tree::Tree;

use crate::table::Table;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// How many findings are problems.
    pub problems: usize,
    /// How many are advice.
    pub advice: usize,
    /// How many things could not be seen.
    pub unknown: usize,
    /// All, by topic.
    pub findings: Vec<Finding>,
}

/// Looks at the machine below `tree` for `subject`; `dpdk` is the release that runs.
pub fn examine(tree: &Tree, subject: &Subject, dpdk: &str) -> Diagnosis {
    let parts = [
        memory::findings(tree, subject),
        cpus::findings(tree, subject),
        isolation::findings(tree, subject),
        iommu::findings(tree, subject),
        cards::findings(tree, subject),
        links::findings(tree, subject),
        dpdk::findings(tree, subject, dpdk),
        process::findings(tree, subject),
    ];
    Diagnosis::new(parts.concat())
}

impl Diagnosis {
    fn new(findings: Vec<Finding>) -> Self {
        let count = |verdict| {
            findings
                .iter()
                .filter(|finding| finding.verdict == verdict)
                .count()
        };
        Self {
            problems: count(Verdict::Problem),
            advice: count(Verdict::Advice),
            unknown: count(Verdict::Unknown),
            findings,
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new("<<<");
        for finding in &self.findings {
            let verdict = finding.verdict.to_string();
            table.row([verdict, finding.topic.to_owned(), finding.seen.clone()]);
            for change in &finding.change {
                table.row([String::new(), String::new(), format!("-> {change}")]);
            }
        }
        write!(f, "{table}")?;
        writeln!(
            f,
            "\n{} problems, {} pieces of advice, {} unknown",
            self.problems, self.advice, self.unknown
        )
    }
}

#[cfg(test)]
mod tests;
