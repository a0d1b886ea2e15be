//! The simulator's model of RocksDB and RocksDB itself do the same with the same operations and
//! crashes: what is found in simulated clusters holds for real ones.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use flotilla_probe::skip;
use loop_disk::Disk;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

mod loop_disk;

const FAMILIES: [&str; 2] = ["meta", "message"];
/// Few keys, so that operations meet.
const KEYS: u8 = 12;

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>),
    Flush,
    Crash,
    Reopen,
}

#[derive(Clone, Debug)]
enum Change {
    Put(usize, u8, u8),
    Delete(usize, u8),
    DeleteRange(usize, u8, u8),
}

/// Everything that can be seen of a store: all rows, and each key's value as a crash would leave it.
type Seen = (Vec<Vec<(Vec<u8>, Vec<u8>)>>, Vec<Option<Vec<u8>>>);

/// The same code for both: the model has RocksDB's interface.
macro_rules! engine {
    ($module:ident, $library:ident) => {
        mod $module {
            use super::*;
            use $library::{
                ColumnFamily, ColumnFamilyDescriptor, DB, FlushOptions, Options, ReadOptions,
                ReadTier, WriteBatch, WriteOptions,
            };

            pub(super) fn open(dir: &Path) -> DB {
                let mut options = Options::default();
                options.create_if_missing(true);
                options.create_missing_column_families(true);
                options.set_atomic_flush(true);
                let families = ["default"].into_iter().chain(FAMILIES);
                let families =
                    families.map(|it| ColumnFamilyDescriptor::new(it, Options::default()));
                DB::open_cf_descriptors(&options, dir, families).unwrap()
            }

            fn family(db: &DB, number: usize) -> &ColumnFamily {
                db.cf_handle(FAMILIES[number]).unwrap()
            }

            pub(super) fn write(db: &DB, changes: &[Change]) {
                let mut batch = WriteBatch::default();
                for change in changes {
                    match *change {
                        Change::Put(of, key, value) => {
                            batch.put_cf(family(db, of), [key], [value]);
                        }
                        Change::Delete(of, key) => batch.delete_cf(family(db, of), [key]),
                        Change::DeleteRange(of, from, to) => {
                            batch.delete_range_cf(family(db, of), [from], [to.max(from)]);
                        }
                    }
                }
                let mut options = WriteOptions::default();
                options.disable_wal(true);
                db.write_opt(batch, &options).unwrap();
            }

            pub(super) fn flush(db: &DB) {
                let default = db.cf_handle("default").unwrap();
                let families = [default, family(db, 0), family(db, 1)];
                let families: Vec<_> = families.iter().collect();
                db.flush_cfs_opt(&families, &FlushOptions::default()).unwrap();
            }

            pub(super) fn look(db: &DB) -> Seen {
                let rows = (0..FAMILIES.len()).map(|of| {
                    let mut options = ReadOptions::default();
                    options.set_iterate_upper_bound([KEYS - 1]);
                    let mut cursor = db.raw_iterator_cf_opt(family(db, of), options);
                    let mut rows = Vec::new();
                    cursor.seek([1]);
                    while let Some((key, value)) = cursor.item() {
                        rows.push((key.to_vec(), value.to_vec()));
                        cursor.next();
                    }
                    cursor.status().unwrap();
                    rows
                });
                let rows = rows.collect();
                let snapshot = db.snapshot();
                let mut persisted = Vec::new();
                for of in 0..FAMILIES.len() {
                    for key in 0..KEYS {
                        let mut options = ReadOptions::default();
                        options.set_read_tier(ReadTier::Persisted);
                        let value = db.get_pinned_cf_opt(family(db, of), [key], &options).unwrap();
                        persisted.push(value.map(|value| value.to_vec()));
                        let now = db.get_pinned_cf(family(db, of), [key]).unwrap();
                        let then = snapshot.get_pinned_cf(family(db, of), [key]).unwrap();
                        assert_eq!(now.map(|it| it.to_vec()), then.map(|it| it.to_vec()));
                    }
                }
                (rows, persisted)
            }
        }
    };
}

engine!(real, rocksdb);
engine!(modelled, rocksdb_model);

fn change() -> impl Strategy<Value = Change> {
    let (of, key) = (0..FAMILIES.len(), 0..KEYS);
    prop_oneof![
        4 => (of.clone(), key.clone(), any::<u8>()).prop_map(|(of, key, it)| Change::Put(of, key, it)),
        2 => (of.clone(), key.clone()).prop_map(|(of, key)| Change::Delete(of, key)),
        1 => (of, key.clone(), key).prop_map(|(of, from, to)| Change::DeleteRange(of, from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(change(), 1..5).prop_map(Step::Write),
        2 => Just(Step::Flush),
        2 => Just(Step::Crash),
        1 => Just(Step::Reopen),
    ]
}

/// The files as they are at one moment, without what is in memory: nothing is flushed on the way. The store
/// writes and removes files by itself; what it did so meanwhile makes the copy one of no moment.
fn copy(from: &Path) -> TempDir {
    loop {
        let before = files(from);
        let copied = try_copy(from);
        if files(from) != before {
            continue;
        }
        return copied.expect("files that stay can be copied");
    }
}

/// Names and lengths.
fn files(dir: &Path) -> BTreeMap<OsString, Option<u64>> {
    let items = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    items.map(|item| (item.file_name(), item.metadata().ok().map(|it| it.len()))).collect()
}

fn try_copy(from: &Path) -> std::io::Result<TempDir> {
    let to = tempfile::tempdir()?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        std::fs::copy(item.path(), to.path().join(item.file_name()))?;
    }
    Ok(to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_model_does_what_rocksdb_does(steps in prop::collection::vec(step(), 1..24)) {
        let mut dir = tempfile::tempdir().unwrap();
        let name = dir.path().to_owned();
        let (mut real, mut model) = (real::open(dir.path()), modelled::open(&name));
        for step in &steps {
            match step {
                Step::Write(changes) => {
                    real::write(&real, changes);
                    modelled::write(&model, changes);
                }
                Step::Flush => {
                    real::flush(&real);
                    modelled::flush(&model);
                }
                Step::Crash => {
                    let left = copy(dir.path());
                    drop(real);
                    dir = left;
                    real = real::open(dir.path());
                    rocksdb_model::model::power_cut(&name);
                    model = modelled::open(&name);
                }
                Step::Reopen => {
                    drop((real, model));
                    (real, model) = (real::open(dir.path()), modelled::open(&name));
                }
            }
            prop_assert_eq!(real::look(&real), modelled::look(&model));
        }
        drop((real, model));
        rocksdb_model::model::lose_disk(&name);
    }
}

/// Power cuts in a run of the test below.
const CUTS: usize = 10;

/// The same with power cuts for crashes: not what a copy of the files shows, but what a file system gives
/// back that lost all that was not synced.
#[test]
fn the_model_does_what_a_power_cut_does_to_rocksdb() {
    let mut disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => return skip("power cuts of RocksDB and its model", &why),
    };
    let dir = disk.mount_point.join("state");
    let name = tempfile::tempdir().unwrap().path().to_owned();
    let mut runner = TestRunner::deterministic();
    let (mut real, mut model) = (real::open(&dir), modelled::open(&name));
    let mut cuts = 0;
    while cuts < CUTS {
        match step().new_tree(&mut runner).unwrap().current() {
            Step::Write(changes) => {
                real::write(&real, &changes);
                modelled::write(&model, &changes);
            }
            Step::Flush => {
                real::flush(&real);
                modelled::flush(&model);
            }
            Step::Crash => {
                if let Err(why) = disk.cut_power() {
                    return skip("power cuts of RocksDB and its model", &why);
                }
                drop(real);
                disk.unmount().expect("unmounts");
                disk.mount().expect("mounts again");
                real = real::open(&dir);
                rocksdb_model::model::power_cut(&name);
                model = modelled::open(&name);
                cuts += 1;
            }
            Step::Reopen => {
                drop((real, model));
                (real, model) = (real::open(&dir), modelled::open(&name));
            }
        }
        assert_eq!(real::look(&real), modelled::look(&model), "after {cuts} cuts");
    }
    drop((real, model));
    rocksdb_model::model::lose_disk(&name);
}
