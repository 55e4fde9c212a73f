//! What was to be reached, and what was.

use std::fmt;

use serde::Serialize;

use super::case::{Case, Way};
use super::table::Table;

/// (a) p50 by that of quinn with blocking threads, one request at a time: at most this.
const OF_BLOCKING_MAX: f64 = 0.2;
/// (a) p50, one request at a time, in µs: less than that of every stack with busy-polling kernel sockets that was
/// measured on a machine of this kind.
const P50_US_BELOW: f64 = 13.8;

/// A goal and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// What was to be reached.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether that is enough.
    pub reached: bool,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = if self.reached { "reached" } else { "MISSED" };
        write!(f, "{}: {} ({reached})", self.what, self.found)
    }
}

/// Judges the goals on which `tables` have figures.
pub fn judge(tables: &[Table]) -> Vec<Goal> {
    let one = tables
        .iter()
        .find(|table| table.case == Case::Requests1.to_string());
    let p50 = |way| one.and_then(|table| table.median(way, "p50"));
    let mut goals = Vec::new();
    if let (Some(shard), Some(quinn)) = (p50(Way::Shard), p50(Way::Quinn)) {
        let ratio = shard / quinn;
        goals.push(Goal {
            what: format!("(a) p50 at most {OF_BLOCKING_MAX} of (c) with blocking threads"),
            found: format!("{ratio:.3}"),
            reached: ratio <= OF_BLOCKING_MAX,
        });
    }
    if let Some(shard) = p50(Way::Shard) {
        goals.push(Goal {
            what: format!("(a) p50 below {P50_US_BELOW} us"),
            found: format!("{shard:.1} us"),
            reached: shard < P50_US_BELOW,
        });
    }
    // Those that sleep beside one that sleeps, those that spin beside one that spins.
    goals.extend(everywhere(
        tables,
        &[Way::Handle, Way::HandleTask],
        Way::Quinn,
    ));
    let spinning = [Way::HandleSpinning, Way::HandleClient];
    goals.extend(everywhere(tables, &spinning, Way::QuinnBusy));
    goals
}

/// Whether the ways `of` are ahead of `to` in every figure of every case.
fn everywhere(tables: &[Table], of: &[Way], to: Way) -> Option<Goal> {
    let name = to.to_string();
    let of: Vec<String> = of.iter().map(Way::to_string).collect();
    let (mut count, mut behind) = (0, Vec::new());
    for table in tables {
        let ratios = table.ratios.iter();
        for ratio in ratios.filter(|ratio| ratio.to == name && of.contains(&ratio.way)) {
            count += 1;
            if !ratio.ahead {
                behind.push(format!("{} {} {ratio}", ratio.way, table.case));
            }
        }
    }
    (count > 0).then(|| Goal {
        what: format!("(b) {} ahead of {name} everywhere", of.join(", ")),
        found: match behind.is_empty() {
            true => format!("in all {count} figures"),
            false => format!("not in {} of {count}: {}", behind.len(), behind.join("; ")),
        },
        reached: behind.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::figures::Figures;

    fn judged(shard: f64, quinn: f64) -> Vec<bool> {
        let mut table = Table::new(Case::Requests1);
        for (way, p50) in [(Way::Shard, shard), (Way::Quinn, quinn)] {
            let mut figures = Figures::default();
            figures.add("p50", "us", p50);
            table.add(way, figures);
        }
        let goals = judge(&[table]);
        goals.iter().map(|goal| goal.reached).collect()
    }

    #[test]
    fn goals_are_judged_by_medians() {
        assert_eq!(judged(10.0, 100.0), [true, true]);
        assert_eq!(judged(21.0, 100.0), [false, false]);
        assert_eq!(judged(15.0, 100.0), [true, false]);
        assert!(judge(&[Table::new(Case::Requests1)]).is_empty());
    }

    #[test]
    fn the_handle_has_to_be_ahead_in_every_figure() {
        let mut tables = [Table::new(Case::Requests1), Table::new(Case::Bulk)];
        let mut add = |table: usize, way, name: &str, unit, value| {
            let mut figures = Figures::default();
            figures.add(name, unit, value);
            tables[table].add(way, figures);
            let goals = judge(&tables);
            goals.into_iter().find(|goal| goal.what.contains("quinn"))
        };
        assert_eq!(add(0, Way::Quinn, "p50", "us", 100.0), None);
        let goal = add(0, Way::Handle, "p50", "us", 20.0).unwrap();
        assert!(goal.reached, "{goal}");
        add(1, Way::Quinn, "goodput", "Gbit/s", 8.0);
        let goal = add(1, Way::HandleTask, "goodput", "Gbit/s", 7.0).unwrap();
        assert!(!goal.reached && goal.found.contains("handle-task bulk goodput"));
    }
}
