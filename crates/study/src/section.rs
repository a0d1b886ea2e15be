//! What an experiment brings home.

use std::path::Path;

use anyhow::Context as _;

use crate::plot::Figure;

/// Rows of a table, which is a CSV file and part of the report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Of its file.
    pub(crate) name: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(name: &str, header: &[&str]) -> Self {
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        Self { name: name.to_owned(), header, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: &[&dyn std::fmt::Display]) {
        self.rows.push(cells.iter().map(|cell| format!("{cell}")).collect());
    }

    /// Cells with commas are in quotes; there are none with quotes: they are the study's own.
    pub(crate) fn csv(&self) -> String {
        let cell = |cell: &String| match cell.contains(',') {
            true => format!("\"{cell}\""),
            false => cell.clone(),
        };
        let line = |cells: &Vec<String>| cells.iter().map(cell).collect::<Vec<_>>().join(",");
        let lines = std::iter::once(&self.header).chain(&self.rows);
        lines.map(|cells| line(cells) + "\n").collect()
    }

    /// Writes the table as `<name>.csv`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(format!("{}.csv", self.name));
        std::fs::write(&path, self.csv())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// As on the command line.
    pub(crate) name: &'static str,
    pub(crate) question: String,
    /// What was done, with the number of trials.
    pub(crate) method: String,
    /// What the numbers say.
    pub(crate) findings: Vec<String>,
    /// Theory beside measurement: where they differ, and why.
    pub(crate) theory: Vec<String>,
    /// File names and pictures.
    pub(crate) figures: Vec<(String, Figure)>,
    pub(crate) tables: Vec<Table>,
    /// Promises that were not kept.
    pub(crate) broken: Vec<String>,
    /// Recommendations of its own.
    pub(crate) advice: Vec<String>,
    /// What recommendations need.
    pub(crate) values: Vec<(&'static str, f64)>,
    /// Why it did not run.
    pub(crate) skipped: Option<String>,
}

impl Section {
    /// Writes charts and tables.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        self.figures.iter().try_for_each(|(name, figure)| figure.save(dir, name))?;
        self.tables.iter().try_for_each(|table| table.save(dir))
    }
}

/// A number as a table has it.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 1_000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.01 => 4,
        _ => 7,
    };
    format!("{value:.digits$}")
}

/// A share as people read it.
pub(crate) fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".to_owned(),
        value if value < 0.1 => format!("{value:.3} %"),
        value if value < 10.0 => format!("{value:.1} %"),
        value => format!("{value:.0} %"),
    }
}

/// Milliseconds as people read them.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        ms if !ms.is_finite() => "unknown".to_owned(),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => format!("{:.0} s", ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (number(12_345.6), number(0.0123), number(f64::NAN)),
            ("12346".into(), "0.0123".into(), String::new())
        );
        assert_eq!((percent(0.625), percent(0.0006)), ("62 %".into(), "0.060 %".into()));
        assert_eq!((duration(1.25), duration(2_500.0)), ("1.2 ms".into(), "2.5 s".into()));
    }

    #[test]
    fn tables_are_csv() {
        let mut table = Table::new("x", &["a", "b"]);
        table.row(&[&1, &"y"]);
        assert_eq!(table.csv(), "a,b\n1,y\n");
        let dir = tempfile::tempdir().unwrap();
        let section = Section { name: "x", tables: vec![table], ..Section::default() };
        section.save(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("x.csv")).unwrap(), "a,b\n1,y\n");
    }
}
