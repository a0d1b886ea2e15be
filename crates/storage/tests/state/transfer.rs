//! What one store exports another imports.

use std::io::ErrorKind;

use bytes::Bytes;
use flotilla_queue::store::{Read as _, Write as _};
use flotilla_types::ids::{GroupId, QueueId, Seq};

use crate::state_model::Model;
use crate::{GROUP, QUEUE, chunks, copy, import, message, open, run};

#[test]
fn an_import_equals_its_export() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (source, target) = (open(dirs[0].path()), open(dirs[1].path()));
    let (mut model, mut other) = (Model::default(), Model::default());
    let from = source.group(GROUP).unwrap();
    run(&from, &mut model, 400);
    let to = target.group(GroupId(8)).unwrap();
    let handle = to.clone();
    run(&to, &mut other, 150);
    let export = from.export().unwrap();
    assert_eq!(export.applied(), model.applied.as_ref());
    // What is committed while the export runs does not show.
    let moment = model.clone();
    run(&from, &mut model, 50);
    let mut import = to.import().unwrap();
    for chunk in export {
        assert_eq!(Model::of(&to), other, "the old state stays until the end");
        assert!(!import.is_complete());
        let chunk = chunk.unwrap();
        assert!(chunk.len() < 1_300_000);
        import.chunk(chunk).unwrap();
        assert_eq!(import.exported_applied(), moment.applied.as_ref());
    }
    assert!(import.is_complete());
    import.finish(moment.applied.clone().unwrap()).unwrap();
    assert_eq!(Model::of(&to), moment);
    assert_eq!(Model::of(&handle), moment, "older handles see it too");
    assert_eq!(target.durable_applied(GroupId(8)).unwrap(), moment.applied);
    let mut onward = moment;
    run(&handle, &mut onward, 100);
    assert_eq!(Model::of(&to), onward);
    drop((to, handle, target));
    assert_eq!(Model::of(&open(dirs[1].path()).group(GroupId(8)).unwrap()), onward);
}

#[test]
fn the_largest_messages_travel() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (from, to) = (db.group(GroupId(1)).unwrap(), db.group(GroupId(2)).unwrap());
    let mut batch = from.batch();
    let large = message(&vec![b'x'; flotilla_types::limits::MESSAGE_BYTES_MAX]);
    for seq in 0..3 {
        batch.put_message(QUEUE, Seq(seq), &large);
    }
    from.commit(batch).unwrap();
    let all = chunks(&from);
    assert_eq!(all.len(), 3);
    import(&to, all, b"");
    assert_eq!(to.message(QUEUE, Seq(2)).unwrap(), Some(large));
}

#[test]
fn an_empty_group_travels_too() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let to = db.group(GroupId(2)).unwrap();
    run(&to, &mut Model::default(), 20);
    let all = chunks(&db.group(GroupId(1)).unwrap());
    assert_eq!(all.len(), 1);
    import(&to, all, b"a");
    let empty = Model { applied: Some(Bytes::from_static(b"a")), ..Model::default() };
    assert_eq!(Model::of(&to), empty);
}

#[test]
fn a_crash_before_or_after_the_switch_leaves_one_whole_state() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("live"));
    let (mut old, mut new) = (Model::default(), Model::default());
    let (source, group) = (db.group(GroupId(1)).unwrap(), db.group(GROUP).unwrap());
    run(&source, &mut new, 60);
    run(&group, &mut old, 30);
    db.flush().unwrap();
    let mut import = group.import().unwrap();
    for chunk in chunks(&source) {
        import.chunk(chunk).unwrap();
    }
    // A flush by memory pressure in the middle, then a crash.
    db.flush().unwrap();
    copy(&dir.path().join("live"), &dir.path().join("before"));
    import.finish(new.applied.clone().unwrap()).unwrap();
    // The old rows' removal is not flushed yet.
    copy(&dir.path().join("live"), &dir.path().join("after"));
    for (name, want) in [("before", &old), ("after", &new)] {
        let db = open(&dir.path().join(name));
        let group = db.group(GROUP).unwrap();
        assert_eq!(Model::of(&group), *want, "{name}");
        // The other incarnation's rows are gone: nothing is left once the current ones are.
        group.wipe().unwrap();
        db.group(GroupId(1)).unwrap().wipe().unwrap();
        db.flush().unwrap();
        db.compact();
        // Two incarnation rows.
        assert_eq!(db.disk_entries().unwrap(), (2, 0), "{name}");
    }
}

#[test]
fn an_abandoned_import_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (mut old, mut new) = (Model::default(), Model::default());
    let (source, group) = (db.group(GroupId(1)).unwrap(), db.group(GROUP).unwrap());
    run(&source, &mut new, 60);
    run(&group, &mut old, 30);
    let mut import = group.import().unwrap();
    import.chunk(chunks(&source).remove(0)).unwrap();
    drop(import);
    assert_eq!(Model::of(&group), old);
    let unfinished = group.import().unwrap();
    assert_eq!(unfinished.finish(Bytes::new()).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(Model::of(&group), old);
    source.wipe().unwrap();
    group.wipe().unwrap();
    db.flush().unwrap();
    db.compact();
    assert_eq!(db.disk_entries().unwrap(), (2, 0));
}

/// It stayed until the store came upon it by itself, which took a day where little was written.
#[test]
fn the_room_of_a_replaced_state_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (source, group) = (db.group(GroupId(1)).unwrap(), db.group(GROUP).unwrap());
    run(&source, &mut Model::default(), 60);
    run(&group, &mut Model::default(), 60);
    db.reclaim_cleared().unwrap();
    let applied = source.applied().unwrap().unwrap();
    import(&group, chunks(&source), &applied);
    assert!(db.has_cleared(), "of what was replaced");
    db.reclaim_cleared().unwrap();
    let mut abandoned = group.import().unwrap();
    abandoned.chunk(chunks(&source).remove(0)).unwrap();
    assert!(!db.has_cleared());
    drop(abandoned);
    assert!(db.has_cleared(), "of what came to nothing");
}

#[test]
fn a_cut_repeated_or_damaged_transfer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (source, group) = (db.group(GroupId(1)).unwrap(), db.group(GROUP).unwrap());
    run(&source, &mut Model::default(), 100);
    let mut batch = source.batch();
    for seq in 0..2 {
        batch.put_message(QueueId(7), Seq(seq), &message(&[b'x'; 900_000]));
    }
    source.commit(batch).unwrap();
    let all = chunks(&source);
    assert!(all.len() > 2, "{}", all.len());
    let refused = |sent: Vec<Bytes>| {
        let mut import = group.import().unwrap();
        let taken = sent.into_iter().try_for_each(|chunk| import.chunk(chunk));
        let err = taken.and_then(|()| import.finish(Bytes::new())).expect_err("refused");
        assert_eq!(err.kind(), ErrorKind::InvalidData);
        assert_eq!(Model::of(&group), Model::default());
    };
    refused(vec![]);
    refused(all[..all.len() - 1].to_vec());
    refused(all[1..].to_vec());
    refused([&all[..1], &all[..]].concat());
    refused([&all[..], &all[all.len() - 1..]].concat());
    for cut in [0, 1, 3, 4, 5, all[0].len() / 2, all[0].len() - 1] {
        refused([&[all[0].slice(..cut)], &all[1..]].concat());
    }
    for at in [0, 7, all[0].len() / 2, all[0].len() - 1] {
        let mut damaged = all[0].to_vec();
        damaged[at] ^= 1;
        refused([&[damaged.into()], &all[1..]].concat());
    }
    import(&group, all, &1_u64.to_be_bytes());
}
