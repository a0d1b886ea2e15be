//! The state store through its public interface.

mod damage;
#[path = "../common/state_model.rs"]
mod state_model;
mod transfer;

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
