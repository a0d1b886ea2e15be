//! A small value kept in two files that are overwritten in turn, so that a torn write leaves the
//! value before it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{u32_at, u64_at};
use super::unsupported;
use crate::disk::{Disk, DiskFile, Open};

const MAGIC: u32 = u32::from_le_bytes(*b"FLSL");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
/// A value longer than this is not ours.
const VALUE_BYTES_MAX: u64 = 64 * 1_048_576;

/// The pair of files. Header: magic, version, counter (8 bytes), length, checksum of all but
/// itself; then the value.
pub(super) struct TwoSlots {
    files: [Arc<dyn DiskFile>; 2],
    counter: u64,
}

impl TwoSlots {
    /// Opens or creates `name.0` and `name.1`; also returns the newest value that is whole. New
    /// files are durable only after the caller has synced the directory.
    ///
    /// # Errors
    /// `Unsupported` when a later build wrote there, else what the disk says.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        name: &str,
    ) -> io::Result<(TwoSlots, Option<Vec<u8>>)> {
        let open = |slot: usize| disk.open(&dir.join(format!("{name}.{slot}")), Open::OrCreate);
        let files = [open(0)?, open(1)?];
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for file in &files {
            if let Some((counter, value)) = read(&**file, name)?
                && newest.as_ref().is_none_or(|(known, _)| counter > *known)
            {
                newest = Some((counter, value));
            }
        }
        let counter = newest.as_ref().map_or(0, |(counter, _)| *counter);
        Ok((TwoSlots { files, counter }, newest.map(|(_, value)| value)))
    }

    /// Overwrites the older slot. Durable only after [`Self::sync`].
    pub(super) fn write(&mut self, value: &[u8]) -> io::Result<()> {
        self.counter += 1;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + value.len());
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.counter.to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes, value).to_le_bytes());
        bytes.extend_from_slice(value);
        self.current().write_all_at(&bytes, 0)
    }

    /// Makes the last written value durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.current().sync_data()
    }

    /// Both files, for a sync on another thread.
    pub(super) fn files(&self) -> [Arc<dyn DiskFile>; 2] {
        self.files.clone()
    }

    fn current(&self) -> &dyn DiskFile {
        &*self.files[(self.counter % 2) as usize]
    }
}

fn checksum(header: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..HEADER_BYTES - 4]);
    hasher.update(value);
    hasher.finalize()
}

fn read(file: &dyn DiskFile, name: &str) -> io::Result<Option<(u64, Vec<u8>)>> {
    let size = file.len()?;
    if size < HEADER_BYTES as u64 || size > VALUE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let (header, rest) = bytes.split_at(HEADER_BYTES);
    let Some(value) = rest.get(..u32_at(header, 16) as usize) else {
        return Ok(None);
    };
    if u32_at(header, 0) != MAGIC || u32_at(header, 20) != checksum(header, value) {
        return Ok(None);
    }
    match u32_at(header, 4) {
        VERSION => {}
        // Written whole, and not to be overwritten by who cannot read it.
        other => return Err(unsupported(format!("{name} has"), other)),
    }
    Ok(Some((u64_at(header, 8), value.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Machine;

    #[test]
    fn a_torn_write_leaves_the_value_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, value) = TwoSlots::open(&Machine, dir.path(), "x").unwrap();
        assert_eq!(value, None);
        slots.write(b"one").unwrap();
        slots.write(b"three").unwrap();
        assert_eq!(TwoSlots::open(&Machine, dir.path(), "x").unwrap().1, Some(b"three".to_vec()));
        // The second write went to slot 0: spoil each of its bytes in turn.
        let path = dir.path().join("x.0");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(
                TwoSlots::open(&Machine, dir.path(), "x").unwrap().1,
                Some(b"one".to_vec()),
                "{at}"
            );
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(
                TwoSlots::open(&Machine, dir.path(), "x").unwrap().1,
                Some(b"one".to_vec()),
                "{at}"
            );
        }
    }

    #[test]
    fn a_value_of_another_version_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = TwoSlots::open(&Machine, dir.path(), "x").unwrap();
        slots.write(b"one").unwrap();
        slots.write(b"two").unwrap();
        let path = dir.path().join("x.0");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4..8].copy_from_slice(&(VERSION + 1).to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        // As it is, it is torn.
        let (_, value) = TwoSlots::open(&Machine, dir.path(), "x").unwrap();
        assert_eq!(value, Some(b"one".to_vec()));
        let (header, value) = bytes.split_at(HEADER_BYTES);
        let crc = checksum(header, value);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let refused = TwoSlots::open(&Machine, dir.path(), "x").map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_shorter_value_after_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = TwoSlots::open(&Machine, dir.path(), "x").unwrap();
        for value in ["long long long", "also quite long", "s", ""] {
            slots.write(value.as_bytes()).unwrap();
            let (_, read) = TwoSlots::open(&Machine, dir.path(), "x").unwrap();
            assert_eq!(read, Some(value.as_bytes().to_vec()));
        }
    }
}
