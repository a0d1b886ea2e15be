//! Small text files beside the stores: who a node is, what it remembers. Their last line is a checksum, so
//! that a flipped bit makes nobody believe something else.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Open};

/// What is found where such a file should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Missing,
    /// Something that was not written like that.
    Damaged,
    /// What was written.
    Text(String),
}

impl Note {
    /// What was written, if it is there.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Missing | Self::Damaged => None,
        }
    }
}

/// Reads a file.
///
/// # Errors
/// When the disk fails.
pub fn read(disk: &dyn Disk, file: &Path) -> io::Result<Note> {
    match disk.read(file) {
        Ok(bytes) => Ok(checked(&bytes).map_or(Note::Damaged, |text| Note::Text(text.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Note::Missing),
        Err(error) => Err(error),
    }
}

/// Puts text in the place of what a file held: all of it or none, durably. It ends with a line.
///
/// # Errors
/// When the disk fails.
pub fn write(disk: &dyn Disk, dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = disk.open(&new, Open::Anew)?;
    file.write_all_at(with_checksum(text).as_bytes(), 0)?;
    file.sync_all()?;
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir)
}

fn checked(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let end = text.strip_suffix('\n')?.rfind('\n').map_or(0, |before| before + 1);
    let (text, checksum) = text.split_at(end);
    let checksum = u32::from_str_radix(checksum.trim_end(), 16).ok()?;
    (checksum == crc32fast::hash(text.as_bytes())).then_some(text)
}

fn with_checksum(text: &str) -> String {
    format!("{text}{:08x}\n", crc32fast::hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Machine;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("note");
        assert_eq!(read(&Machine, &file).unwrap(), Note::Missing);
        for text in ["one\ntwo\n", "", "three\n"] {
            write(&Machine, dir.path(), "note", text).unwrap();
            assert_eq!(read(&Machine, &file).unwrap(), Note::Text(text.to_owned()));
        }
        let good = std::fs::read(&file).unwrap();
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, bad).unwrap();
            let found = read(&Machine, &file).unwrap();
            // Its checksum may be written in letters of either size.
            assert!(found == Note::Damaged || found == Note::Text("three\n".into()), "bit {bit}");
        }
        std::fs::write(&file, &good[..good.len() - 1]).unwrap();
        assert_eq!(read(&Machine, &file).unwrap(), Note::Damaged);
    }
}
