//! The file of a comparison: what was measured, on what, with every sample. `make bench` writes it, and so does
//! `bench/bare-metal`, from two hosts.
//!
//! A cell is one case through one stack over one medium. Whoever reads the file needs no other: units are beside the
//! samples, and what failed is there with its reason. Keys are only ever added.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::samples::Summary;
use crate::scale::figures::Figures;

/// The number of this schema.
pub const SCHEMA: u32 = 1;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was begun, UTC, as in RFC 3339.
    pub date: String,
    /// The machines that took part.
    pub machines: Vec<Machine>,
    /// Versions: `engine` (git revision), `dpdk`, and each of the other stacks.
    pub software: BTreeMap<String, String>,
    /// How often each cell was to be measured.
    pub rounds: u32,
    /// Length of a measurement, seconds.
    pub seconds: f64,
    /// Whether it was only to show that everything works.
    pub quick: bool,
    /// What was measured, in the order of the table.
    pub cells: Vec<Cell>,
    /// What was not, with the reason.
    pub not_measured: Vec<String>,
}

/// A machine, as far as figures depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name in the report.
    pub name: String,
    /// The processor's model name.
    pub cpu: String,
    /// Processors that the system shows.
    pub cpus: usize,
    /// Whether the system is a guest of a hypervisor.
    pub virtual_machine: bool,
    /// Release of the kernel.
    pub kernel: String,
}

/// One case through one stack over one medium.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The case: `bulk-1452`.
    pub case: String,
    /// The stack: `engine`, `quinn`.
    pub stack: String,
    /// What the packets crossed: `loopback`, `memif`.
    pub medium: String,
    /// In the order in which they are shown.
    pub figures: Vec<Series>,
    /// Why rounds gave no figures.
    pub failures: Vec<String>,
}

/// The samples of a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
}

/// A report that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ReportError {
    path: String,
    problem: String,
}

impl Report {
    /// A report of this machine and hour, without cells.
    pub fn begin(
        rounds: u32,
        seconds: f64,
        quick: bool,
        software: BTreeMap<String, String>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            date: date(),
            machines: vec![Machine::this("this machine")],
            software,
            rounds,
            seconds,
            quick,
            cells: Vec::new(),
            not_measured: Vec::new(),
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// There is none, or it has another schema.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let error = |problem: String| ReportError {
            path: path.display().to_string(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|cause| error(cause.to_string()))?;
        let report: Self = serde_json::from_str(&text).map_err(|cause| error(cause.to_string()))?;
        match report.schema {
            SCHEMA => Ok(report),
            other => Err(error(format!(
                "its schema is {other}, known is {SCHEMA}: measure again"
            ))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let error = |problem: String| ReportError {
            path: path.display().to_string(),
            problem,
        };
        let text = serde_json::to_string_pretty(self).map_err(|cause| error(cause.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|cause| error(cause.to_string()))
    }

    /// Adds what one measurement found, or why it found nothing.
    pub fn add(&mut self, case: &str, stack: &str, medium: &str, found: Result<Figures, String>) {
        let cell = self.cell_mut(case, stack, medium);
        match found {
            Ok(figures) if figures.problems.is_empty() => {
                for figure in figures.figures {
                    cell.add(&figure.name, &figure.unit, figure.value);
                }
            }
            Ok(figures) => cell.failures.push(figures.problems.join("; ")),
            Err(problem) => cell.failures.push(problem),
        }
    }

    /// The cell of a case, a stack and a medium.
    pub fn cell(&self, case: &str, stack: &str, medium: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.is(case, stack, medium))
    }

    fn cell_mut(&mut self, case: &str, stack: &str, medium: &str) -> &mut Cell {
        let known = self
            .cells
            .iter()
            .position(|cell| cell.is(case, stack, medium));
        let index = known.unwrap_or_else(|| {
            self.cells.push(Cell {
                case: case.to_owned(),
                stack: stack.to_owned(),
                medium: medium.to_owned(),
                figures: Vec::new(),
                failures: Vec::new(),
            });
            self.cells.len() - 1
        });
        &mut self.cells[index]
    }
}

impl Cell {
    fn is(&self, case: &str, stack: &str, medium: &str) -> bool {
        self.case == case && self.stack == stack && self.medium == medium
    }

    fn add(&mut self, name: &str, unit: &str, sample: f64) {
        match self.figures.iter_mut().find(|series| series.name == name) {
            Some(series) => series.samples.push(sample),
            None => self.figures.push(Series {
                name: name.to_owned(),
                unit: unit.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// Middle and ends of a figure.
    pub fn summary(&self, figure: &str) -> Option<Summary> {
        let series = self.figures.iter().find(|series| series.name == figure)?;
        Summary::of(&series.samples)
    }
}

impl Machine {
    /// The machine that this runs on, under a name.
    pub fn this(name: &str) -> Self {
        let machine::Machine {
            cpu,
            cpus,
            virtual_machine,
        } = machine::describe();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            name: name.to_owned(),
            cpu,
            cpus,
            virtual_machine,
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// The time, UTC; empty where the system has no `date`.
fn date() -> String {
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(goodput: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add("goodput", "Gbit/s", goodput);
        figures
    }

    #[test]
    fn rounds_share_a_cell_and_failures_stay_in_it() {
        let mut report = Report::begin(3, 1.0, true, BTreeMap::new());
        report.add("bulk", "quinn", "loopback", Ok(figures(2.0)));
        report.add("bulk", "engine", "link", Ok(figures(9.0)));
        report.add("bulk", "quinn", "loopback", Err("lost".to_owned()));
        let mut spoiled = figures(99.0);
        spoiled.problems.push("a short answer".to_owned());
        report.add("bulk", "quinn", "loopback", Ok(spoiled));
        report.add("bulk", "quinn", "loopback", Ok(figures(4.0)));
        let cell = report.cell("bulk", "quinn", "loopback").unwrap();
        assert_eq!(cell.summary("goodput").unwrap().median, 3.0);
        assert_eq!(cell.failures, ["lost", "a short answer"]);
        assert_eq!(report.cells.len(), 2);
        assert_eq!(report.date.len(), "2026-01-01T00:00:00Z".len());
    }

    #[test]
    fn a_report_survives_its_file_and_another_schema_is_refused() {
        let name = format!("stoq-report-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut report = Report::begin(3, 1.0, true, BTreeMap::new());
        report.add("bulk", "quinn", "loopback", Ok(figures(2.0)));
        report.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), report);
        report.schema += 1;
        report.write(&path).unwrap();
        let refused = Report::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains("schema is 2"), "{refused}");
    }
}
