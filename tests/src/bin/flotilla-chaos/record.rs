//! A full run takes hours: what has come of it is in a file, and the same command goes on there.

use std::io;
use std::path::Path;

use flotilla_tests::Journal;
use flotilla_tests::chaos::Cell;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// What all runs of a record have in common; the first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    commit: String,
    seed: u64,
    times: u64,
    hold_ms: u128,
    dense: usize,
    nodes: Vec<u64>,
    faults: Option<Vec<String>>,
    ground: Option<String>,
}

/// A run that has ended; each other line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) nodes: u64,
    pub(crate) seed: u64,
    pub(crate) cell: Cell,
}

/// See the module.
pub(crate) struct Record(Journal);

impl Record {
    /// Begins a record, or goes on with one: with its seed, whatever was asked for. Also what it has.
    ///
    /// # Errors
    /// When it is of another commit or of other settings, or cannot be read or written.
    pub(crate) fn open(path: &Path, settings: &mut Settings) -> Result<(Self, Vec<Row>), String> {
        let wrong = |error: io::Error| format!("{}: {error}", path.display());
        let (journal, lines) = Journal::open(path).map_err(wrong)?;
        let mut record = Self(journal);
        let mut header = Header::of(settings);
        let Some((first, rows)) = lines.split_first() else {
            record.write(&header).map_err(wrong)?;
            return Ok((record, Vec::new()));
        };
        let unreadable = |error| format!("{} is no record: {error}", path.display());
        let before: Header = serde_json::from_str(first).map_err(unreadable)?;
        header.seed = before.seed;
        if before != header {
            return Err(format!("{} is of {before:?}, and this is {header:?}", path.display()));
        }
        settings.seed = before.seed;
        let rows: Result<Vec<Row>, _> = rows.iter().map(|row| serde_json::from_str(row)).collect();
        Ok((record, rows.map_err(unreadable)?))
    }

    /// # Errors
    /// When it cannot be written.
    pub(crate) fn add(&mut self, row: &Row) -> io::Result<()> {
        self.write(row)
    }

    fn write(&mut self, what: &impl Serialize) -> io::Result<()> {
        self.0.add(&serde_json::to_string(what)?)
    }
}

impl Header {
    fn of(settings: &Settings) -> Self {
        let names = |kinds: &Vec<_>| kinds.iter().map(ToString::to_string).collect();
        Self {
            commit: settings.commit.clone(),
            seed: settings.seed,
            times: settings.times,
            hold_ms: settings.hold.as_millis(),
            dense: settings.dense,
            nodes: settings.nodes.clone(),
            faults: settings.faults.as_ref().map(names),
            ground: settings.ground.map(|ground| ground.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;
    use crate::settings::Mode;

    fn settings(seed: u64, commit: &str) -> Settings {
        let read = Settings::read().expect("nothing is asked for");
        Settings { mode: Mode::Full, seed, commit: commit.to_owned(), ..read }
    }

    #[test]
    fn a_record_goes_on_with_its_seed_and_without_its_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let (mut record, none) = Record::open(&path, &mut settings(7, "a")).unwrap();
        assert!(none.is_empty());
        let row = |name: &str| Row {
            name: name.to_owned(),
            nodes: 3,
            seed: 7,
            cell: Cell::broke("it panicked"),
        };
        record.add(&row("pause")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"name\":\"fl").unwrap();
        let mut again = settings(9, "a");
        let (mut record, rows) = Record::open(&path, &mut again).unwrap();
        assert_eq!((again.seed, rows), (7, vec![row("pause")]));
        record.add(&row("flap")).unwrap();
        let (_, rows) = Record::open(&path, &mut again).unwrap();
        assert_eq!(rows, [row("pause"), row("flap")]);
    }

    #[test]
    fn a_record_of_another_commit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        Record::open(&path, &mut settings(7, "a")).map(drop).unwrap();
        let error = Record::open(&path, &mut settings(7, "b")).map(drop).unwrap_err();
        assert!(error.contains("commit: \"a\"") && error.contains("commit: \"b\""), "{error}");
    }
}
