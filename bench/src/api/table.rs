//! What was found, case by case: a row for each way, a column for each figure.

use std::fmt::{self, Write};

use serde::Serialize;

use super::case::{Case, Way};
use crate::samples::Summary;
use crate::scale::figures::{Figure, Figures};

/// All figures of a case.
#[derive(Debug, Serialize)]
pub struct Table {
    /// The case.
    pub case: String,
    /// Its heading.
    pub title: &'static str,
    /// In the order of the case's ways.
    pub rows: Vec<Row>,
    /// Medians of the engine's ways by those of quinn's.
    pub ratios: Vec<Ratio>,
    /// What went wrong on the engine.
    pub problems: Vec<String>,
    /// What a reader has to know, and what went wrong on quinn.
    pub notes: Vec<String>,
}

/// The figures of one way.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the way on the command line.
    pub way: String,
    /// How tables name it.
    pub title: &'static str,
    /// In the order of their first sample.
    pub figures: Vec<Samples>,
    #[serde(skip)]
    of: Way,
}

/// A figure, once a round.
#[derive(Debug, Serialize)]
pub struct Samples {
    /// What was measured.
    pub name: String,
    /// Unit of the samples; without one it is a count that no table shows.
    pub unit: String,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
    /// Middle and ends.
    pub summary: Option<Summary>,
}

/// The median of a figure on one way by that on another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// The figure.
    pub figure: String,
    /// The engine's way.
    pub way: String,
    /// quinn's.
    pub to: String,
    /// One by the other.
    pub ratio: f64,
    /// Whether the engine's is the better one.
    pub ahead: bool,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = if self.ahead { "" } else { " BEHIND" };
        write!(f, "{} {:.3}{behind}", self.figure, self.ratio)
    }
}

impl Table {
    /// A table without figures.
    pub fn new(case: Case) -> Self {
        let row = |&of: &Way| Row {
            way: of.to_string(),
            title: of.title(),
            figures: Vec::new(),
            of,
        };
        Self {
            case: case.to_string(),
            title: case.title(),
            rows: case.ways().iter().map(row).collect(),
            ratios: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds what one measurement found.
    pub fn add(&mut self, way: Way, found: Figures) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.of == way) {
            found.figures.into_iter().for_each(|figure| row.add(figure));
        }
        for problem in found.problems {
            self.fail(way, &problem);
        }
        for note in found.notes {
            self.note(format!("{way}: {note}"));
        }
        self.ratios = self.compare();
    }

    /// Notes that something went wrong: on the engine it is a failure of the run, on quinn a remark.
    pub fn fail(&mut self, way: Way, problem: &str) {
        let problem = format!("{way}: {problem}");
        match way.is_engine() {
            true => self.problems.push(problem),
            false => self.note(problem),
        }
    }

    /// Adds a remark, once.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The median of a figure on one way.
    pub fn median(&self, way: Way, figure: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.of == way)?;
        row.median(figure)
    }

    fn compare(&self) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        let is_quinn = |row: &&Row| !row.of.is_engine();
        for to in self.rows.iter().filter(is_quinn) {
            for row in self.rows.iter().filter(|row| row.of.is_engine()) {
                for figure in row.shown().filter(|figure| !is_condition(&figure.unit)) {
                    let name = &figure.name;
                    let (Some(ours), Some(theirs)) = (row.median(name), to.median(name)) else {
                        continue;
                    };
                    ratios.push(Ratio {
                        figure: name.clone(),
                        way: row.way.clone(),
                        to: to.way.clone(),
                        ratio: ours / theirs,
                        ahead: match less_is_better(&figure.unit) {
                            true => ours < theirs,
                            false => ours > theirs,
                        },
                    });
                }
            }
        }
        ratios
    }

    /// Prints it.
    pub fn print(&self) {
        print!("\n{}", self.text());
    }

    fn text(&self) -> String {
        let columns: Vec<&Samples> = (self.rows.iter())
            .max_by_key(|row| row.figures.len())
            .map_or_else(Vec::new, |row| row.shown().collect());
        let heads = columns.iter().map(|column| match column.unit.as_str() {
            "/s" => format!("{}/s", column.name),
            unit => format!("{}, {unit}", column.name),
        });
        let heads = std::iter::once(self.title.to_owned()).chain(heads);
        let mut lines: Vec<Vec<String>> = vec![heads.collect()];
        for row in &self.rows {
            let cells = columns.iter().map(|column| row.cell(&column.name));
            lines.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
        }
        let mut text = aligned(&lines);
        // Writing to a string does not fail.
        for ratios in self.ratios.chunk_by(|a, b| a.way == b.way && a.to == b.to) {
            let of_each: Vec<String> = ratios.iter().map(Ratio::to_string).collect();
            let (way, to) = (&ratios[0].way, &ratios[0].to);
            let _ = writeln!(text, "  {way} by {to}: {}", of_each.join(", "));
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  FAILED: {problem}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }
}

impl Row {
    fn add(&mut self, figure: Figure) {
        let Figure { name, unit, value } = figure;
        let known = self.figures.iter().position(|known| known.name == name);
        let index = known.unwrap_or_else(|| {
            self.figures.push(Samples {
                name,
                unit,
                samples: Vec::new(),
                summary: None,
            });
            self.figures.len() - 1
        });
        let figure = &mut self.figures[index];
        figure.samples.push(value);
        figure.summary = Summary::of(&figure.samples);
    }

    fn shown(&self) -> impl Iterator<Item = &Samples> {
        self.figures.iter().filter(|figure| figure.is_shown())
    }

    fn median(&self, figure: &str) -> Option<f64> {
        let samples = self.figures.iter().find(|samples| samples.name == figure)?;
        samples.summary.map(|summary| summary.median)
    }

    fn cell(&self, figure: &str) -> String {
        let samples = self.figures.iter().find(|samples| samples.name == figure);
        samples.map_or_else(|| "-".to_owned(), Samples::cell)
    }
}

impl Samples {
    fn is_shown(&self) -> bool {
        !self.unit.is_empty()
    }

    /// The median, with the extremes where there are several samples.
    fn cell(&self) -> String {
        let number = |value| number(&self.unit, value);
        match self.summary {
            None => "-".to_owned(),
            Some(Summary { median, .. }) if self.samples.len() == 1 => number(median),
            Some(Summary { median, min, max }) => {
                format!("{} ({} .. {})", number(median), number(min), number(max))
            }
        }
    }
}

/// Times are better when they are short, rates when they are high.
fn less_is_better(unit: &str) -> bool {
    matches!(unit, "us" | "ns")
}

/// What is neither better nor worse when it is more.
fn is_condition(unit: &str) -> bool {
    unit == "B"
}

fn number(unit: &str, value: f64) -> String {
    match unit {
        "Gbit/s" => format!("{value:.2}"),
        "us" => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Lines with their cells below each other: the first column to the left, the others to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(String::len).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p50: f64, requests: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add("p50", "us", p50);
        figures.add("requests", "/s", requests);
        figures.add("answers", "", 7.0);
        figures
    }

    #[test]
    fn rounds_share_a_row_and_ways_are_compared() {
        let mut table = Table::new(Case::Requests1);
        table.add(Way::Shard, figures(10.0, 100.0));
        table.add(Way::Quinn, figures(100.0, 50.0));
        table.add(Way::Shard, figures(30.0, 300.0));
        assert_eq!(table.median(Way::Shard, "p50"), Some(20.0));
        let ahead: Vec<_> = (table.ratios.iter())
            .map(|ratio| (ratio.figure.as_str(), ratio.ratio, ratio.ahead))
            .collect();
        assert_eq!(ahead, [("p50", 0.2, true), ("requests", 4.0, true)]);
        table.add(Way::Shard, figures(900.0, 1.0));
        assert!(table.ratios[0].ahead);
        table.add(Way::Shard, figures(900.0, 1.0));
        assert!(!table.ratios[0].ahead);
    }

    #[test]
    fn columns_are_aligned_and_counts_left_out() {
        let mut table = Table::new(Case::Requests16);
        table.add(Way::Shard, figures(10.0, 100.0));
        table.add(Way::Shard, figures(12.0, 100.0));
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("p50, us") && lines[0].ends_with("requests/s"));
        assert!(lines[1].contains("11.0 (10.0 .. 12.0)"), "{text}");
        assert!(lines[2].ends_with('-'), "{text}");
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(!text.contains("answers"));
    }

    #[test]
    fn only_the_engine_fails_a_run() {
        let mut table = Table::new(Case::Bulk);
        table.fail(Way::Quinn, "lost");
        assert!(table.problems.is_empty() && table.notes.len() == 1);
        table.fail(Way::Shard, "lost");
        assert_eq!(table.problems, ["shard: lost"]);
    }
}
