//! A night of seeds in pieces: what each came to is in a file, and the same command goes on there.

use std::path::Path;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::journal::Journal;
use crate::seeds::Said;

/// The first line says of which commit it is, each other one what a seed came to.
pub(crate) struct Record(Mutex<Journal>);

impl Record {
    /// Begins a record or goes on with one; also what it has.
    ///
    /// # Errors
    /// When it is of another commit, or cannot be read or written.
    pub(crate) fn open(path: &Path, commit: &str) -> anyhow::Result<(Self, Vec<Said>)> {
        let (journal, lines) = Journal::open(path).with_context(|| path.display().to_string())?;
        let record = Self(Mutex::new(journal));
        let Some((first, said)) = lines.split_first() else {
            record.write(&json!({ "commit": commit }))?;
            return Ok((record, Vec::new()));
        };
        let before: Value = serde_json::from_str(first)?;
        let is_same = before["commit"] == commit;
        ensure!(is_same, "{} is of commit {}, not of {commit}", path.display(), before["commit"]);
        let said = said.iter().map(|line| {
            let summary: Value = serde_json::from_str(line)?;
            let seed = summary["seed"].as_u64().context("a line without a seed")?;
            Ok(Said { seed, good: summary["good"] == true, text: String::new(), summary })
        });
        Ok((record, said.collect::<anyhow::Result<_>>()?))
    }

    /// A seed that came to no summary is not written down: it runs again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn add(&self, said: &Said) -> anyhow::Result<()> {
        match &said.summary {
            Value::Null => Ok(()),
            summary => self.write(summary),
        }
    }

    fn write(&self, line: &Value) -> anyhow::Result<()> {
        Ok(self.0.lock().add(&line.to_string())?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_record_goes_on_without_its_torn_line_and_with_its_commit_only() {
        let path = std::env::temp_dir().join(format!("flotilla-sim-record-{}", std::process::id()));
        let said = |seed: u64, good: bool| {
            let summary = json!({ "seed": seed, "good": good });
            Said { seed, good, text: String::new(), summary }
        };
        let (record, none) = Record::open(&path, "a").unwrap();
        assert!(none.is_empty());
        record.add(&said(5, true)).unwrap();
        record.add(&Said { summary: Value::Null, ..said(6, false) }).unwrap();
        record.add(&said(7, false)).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seed\":8,\"go").unwrap();
        let (record, before) = Record::open(&path, "a").unwrap();
        let seen: Vec<_> = before.iter().map(|said| (said.seed, said.good)).collect();
        assert_eq!(seen, [(5, true), (7, false)]);
        record.add(&said(8, true)).unwrap();
        assert_eq!(Record::open(&path, "a").unwrap().1.len(), 3);
        assert!(Record::open(&path, "b").is_err());
        std::fs::remove_file(path).unwrap();
    }
}
