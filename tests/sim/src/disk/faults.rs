//! What is done to a disk from outside.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rocksdb::model;

use super::{SimDisk, State};

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

impl SimDisk {
    /// What would be left of this disk if the power were cut now, with nothing that was not synced: a
    /// disk of its own. A log that is opened on it is to be read only.
    pub(crate) fn image(&self) -> Self {
        let state = self.state.lock();
        let mut names = state.names.image();
        // All is lost that may be: there is nothing to draw.
        let mut dice = StdRng::seed_from_u64(0);
        names.cut(&mut dice, 0);
        let state = State { names, ..State::new(dice, state.latency_ms) };
        let (state, state_dir) = (Arc::new(Mutex::new(state)), self.state_dir.clone());
        Self { state, state_dir, driver: |writer, _| drop(writer) }
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
        state.writes_left = None;
        state.locked = false;
        if let Cut::Power { keep } = cut {
            state.names.cut(&mut state.dice, keep);
        }
        // It has no log of its own: for it a killed process is as bad as a power cut.
        model::power_cut(&self.state_dir);
    }

    /// The next durable write is done in part, and the power is cut there.
    pub(crate) fn cut_at_next_write(&self) {
        self.state.lock().cut_at_next_write = true;
    }

    /// After so many durable writes one fails.
    pub(crate) fn fail_after(&self, writes: u64) {
        self.state.lock().writes_left = Some(writes);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Least and most milliseconds of a durable write.
    pub(crate) fn set_latency_ms(&self, latency_ms: (u64, u64)) -> (u64, u64) {
        std::mem::replace(&mut self.state.lock().latency_ms, latency_ms)
    }

    /// An empty disk in place of this one. Nothing of the node may run.
    pub(crate) fn lose(&self) {
        self.state.lock().names.clear();
        model::lose_disk(&self.state_dir);
    }

    /// Flips one bit in the written part of a file in this directory. Nothing of the node may run.
    /// Returns where, unless there is nothing.
    pub(crate) fn flip_bit(&self, dir: &Path) -> Option<String> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let written = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map(|end| end + 1);
        let mut files = state.names.in_dir(dir);
        files.retain(|(_, file)| written(file.lock().bytes()).is_some());
        if files.is_empty() {
            return None;
        }
        let (path, file) = &files[state.dice.random_range(0..files.len())];
        let mut file = file.lock();
        let end = written(file.bytes()).unwrap_or(1);
        let (at, bit) = (state.dice.random_range(0..end), state.dice.random_range(0..8));
        file.bytes_mut()[at] ^= 1 << bit;
        Some(format!("{} byte {at} bit {bit}", path.display()))
    }

    /// Sets what the state store does by itself.
    pub(crate) fn set_state_habits(&self, habits: model::Habits) {
        model::set_habits(&self.state_dir, habits);
    }
}
