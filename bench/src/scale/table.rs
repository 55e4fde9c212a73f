//! What was found, case by case, both stacks beside each other.

use serde::Serialize;

use super::figures::Figures;
use crate::samples::Summary;

/// Which stack was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// The engine, over a link.
    Engine,
    /// quinn, over kernel sockets.
    Quinn,
}

impl Stack {
    /// Both, in the order of a round.
    pub const BOTH: [Self; 2] = [Self::Engine, Self::Quinn];

    /// For tables, messages, and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Quinn => "quinn",
        }
    }
}

/// A figure of both stacks, once a round.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Unit of the samples.
    pub unit: String,
    /// Of the engine.
    pub engine: Vec<f64>,
    /// Of quinn.
    pub quinn: Vec<f64>,
}

/// All figures of a case.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// In the order of their first sample.
    pub rows: Vec<Row>,
    /// What went wrong on the engine.
    pub problems: Vec<String>,
    /// What a reader has to know, and what went wrong on quinn.
    pub notes: Vec<String>,
}

impl Table {
    /// Adds what one measurement found.
    pub fn add(&mut self, stack: Stack, figures: Figures) {
        for figure in figures.figures {
            let known = self.rows.iter().position(|row| row.name == figure.name);
            let index = known.unwrap_or_else(|| {
                self.rows.push(Row {
                    name: figure.name,
                    unit: figure.unit,
                    ..Row::default()
                });
                self.rows.len() - 1
            });
            match stack {
                Stack::Engine => self.rows[index].engine.push(figure.value),
                Stack::Quinn => self.rows[index].quinn.push(figure.value),
            }
        }
        for problem in figures.problems {
            self.fail(stack, &problem);
        }
        for note in figures.notes {
            self.note(note);
        }
    }

    /// Notes that something went wrong: on the engine it is a failure of the run, on quinn a remark.
    pub fn fail(&mut self, stack: Stack, problem: &str) {
        match stack {
            Stack::Engine => self.problems.push(problem.to_owned()),
            Stack::Quinn => self.note(format!("quinn: {problem}")),
        }
    }

    /// Adds a remark, once.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Prints it.
    pub fn print(&self, title: &str) {
        println!("\n{title:46} {:>6} {:>28} {:>28}", "", "engine", "quinn");
        for row in &self.rows {
            let [engine, quinn] = [&row.engine, &row.quinn].map(|samples| cell(&row.unit, samples));
            println!("{:46} {:>6} {engine:>28} {quinn:>28}", row.name, row.unit);
        }
        for problem in &self.problems {
            println!("  FAILED: {problem}");
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }
}

/// The median, with the extremes where they differ.
fn cell(unit: &str, samples: &[f64]) -> String {
    let number = |value| number(unit, value);
    match Summary::of(samples) {
        None => "-".to_owned(),
        Some(Summary { median, .. }) if samples.len() == 1 => number(median),
        Some(Summary { median, min, max }) => {
            format!("{} ({} .. {})", number(median), number(min), number(max))
        }
    }
}

fn number(unit: &str, value: f64) -> String {
    match unit {
        "Gbit/s" | "s" | "x" => format!("{value:.2}"),
        "%" | "us" | "kB" => format!("{value:.1}"),
        "" if value.fract() != 0.0 => format!("{value:.4}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(name: &str, value: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add(name, "Gbit/s", value);
        figures
    }

    #[test]
    fn samples_of_both_stacks_share_a_row() {
        let mut table = Table::default();
        table.add(Stack::Engine, figures("a", 1.0));
        table.add(Stack::Quinn, figures("a", 2.0));
        table.add(Stack::Engine, figures("a", 3.0));
        table.add(Stack::Quinn, figures("b", 4.0));
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.rows[0].engine, [1.0, 3.0]);
        assert_eq!(table.rows[0].quinn, [2.0]);
        assert_eq!(cell("Gbit/s", &table.rows[0].engine), "2.00 (1.00 .. 3.00)");
        assert_eq!(cell("Gbit/s", &table.rows[1].engine), "-");
    }

    #[test]
    fn only_the_engine_fails_a_run() {
        let mut table = Table::default();
        let mut lost = figures("a", 1.0);
        lost.problems.push("3 connections were lost".to_owned());
        table.add(Stack::Quinn, lost.clone());
        assert!(table.problems.is_empty() && table.notes.len() == 1);
        table.add(Stack::Engine, lost);
        assert_eq!(table.problems, ["3 connections were lost"]);
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!(number("", 10_000.0), "10000");
        assert_eq!(number("", 0.98765), "0.9877");
        assert_eq!(number("/s", 2345.6), "2346");
        assert_eq!(number("us", 12.34), "12.3");
    }
}
