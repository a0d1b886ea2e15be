//! Where in the files of a log its batches lie that are in use, so that damage hits something: a part
//! that waits to be used again may be damaged, and nobody needs to notice.
//!
//! The layout is that of `crates/storage/src/log/format.rs`.

use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 4_096;
const HEADER_BYTES: usize = 64;
const MAGIC: &[u8] = b"FLRL";

/// A batch in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    offset: usize,
    bytes: usize,
    generation: u64,
    sequence: u64,
    oldest: u64,
}

/// A file in use, and the places of its batches: offset and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    generation: u64,
    pub(super) batches: Vec<(usize, usize)>,
}

impl Segment {
    /// Behind its last batch.
    pub(super) fn end(&self) -> usize {
        self.batches.last().map_or(0, |(offset, bytes)| offset + bytes)
    }
}

fn batch(bytes: &[u8], offset: usize) -> Option<Batch> {
    let header = bytes.get(offset..offset + HEADER_BYTES)?;
    let number = |place: usize| {
        header.get(place..place + 8).and_then(|it| it.try_into().ok()).map(u64::from_le_bytes)
    };
    if !header.starts_with(MAGIC) {
        return None;
    }
    let body = u32::from_le_bytes(header[40..44].try_into().ok()?) as usize;
    let bytes = (HEADER_BYTES + body).min(bytes.len() - offset);
    Some(Batch {
        offset,
        bytes,
        generation: number(16)?,
        sequence: number(24)?,
        oldest: number(32)?,
    })
}

/// The batches of a file's latest use.
fn scan(bytes: &[u8]) -> Vec<Batch> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < bytes.len() {
        match batch(bytes, offset) {
            Some(batch) => {
                found.push(batch);
                offset += batch.bytes.next_multiple_of(BLOCK_BYTES);
            }
            None => offset += BLOCK_BYTES,
        }
    }
    let latest = found.iter().map(|batch| batch.generation).max();
    found.retain(|batch| Some(batch.generation) == latest);
    found
}

/// Those files that the log needs, oldest first.
pub(super) fn in_use(files: &[PathBuf]) -> Result<Vec<Segment>, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|it| format!("{}: {it}", path.display()));
    let mut scanned = Vec::new();
    for path in files {
        scanned.push((path, scan(&read(path)?)));
    }
    let all = scanned.iter().flat_map(|(_, batches)| batches);
    let newest = all.max_by_key(|batch| batch.sequence).copied();
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let mut used = Vec::new();
    for (path, batches) in scanned {
        let Some(generation) = batches.first().map(|batch| batch.generation) else { continue };
        if (newest.oldest..=newest.generation).contains(&generation) {
            let batches = batches.iter().map(|batch| (batch.offset, batch.bytes)).collect();
            used.push(Segment { path: path.clone(), generation, batches });
        }
    }
    used.sort_by_key(|segment| segment.generation);
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(file: &mut [u8], block: usize, numbers: [u64; 3], body: u32) {
        let at = block * BLOCK_BYTES;
        file[at..at + 4].copy_from_slice(MAGIC);
        for (place, number) in [16, 24, 32].into_iter().zip(numbers) {
            file[at + place..at + place + 8].copy_from_slice(&number.to_le_bytes());
        }
        file[at + 40..at + 44].copy_from_slice(&body.to_le_bytes());
    }

    #[test]
    fn what_waits_to_be_used_again_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, batches: &[(usize, [u64; 3], u32)]| {
            let mut bytes = vec![0; 4 * BLOCK_BYTES];
            for (block, numbers, body) in batches {
                put(&mut bytes, *block, *numbers, *body);
            }
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        // Generation, sequence, oldest in use; the end of the second file is of its former use.
        let first = write("1", &[(0, [4, 10, 3], 100), (1, [4, 11, 3], 5_000)]);
        let second = write("2", &[(0, [5, 12, 4], 100), (1, [5, 13, 4], 10), (3, [2, 5, 2], 10)]);
        let third = write("3", &[(0, [3, 9, 3], 100)]);
        let used = in_use(&[third, second.clone(), first.clone()]).unwrap();
        let names: Vec<_> = used.iter().map(|segment| segment.path.clone()).collect();
        assert_eq!(names, [first, second]);
        assert_eq!(used[0].batches, [(0, 164), (4_096, 5_064)]);
        assert_eq!(used[1].batches, [(0, 164), (4_096, 74)]);
        assert_eq!(used[1].end(), 4_170);
    }
}
