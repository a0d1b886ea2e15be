use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::super::DamagedGroups;
use super::super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, RECORD_HEADER_BYTES, make_later_version,
};
use super::super::recovery::{Recovered, recover};
use super::super::segment::list;
use super::super::slots::TwoSlots;
use super::*;

fn look(dir: &Path) -> Recovered {
    let (_, mark) = TwoSlots::open(&Machine, dir, "watermark").unwrap();
    let (_, voted) = TwoSlots::open(&Machine, dir, "votes").unwrap();
    recover(&Machine, dir, mark.as_deref(), voted.as_deref()).unwrap()
}

pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) offset: usize,
    header: BatchHeader,
}

/// All batches of a directory, in order. Tests keep to directories without old batches.
pub(super) fn batches(dir: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, path) in list(&Machine, dir).unwrap() {
        let bytes = std::fs::read(&path).unwrap();
        for offset in (0..bytes.len()).step_by(BLOCK_BYTES) {
            if let Some(header) = BatchHeader::decode(&bytes[offset..]) {
                found.push(Found { path: path.clone(), offset, header });
            }
        }
    }
    found.sort_by_key(|batch| batch.header.sequence);
    found
}

fn flip(path: &Path, at: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    byte[0] ^= 0x04;
    file.write_all_at(&byte, at as u64).unwrap();
}

fn some(groups: &[GroupId]) -> DamagedGroups {
    DamagedGroups::Some(groups.iter().copied().collect::<BTreeSet<_>>())
}

/// Appends for A and B in turn, one batch each, 3 blocks every time, over several segments.
pub(super) fn filled(dir: &Path) -> Engine {
    let engine = open(dir);
    let (a, b) = (engine.group(A), engine.group(B));
    vote(&a, b"vote of A").unwrap();
    vote(&b, b"vote of B").unwrap();
    for index in 1..13 {
        append(&a, index, &[entry(A, index, 9_000)]).unwrap();
        append(&b, index, &[entry(B, index, 9_000)]).unwrap();
    }
    engine
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    assert!(tear(|offset| offset > 0), "no batch followed another");
}

#[test]
fn a_torn_batch_that_begins_a_segment_is_cut_wherever_it_tears() {
    assert!(tear(|offset| offset == 0), "no batch began a segment");
}

/// A log before and after a batch was appended to it.
struct Step {
    index: u64,
    before: TempDir,
    last: Found,
    _after: TempDir,
}

/// Appends to a filled log until a batch is wanted for its place.
fn step_where(wanted: impl Fn(usize) -> bool) -> Option<Step> {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    // More than fit into a segment.
    for index in 13..20 {
        let before = image(dir.path());
        append(&engine.group(A), index, &[entry(A, index, 5_000)]).unwrap();
        let after = image(dir.path());
        let last = batches(after.path()).pop().unwrap();
        if wanted(last.offset) {
            return Some(Step { index, before, last, _after: after });
        }
    }
    None
}

/// Whoever opens it appends, and the next one finds that.
fn goes_on(dir: &Path, index: u64, bytes: usize) {
    let engine = open(dir);
    append(&engine.group(A), index, &[entry(A, index, bytes)]).unwrap();
    drop(engine);
    assert_eq!(open(dir).group(A).state().next, index + 1);
}

/// Tears the next batch whose place in its segment is wanted, in every way; false if there is none.
fn tear(wanted: impl Fn(usize) -> bool) -> bool {
    let step = step_where(wanted);
    if let Some(Step { index, before, last, .. }) = &step {
        tear_batch(*index, before, last);
    }
    step.is_some()
}

fn tear_batch(index: u64, before: &TempDir, last: &Found) {
    let name = last.path.file_name().unwrap();
    let old = std::fs::read(before.path().join(name)).unwrap();
    let new = std::fs::read(&last.path).unwrap();
    let used = BATCH_HEADER_BYTES + last.header.body_bytes as usize;
    let target = before.path().join(name);
    let expect = |what: &[u8], whole: bool| {
        std::fs::write(&target, what).unwrap();
        let found = look(before.path());
        assert_eq!(found.damage, []);
        assert_eq!(found.groups[&A].meta().next, if whole { index + 1 } else { index });
        assert_eq!(found.next_sequence, last.header.sequence + u64::from(whole));
    };
    for cut in 0..last.header.span() {
        let torn = [&new[..last.offset + cut], &old[last.offset + cut..]].concat();
        // The old bytes are zeros, and so is the end of the record header.
        expect(&torn, torn[..last.offset + used] == new[..last.offset + used]);
    }
    // Sectors reach the disk in any order.
    for mask in 0..1_u32 << (used / 512).min(10) {
        let mut torn = old.clone();
        for sector in (0..10).filter(|sector| mask & (1 << sector) != 0) {
            let range = last.offset + sector * 512..last.offset + (sector + 1) * 512;
            torn[range.clone()].copy_from_slice(&new[range]);
        }
        expect(&torn, torn[..last.offset + used] == new[..last.offset + used]);
    }
    // The engine goes on where the log was cut.
    let torn = [&new[..last.offset + 4_000], &old[last.offset + 4_000..]].concat();
    std::fs::write(&target, torn).unwrap();
    goes_on(before.path(), index, 10);
}

/// Its header stays where it was when what is written next does not fit behind it.
#[test]
fn what_a_torn_batch_left_is_not_read_later() {
    let large = 30_000;
    let is_near_the_end = |offset| offset + large >= options().segment_bytes as usize;
    let step = step_where(is_near_the_end).expect("a batch is near the end of its segment");
    let (before, last) = (step.before.path(), &step.last);
    let target = before.join(last.path.file_name().unwrap());
    let (old, new) = (std::fs::read(&target).unwrap(), std::fs::read(&last.path).unwrap());
    let end = last.offset + BLOCK_BYTES;
    std::fs::write(&target, [&new[..end], &old[end..]].concat()).unwrap();
    goes_on(before, step.index, large);
}

/// The file was cut inside the first block of its last batch: the header is there, and no batch fits in its
/// place any more.
#[test]
fn what_a_shortened_segment_ends_with_is_not_read_later() {
    let step = step_where(|offset| offset > 0).expect("a batch follows another");
    let (before, last) = (step.before.path(), &step.last);
    let mut cut = std::fs::read(&last.path).unwrap();
    cut.truncate(last.offset + 845);
    // With the marks of before: nothing says that the batch was synced.
    std::fs::write(before.join(last.path.file_name().unwrap()), cut).unwrap();
    goes_on(before, step.index, 10);
}

/// Others are asked only later whether it was all; what mending writes is not what was there.
#[test]
fn how_far_a_log_went_is_known_until_it_was_compared() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let end = look(dir.path()).next_sequence - 1;
    assert_eq!(open(dir.path()).recovered(), end);
    let batch = batches(dir.path()).into_iter().find(|b| b.header.sequence == 9).unwrap();
    flip(&batch.path, batch.offset + 200);
    // Over any number of starts.
    for _ in 0..3 {
        let (engine, damage) = open_with(dir.path(), options());
        assert_ne!(damage, []);
        assert_eq!(engine.recovered(), end);
        assert!(engine.synced() > end);
        vote(&engine.group(B), b"another").unwrap();
    }
    let (engine, _) = open_with(dir.path(), options());
    reset(&engine.group(A)).unwrap();
    engine.settle_recovery().unwrap();
    drop(engine);
    assert!(open(dir.path()).recovered() > end);
}

#[test]
fn nothing_is_tidied_before_anybody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    for group in [A, B] {
        engine.group(group).purge_to(12, Bytes::new());
    }
    drop(engine);
    let engine = open(dir.path());
    let segments = engine.metrics().segments;
    assert!(segments > 2, "there is nothing to tidy");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(engine.synced(), engine.recovered());
    vote(&engine.group(A), b"first").unwrap();
    while engine.metrics().segments == segments {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn every_flipped_byte_before_the_end_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    drop(engine);
    let found = batches(dir.path());
    assert!(found.iter().filter(|batch| batch.header.first).count() > 3);
    // A batch of A in the middle of a segment.
    let middle = found.iter().filter(|b| b.header.generation == 2).nth(1).unwrap();
    let owner = if middle.header.sequence % 2 == 1 { A } else { B };
    let used = BATCH_HEADER_BYTES + middle.header.body_bytes as usize;
    let payload = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES;
    for at in (0..payload + 64).chain((payload + 64..used).step_by(101)) {
        flip(&middle.path, middle.offset + at);
        let recovered = look(dir.path());
        let groups: Vec<_> = recovered.damage.iter().map(|d| d.groups.clone()).collect();
        if at < payload {
            assert_eq!(groups[0], DamagedGroups::All, "byte {at}");
        } else {
            assert_eq!(groups, [some(&[owner])], "byte {at}");
            assert!(recovered.groups[&owner].meta().damaged);
        }
        let vote = if owner == A { "vote of A" } else { "vote of B" };
        assert_eq!(recovered.groups[&owner].meta().vote, Some(Bytes::from(vote)));
        flip(&middle.path, middle.offset + at);
    }
    assert_eq!(look(dir.path()).damage, []);
}

#[test]
fn a_flip_in_any_batch_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let found = batches(dir.path());
    for batch in &found {
        // The last one too: the watermark says that it was synced.
        for at in [0, 20, BATCH_HEADER_BYTES + 5, BATCH_HEADER_BYTES + RECORD_HEADER_BYTES] {
            if at < BATCH_HEADER_BYTES + batch.header.body_bytes as usize {
                flip(&batch.path, batch.offset + at);
                let recovered = look(dir.path());
                assert_ne!(recovered.damage, [], "batch {} byte {at}", batch.header.sequence);
                flip(&batch.path, batch.offset + at);
            }
        }
    }
}

/// Opens a damaged log as a node would, and checks that the report goes away with the resets.
fn heal(dir: &Path, covered: &[GroupId], intact: &[GroupId]) {
    let (engine, damage) = open_with(dir, options());
    assert_ne!(damage, []);
    for group in covered {
        assert!(damage.iter().any(|d| d.covers(*group)), "{damage:?}");
        assert!(engine.group(*group).state().damaged);
        let refused = append(&engine.group(*group), 99, &[entry(*group, 99, 1)]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            vote(&engine.group(*group), b"no").unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
    let kept: Vec<_> = intact.iter().map(|group| content(&engine, *group)).collect();
    for (group, content) in intact.iter().zip(&kept) {
        assert!(!damage.iter().any(|d| d.covers(*group)), "{damage:?}");
        assert_eq!(content.1, entries(*group, 1..13, 9_000));
    }
    // Not reset yet: a restart says it again, whatever was written meanwhile.
    vote(&engine.group(GroupId(8)), b"other").unwrap();
    drop(engine);
    let (engine, again) = open_with(dir, options());
    for group in covered {
        assert!(again.iter().any(|d| d.covers(*group)), "{again:?}");
    }
    for group in engine.groups().iter().filter(|group| !intact.contains(group)) {
        reset(&engine.group(*group)).unwrap();
    }
    append(&engine.group(A), if intact.contains(&A) { 13 } else { 1 }, &[entry(A, 0, 1)]).unwrap();
    let crashed = image(dir);
    drop(engine);
    for dir in [dir, crashed.path()] {
        let engine = open(dir);
        for (group, (state, entries)) in intact.iter().zip(&kept) {
            let (after, read) = content(&engine, *group);
            assert_eq!((after.first, &after.vote), (state.first, &state.vote));
            assert_eq!(read[..12], entries[..]);
        }
    }
}

#[test]
fn a_damaged_payload_costs_its_group_only() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let batch = batches(dir.path()).into_iter().find(|b| b.header.sequence == 9).unwrap();
    flip(&batch.path, batch.offset + 200);
    heal(dir.path(), &[A], &[B]);
}

#[test]
fn a_missing_segment_is_damage() {
    for which in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(dir.path()));
        let firsts: Vec<_> = batches(dir.path()).into_iter().filter(|b| b.header.first).collect();
        let gone = if which == 3 { firsts.last().unwrap() } else { &firsts[which] };
        std::fs::remove_file(&gone.path).unwrap();
        heal(dir.path(), &[A, B], &[]);
    }
}

#[test]
fn all_segments_missing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    for (_, path) in list(&Machine, dir.path()).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    let (engine, damage) = open_with(dir.path(), options());
    assert_eq!(damage[0].groups, DamagedGroups::All);
    // The votes file still knows who there was, and what they voted.
    assert_eq!(engine.groups(), [A, B]);
    assert_eq!(engine.group(A).state().vote, Some(Bytes::from_static(b"vote of A")));
    drop(engine);
    heal(dir.path(), &[A, B], &[]);
}

#[test]
fn a_truncated_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    for (_, path) in list(&Machine, dir.path()).unwrap() {
        let whole = std::fs::read(&path).unwrap();
        if batches(dir.path()).iter().all(|batch| batch.path != path) {
            continue;
        }
        for cut in [0, 100, 5_000, 13_000] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(look(dir.path()).damage[0].groups, DamagedGroups::All);
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let path = batches(dir.path())[0].path.clone();
    OpenOptions::new().write(true).open(path).unwrap().set_len(20_000).unwrap();
    heal(dir.path(), &[A, B], &[]);
}

#[test]
fn an_old_copy_of_a_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    let early = image(dir.path());
    let log = engine.group(A);
    for index in 13..200 {
        append(&log, index, &[entry(A, index, 9_000)]).unwrap();
        log.purge_to(index - 2, Bytes::new());
        engine.group(B).purge_to(12, Bytes::new());
    }
    engine.shutdown();
    drop((engine, log));
    assert_eq!(look(dir.path()).damage, []);
    let chain: Vec<_> = look(dir.path()).chain.into_iter().map(|(file, _)| file.path).collect();
    let mut tried = 0;
    for path in &chain {
        let old = early.path().join(path.file_name().unwrap());
        if old.exists() {
            let now = std::fs::read(path).unwrap();
            std::fs::copy(&old, path).unwrap();
            assert_eq!(look(dir.path()).damage[0].groups, DamagedGroups::All);
            std::fs::write(path, now).unwrap();
            tried += 1;
        }
    }
    assert!(tried > 0);
    assert_eq!(look(dir.path()).damage, []);
}

#[test]
fn a_rolled_back_end_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    let early = image(dir.path());
    append(&engine.group(A), 13, &[entry(A, 13, 10)]).unwrap();
    let middle = image(dir.path());
    engine.shutdown();
    drop(engine);
    // Every segment as it was one batch earlier, beside the watermark of now.
    for (_, path) in list(&Machine, early.path()).unwrap() {
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(look(dir.path()).damage[0].groups, DamagedGroups::All);
    heal(dir.path(), &[A, B], &[]);
    // A vote is noticed without a watermark: the votes file was synced.
    let engine = open(middle.path());
    let early = image(middle.path());
    vote(&engine.group(B), b"later").unwrap();
    for name in ["votes.0", "votes.1"] {
        std::fs::copy(middle.path().join(name), early.path().join(name)).unwrap();
    }
    let (engine, damage) = open_with(early.path(), options());
    assert_eq!(damage[0].groups, DamagedGroups::All);
    assert_eq!(engine.group(B).state().vote, Some(Bytes::from_static(b"later")));
}

#[test]
fn a_missing_watermark_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    std::fs::remove_file(dir.path().join("watermark.0")).unwrap();
    assert_eq!(look(dir.path()).damage, []);
    std::fs::remove_file(dir.path().join("watermark.0")).unwrap();
    std::fs::remove_file(dir.path().join("watermark.1")).unwrap();
    heal(dir.path(), &[A, B], &[]);
}

#[test]
fn missing_votes_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    std::fs::remove_file(dir.path().join("votes.0")).unwrap();
    std::fs::remove_file(dir.path().join("votes.1")).unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.group(B).state().vote, Some(Bytes::from_static(b"vote of B")));
}

#[test]
fn batches_of_another_log_are_not_ours() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(filled(dir.path()));
    drop(filled(other.path()));
    let path = batches(dir.path()).pop().unwrap().path;
    std::fs::copy(other.path().join(path.file_name().unwrap()), &path).unwrap();
    assert_eq!(look(dir.path()).damage[0].groups, DamagedGroups::All);
}

#[test]
fn a_stranger_cannot_plant_a_batch() {
    // A batch as another log would write it, and a later build's.
    let forged = {
        let other = tempfile::tempdir().unwrap();
        drop(filled(other.path()));
        let last = batches(other.path()).pop().unwrap();
        std::fs::read(last.path).unwrap()[last.offset..][..last.header.span()].to_vec()
    };
    let mut later = forged.clone();
    make_later_version(&mut later);
    for forged in [forged, later] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        // In a body, on a block boundary.
        let payload_at = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES;
        let body = [vec![0; BLOCK_BYTES - payload_at], forged].concat();
        vote(&engine.group(A), b"v").unwrap();
        let torn_from = image(dir.path());
        append(&engine.group(A), 0, &[Bytes::from(body)]).unwrap();
        let last = batches(dir.path()).into_iter().rfind(|b| b.header.sequence < 5).unwrap();
        let bytes = std::fs::read(&last.path).unwrap();
        std::fs::write(torn_from.path().join(last.path.file_name().unwrap()), &bytes).unwrap();
        // Its own header is torn off: only the planted one is left.
        flip(&torn_from.path().join(last.path.file_name().unwrap()), last.offset);
        let found = look(torn_from.path());
        assert_eq!(found.damage, []);
        assert_eq!(found.groups[&A].meta().next, 0);
    }
}

#[test]
fn a_read_notices_a_flipped_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open_with(dir.path(), LogOptions { cache_bytes: 0, ..options() });
    let log = engine.group(A);
    append(&log, 0, &[entry(A, 0, 100), entry(A, 1, 100)]).unwrap();
    let batch = batches(dir.path()).pop().unwrap();
    flip(&batch.path, batch.offset + BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + 50);
    assert_eq!(log.read(0, 2, ALL).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(log.read(1, 2, ALL).unwrap(), [entry(A, 1, 100)]);
}
