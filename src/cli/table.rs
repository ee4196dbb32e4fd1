//! Columns under headings, for people.

use std::fmt;

/// A table whose last column is as wide as it likes.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row. What is empty is shown as `-`, so that columns can be counted by `awk` and eye.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| match cell.trim() {
            "" => "-".to_owned(),
            text => text.replace(['\n', '\r', '\t'], " "),
        }));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for (i, row) in self.rows.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            for (column, cell) in row.iter().enumerate() {
                match column + 1 == N {
                    true => f.write_str(cell)?,
                    false => write!(f, "{cell:width$}  ", width = widths[column])?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings() {
        let mut table = Table::new(["NAME", "PHASE", "MESSAGE"]);
        table.row(["shop".into(), "ready".into(), String::new()]);
        table.row(["a-long-name".into(), "failed".into(), "one\ntwo".into()]);
        let expected = "NAME         PHASE   MESSAGE\n\
                        shop         ready   -\n\
                        a-long-name  failed  one two";
        assert_eq!(table.to_string(), expected);
    }
}
