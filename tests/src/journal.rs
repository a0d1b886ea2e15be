//! A file of lines that are added one by one, and of which those that were added outlive whoever adds them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Begins one or goes on with one; also the lines that it has.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // One that was being written when the program was killed is as if it had not been begun.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        file.set_len(whole as u64)?;
        Ok((Self(file), text.lines().map(str::to_owned).collect()))
    }

    /// Returns when the line is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes())?;
        self.0.sync_data()
    }
}
