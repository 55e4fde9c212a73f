//! Text tables that line up.

use std::fmt;

/// Rows of cells; the columns of all rows line up.
#[derive(Debug, Clone)]
pub struct Table {
    columns: &'static str,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. `columns` has a letter a column: `<` for text to the left, `>` for numbers to the right; columns
    /// without a letter are text.
    pub fn new(columns: &'static str) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            let alignment = self.columns.chars().chain(std::iter::repeat('<'));
            for ((cell, &width), alignment) in row.iter().zip(&widths).zip(alignment) {
                line.push_str(&match alignment {
                    '>' => format!("{cell:>width$}  "),
                    _ => format!("{cell:<width$}  "),
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("<>");
        table.row(["port", "mbufs"]);
        table.row(["left", "81910"]);
        table.row(["r", "12"]);
        assert_eq!(table.to_string(), "port  mbufs\nleft  81910\nr        12\n");
    }

    #[test]
    fn rows_may_differ_in_length() {
        let mut table = Table::new("");
        table.row(["a"]);
        table.row(["bb", "c", "d"]);
        assert_eq!(table.to_string(), "a\nbb  c  d\n");
    }
}
