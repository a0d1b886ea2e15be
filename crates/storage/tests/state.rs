//! The state store through its public interface.

#[path = "common/state_model.rs"]
mod state_model;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use flotilla_queue::store::{Hidden, Message, MessageHead, Read, ShardRow, Write};
use flotilla_storage::state::{GroupState, StateDb, StateOptions};
use flotilla_types::ids::{GroupId, MessageId, QueueId, Seq};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use state_model::{Model, step};

const GROUP: GroupId = GroupId(3);
const QUEUE: QueueId = QueueId(1);

fn small() -> StateOptions {
    StateOptions { write_buffer_bytes: 256 * 1_024, ..StateOptions::default() }
}

fn open(dir: &Path) -> StateDb {
    StateDb::open(dir, small()).expect("opens")
}

fn message(content: &[u8]) -> Message {
    Message {
        sent_ms: 5,
        message_id: MessageId([7; 16]),
        delayed: false,
        group: None,
        moved: None,
        content: Bytes::copy_from_slice(content),
    }
}

/// Applies steps to a group and returns what it should hold.
fn run(group: &GroupState, model: &mut Model, steps: u64) {
    for _ in 0..steps {
        let mut batch = group.batch();
        step(model, Some(&mut batch));
        group.commit(batch).expect("commits");
    }
}

fn chunks(group: &GroupState) -> Vec<Bytes> {
    group.export().expect("exports").collect::<Result<_, _>>().expect("reads")
}

fn import(group: &GroupState, chunks: Vec<Bytes>, applied: &[u8]) {
    let mut import = group.import().expect("starts");
    for chunk in chunks {
        import.chunk(chunk).expect("is good");
    }
    import.finish(Bytes::copy_from_slice(applied)).expect("finishes");
}

/// Copies what is on disk, as a crash would leave it. The store may be compacting: what counts is
/// a copy during which nothing changed.
fn copy(from: &Path, to: &Path) {
    let listing = || -> BTreeMap<OsString, u64> {
        let entries = fs::read_dir(from).expect("lists").filter_map(Result::ok);
        entries
            .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())))
            .collect()
    };
    loop {
        let before = listing();
        fs::create_dir(to).expect("creates");
        let copied = before.keys().all(|name| fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && listing() == before {
            return;
        }
        fs::remove_dir_all(to).expect("removes");
    }
}

#[test]
fn a_batch_is_invisible_until_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path()).group(GROUP).unwrap();
    assert_eq!(Model::of(&group), Model::default());
    let mut batch = group.batch();
    batch.put_message(QUEUE, Seq(4), &message(b"hello"));
    batch.put_shard(&ShardRow { clock_ms: 1, next_seq: Seq(5) });
    batch.put_applied(b"one");
    assert_eq!(Model::of(&group), Model::default());
    group.commit(batch).unwrap();
    assert_eq!(group.message(QUEUE, Seq(4)).unwrap(), Some(message(b"hello")));
    assert_eq!(group.message(QUEUE, Seq(5)).unwrap(), None);
    assert_eq!(group.shard_row().unwrap(), Some(ShardRow { clock_ms: 1, next_seq: Seq(5) }));
    assert_eq!(group.applied().unwrap().as_deref(), Some(&b"one"[..]));
}

/// Lookups one after the other read ahead; what they read is no more and no less than what is
/// committed, also when it is removed later.
#[test]
fn messages_in_memory_are_those_that_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GROUP).unwrap();
    let content = |seq: u64| format!("message {seq}").into_bytes();
    let mut batch = group.batch();
    for seq in (0..2_000).filter(|seq| seq % 3 != 0) {
        batch.put_message(QUEUE, Seq(seq), &message(&content(seq)));
    }
    group.commit(batch).unwrap();
    db.flush().unwrap();
    drop((group, db));
    // Nothing is in memory any more.
    let group = open(dir.path()).group(GROUP).unwrap();
    let check = |seq: u64, there: bool| {
        let found = group.message(QUEUE, Seq(seq)).unwrap();
        assert_eq!(found, there.then(|| message(&content(seq))), "message {seq}");
    };
    for seq in 0..500 {
        check(seq, seq % 3 != 0);
    }
    // Of those that were read ahead some are removed, one by one and all below a place.
    let mut batch = group.batch();
    batch.remove_message(QUEUE, Seq(500));
    group.commit(batch).unwrap();
    check(500, false);
    check(502, true);
    let mut batch = group.batch();
    batch.clear_below(QUEUE, Seq(600));
    group.commit(batch).unwrap();
    for seq in 500..2_000 {
        check(seq, seq >= 600 && seq % 3 != 0);
    }
    group.wipe().unwrap();
    check(1_999, false);
}

#[test]
fn scans_start_stop_and_count_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path()).group(GROUP).unwrap();
    let mut batch = group.batch();
    for seq in 0..10 {
        batch.put_message(QUEUE, Seq(seq), &message(b"m"));
    }
    batch.put_message(QueueId(0), Seq(3), &message(b"other queue"));
    batch.put_message(QueueId(2), Seq(3), &message(b"other queue"));
    group.commit(batch).unwrap();
    let seqs = |from, limit| -> Vec<u64> {
        let heads = group.messages_from(QUEUE, Seq(from), limit).unwrap();
        heads.iter().map(|head: &MessageHead| head.seq.0).collect()
    };
    assert_eq!(seqs(0, 3), [0, 1, 2]);
    assert_eq!(seqs(8, 3), [8, 9]);
    assert_eq!(seqs(10, 3), [] as [u64; 0]);
    assert_eq!(seqs(4, 0), [] as [u64; 0]);
    let mut batch = group.batch();
    batch.remove_message(QUEUE, Seq(5));
    batch.clear_below(QUEUE, Seq(4));
    group.commit(batch).unwrap();
    assert_eq!(seqs(0, 99), [4, 6, 7, 8, 9]);
    assert!(group.message(QueueId(0), Seq(3)).unwrap().is_some());
}

/// A purged backlog gives its room back without waiting for the store's leisure, and what is not
/// purged stays.
#[test]
fn what_was_removed_all_at_once_gives_its_room_back() {
    const MESSAGES: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GroupId(1)).unwrap();
    let [purged, kept] = [QueueId(1), QueueId(2)];
    // Not compressible, below and above the size that goes to a file of its own.
    let mut rng = SmallRng::seed_from_u64(1);
    for seq in 0..MESSAGES {
        let mut content = vec![0; if seq % 10 == 0 { 60_000 } else { 2_000 }];
        rng.fill(&mut content[..]);
        let mut batch = group.batch();
        batch.put_message(purged, Seq(seq), &message(&content));
        batch.put_message(kept, Seq(seq), &message(b"kept"));
        group.commit(batch).unwrap();
    }
    db.flush().unwrap();
    db.compact();
    let full = db.disk_bytes();
    assert!(full > 10_000_000, "{full}");
    assert!(!db.has_cleared());
    let mut batch = group.batch();
    batch.clear_below(purged, Seq(MESSAGES));
    group.commit(batch).unwrap();
    assert!(db.has_cleared());
    db.reclaim_cleared().unwrap();
    assert!(!db.has_cleared());
    let left = db.disk_bytes();
    assert!(left < full / 20, "{left} of {full}");
    assert_eq!(group.messages_from(purged, Seq(0), 10).unwrap(), []);
    let heads = group.messages_from(kept, Seq(0), usize::MAX).unwrap();
    assert_eq!(heads.len() as u64, MESSAGES);
}

#[test]
fn groups_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (mut one, mut two) = (Model::default(), Model::default());
    run(&db.group(GroupId(1)).unwrap(), &mut one, 40);
    run(&db.group(GroupId(2)).unwrap(), &mut two, 70);
    assert_eq!(Model::of(&db.group(GroupId(1)).unwrap()), one);
    assert_eq!(Model::of(&db.group(GroupId(2)).unwrap()), two);
    assert_eq!(Model::of(&db.group(GroupId(0)).unwrap()), Model::default());
}

#[test]
fn the_durable_record_follows_flushes_only() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GROUP).unwrap();
    let commit = |record: &[u8]| {
        let mut batch = group.batch();
        batch.put_applied(record);
        group.commit(batch).unwrap();
    };
    assert_eq!(db.durable_applied(GROUP).unwrap(), None);
    commit(b"one");
    assert_eq!(db.durable_applied(GROUP).unwrap(), None);
    db.flush().unwrap();
    commit(b"two");
    assert_eq!(db.durable_applied(GROUP).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(group.applied().unwrap().as_deref(), Some(&b"two"[..]));
    db.flush().unwrap();
    assert_eq!(db.durable_applied(GROUP).unwrap().as_deref(), Some(&b"two"[..]));
}

#[test]
fn a_batch_of_another_group_or_from_before_a_wipe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GROUP).unwrap();
    let foreign = db.group(GroupId(9)).unwrap().batch();
    assert_eq!(group.commit(foreign).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut stale = group.batch();
    stale.put_applied(b"stale");
    group.wipe().unwrap();
    assert_eq!(group.commit(stale).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(group.applied().unwrap(), None);
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = rocksdb::DB::open_default(dir.path()).unwrap();
    db.put(b"format", b"flotilla state 99").unwrap();
    drop(db);
    let err = StateDb::open(dir.path(), small()).err().expect("refused");
    assert_eq!(err.kind(), ErrorKind::Unsupported);
    assert!(err.to_string().contains("flotilla state 99"), "{err}");
}

#[test]
fn damaged_files_surface_as_invalid_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let db = open(dir.path());
    run(&db.group(GROUP).unwrap(), &mut model, 300);
    db.flush().unwrap();
    db.compact();
    drop(db);
    let mut found = None;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "sst") {
            let mut bytes = fs::read(&path).unwrap();
            // The first data block of every file; footers and indexes stay readable.
            bytes[64] ^= 0x40;
            fs::write(&path, bytes).unwrap();
        }
    }
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
    let mut model = Model::default();
    let db = open(&dir);
    run(&db.group(GROUP).unwrap(), &mut model, 300);
    db.flush().unwrap();
    db.compact();
    let tables: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in tables.iter().filter(|path| path.extension().is_some_and(|ext| ext == "sst")) {
        let mut bytes = fs::read(path).unwrap();
        bytes[64] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
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
        let mut model = Model::default();
        let db = open(&dir);
        run(&db.group(GROUP).unwrap(), &mut model, 300);
        db.flush().unwrap();
        drop(db);
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

#[test]
fn a_wipe_is_durable_and_the_group_can_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GROUP).unwrap();
    let (mut model, mut neighbour) = (Model::default(), Model::default());
    run(&group, &mut model, 50);
    run(&db.group(GroupId(4)).unwrap(), &mut neighbour, 20);
    db.flush().unwrap();
    group.wipe().unwrap();
    assert_eq!(Model::of(&group), Model::default());
    assert_eq!(db.durable_applied(GROUP).unwrap(), None);
    let mut again = Model::default();
    run(&group, &mut again, 10);
    drop((group, db));
    let db = open(dir.path());
    assert_eq!(Model::of(&db.group(GROUP).unwrap()), again);
    assert_eq!(Model::of(&db.group(GroupId(4)).unwrap()), neighbour);
}

#[derive(Clone, Debug)]
enum Act {
    Steps(u64),
    Flush,
    Compact,
    Reopen,
    Travel,
    Wipe,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1_u64..80).prop_map(Act::Steps),
        2 => Just(Act::Flush),
        1 => Just(Act::Compact),
        1 => Just(Act::Reopen),
        1 => Just(Act::Travel),
        1 => Just(Act::Wipe),
    ];
    proptest::collection::vec(act, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_the_model_holds(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let mut db = open(dir.path());
        let mut group = db.group(GROUP).unwrap();
        let mut model = Model::default();
        for act in acts {
            match act {
                Act::Steps(count) => run(&group, &mut model, count),
                Act::Flush => db.flush().unwrap(),
                Act::Compact => db.compact(),
                Act::Reopen => {
                    drop((group, db));
                    db = open(dir.path());
                    group = db.group(GROUP).unwrap();
                }
                Act::Travel => {
                    let record = model.applied.clone().unwrap_or_else(|| Bytes::from(vec![0; 8]));
                    import(&group, chunks(&group), &record);
                    model.applied = Some(record);
                }
                Act::Wipe => {
                    group.wipe().unwrap();
                    model = Model::default();
                }
            }
            prop_assert_eq!(&Model::of(&group), &model);
        }
    }
}

#[test]
fn only_the_newest_hidden_row_of_a_message_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let group = db.group(GROUP).unwrap();
    let row = |revision| Hidden {
        revision,
        visible_at_ms: 10 * u64::from(revision),
        receive_count: revision,
        first_received_ms: 1,
        received_ms: 2,
        group: None,
    };
    for revision in 1..6 {
        let mut batch = group.batch();
        batch.put_hidden(QUEUE, Seq(1), &row(revision));
        if revision > 1 {
            batch.remove_hidden(QUEUE, Seq(1), revision - 1);
        }
        group.commit(batch).unwrap();
        if u32::is_multiple_of(revision, 2) {
            db.flush().unwrap();
        }
        assert_eq!(group.hidden_rows(QUEUE).unwrap(), [(Seq(1), row(revision))]);
    }
}
