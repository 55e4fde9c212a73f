//! Samples of one figure, taken in rounds.

use serde::Serialize;

/// One row of a comparison: a figure for one size of datagram, once a round.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// UDP payload of a full datagram, bytes.
    pub udp_payload: u16,
    /// Unit of the samples.
    pub unit: &'static str,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
}

/// The middle and the ends of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// The middle sample, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Of `samples`; `None` without any.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

/// All rows of a comparison, in the order of their first sample.
#[derive(Debug, Default, Serialize)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// Adds a sample to the row of this name and size.
    pub fn add(&mut self, name: &str, udp_payload: u16, unit: &'static str, sample: f64) {
        let row = self
            .0
            .iter_mut()
            .find(|row| row.name == name && row.udp_payload == udp_payload);
        match row {
            Some(row) => row.samples.push(sample),
            None => self.0.push(Row {
                name: name.to_owned(),
                udp_payload,
                unit,
                samples: vec![sample],
            }),
        }
    }

    /// The samples of a row; empty when there is none.
    pub fn samples(&self, name: &str, udp_payload: u16) -> &[f64] {
        let row = self
            .0
            .iter()
            .find(|row| row.name == name && row.udp_payload == udp_payload);
        row.map_or(&[], |row| &row.samples)
    }

    /// The distinct names and units of rows, in order.
    pub fn names(&self) -> Vec<(&str, &'static str)> {
        let mut names: Vec<(&str, &'static str)> = Vec::new();
        for row in &self.0 {
            if !names.iter().any(|(name, _)| *name == row.name) {
                names.push((&row.name, row.unit));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Summary::of(&[]), None);
        let odd = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        let even = Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.min, even.median, even.max), (1.0, 2.5, 4.0));
    }

    #[test]
    fn samples_of_a_name_and_size_share_a_row() {
        let mut rows = Rows::default();
        for (name, size, sample) in [("a", 1, 1.0), ("b", 1, 2.0), ("a", 1, 3.0), ("a", 2, 4.0)] {
            rows.add(name, size, "Gbit/s", sample);
        }
        assert_eq!(rows.samples("a", 1), [1.0, 3.0]);
        assert_eq!(rows.samples("a", 2), [4.0]);
        assert!(rows.samples("b", 2).is_empty());
        assert_eq!(rows.names(), [("a", "Gbit/s"), ("b", "Gbit/s")]);
    }
}
