//! What a measurement found.

use serde::{Deserialize, Serialize};

/// One number with its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The value.
    pub value: f64,
}

/// What one measurement found: the last line of its process's output, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// In the order in which they are shown.
    pub figures: Vec<Figure>,
    /// What should not have happened: connections lost, requests without an answer.
    pub problems: Vec<String>,
    /// What a reader has to know of the conditions.
    pub notes: Vec<String>,
}

impl Figures {
    /// Adds a figure. One that is no number, a ratio to nothing, is a problem instead.
    pub fn add(&mut self, name: impl Into<String>, unit: &str, value: f64) {
        let name = name.into();
        if !value.is_finite() {
            self.problems.push(format!("{name}: nothing to measure by"));
            return;
        }
        self.figures.push(Figure {
            name,
            unit: unit.to_owned(),
            value,
        });
    }

    /// Adds what another measurement found; values of the same name are added up.
    pub fn merge(&mut self, other: Self) {
        for figure in other.figures {
            match self.figures.iter_mut().find(|f| f.name == figure.name) {
                Some(known) => known.value += figure.value,
                None => self.figures.push(figure),
            }
        }
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
    }

    /// The value of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.map(|figure| figure.value)
    }
}

/// Jain's fairness index of `shares`: 1 when all are equal, 1/n when one has everything; 0 without any.
pub fn jain_index(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    match squares > 0.0 {
        true => sum * sum / (shares.len() as f64 * squares),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_a_problem() {
        let mut figures = Figures::default();
        figures.add("a ratio", "%", f64::INFINITY);
        figures.add("another", "%", f64::NAN);
        assert!(figures.figures.is_empty());
        assert_eq!(figures.problems.len(), 2);
    }

    #[test]
    fn jain_tells_equal_shares_from_unequal_ones() {
        assert_eq!(jain_index(&[3.0; 50]), 1.0);
        assert_eq!(jain_index(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        let uneven = jain_index(&[1.0, 2.0]);
        assert!((uneven - 0.9).abs() < 1e-12, "{uneven}");
        assert_eq!(jain_index(&[]), 0.0);
        assert_eq!(jain_index(&[0.0; 3]), 0.0);
    }
}
