//! What a simulator does to a store from outside, and sees of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::batch::Change;
use crate::store::{Contents, Store};

/// What a store does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// One write in so many is followed by a flush that nobody asked for, as if memory were full;
    /// 0 for never.
    pub flush_once_in: u64,
    /// Decides which.
    pub seed: u64,
}

/// How often what was asked for took place, over all lives of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Flushes that failed.
    pub flushes_failed: u64,
    /// Reads that failed.
    pub reads_failed: u64,
}

/// Bytes that begin a key; see [`Written::sum`].
pub const PREFIX_BYTES: usize = 8;
/// See [`Written::sum`].
pub type Prefix = [u8; PREFIX_BYTES];

/// A store just after a write, for who witnesses it.
pub struct Written<'a> {
    pub(crate) contents: &'a Contents,
    /// Rows of the write that the witness wanted: key and value.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Written<'_> {
    /// Sum over hashes of all rows that begin so: what comes behind the prefix, and the value.
    pub fn sum(&self, prefix: Prefix) -> u64 {
        self.contents.sum(prefix)
    }

    /// A row's value.
    pub fn get(&self, family: &str, key: &[u8]) -> Option<&[u8]> {
        let family = self.contents.names.iter().position(|name| name == family)?;
        self.contents.rows.families[family].get(key).map(|value| &**value)
    }
}

/// Is told of writes with certain rows, at the moment at which they are visible. It must not use the
/// store.
pub struct Witness {
    /// Which keys of rows that are written.
    pub wants: fn(&[u8]) -> bool,
    /// Called with the store's directory.
    #[allow(clippy::type_complexity, reason = "it is a function of two arguments")]
    pub saw: Box<dyn Fn(&Path, &Written<'_>) + Send>,
}

/// What is in a store, put by.
pub struct Copy(Contents);

pub(crate) type Shared = Arc<Mutex<Store>>;

/// Every store of this process by its directory.
static STORES: LazyLock<Mutex<BTreeMap<PathBuf, Shared>>> = LazyLock::new(Mutex::default);
static WITNESS: Mutex<Option<Witness>> = Mutex::new(None);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is looked at by nobody: the run is over.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn store(dir: &Path) -> Shared {
    lock(&STORES).entry(dir.to_owned()).or_default().clone()
}

/// The rows of a write that somebody wants to hear of.
pub(crate) fn wanted(changes: &[(usize, Change)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Some(wants) = lock(&WITNESS).as_ref().map(|witness| witness.wants) else {
        return Vec::new();
    };
    let puts = changes.iter().filter_map(|(_, change)| match change {
        Change::Put(key, value) if wants(key) => Some((key.clone(), value.clone())),
        _ => None,
    });
    puts.collect()
}

pub(crate) fn tell(dir: &Path, written: &Written<'_>) {
    if let Some(witness) = &*lock(&WITNESS) {
        (witness.saw)(dir, written);
    }
}

/// Sets who is told of all writes of this process.
pub fn set_witness(witness: Option<Witness>) {
    *lock(&WITNESS) = witness;
}

/// Sets what a store does by itself.
pub fn set_habits(dir: &Path, habits: Habits) {
    lock(&store(dir)).habits = habits;
}

/// The next flush fails, and with it the store.
pub fn fail_next_flush(dir: &Path, fail: bool) {
    lock(&store(dir)).flush_fails = fail;
}

/// After so many reads one fails; `None`: none does.
pub fn fail_read_after(dir: &Path, reads: Option<u64>) {
    lock(&store(dir)).reads_left = reads;
}

/// Whether there is no room for a flush.
pub fn set_full(dir: &Path, full: bool) {
    lock(&store(dir)).is_full = full;
}

/// What happened to a store.
pub fn happened(dir: &Path) -> Happened {
    lock(&store(dir)).happened
}

/// Loses everything that was not flushed. Handles from before fail from now on; the store can be
/// opened again.
pub fn power_cut(dir: &Path) {
    let store = store(dir);
    let mut store = lock(&store);
    store.contents.lose_unflushed();
    store.life += 1;
    (store.open, store.failed) = (false, false);
}

/// What a power cut at this moment would leave.
pub fn copy(dir: &Path) -> Copy {
    let mut contents = lock(&store(dir)).contents.clone();
    contents.lose_unflushed();
    Copy(contents)
}

/// Puts back what was there, in place of what is there now. Handles from before fail from now on.
pub fn put_back(dir: &Path, copy: &Copy) {
    let store = store(dir);
    let mut store = lock(&store);
    store.contents = copy.0.clone();
    store.life += 1;
    (store.open, store.failed) = (false, false);
}

/// Calls back with the column family's name, key and value of every row.
pub fn for_each_row(dir: &Path, mut row: impl FnMut(&str, &[u8], &[u8])) {
    let store = store(dir);
    let store = lock(&store);
    for (name, family) in store.contents.names.iter().zip(&store.contents.rows.families) {
        family.iter().for_each(|(key, value)| row(name, key, value));
    }
}

/// Loses everything.
pub fn lose_disk(dir: &Path) {
    put_back(dir, &Copy(Contents::default()));
}
