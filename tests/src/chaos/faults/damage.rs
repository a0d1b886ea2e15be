//! A disk that lies: bits that turn over, files that are cut, lost or older than they were. It counts when
//! the node has noticed it; what nobody needs may be damaged in silence, and is tried elsewhere.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::evidence::within;
use super::machine::Strike;
use super::segments::{self, Segment};
use super::{FaultKind, Nemesis};
use crate::http::Connection;
use crate::tool::tool;
use crate::{Fleet, PATIENCE};

/// Of each file that is damaged.
const FLIPS: usize = 4;
/// Smaller files beside the segments of a log are its marks.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Until the node notices one.
const ATTEMPTS: usize = 5;
/// What a node says when it finds that it lost something.
const NOTICED: [&str; 6] = [
    "the log is damaged",
    "the log is older",
    "the log is gone",
    "the state is damaged",
    "the state is older",
    "not part of a cluster yet",
];

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in strike.nodes.clone() {
        for attempt in 1.. {
            if strike_once(nemesis, strike, id).await? {
                break;
            }
            if attempt == ATTEMPTS {
                return Err(format!("node {id} noticed nothing, {ATTEMPTS} times"));
            }
            nemesis.fleet.whole().await;
        }
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    Ok(())
}

/// Damages something and starts the node on it; whether it notices.
async fn strike_once(nemesis: &mut Nemesis<'_>, strike: &Strike, id: u64) -> Result<bool, String> {
    let must_say = match strike.kind {
        FaultKind::Rollback => rollback(nemesis, id).await?,
        FaultKind::LoseDisk => nemesis.fleet.lose_disk(id).map(|()| true)?,
        FaultKind::FlipLive => flip_live(nemesis, id).await.map(|()| true)?,
        kind => damage_at_rest(nemesis, id, kind).await?,
    };
    let before = nemesis.said(id, &NOTICED);
    nemesis.fleet.launch(id);
    if !must_say || nemesis.says(id, &NOTICED, before).await {
        return Ok(true);
    }
    // What is read by nobody yet is read now.
    read_everything(nemesis.fleet, id).await;
    Ok(nemesis.says(id, &NOTICED, before).await)
}

/// Whether damage is found there or not: one that finds it does not answer.
async fn read_everything(fleet: &mut Fleet, id: u64) {
    let admin = fleet.admin(id);
    let mut is_asked = async || {
        fleet.revive();
        let mut connection = Connection::new(admin.as_str());
        connection.request("GET /digest HTTP/1.1", "", PATIENCE).await.is_ok()
    };
    within(PATIENCE / 6, &mut is_asked).await;
}

/// Whether the node must notice.
async fn damage_at_rest(
    nemesis: &mut Nemesis<'_>,
    id: u64,
    kind: FaultKind,
) -> Result<bool, String> {
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
        FaultKind::FlipLog => flip_log(&data, dice)?,
        FaultKind::FlipState => {
            let mut files = state_files(&data)?;
            // One kind of file at a time: the damage of one must not hide that of another.
            let manifests = dice.random_range(0..3) == 0;
            files.retain(|path| is_manifest(path) == manifests);
            files.iter().try_for_each(|path| flip(path, dice))?;
        }
        FaultKind::FlipSmall => return flip_small(&data, dice).map(|()| false),
        FaultKind::Truncate => {
            let (path, end) = some_file(&data, dice)?;
            let file = File::options().write(true).open(path).map_err(said)?;
            file.set_len(dice.random_range(0..end.max(1)) as u64).map_err(said)?;
        }
        _ => fs::remove_file(some_file(&data, dice)?.0).map_err(said)?,
    }
    Ok(true)
}

/// A file of log or state that is needed, and where what it holds ends.
fn some_file(data: &Path, dice: &mut StdRng) -> Result<(PathBuf, usize), String> {
    let mut files: Vec<(PathBuf, usize)> =
        used_segments(data)?.into_iter().map(|it| (it.path.clone(), it.end())).collect();
    for path in state_files(data)? {
        let bytes = path.metadata().map_err(|error| error.to_string())?.len();
        files.push((path, bytes as usize));
    }
    files.choose(dice).cloned().ok_or_else(|| "there is no file".to_owned())
}

/// One of the small files that say who a node is, what it has promised and what it has heard, or each of
/// them. There is a second one of most, and the node need not say that it took that.
fn flip_small(data: &Path, dice: &mut StdRng) -> Result<(), String> {
    let small = small_files(data)?;
    let path = small.choose(dice).ok_or("there is no small file")?;
    if dice.random_range(0..3) == 0 {
        return small.iter().try_for_each(|path| flip_once(path, dice));
    }
    flip_once(path, dice)
}

fn small_files(data: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = files(data)?;
    for dir in ["log", "memory", "rebirth", "state"] {
        all.extend(files(&data.join(dir)).unwrap_or_default());
    }
    all.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = path.metadata().map_or(0, |it| it.len());
        let ends = |end: &str| path.extension().is_some_and(|it| it == end);
        let is_large = bytes == 0 || bytes >= SEGMENT_BYTES_MIN;
        let is_state = ends("sst") || ends("blob") || is_manifest(path);
        // RocksDB's own diary, and what is locked, say nothing of what is stored.
        let says_nothing = name.starts_with("LOG") || name.eq_ignore_ascii_case("lock");
        !is_large && !is_state && !says_nothing && !ends("new")
    });
    Ok(all)
}

/// While the node reads and writes these files; then it is killed, so that it finds when it starts what
/// it never read.
async fn flip_live(nemesis: &mut Nemesis<'_>, id: u64) -> Result<(), String> {
    let data = nemesis.fleet.data(id);
    let dice = &mut nemesis.dice;
    let mut files = state_files(&data)?;
    files.retain(|path| !is_manifest(path));
    let log = dice.random_range(0..2) == 0 || files.is_empty();
    if log {
        flip_log(&data, dice)?;
    } else {
        files.iter().try_for_each(|it| flip(it, dice))?;
    }
    nemesis.hold_for_long().await;
    nemesis.fleet.kill9(id);
    Ok(())
}

/// The directory as it was a while ago, before the node acknowledged more, and voted; or only its log, or only its
/// state. Whether the node must notice: an older state is mended by the log, as long as that goes back so far.
async fn rollback(nemesis: &mut Nemesis<'_>, id: u64) -> Result<bool, String> {
    let data = nemesis.fleet.data(id);
    let part = *["", "log", "state"].choose(&mut nemesis.dice).expect("there are some");
    let copy = data.with_extension("old");
    // A picture of one moment, as a disk's own snapshot would be.
    nemesis.fleet.pause(id);
    let copied = tool("cp", &["-a", &data.to_string_lossy(), &copy.to_string_lossy()]);
    nemesis.fleet.resume(id);
    copied?;
    nemesis.hold_for_long().await;
    nemesis.fleet.kill9(id);
    put_back(&copy, &data, part).map_err(|error| error.to_string())?;
    // The next fault may take away what is not on the disk, and this was there for long.
    tool("sync", &["--file-system", &data.to_string_lossy()])?;
    Ok(part != "state")
}

fn put_back(copy: &Path, data: &Path, part: &str) -> std::io::Result<()> {
    if part.is_empty() {
        fs::remove_dir_all(data)?;
        return fs::rename(copy, data);
    }
    fs::remove_dir_all(data.join(part))?;
    fs::rename(copy.join(part), data.join(part))?;
    fs::remove_dir_all(copy)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    all.retain(|path| path.is_file());
    // The same dice choose the same files.
    all.sort();
    Ok(all)
}

/// Of the log, those that it needs.
fn used_segments(data: &Path) -> Result<Vec<Segment>, String> {
    let mut all = files(&data.join("log"))?;
    all.retain(|path| path.metadata().is_ok_and(|it| it.len() >= SEGMENT_BYTES_MIN));
    segments::in_use(&all)
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

/// In batches of the newest segment.
fn flip_log(data: &Path, dice: &mut StdRng) -> Result<(), String> {
    let segments = used_segments(data)?;
    let newest = segments.last().ok_or("there is no segment")?;
    let places: Vec<usize> =
        (newest.batches.iter()).flat_map(|(offset, bytes)| *offset..*offset + *bytes).collect();
    flip_at(&newest.path, &places, FLIPS, dice)
}

/// Turns bits over in bytes that are not zero: a gap says nothing.
fn flip(path: &Path, dice: &mut StdRng) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let full: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    flip_at(path, &full, FLIPS, dice)
}

/// One bit, anywhere.
fn flip_once(path: &Path, dice: &mut StdRng) -> Result<(), String> {
    let bytes = path.metadata().map_err(|error| format!("{}: {error}", path.display()))?.len();
    let places: Vec<usize> = (0..bytes as usize).collect();
    flip_at(path, &places, 1, dice)
}

fn flip_at(path: &Path, places: &[usize], count: usize, dice: &mut StdRng) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::options().read(true).write(true).open(path).map_err(said)?;
    for _ in 0..count {
        let Some(place) = places.choose(dice) else { return Ok(()) };
        let mut byte = [0];
        file.read_exact_at(&mut byte, *place as u64).map_err(said)?;
        byte[0] ^= 1 << dice.random_range(0..8);
        file.write_all_at(&byte, *place as u64).map_err(said)?;
    }
    file.sync_all().map_err(said)
}
