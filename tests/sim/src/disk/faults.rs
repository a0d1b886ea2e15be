//! What is done to a disk from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rocksdb::model;

use super::file::Contents;
use super::names::Names;
use super::{CutOff, Happened, Shadow, SimDisk, State};

/// How a disk ends when its node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The process is killed: the system still writes everything.
    Process,
    /// The power is cut: so many in a hundred of the sectors and names that were not synced are there.
    Power {
        /// How many.
        keep: u32,
    },
}

/// What becomes of a file that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One bit of what was written is another one.
    Flip,
    /// Its end is missing.
    Shorten,
    /// It is gone.
    Remove,
}

/// A whole disk, put by.
pub(crate) struct Copy {
    names: Names,
    shadow: Shadow,
    store: model::Copy,
}

impl SimDisk {
    /// What would be left of this disk if the power were cut now, with nothing that was not synced: a
    /// disk of its own. A log that is opened on it is to be read only.
    pub(crate) fn image(&self) -> Self {
        let state = self.state.lock();
        let (names, dice) = (bare(&state.names), StdRng::seed_from_u64(0));
        let state = State { names, ..State::new(dice, state.latency_ms) };
        let (state, state_dir) = (Arc::new(Mutex::new(state)), self.state_dir.clone());
        Self { state, state_dir, driver: |writer, _| drop(writer) }
    }

    /// What a power cut at this moment would leave, with the state store.
    pub(crate) fn copy(&self) -> Copy {
        let state = self.state.lock();
        let (names, shadow) = (bare(&state.names), state.shadow.clone());
        Copy { names, shadow, store: model::copy(&self.state_dir) }
    }

    /// Puts a copy in place of what is there. Nothing of the node may run.
    pub(crate) fn put_back(&self, copy: Copy) {
        let mut state = self.state.lock();
        (state.names, state.shadow) = (copy.names, copy.shadow);
        model::put_back(&self.state_dir, &copy.store);
    }

    /// From now on nothing works.
    pub(crate) fn switch_off(&self) {
        self.state.lock().off = true;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Nothing of the node may run any more. What is there afterwards is what the next start finds.
    pub(crate) fn restart(&self, cut: Cut) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.life += 1;
        state.off = false;
        state.cut_at_next_write = false;
        (state.writes_left, state.reads_left) = (None, None);
        state.locked = false;
        if let Cut::Power { keep } = cut {
            state.names.cut(&mut state.dice, keep);
        }
        // It has no log of its own: for it a killed process is as bad as a power cut.
        model::power_cut(&self.state_dir);
        model::fail_next_flush(&self.state_dir, false);
        model::fail_read_after(&self.state_dir, None);
    }

    /// The next durable write is done in part, and the power is cut there.
    pub(crate) fn cut_at_next_write(&self) {
        self.state.lock().cut_at_next_write = true;
    }

    /// After so many durable writes one fails.
    pub(crate) fn fail_write_after(&self, writes: u64) {
        self.state.lock().writes_left = Some(writes);
    }

    /// After so many reads one fails, of the log and of the state store each.
    pub(crate) fn fail_read_after(&self, reads: u64) {
        self.state.lock().reads_left = Some(reads);
        model::fail_read_after(&self.state_dir, Some(4 * reads));
    }

    /// The state store's next flush fails.
    pub(crate) fn fail_next_flush(&self) {
        model::fail_next_flush(&self.state_dir, true);
    }

    /// Files can grow by so many bytes together; `None`: by as much as anybody wants.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.state.lock().room = room;
        // It writes whole files, and more of them than the log does.
        model::set_full(&self.state_dir, room.is_some_and(|room| room < 1 << 20));
    }

    /// Least and most milliseconds of a durable write.
    pub(crate) fn set_latency_ms(&self, latency_ms: (u64, u64)) -> (u64, u64) {
        std::mem::replace(&mut self.state.lock().latency_ms, latency_ms)
    }

    /// How often what was asked for took place, here and in the state store.
    pub(crate) fn happened(&self) -> (Happened, model::Happened) {
        (self.state.lock().happened, model::happened(&self.state_dir))
    }

    /// An empty disk in place of this one; whether anything was on it. Nothing of the node may run.
    pub(crate) fn lose(&self) -> bool {
        let mut state = self.state.lock();
        let had_any = !state.names.is_empty();
        state.names.clear();
        model::lose_disk(&self.state_dir);
        had_any
    }

    /// Damages one of the files that are meant. Nothing of the node may run. Returns what was done,
    /// unless there is none with anything in it.
    pub(crate) fn damage(&self, meant: impl Fn(&Path) -> bool, change: Change) -> Option<String> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut files = state.names.files();
        files.retain(|(path, file)| meant(path) && written(file.lock().bytes()) > 0);
        if files.is_empty() {
            return None;
        }
        let (path, file) = &files[state.dice.random_range(0..files.len())];
        let name = path.display();
        let mut contents = file.lock();
        let end = written(contents.bytes());
        match change {
            Change::Flip => {
                let (at, bit) = (state.dice.random_range(0..end), state.dice.random_range(0..8));
                contents.bytes_mut()[at] ^= 1 << bit;
                Some(format!("{name}: bit {bit} of byte {at}"))
            }
            Change::Shorten => {
                let left = state.dice.random_range(0..end);
                contents.cut_to(left);
                Some(format!("{name}: {left} of {end} bytes are left"))
            }
            Change::Remove => {
                drop(contents);
                let name = name.to_string();
                state.names.lose(&path.clone());
                Some(format!("{name}: gone"))
            }
        }
    }

    /// Sets what the state store does by itself.
    pub(crate) fn set_state_habits(&self, habits: model::Habits) {
        model::set_habits(&self.state_dir, habits);
    }

    /// How many files in a directory have names that begin so.
    pub(crate) fn names(&self, dir: &Path, beginning: &str) -> usize {
        let is_one = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
        };
        self.state.lock().names.list(dir).iter().filter(is_one).count()
    }

    /// Looks at what the log durably holds.
    pub(crate) fn with_shadow<T>(&self, look: impl FnOnce(&Shadow) -> T) -> T {
        look(&self.state.lock().shadow)
    }

    /// What the log holds was found by other means: after anything that was no durable write.
    pub(crate) fn set_shadow(&self, shadow: Shadow) {
        self.state.lock().shadow = shadow;
    }

    /// Entries that were durably cut off since the last call.
    pub(crate) fn take_cut_off(&self) -> Vec<CutOff> {
        self.state.lock().shadow.take_cut_off()
    }
}

/// Names and contents as they are without all that was not synced.
fn bare(names: &Names) -> Names {
    let mut names = names.image();
    // All is lost that may be: there is nothing to draw.
    names.cut(&mut StdRng::seed_from_u64(0), 0);
    names
}

/// Bytes up to the last that is not zero: segments are written beforehand.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// A file and what is in it.
pub(super) type Named = (PathBuf, Arc<Mutex<Contents>>);
