//! A disk that lies: bits that turn over, files that are cut, lost or older than they were.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::loop_disk::tool;

/// Of each file that is damaged.
const FLIPS: usize = 4;
/// Smaller files of the log are whole in themselves.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in strike.nodes.clone() {
        match strike.kind {
            FaultKind::FlipLive => flip_live(nemesis, id)?,
            FaultKind::Rollback => rollback(nemesis, id).await?,
            kind => damage_at_rest(nemesis, id, kind).await?,
        }
    }
    nemesis.fired(strike);
    if strike.kind == FaultKind::FlipLive {
        nemesis.hold_for_long().await;
        // What it never read it must find when it starts.
        for id in &strike.nodes {
            nemesis.fleet.kill9(*id);
        }
    }
    for id in &strike.nodes {
        nemesis.fleet.launch(*id);
    }
    nemesis.hold_for_long().await;
    Ok(())
}

async fn damage_at_rest(nemesis: &mut Nemesis<'_>, id: u64, kind: FaultKind) -> Result<(), String> {
    // A node that ends in order leaves files of state behind, not only a log.
    if kind == FaultKind::FlipState {
        nemesis.fleet.stop(id).await;
    } else {
        nemesis.fleet.kill9(id);
    }
    let data = nemesis.fleet.data(id);
    let dice = &mut nemesis.dice;
    let said = |error: std::io::Error| error.to_string();
    match kind {
        FaultKind::FlipLog => flip_newest(&segments(&data)?, dice),
        FaultKind::FlipState => {
            let mut files = state_files(&data)?;
            // One kind of file at a time: the damage of one must not hide that of another.
            let manifests = dice.random_range(0..3) == 0;
            files.retain(|path| is_manifest(path) == manifests);
            files.iter().try_for_each(|path| flip(path, dice))
        }
        FaultKind::Truncate => {
            let mut files = segments(&data)?;
            files.extend(state_files(&data)?);
            let path = files.choose(dice).ok_or("there is no file")?;
            let held = held_bytes(path).map_err(said)?;
            let file = File::options().write(true).open(path).map_err(said)?;
            file.set_len(dice.random_range(0..held.max(1))).map_err(said)
        }
        FaultKind::LoseFile => {
            let mut files = segments(&data)?;
            files.extend(state_files(&data)?);
            let path = files.choose(dice).ok_or("there is no file")?;
            fs::remove_file(path).map_err(said)
        }
        _ => fs::remove_dir_all(&data).map_err(said),
    }
}

/// While the node reads and writes these files.
fn flip_live(nemesis: &mut Nemesis<'_>, id: u64) -> Result<(), String> {
    let data = nemesis.fleet.data(id);
    let dice = &mut nemesis.dice;
    let mut files = state_files(&data)?;
    files.retain(|path| !is_manifest(path));
    let log = dice.random_range(0..2) == 0 || files.is_empty();
    if log {
        flip_newest(&segments(&data)?, dice)
    } else {
        files.iter().try_for_each(|it| flip(it, dice))
    }
}

/// The directory as it was a while ago, before the node acknowledged more, and voted.
async fn rollback(nemesis: &mut Nemesis<'_>, id: u64) -> Result<(), String> {
    let data = nemesis.fleet.data(id);
    let copy = data.with_extension("old");
    // A picture of one moment, as a disk's own snapshot would be.
    nemesis.fleet.pause(id);
    let copied = tool("cp", &["-a", &data.to_string_lossy(), &copy.to_string_lossy()]);
    nemesis.fleet.resume(id);
    copied?;
    nemesis.hold_for_long().await;
    nemesis.fleet.kill9(id);
    fs::remove_dir_all(&data).and_then(|()| fs::rename(&copy, &data)).map_err(|e| e.to_string())?;
    // The next fault may take away what is not on the disk, and this was there for long.
    tool("sync", &["--file-system", &data.to_string_lossy()]).map(|_| ())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    all.retain(|path| path.is_file());
    // The same dice choose the same files.
    all.sort();
    Ok(all)
}

/// Of the log, those that hold anything.
fn segments(data: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = files(&data.join("log"))?;
    all.retain(|path| {
        let large = path.metadata().is_ok_and(|it| it.len() >= SEGMENT_BYTES_MIN);
        large && held_bytes(path).is_ok_and(|held| held > 0)
    });
    Ok(all)
}

fn state_files(data: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = files(&data.join("state"))?;
    let ends = |path: &Path, end: &str| path.extension().is_some_and(|it| it == end);
    all.retain(|path| ends(path, "sst") || ends(path, "blob") || is_manifest(path));
    Ok(all)
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
}

/// Up to its last byte that is not zero.
fn held_bytes(path: &Path) -> std::io::Result<u64> {
    let bytes = fs::read(path)?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1))
}

/// The files that were written last: others may wait to be used again.
fn flip_newest(files: &[PathBuf], dice: &mut StdRng) -> Result<(), String> {
    let written = |path: &&PathBuf| path.metadata().and_then(|it| it.modified()).ok();
    flip(files.iter().max_by_key(written).ok_or("there is no file")?, dice)
}

/// Turns bits over in bytes that are not zero: a gap says nothing.
fn flip(path: &Path, dice: &mut StdRng) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(said)?;
    let full: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    let file = File::options().write(true).open(path).map_err(said)?;
    for _ in 0..FLIPS {
        let Some(place) = full.choose(dice) else { return Ok(()) };
        let byte = bytes[*place] ^ (1 << dice.random_range(0..8));
        file.write_all_at(&[byte], *place as u64).map_err(said)?;
    }
    file.sync_all().map_err(said)
}
