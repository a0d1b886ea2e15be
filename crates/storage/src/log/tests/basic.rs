use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn entries_can_be_read_before_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    let (done, wait) = waiter();
    log.append(1, entries(A, 1..4, 10), done);
    assert_eq!(log.read(1, 4, ALL).unwrap(), entries(A, 1..4, 10));
    assert_eq!(log.read(2, 100, ALL).unwrap(), entries(A, 2..4, 10));
    assert_eq!(log.read(4, 100, ALL).unwrap(), entries(A, 0..0, 10));
    assert_eq!(log.read(0, 2, ALL).unwrap_err().kind(), io::ErrorKind::NotFound);
    wait.recv().unwrap().unwrap();
}

#[test]
fn a_read_is_bounded_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    append(&log, 1, &entries(A, 1..10, 100)).unwrap();
    assert_eq!(log.read(1, 10, 0).unwrap().len(), 1);
    assert_eq!(log.read(1, 10, 299).unwrap().len(), 2);
    assert_eq!(log.read(1, 10, 300).unwrap().len(), 3);
}

#[test]
fn everything_is_there_after_a_restart_and_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (a, b) = (engine.group(A), engine.group(B));
    append(&a, 5, &entries(A, 5..30, 700)).unwrap();
    append(&b, 0, &entries(B, 0..3, 50)).unwrap();
    vote(&a, b"term 4").unwrap();
    a.truncate_from(25);
    append(&a, 25, &entries(A, 125..128, 10)).unwrap();
    a.purge_to(7, Bytes::from_static(b"note"));
    a.save_committed(Bytes::from_static(b"old"));
    a.save_committed(Bytes::from_static(b"six"));
    append(&b, 3, &entries(B, 3..4, 50)).unwrap();
    let crashed = image(dir.path());
    let (before_a, before_b) = (content(&engine, A), content(&engine, B));
    assert_eq!((before_a.0.first, before_a.0.next), (8, 28));
    assert_eq!(before_a.0.purged, Some((7, Bytes::from_static(b"note"))));
    engine.shutdown();
    drop(engine);
    for dir in [dir.path(), crashed.path()] {
        let engine = open(dir);
        assert_eq!(engine.groups(), [A, B]);
        assert_eq!(content(&engine, A), before_a);
        assert_eq!(content(&engine, B), before_b);
        assert_eq!(before_a.0.committed, Some(Bytes::from_static(b"six")));
    }
}

#[test]
fn appends_must_fit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    append(&log, 3, &entries(A, 3..5, 10)).unwrap();
    let before = log.state();
    for (first, size) in [(4, 10), (6, 10), (5, 40 << 10)] {
        let error = append(&log, first, &[entry(A, first, size)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(log.state(), before);
    }
    append(&log, 5, &[entry(A, 5, 32 << 10)]).unwrap();
    append(&log, 99, &[]).unwrap();
}

#[test]
fn purge_beyond_the_last_entry_empties_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    append(&log, 1, &entries(A, 1..5, 10)).unwrap();
    log.purge_to(20, Bytes::from_static(b"n"));
    assert_eq!((log.state().first, log.state().next, log.state().bytes), (21, 21, 0));
    assert!(append(&log, 20, &entries(A, 20..21, 10)).is_err());
    append(&log, 21, &entries(A, 21..22, 10)).unwrap();
    log.purge_to(3, Bytes::from_static(b"older"));
    assert_eq!(log.state().purged, Some((20, Bytes::from_static(b"n"))));
    let before = content(&engine, A);
    engine.shutdown();
    drop((engine, log));
    assert_eq!(content(&open(dir.path()), A), before);
}

#[test]
fn a_reset_group_is_as_new() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    vote(&log, b"v").unwrap();
    append(&log, 7, &entries(A, 7..9, 10)).unwrap();
    log.purge_to(7, Bytes::new());
    reset(&log).unwrap();
    assert_eq!(log.state(), GroupState::default());
    let crashed = image(dir.path());
    assert_eq!(content(&open(crashed.path()), A).0, GroupState::default());
    append(&log, 0, &entries(A, 0..1, 10)).unwrap();
    drop(log);
    let before = content(&engine, A);
    drop(engine);
    assert_eq!(content(&open(dir.path()), A), before);
}

#[test]
fn callbacks_come_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    let (sender, receiver) = mpsc::channel();
    for index in 0..500 {
        let sender = sender.clone();
        let done: Done = Box::new(move |result| sender.send((index, result.is_ok())).unwrap());
        if index % 7 == 0 {
            log.save_vote(Bytes::from(index.to_string()), done);
        } else {
            log.append(log.state().next, entries(A, index..index + 1, 500), done);
        }
    }
    let seen: Vec<_> = receiver.iter().take(500).collect();
    assert_eq!(seen, (0..500).map(|index| (index, true)).collect::<Vec<_>>());
    let metrics = engine.metrics();
    assert_eq!(metrics.batches, metrics.sync_us_buckets.iter().sum::<u64>());
    assert_eq!(metrics.batches, metrics.batch_records_buckets.iter().sum::<u64>());
    assert!(metrics.batches <= 500 + metrics.rotations && metrics.pending_bytes == 0);
}

#[test]
fn a_callback_may_use_the_log_and_drop_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    let (sender, receiver) = mpsc::channel();
    let (inner, last) = (log.clone(), engine.clone());
    drop(engine);
    let done: Done = Box::new(move |result| {
        let sent = sender.clone();
        inner.append(2, vec![entry(A, 2, 10)], Box::new(move |r| sent.send(r.is_ok()).unwrap()));
        drop(last);
        sender.send(result.is_ok()).unwrap();
    });
    log.append(1, vec![entry(A, 1, 10)], done);
    assert_eq!(receiver.iter().take(2).collect::<Vec<_>>(), [true, true]);
}

#[test]
fn after_a_shutdown_all_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    engine.shutdown();
    assert_eq!(
        append(&log, 1, &entries(A, 1..2, 1)).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert!(vote(&log, b"v").is_err() && reset(&log).is_err());
    engine.shutdown();
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let second = Engine::open(dir.path(), options(), Box::new(|_| {})).err().unwrap();
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    drop(engine);
    open(dir.path());
}

#[test]
fn a_write_error_fails_everything_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let on_fatal = Box::new(move |_: &io::Error| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (engine, _) = Engine::open(dir.path(), options(), on_fatal).unwrap();
    let log = engine.group(A);
    append(&log, 1, &entries(A, 1..2, 1)).unwrap();
    // No segment can be made any more: the first rotations use up the spare ones.
    let moved = dir.path().with_extension("gone");
    std::fs::rename(dir.path(), &moved).unwrap();
    let failed = (2..20).map(|i| append(&log, i, &[entry(A, i, 30 << 10)])).filter(|r| r.is_err());
    let errors: Vec<_> = failed.map(|r| r.unwrap_err().kind()).collect();
    assert!(errors.len() > 5 && errors.iter().all(|kind| *kind == io::ErrorKind::NotFound));
    assert!(vote(&log, b"v").is_err());
    engine.shutdown();
    assert_eq!(told.load(Ordering::SeqCst), 1);
    std::fs::remove_dir_all(moved).unwrap();
}
