//! What becomes of a store whose files are not what was written: it is put aside, and an empty one
//! takes its place. Whoever uses the store rebuilds what was in it; the log says whether it can.
//!
//! Damage that is found while the store is open is noted in its directory, so that the next start does not
//! find the same damage at the same read, again and again.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// In the store's directory.
const NOTE: &str = "DAMAGED";
/// Ending of the directory that is put aside.
const ASIDE: &str = "damaged";

/// Notes the first damage that is found.
#[derive(Debug)]
pub(super) struct DamageNote {
    dir: PathBuf,
    found: OnceLock<String>,
}

impl DamageNote {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), found: OnceLock::new() }
    }

    pub(super) fn found(&self) -> Option<&str> {
        self.found.get().map(String::as_str)
    }

    /// Keeps the note on disk, if the disk takes it: without it the next start finds the damage itself.
    pub(super) fn note(&self, what: &impl fmt::Display) {
        let what = what.to_string();
        if self.found.set(what.clone()).is_ok()
            && let Err(error) = write(&self.dir, &what)
        {
            tracing::warn!(%error, "the damage of the state could not be noted");
        }
    }
}

fn write(dir: &Path, what: &str) -> io::Result<()> {
    let mut file = File::create(dir.join(NOTE))?;
    file.write_all(what.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// The damage that was noted by whoever had the store open before.
pub(super) fn noted(dir: &Path) -> Option<String> {
    let bytes = fs::read(dir.join(NOTE)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn aside(dir: &Path) -> PathBuf {
    dir.with_extension(ASIDE)
}

/// Moves the store out of the way. Only the latest is kept.
pub(super) fn put_aside(dir: &Path) -> io::Result<()> {
    remove_aside(dir)?;
    fs::rename(dir, aside(dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes what was put aside; `Ok` if there is nothing.
pub(super) fn remove_aside(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(aside(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
