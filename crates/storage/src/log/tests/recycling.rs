use std::time::{Duration, Instant};

use super::super::writer::TIDY_INTERVAL;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn files(dir: &Path) -> usize {
    super::super::segment::list(&Machine, dir).unwrap().len()
}

#[test]
fn purged_segments_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    vote(&log, b"kept").unwrap();
    for index in 1..400 {
        append(&log, index, &[entry(A, index, 2_000)]).unwrap();
        log.purge_to(index.saturating_sub(3), Bytes::from(index.to_string()));
    }
    let metrics = engine.metrics();
    assert!(metrics.rotations > 20, "{metrics:?}");
    assert!(metrics.segments <= 4, "{metrics:?}");
    assert_eq!(metrics.carried_bytes, 0);
    assert!(files(dir.path()) <= 6);
    let before = content(&engine, A);
    let crashed = image(dir.path());
    drop((engine, log));
    for dir in [dir.path(), crashed.path()] {
        let after = content(&open(dir), A);
        assert_eq!(after.0.vote, Some(Bytes::from_static(b"kept")));
        assert_eq!((after.0.next, after.1.last()), (before.0.next, before.1.last()));
    }
}

#[test]
fn a_group_that_lags_is_carried_forward() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (idle, busy) = (engine.group(A), engine.group(B));
    append(&idle, 1, &entries(A, 1..20, 900)).unwrap();
    vote(&idle, b"idle").unwrap();
    for index in 1..600 {
        append(&busy, index, &[entry(B, index, 2_000)]).unwrap();
        busy.purge_to(index.saturating_sub(3), Bytes::new());
    }
    let metrics = engine.metrics();
    assert!(metrics.carried_bytes >= 19 * 900, "{metrics:?}");
    assert!(metrics.segments <= 8, "{metrics:?}");
    assert_eq!(idle.read(1, 20, ALL).unwrap(), entries(A, 1..20, 900));
    let before = content(&engine, A);
    let crashed = image(dir.path());
    drop((engine, idle, busy));
    for dir in [dir.path(), crashed.path()] {
        let engine = open(dir);
        assert_eq!(content(&engine, A), before);
        append(&engine.group(A), 20, &entries(A, 20..21, 10)).unwrap();
    }
}

#[test]
fn what_was_not_purged_is_kept_beyond_the_segments_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    for index in 0..200 {
        append(&log, index, &[entry(A, index, 4_000)]).unwrap();
    }
    let metrics = engine.metrics();
    assert!(metrics.segments > 10, "{metrics:?}");
    assert_eq!(metrics.carried_bytes, 0);
    assert_eq!(content(&engine, A).1, entries(A, 0..200, 4_000));
    // And the disk comes back.
    log.purge_to(198, Bytes::new());
    for index in 200..210 {
        append(&log, index, &[entry(A, index, 10)]).unwrap();
    }
    engine.shutdown();
    assert!(files(dir.path()) <= 5, "{}", files(dir.path()));
}

#[test]
fn segments_come_back_while_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (idle, busy) = (engine.group(A), engine.group(B));
    // The oldest segment stays alive for the sake of these.
    append(&idle, 1, &entries(A, 1..20, 900)).unwrap();
    for index in 1..200 {
        append(&busy, index, &[entry(B, index, 4_000)]).unwrap();
    }
    assert!(engine.metrics().segments > 10);
    busy.purge_to(199, Bytes::new());
    let begin = Instant::now();
    while files(dir.path()) > 5 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", engine.metrics());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Then it rests.
    let mut before = engine.metrics();
    loop {
        std::thread::sleep(2 * TIDY_INTERVAL);
        let now = engine.metrics();
        if now.syncs == before.syncs {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{now:?}");
        before = now;
    }
    assert_eq!(idle.read(1, 20, ALL).unwrap(), entries(A, 1..20, 900));
    let before = (content(&engine, A), content(&engine, B));
    let crashed = image(dir.path());
    drop((engine, idle, busy));
    for dir in [dir.path(), crashed.path()] {
        let engine = open(dir);
        assert_eq!((content(&engine, A), content(&engine, B)), before);
    }
}

#[test]
fn a_batch_larger_than_a_segment_is_split() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    append(&engine.group(A), 0, &entries(A, 0..100, 3_000)).unwrap();
    let before = content(&engine, A);
    drop(engine);
    assert_eq!(content(&open(dir.path()), A), before);
}

#[test]
fn segments_of_another_size_still_count() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    append(&engine.group(A), 0, &entries(A, 0..60, 3_000)).unwrap();
    let before = content(&engine, A);
    drop(engine);
    let larger = LogOptions { segment_bytes: 256 << 10, ..options() };
    let (engine, damage) = open_with(dir.path(), larger);
    assert_eq!(damage, []);
    assert_eq!(content(&engine, A), before);
    append(&engine.group(A), 60, &[entry(A, 60, 100 << 10)]).unwrap();
    let before = content(&engine, A);
    drop(engine);
    assert_eq!(content(&open(dir.path()), A), before);
}

#[test]
fn readers_are_not_fooled_by_a_segment_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open_with(dir.path(), LogOptions { cache_bytes: 0, ..options() });
    let (slow, busy) = (engine.group(A), engine.group(B));
    append(&slow, 0, &entries(A, 0..10, 1_000)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while slow.state().vote.is_none() {
                assert_eq!(slow.read(0, 10, ALL).unwrap(), entries(A, 0..10, 1_000));
                reads += 1;
            }
            reads
        });
        for index in 0..400 {
            append(&busy, index, &[entry(B, index, 3_000)]).unwrap();
            busy.purge_to(index, Bytes::new());
        }
        vote(&slow, b"stop").unwrap();
        assert!(reader.join().unwrap() > 0);
    });
    assert!(engine.metrics().carried_bytes > 0);
}

#[test]
fn a_segment_is_needed_until_the_purge_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (a, b) = (engine.group(A), engine.group(B));
    append(&a, 0, &entries(A, 0..6, 20_000)).unwrap();
    // The writer is held in a callback while a purge becomes visible, queued behind two appends
    // that do not fit in one segment.
    let (held, is_held) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let hold: Done = Box::new(move |_| {
        held.send(()).unwrap();
        released.recv().unwrap();
    });
    b.append(0, vec![entry(B, 0, 10)], hold);
    is_held.recv().unwrap();
    let (crash, crashed) = mpsc::channel();
    let path = dir.path().to_owned();
    b.append(1, vec![entry(B, 1, 32_700)], Box::new(move |_| crash.send(image(&path)).unwrap()));
    let (done, wait) = waiter();
    b.append(2, vec![entry(B, 2, 32_700)], done);
    a.purge_to(5, Bytes::new());
    release.send(()).unwrap();
    wait.recv().unwrap().unwrap();
    let crashed = crashed.recv().unwrap();
    let (state, found) = content(&open(crashed.path()), A);
    assert_eq!(state.purged, None);
    assert!(found == entries(A, 0..6, 20_000));
}

#[test]
fn a_segment_may_be_torn_when_it_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.group(A);
    let generation = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        super::super::format::BatchHeader::decode(&bytes).map(|header| header.generation)
    };
    let mut reused = 0;
    let mut before = image(dir.path());
    for index in 0..60 {
        append(&log, index, &[entry(A, index, 20_000)]).unwrap();
        let after = image(dir.path());
        for (_, path) in super::super::segment::list(&Machine, before.path()).unwrap() {
            let now = generation(&after.path().join(path.file_name().unwrap()));
            if generation(&path).is_some_and(|was| now.is_some_and(|now| now > was)) {
                // The write of its first batch got no further than its first block.
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[..4096].fill(0);
                std::fs::write(&path, bytes).unwrap();
                let (state, found) = content(&open(before.path()), A);
                assert_eq!(state.next, index);
                assert_eq!(found, entries(A, state.first..index, 20_000));
                reused += 1;
            }
        }
        before = after;
        log.purge_to(index, Bytes::new());
    }
    assert!(reused > 5, "{reused}");
}
