//! Files that were damaged.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use flotilla_queue::store::Read as _;
use flotilla_storage::state::StateDb;
use flotilla_types::ids::Seq;

use crate::state_model::Model;
use crate::{GROUP, open, run, small};

/// A store with something on the disk, and what that is.
fn filled(dir: &Path) -> (StateDb, Model) {
    let (db, mut model) = (open(dir), Model::default());
    run(&db.group(GROUP).unwrap(), &mut model, 300);
    db.flush().unwrap();
    (db, model)
}

/// The first data block of every file; footers and indexes stay readable.
fn flip_tables(dir: &Path) {
    let tables: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in tables.iter().filter(|path| path.extension().is_some_and(|ext| ext == "sst")) {
        let mut bytes = fs::read(path).unwrap();
        bytes[64] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn damaged_files_surface_as_invalid_data() {
    let dir = tempfile::tempdir().unwrap();
    let (db, model) = filled(dir.path());
    db.compact();
    drop(db);
    let mut found = None;
    flip_tables(dir.path());
    let damage = |err: std::io::Error| assert_eq!(err.kind(), ErrorKind::InvalidData, "{err}");
    match StateDb::open(dir.path(), small()) {
        Err(err) => found = Some(err),
        Ok(db) => match db.group(GROUP) {
            Err(err) => found = Some(err),
            Ok(group) => {
                let first = *model.messages.keys().next().expect("some are left");
                found = found.or(group.message(first.0, first.1).err());
                found = found.or(group.messages_from(first.0, Seq(0), 99).err());
                damage(
                    group.export().and_then(|mut e| e.try_for_each(|c| c.map(drop))).unwrap_err(),
                );
            }
        },
    }
    damage(found.expect("damage is noticed"));
}

/// Found by chaos with flipped bits: the node ended at the damaged row, started, and ended there
/// again, for ever.
#[test]
fn damage_that_was_met_is_put_aside_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    let (db, _) = filled(&dir);
    db.compact();
    flip_tables(&dir);
    drop(db);
    // What the footers say is right: nothing is noticed before somebody reads.
    let (db, found) = StateDb::open_or_replace(&dir, &small()).unwrap();
    let (db, found) = match found {
        Some(found) => (db, found),
        None => {
            assert_eq!(db.damage(), None);
            let export = db.group(GROUP).and_then(|group| group.export());
            export.and_then(|mut e| e.try_for_each(|c| c.map(drop))).unwrap_err();
            assert!(db.damage().is_some());
            drop(db);
            let (db, found) = StateDb::open_or_replace(&dir, &small()).unwrap();
            (db, found.expect("it was noted"))
        }
    };
    assert!(found.contains("state store"), "{found}");
    assert_eq!(db.group(GROUP).unwrap().applied().unwrap(), None);
    let aside = dir.with_extension("damaged");
    assert!(aside.exists(), "an operator may want it");
    drop(db);
    assert_eq!(StateDb::open_or_replace(&dir, &small()).unwrap().1, None);
    StateDb::forget_damaged(&dir).unwrap();
    assert!(!aside.exists());
}

#[test]
fn a_missing_file_of_the_store_is_damage() {
    for ending in ["sst", ""] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("state");
        drop(filled(&dir));
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_table = path.extension().is_some_and(|ext| ext == ending);
            if is_table || (ending.is_empty() && name.starts_with("MANIFEST")) {
                fs::remove_file(path).unwrap();
            }
        }
        let (db, found) = StateDb::open_or_replace(&dir, &small()).unwrap();
        assert!(found.is_some(), "{ending}");
        assert_eq!(db.group(GROUP).unwrap().applied().unwrap(), None);
    }
}
