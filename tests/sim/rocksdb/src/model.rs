//! What a simulator does to a store from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::store::Store;

/// What a store does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// One write in so many is followed by a flush that nobody asked for, as if memory were full;
    /// 0 for never.
    pub flush_once_in: u64,
    /// One flush in so many fails, and with it the store; 0 for never.
    pub fail_once_in: u64,
    /// Decides which.
    pub seed: u64,
}

pub(crate) type Shared = Arc<Mutex<Store>>;

/// Every store of this process by its directory.
static STORES: LazyLock<Mutex<BTreeMap<PathBuf, Shared>>> = LazyLock::new(Mutex::default);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is looked at by nobody: the run is over.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn store(dir: &Path) -> Shared {
    lock(&STORES).entry(dir.to_owned()).or_default().clone()
}

/// Sets what a store does by itself.
pub fn set_habits(dir: &Path, habits: Habits) {
    lock(&store(dir)).habits = habits;
}

/// Loses everything that was not flushed. Handles from before fail from now on; the store can be
/// opened again.
pub fn power_cut(dir: &Path) {
    let store = store(dir);
    let mut store = lock(&store);
    store.lose_unflushed();
    store.life += 1;
    (store.open, store.failed) = (false, false);
}

/// Calls back with the column family's name, key and value of every row.
pub fn for_each_row(dir: &Path, mut row: impl FnMut(&str, &[u8], &[u8])) {
    let store = store(dir);
    let store = lock(&store);
    for (name, family) in store.names.iter().zip(&store.rows.families) {
        family.iter().for_each(|(key, value)| row(name, key, value));
    }
}

/// Loses everything.
pub fn lose_disk(dir: &Path) {
    let store = store(dir);
    let mut store = lock(&store);
    let (habits, life) = (store.habits, store.life + 1);
    *store = Store::default();
    (store.habits, store.life) = (habits, life);
}
