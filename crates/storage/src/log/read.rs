//! Reading entries: from memory, else from their segment.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use flotilla_types::ids::GroupId;

use super::engine::Shared;
use super::format::BLOCK_BYTES;
use super::group::Group;
use super::index::Place;

/// Entries this close to each other are fetched with one call.
const GAP_BYTES_MAX: usize = 2 * BLOCK_BYTES;
/// At most this much is fetched with one call (a larger single entry excepted).
const FETCH_BYTES_MAX: usize = 1_048_576;

#[derive(Clone, Copy, Debug)]
struct OnDisk {
    index: u64,
    generation: u64,
    offset: u32,
    bytes: u32,
    crc: u32,
}

enum Source {
    Memory(Bytes),
    Disk(OnDisk),
}

/// See [`super::GroupLog::read`].
pub(super) fn read(
    shared: &Shared,
    group: &Group,
    range: Range<u64>,
    bytes_max: usize,
) -> io::Result<Vec<Bytes>> {
    loop {
        let sources = plan(group, range.clone(), bytes_max)?;
        match fetch_all(shared, &sources) {
            Ok(entries) => return Ok(entries),
            Err(failed) => {
                // A segment may be reused under a reader that looked before the entry was purged
                // or carried forward. An entry that still is where it was read is damaged.
                let place = group.lock().index.get(failed.entry.index).copied();
                if place == Some(failed.entry.place()) {
                    return Err(failed.error);
                }
            }
        }
    }
}

/// See [`super::GroupLog::read_in_memory`].
pub(super) fn in_memory(
    group: &Group,
    range: Range<u64>,
    bytes_max: usize,
) -> io::Result<Option<Vec<Bytes>>> {
    let payload = |source| match source {
        Source::Memory(payload) => Some(payload),
        Source::Disk(_) => None,
    };
    Ok(plan(group, range, bytes_max)?.into_iter().map(payload).collect())
}

fn plan(group: &Group, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Source>> {
    let inner = group.lock();
    let meta = inner.index.meta();
    let to = range.end.min(meta.next);
    if range.start >= to {
        return Ok(Vec::new());
    }
    if range.start < meta.first {
        let text = format!("entry {} of group {} is purged", range.start, group.id);
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let mut sources = Vec::new();
    let mut bytes = 0;
    for index in range.start..to {
        let place = inner.index.get(index).copied().unwrap_or(Place::Missing);
        bytes += place.bytes() as usize;
        if bytes > bytes_max && !sources.is_empty() {
            break;
        }
        sources.push(match (inner.cached(index), place) {
            (Some(payload), _) => Source::Memory(payload.clone()),
            (None, Place::At { generation, offset, bytes, crc }) => {
                Source::Disk(OnDisk { index, generation, offset, bytes, crc })
            }
            (None, Place::Missing | Place::Pending { .. }) => return Err(lost(group.id, index)),
        });
    }
    Ok(sources)
}

struct Failed {
    entry: OnDisk,
    error: io::Error,
}

impl OnDisk {
    fn place(&self) -> Place {
        let OnDisk { generation, offset, bytes, crc, .. } = *self;
        Place::At { generation, offset, bytes, crc }
    }

    fn end(&self) -> usize {
        self.offset as usize + self.bytes as usize
    }

    /// Whether `next` is worth fetching with everything from `start` to here.
    fn joins(&self, next: &OnDisk, start: u32) -> bool {
        self.generation == next.generation
            && (self.end()..=self.end() + GAP_BYTES_MAX).contains(&(next.offset as usize))
            && next.end() - start as usize <= FETCH_BYTES_MAX
    }
}

fn fetch_all(shared: &Shared, sources: &[Source]) -> Result<Vec<Bytes>, Failed> {
    let mut entries = Vec::with_capacity(sources.len());
    let mut at = 0;
    while at < sources.len() {
        match &sources[at] {
            Source::Memory(payload) => {
                entries.push(payload.clone());
                at += 1;
            }
            Source::Disk(_) => at += fetch_run(shared, &sources[at..], &mut entries)?,
        }
    }
    Ok(entries)
}

/// Fetches the entries at the start of `sources` that lie close together with one call; returns
/// how many they were.
fn fetch_run(
    shared: &Shared,
    sources: &[Source],
    entries: &mut Vec<Bytes>,
) -> Result<usize, Failed> {
    let mut run: Vec<OnDisk> = Vec::new();
    for source in sources {
        let Source::Disk(next) = source else { break };
        match (run.first(), run.last()) {
            (Some(first), Some(last)) if !last.joins(next, first.offset) => break,
            _ => run.push(*next),
        }
    }
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(0);
    };
    let mut buffer = vec![0; last.end() - first.offset as usize];
    let fetched = shared
        .segment(first.generation)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the entry's segment is gone"))
        .and_then(|s| s.file.file.read_exact_at(&mut buffer, u64::from(first.offset)));
    if let Err(error) = fetched {
        return Err(Failed { entry: *first, error });
    }
    let buffer = Bytes::from(buffer);
    for entry in &run {
        let start = (entry.offset - first.offset) as usize;
        let payload = buffer.slice(start..start + entry.bytes as usize);
        if crc32fast::hash(&payload) != entry.crc {
            let text = format!("entry {} is not what was written", entry.index);
            let error = io::Error::new(io::ErrorKind::InvalidData, text);
            return Err(Failed { entry: *entry, error });
        }
        entries.push(payload);
    }
    Ok(run.len())
}

fn lost(group: GroupId, index: u64) -> io::Error {
    let text = format!("entry {index} of group {group} is lost");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
