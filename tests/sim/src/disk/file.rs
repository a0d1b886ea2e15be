//! What is in a file, and what a power cut leaves of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use flotilla_storage::disk::DiskFile;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngExt as _};

use super::SimDisk;

const SECTOR_BYTES: usize = 512;

/// Bytes as they are read, and what synced bytes they stand in place of.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    now: Vec<u8>,
    /// Synced length.
    synced_bytes: usize,
    /// Sectors that were written since the last sync, as they were then.
    before: BTreeMap<usize, Vec<u8>>,
}

impl Contents {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.now
    }

    /// As if it had never been longer, for good.
    pub(super) fn cut_to(&mut self, bytes: usize) {
        self.now.truncate(bytes);
        self.synced_bytes = self.synced_bytes.min(bytes);
        self.before.clear();
    }

    pub(super) fn truncate(&mut self) {
        // As if it were another file: the old one's bytes may still come back, whole.
        self.note(0..self.now.len());
        self.now.clear();
    }

    fn note(&mut self, range: std::ops::Range<usize>) {
        let first = range.start / SECTOR_BYTES;
        for sector in first..range.end.div_ceil(SECTOR_BYTES) {
            let from = (sector * SECTOR_BYTES).min(self.now.len());
            let to = ((sector + 1) * SECTOR_BYTES).min(self.now.len());
            let old = &self.now[from..to];
            self.before.entry(sector).or_insert_with(|| old.to_vec());
        }
    }

    /// By how much such a write makes the file longer.
    fn growth(&self, bytes: &[u8], offset: usize) -> u64 {
        (offset + bytes.len()).saturating_sub(self.now.len()) as u64
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        self.note(offset..end);
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.before.clear();
        self.synced_bytes = self.now.len();
    }

    /// Makes whole sectors durable and nothing else of the file.
    fn sync_range(&mut self, offset: usize, bytes: usize) {
        for sector in offset / SECTOR_BYTES..(offset + bytes).div_ceil(SECTOR_BYTES) {
            self.before.remove(&sector);
        }
        self.synced_bytes = self.synced_bytes.max(self.now.len());
    }

    /// What was not synced is there or not, sector by sector: `keep` says how many in a hundred are.
    pub(super) fn cut(&mut self, dice: &mut StdRng, keep: u32) {
        for (sector, old) in std::mem::take(&mut self.before) {
            if dice.random_range(0..100) < keep {
                continue;
            }
            let from = sector * SECTOR_BYTES;
            if self.now.len() < from + old.len() {
                self.now.resize(from + old.len(), 0);
            }
            let to = (from + SECTOR_BYTES).min(self.now.len());
            if let Some(place) = self.now.get_mut(from..to) {
                place.fill(0);
                place[..old.len()].copy_from_slice(&old);
            }
        }
        if self.now.len() != self.synced_bytes && dice.random_range(0..100) >= keep {
            self.now.resize(self.synced_bytes, 0);
        }
        self.synced_bytes = self.now.len();
    }
}

/// An open file.
pub(super) struct Handle {
    pub(super) disk: SimDisk,
    pub(super) life: u64,
    pub(super) contents: Arc<Mutex<Contents>>,
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl Handle {
    fn alive(&self) -> io::Result<()> {
        let state = self.disk.state.lock();
        if state.off || state.life != self.life { Err(off()) } else { Ok(()) }
    }

    /// What becomes of a durable write: all, or so much of it that sectors are drawn.
    fn fate(&self) -> Option<StdRng> {
        let mut state = self.disk.state.lock();
        let cut = std::mem::take(&mut state.cut_at_next_write);
        let failed = state.writes_left == Some(0);
        state.writes_left = state.writes_left.map(|left| left.saturating_sub(1));
        if cut {
            state.off = true;
            state.happened.torn += 1;
        }
        if failed {
            state.writes_left = None;
            state.happened.writes_failed += 1;
        }
        (cut || failed).then(|| rand::SeedableRng::from_rng(&mut state.dice))
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        self.alive()?;
        Ok(self.contents.lock().now.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.alive()?;
        self.disk.state.lock().read()?;
        let contents = self.contents.lock();
        let range = offset as usize..offset as usize + buffer.len();
        let bytes = contents.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.alive()?;
        let mut contents = self.contents.lock();
        self.disk.state.lock().take_room(contents.growth(bytes, offset as usize))?;
        contents.write(bytes, offset as usize);
        Ok(())
    }

    fn write_durably(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        self.alive()?;
        assert!(
            offset.is_multiple_of(SECTOR_BYTES as u64) && blocks.len().is_multiple_of(SECTOR_BYTES),
            "durable writes are of whole blocks"
        );
        let mut contents = self.contents.lock();
        self.disk.state.lock().take_room(contents.growth(blocks, offset as usize))?;
        let Some(mut dice) = self.fate() else {
            contents.write(blocks, offset as usize);
            contents.sync_range(offset as usize, blocks.len());
            let mut state = self.disk.state.lock();
            state.happened.batches += 1;
            state.shadow.follow(blocks);
            return Ok(());
        };
        // A prefix, or sectors here and there.
        let prefix = dice.random_range(0..=blocks.len() / SECTOR_BYTES);
        let in_order = dice.random_range(0..2) == 0;
        for (number, sector) in blocks.chunks(SECTOR_BYTES).enumerate() {
            let written = if in_order { number < prefix } else { dice.next_u32() & 1 == 0 };
            if written {
                let at = offset as usize + number * SECTOR_BYTES;
                contents.write(sector, at);
                contents.sync_range(at, SECTOR_BYTES);
            }
        }
        Err(io::Error::other("the write failed"))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?;
        self.contents.lock().sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
