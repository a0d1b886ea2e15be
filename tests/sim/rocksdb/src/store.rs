//! One store: its rows, and how to go back to those of the last flush.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::Arc;

use crate::batch::Change;
use crate::model::{Happened, PREFIX_BYTES, Prefix};

/// Place of the default column family.
pub(crate) const DEFAULT: usize = 0;

type Key = Vec<u8>;
type Value = Arc<[u8]>;
type Family = BTreeMap<Key, Value>;

/// Rows of all column families at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) families: Vec<Family>,
}

impl Rows {
    /// The first row from a key on, or after it.
    pub(crate) fn first(
        &self,
        family: usize,
        from: Bound<&[u8]>,
        before: Option<&[u8]>,
    ) -> Option<(Key, Value)> {
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        if let (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) = (from, to)
            && from >= to
        {
            return None;
        }
        let mut range = self.families[family].range::<[u8], _>((from, to));
        range.next().map(|(key, value)| (key.clone(), value.clone()))
    }
}

/// What is in a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) names: Vec<String>,
    pub(crate) rows: Rows,
    /// What was there at the last flush, of every row that was changed since.
    undo: BTreeMap<(usize, Key), Option<Value>>,
    /// Rows that were written more than once in their life.
    overwritten: BTreeSet<(usize, Key)>,
    /// Of all rows whose keys begin alike, hashes of what comes behind that and of the value.
    sums: BTreeMap<Prefix, u64>,
}

/// A store, open or not.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) contents: Contents,
    pub(crate) open: bool,
    /// Counts power cuts: what a handle was made in.
    pub(crate) life: u64,
    /// After a flush that failed nothing can be written any more.
    pub(crate) failed: bool,
    /// The next flush fails.
    pub(crate) flush_fails: bool,
    /// Reads that go well until one fails.
    pub(crate) reads_left: Option<u64>,
    /// There is no room for what a flush writes.
    pub(crate) is_full: bool,
    pub(crate) happened: Happened,
    pub(crate) habits: crate::model::Habits,
    dice: u64,
}

fn hash(family: usize, rest: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (family, rest, value).hash(&mut hasher);
    hasher.finish()
}

impl Contents {
    pub(crate) fn family(&mut self, name: &str) -> usize {
        match self.names.iter().position(|known| known == name) {
            Some(place) => place,
            None => {
                self.names.push(name.to_owned());
                self.rows.families.push(Family::new());
                self.names.len() - 1
            }
        }
    }

    pub(crate) fn apply(&mut self, changes: Vec<(usize, Change)>) {
        for (family, change) in changes {
            match change {
                Change::Put(key, value) => {
                    if self.put(family, key.clone(), Some(value.into())) {
                        self.overwritten.insert((family, key));
                    }
                }
                Change::Delete(key) => self.remove(family, key),
                Change::SingleDelete(key) => {
                    assert!(
                        !self.overwritten.contains(&(family, key.clone())),
                        "SingleDelete of a row that was written twice: {} {}",
                        self.names[family],
                        key.escape_ascii()
                    );
                    self.remove(family, key);
                }
                Change::DeleteRange(from, to) => {
                    let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
                    let dead = if from < to {
                        let rows = self.rows.families[family].range::<[u8], _>(bounds);
                        rows.map(|(key, _)| key.clone()).collect()
                    } else {
                        Vec::new()
                    };
                    for key in dead {
                        self.remove(family, key);
                    }
                }
            }
        }
    }

    fn remove(&mut self, family: usize, key: Key) {
        self.overwritten.remove(&(family, key.clone()));
        self.put(family, key, None);
    }

    /// Whether there was a row.
    fn put(&mut self, family: usize, key: Key, value: Option<Value>) -> bool {
        let before = self.set(family, &key, value);
        let there = before.is_some();
        self.undo.entry((family, key)).or_insert(before);
        there
    }

    /// The one place where rows change. Returns what was there.
    fn set(&mut self, family: usize, key: &[u8], value: Option<Value>) -> Option<Value> {
        if let Some((prefix, rest)) = key.split_first_chunk::<PREFIX_BYTES>() {
            let new = value.as_ref().map_or(0, |value| hash(family, rest, value));
            let old = self.rows.families[family].get(key);
            let old = old.map_or(0, |value| hash(family, rest, value));
            let sum = self.sums.entry(*prefix).or_default();
            *sum = sum.wrapping_add(new).wrapping_sub(old);
        }
        let rows = &mut self.rows.families[family];
        match value {
            Some(value) => rows.insert(key.to_vec(), value),
            None => rows.remove(key),
        }
    }

    pub(crate) fn sum(&self, prefix: Prefix) -> u64 {
        self.sums.get(&prefix).copied().unwrap_or(0)
    }

    /// A row as a power cut would leave it.
    pub(crate) fn persisted(&self, family: usize, key: &[u8]) -> Option<Value> {
        match self.undo.get(&(family, key.to_vec())) {
            Some(before) => before.clone(),
            None => self.rows.families[family].get(key).cloned(),
        }
    }

    pub(crate) fn unflushed_rows(&self) -> u64 {
        self.undo.len() as u64
    }

    pub(crate) fn flush(&mut self) {
        self.undo.clear();
    }

    pub(crate) fn lose_unflushed(&mut self) {
        for ((family, key), before) in std::mem::take(&mut self.undo) {
            self.set(family, &key, before);
        }
        // How often the rows that are left were written is not known any more.
        self.overwritten.clear();
    }
}

impl Store {
    /// True once in so many times; never for 0.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        if times == 0 {
            return false;
        }
        self.dice = (self.dice ^ self.habits.seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(times)
    }

    /// Whether this read fails.
    pub(crate) fn read_fails(&mut self) -> bool {
        let failed = self.reads_left == Some(0);
        self.reads_left = if failed { None } else { self.reads_left.map(|left| left - 1) };
        self.happened.reads_failed += u64::from(failed);
        failed
    }

    /// Why a flush does not go well, if it does not.
    pub(crate) fn flush_failure(&mut self) -> Option<&'static str> {
        let why = match () {
            () if self.failed => "an earlier flush failed",
            () if self.contents.unflushed_rows() == 0 => return None,
            () if std::mem::take(&mut self.flush_fails) => "the disk failed",
            () if self.is_full => "No space left on device",
            () => return None,
        };
        self.failed = true;
        self.happened.flushes_failed += 1;
        Some(why)
    }
}
