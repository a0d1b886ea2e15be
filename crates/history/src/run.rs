//! A history's file judged from end to end: what a command line or a harness calls.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use crate::around::scenes;
use crate::check::check_reader;
use crate::file::{ReadError, Reader};
use crate::report::report;
use crate::timeline::timeline;
use crate::verdict::Verdict;

/// Findings whose surroundings are shown.
const SCENES_MAX: usize = 24;
const BUFFER_BYTES: usize = 1 << 20;

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// With the history.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ReadError,
    },
    /// With what was to be written.
    #[error("{path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: std::io::Error,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// The judgement.
    pub verdict: Verdict,
    /// For a terminal.
    pub report: String,
    /// The timeline's file, when something was found.
    pub timeline: Option<PathBuf>,
    /// The verdict in JSON.
    pub json: PathBuf,
}

/// Judges a file. Beside it are written the verdict (`.verdict.json`) and, when something was found,
/// the timeline (`.timeline.html`).
///
/// # Errors
/// When the history cannot be read or the results cannot be written.
pub fn check_file(path: &Path) -> Result<Checked, RunError> {
    let read = |error: ReadError| RunError::Read { path: path.to_owned(), error };
    let open = || -> Result<_, ReadError> {
        Reader::new(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?))
    };
    let verdict = open().and_then(|mut reader| check_reader(&mut reader)).map_err(read)?;
    let found = verdict.findings().next().is_some();
    let scenes = match found {
        true => open().and_then(|reader| scenes(&verdict, SCENES_MAX, reader)).map_err(read)?,
        false => Vec::new(),
    };
    let json = beside(path, "verdict.json");
    let mut text = serde_json::to_string_pretty(&verdict)
        .map_err(|error| RunError::Write { path: json.clone(), error: error.into() })?;
    text.push('\n');
    write(&json, &text)?;
    let timeline = match found {
        true => {
            let page = beside(path, "timeline.html");
            write(&page, &timeline(&verdict, &scenes))?;
            Some(page)
        }
        false => None,
    };
    Ok(Checked { report: report(&verdict, &scenes), verdict, timeline, json })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn write(path: &Path, text: &str) -> Result<(), RunError> {
    let failed = |error| RunError::Write { path: path.to_owned(), error };
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
}
