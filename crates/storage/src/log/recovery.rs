//! Reads a directory: which segments are in use, where the log ends, what is lost.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;

use flotilla_probe::{failable, planted, sometimes};
use flotilla_types::ids::GroupId;

use super::format::{BLOCK_BYTES, BatchHeader};
use super::index::GroupIndex;
use super::marks::{Votes, Watermark};
use super::replay::{At, Replay};
use super::segment::{SegmentFile, list};
use super::{Damage, unsupported};
use crate::disk::Disk;

/// What was found.
pub(super) struct Recovered {
    pub(super) log_id: u64,
    pub(super) groups: BTreeMap<GroupId, GroupIndex>,
    /// Segments in use with their generations, oldest first.
    pub(super) chain: Vec<(SegmentFile, u64)>,
    /// The last batch, in the last segment of the chain.
    pub(super) tail: Option<Tail>,
    pub(super) next_sequence: u64,
    pub(super) next_generation: u64,
    /// Segment files that hold nothing.
    pub(super) unused: Vec<SegmentFile>,
    pub(super) next_number: u64,
    /// The last batch that was there. Numbering goes on behind it, or later.
    pub(super) ended: u64,
    pub(super) damage: Vec<Damage>,
}

/// The last readable batch.
pub(super) struct Tail {
    pub(super) offset: u64,
    /// Its blocks.
    pub(super) batch: Vec<u8>,
}

/// A batch header that was found.
#[derive(Clone, Copy)]
struct Frame {
    offset: usize,
    header: BatchHeader,
    intact: bool,
}

/// A file with the batches of its latest use.
struct Scanned {
    file: SegmentFile,
    generation: u64,
    frames: Vec<Frame>,
}

/// See the module documentation of the log for what is damage.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    mark: Option<&[u8]>,
    voted: Option<&[u8]>,
) -> io::Result<Recovered> {
    failable!(LogRecover)?;
    let mark = mark.and_then(Watermark::decode);
    let voted = voted.and_then(Votes::decode);
    let mut log_id = mark.map(|mark| mark.log_id).or(voted.as_ref().map(|(log_id, _)| *log_id));
    let mut next_number = 1;
    let mut scanned = Vec::new();
    let mut unused = Vec::new();
    for (number, path) in list(disk, dir)? {
        next_number = number + 1;
        let file = SegmentFile::open(disk, path)?;
        match scan(&disk.read(&file.path)?, &file.path, &mut log_id)? {
            Some((generation, frames)) => scanned.push(Scanned { file, generation, frames }),
            None => unused.push(file),
        }
    }
    let votes = voted.filter(|(owner, _)| Some(*owner) == log_id).map(|(_, votes)| votes);
    let mut synced = mark.map_or(0, |mark| mark.synced).max(votes.as_ref().map_or(0, |v| v.synced));
    if planted!(DamageTakenForTear) {
        synced = 0;
    }

    let mut replay = Replay::default();
    if mark.is_none() && (!scanned.is_empty() || votes.is_some()) {
        replay.lost_any("the watermark is missing or unreadable".into());
    }
    let max = |of: fn(&BatchHeader) -> u64| {
        scanned.iter().flat_map(|s| &s.frames).map(|frame| of(&frame.header)).max().unwrap_or(0)
    };
    let (newest_generation, newest_sequence) = (max(|h| h.generation), max(|h| h.sequence));
    let chain = chain(scanned, &mut unused);
    let end = replay_chain(disk, &chain, synced, &mut replay)?;
    if end.sequence < synced {
        replay.lost_any(format!("the log ends at batch {}, {synced} was synced", end.sequence));
    }
    // With nothing lost the torn batch's number is used again; else nothing ever is.
    let next_sequence =
        if replay.is_damaged() { newest_sequence.max(synced) } else { end.sequence } + 1;
    let (groups, mut damage) = replay.finish(votes);
    if planted!(DamageHidden) {
        damage.clear();
    }
    // The segment that a torn batch began is not in the chain, and its generation is used again.
    let next_generation = if damage.is_empty() {
        chain.last().map_or(0, |last| last.generation)
    } else {
        newest_generation
    } + 1;
    Ok(Recovered {
        log_id: log_id.unwrap_or_else(draw_log_id),
        groups,
        chain: chain.into_iter().map(|scanned| (scanned.file, scanned.generation)).collect(),
        tail: end.tail,
        next_sequence,
        next_generation,
        unused,
        next_number,
        ended: end.sequence,
        damage,
    })
}

/// Finds the batches of the file's latest use; `None` if there are none.
///
/// Every block is looked at: a batch that follows an unreadable one is what proves damage. What
/// lies inside a readable batch is not looked at. If the log's identity is not known, the first
/// batch found gives it.
///
/// `Unsupported` when a later build wrote a batch there: a segment that looks empty would be used again.
fn scan(
    bytes: &[u8],
    path: &Path,
    log_id: &mut Option<u64>,
) -> io::Result<Option<(u64, Vec<Frame>)>> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let Some(header) =
            BatchHeader::decode(rest).filter(|h| log_id.is_none_or(|id| id == h.log_id))
        else {
            refuse_other_version(rest, path, offset, *log_id)?;
            offset += BLOCK_BYTES;
            continue;
        };
        let intact = header.intact_body(rest).is_some();
        if intact {
            log_id.get_or_insert(header.log_id);
        }
        frames.push(Frame { offset, header, intact });
        offset += if intact { header.span() } else { BLOCK_BYTES };
    }
    let newest = frames.iter().map(|frame| frame.header.generation).max();
    let Some(generation) = newest else { return Ok(None) };
    frames.retain(|frame| frame.header.generation == generation);
    Ok(Some((generation, frames)))
}

/// A message may hold whatever somebody likes, but not the identity of this log; while that is not known,
/// only the start of a segment is certainly not inside a message.
fn refuse_other_version(
    block: &[u8],
    path: &Path,
    offset: usize,
    log_id: Option<u64>,
) -> io::Result<()> {
    match BatchHeader::of_another_version(block) {
        Some((version, id)) if log_id.map_or(offset == 0, |ours| ours == id) => {
            Err(unsupported(format!("{} holds a batch of", path.display()), version.into()))
        }
        _ => Ok(()),
    }
}

/// Splits off the segments that the newest batch says are not needed, and those that hold no
/// readable batch and come after all that do; the rest in order.
fn chain(mut scanned: Vec<Scanned>, unused: &mut Vec<SegmentFile>) -> Vec<Scanned> {
    let newest = scanned
        .iter()
        .flat_map(|s| s.frames.iter().filter(|frame| frame.intact))
        .max_by_key(|frame| frame.header.sequence)
        .map(|frame| frame.header);
    let (oldest, last) = newest.map_or((0, 0), |header| (header.oldest, header.generation));
    // Of two files of one generation (a torn first batch was written again elsewhere) the one
    // with more batches is in use.
    let good = |s: &Scanned| s.frames.iter().filter(|frame| frame.intact).count();
    scanned.sort_by_key(|s| (s.generation, std::cmp::Reverse(good(s))));
    let mut chain: Vec<Scanned> = Vec::new();
    for segment in scanned {
        let used = newest.is_some() && (oldest..=last).contains(&segment.generation);
        let twice = chain.last().is_some_and(|known| known.generation == segment.generation);
        if used && !twice {
            chain.push(segment);
        } else {
            unused.push(segment.file);
        }
    }
    chain
}

/// Where reading ended.
struct End {
    sequence: u64,
    tail: Option<Tail>,
}

fn replay_chain(
    disk: &dyn Disk,
    chain: &[Scanned],
    synced: u64,
    replay: &mut Replay,
) -> io::Result<End> {
    let last_good = chain
        .iter()
        .flat_map(|s| s.frames.iter().filter(|frame| frame.intact))
        .map(|frame| frame.header.sequence)
        .max()
        .unwrap_or(0);
    let mut end = End { sequence: 0, tail: None };
    let Some(oldest) = chain.first().map(|first| first.generation) else {
        return Ok(end);
    };
    if let Some(frame) = chain.last().and_then(|last| last.frames.iter().rfind(|f| f.intact))
        && frame.header.oldest != oldest
    {
        replay.lost_any(format!("segment {} is missing", frame.header.oldest));
    }
    let mut expected = None;
    for (place, segment) in chain.iter().enumerate() {
        if segment.generation != oldest + place as u64 {
            replay.lost_any(format!("a segment before {} is missing", segment.generation));
        }
        let bytes = disk.read(&segment.file.path)?;
        for frame in &segment.frames {
            let sequence = frame.header.sequence;
            if sequence > last_good && sequence > synced {
                sometimes!(TailTorn);
                break;
            }
            let begins = expected.is_none() && frame.header.first && frame.offset == 0;
            if !begins && expected != Some(sequence) {
                replay.lost_any(format!("batches before {sequence} are missing"));
            }
            expected = Some(sequence + 1);
            let at = At {
                generation: segment.generation,
                offset: frame.offset as u32,
                sequence,
                oldest: segment.generation == oldest,
            };
            let batch = &bytes[frame.offset..];
            replay.batch(at, batch, frame.header);
            end.sequence = sequence;
            if !frame.intact && !replay.is_damaged() {
                replay.lost_any(format!("batch {sequence} is not what was written"));
            }
            if sequence == last_good && frame.intact {
                let blocks = batch[..frame.header.span().min(batch.len())].to_vec();
                end.tail = Some(Tail { offset: frame.offset as u64, batch: blocks });
            }
        }
    }
    Ok(end)
}

/// The standard library's hash keys come from the system's random numbers.
fn draw_log_id() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
