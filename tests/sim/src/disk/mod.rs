//! A modelled disk: what was not synced may be lost or torn, sectors are whole or not written, and the
//! seed decides which.
//!
//! The log's own code runs on it, down to what it calls of a file system. A node's state store is the
//! model of RocksDB, which goes with the disk.
//!
//! Invariants:
//! - What a sync returned for is there after a power cut; nothing else need be.
//! - A sector (512 bytes) is as it was before a write or after it.
//! - Files and handles of before a power cut can do nothing after it.

mod faults;
mod file;
mod names;
#[cfg(test)]
mod power_cuts;
mod shadow;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_storage::disk::{Disk, DiskFile, Open, Workers};
use flotilla_storage::log::LogWriter;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use file::{Contents, Handle};
use names::Names;

pub(crate) use faults::{Change, Copy, Cut};
pub(crate) use shadow::{CutOff, Held, Shadow, fingerprint};

/// Room on a disk that is not full.
const FREE_BYTES: u64 = 10 << 30;

/// What no disk takes that is not slow.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// How often what was asked of a disk took place, over all of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    /// Durable writes that were done in part when the power was cut.
    pub(crate) torn: u64,
    /// Durable writes that failed.
    pub(crate) writes_failed: u64,
    pub(crate) reads_failed: u64,
    /// Writes for which there was no room.
    pub(crate) no_room: u64,
    /// Times that somebody asked for the room and heard that there is little.
    pub(crate) low: u64,
    /// Batches of the log that were written.
    pub(crate) batches: u64,
    /// Those of them that were written after a wait of [`SLOW`] at least.
    pub(crate) slow: u64,
}

/// Everything of one disk.
struct State {
    names: Names,
    dice: StdRng,
    /// Counts power cuts.
    life: u64,
    /// Nothing works: the power is off.
    off: bool,
    /// The next durable write is the last thing that this disk does, and is done in part.
    cut_at_next_write: bool,
    /// Durable writes that are still done; then one fails.
    writes_left: Option<u64>,
    /// Reads that still go well; then one fails.
    reads_left: Option<u64>,
    /// Bytes by which files can still grow, where there are few.
    room: Option<u64>,
    locked: bool,
    latency_ms: (u64, u64),
    happened: Happened,
    shadow: Shadow,
}

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    state_dir: Arc<PathBuf>,
    driver: fn(LogWriter, SimDisk),
}

impl SimDisk {
    /// Empty. The node's state store will be in `state_dir`.
    pub(crate) fn new(seed: u64, state_dir: PathBuf, latency_ms: (u64, u64)) -> Self {
        let state = State::new(StdRng::seed_from_u64(seed), latency_ms);
        let (state, state_dir) = (Arc::new(Mutex::new(state)), Arc::new(state_dir));
        Self { state, state_dir, driver: drive }
    }

    /// How long the next batch of the log takes.
    fn latency(&self) -> Duration {
        let mut state = self.state.lock();
        let (least, most) = state.latency_ms;
        Duration::from_millis(state.dice.random_range(least..=most))
    }

    fn contents(&self, path: &Path) -> io::Result<Arc<Mutex<Contents>>> {
        let state = self.state.lock();
        state.alive()?;
        state.names.get(path)
    }
}

impl State {
    fn new(dice: StdRng, latency_ms: (u64, u64)) -> Self {
        Self {
            names: Names::default(),
            dice,
            life: 0,
            off: false,
            cut_at_next_write: false,
            writes_left: None,
            reads_left: None,
            room: None,
            locked: false,
            latency_ms,
            happened: Happened::default(),
            shadow: Shadow::default(),
        }
    }

    /// Takes room for a file that grows.
    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        match room.checked_sub(bytes) {
            Some(left) => *room = left,
            None => {
                self.happened.no_room += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    /// Whether this read goes well.
    fn read(&mut self) -> io::Result<()> {
        let failed = self.reads_left == Some(0);
        self.reads_left = if failed { None } else { self.reads_left.map(|left| left - 1) };
        if !failed {
            return Ok(());
        }
        self.happened.reads_failed += 1;
        Err(io::Error::other("the read failed"))
    }

    fn alive(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        state.names.create_dir(dir);
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state.lock().names.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        state.alive()?;
        Ok(state.names.list(dir))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.alive()?;
        if matches!(how, Open::OrCreate | Open::Anew) {
            state.names.create(path, how == Open::Anew)?;
        }
        let contents = state.names.get(path)?;
        Ok(Arc::new(Handle { disk: self.clone(), life: state.life, contents }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let contents = self.contents(path)?;
        self.state.lock().read()?;
        let bytes = contents.lock().bytes().to_vec();
        Ok(bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        state.names.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        state.names.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        state.names.sync(dir)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state.lock();
        state.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), life: state.life }))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.alive()?;
        state.happened.low += u64::from(state.room.is_some());
        Ok(state.room.unwrap_or(FREE_BYTES))
    }

    fn workers(&self) -> Workers {
        let disk = self.clone();
        Workers::Turns(Box::new(move |writer| (disk.driver)(writer, disk)))
    }
}

/// Every batch takes its time.
fn drive(mut writer: LogWriter, disk: SimDisk) {
    tokio::spawn(async move {
        loop {
            let latency = disk.latency();
            tokio::time::sleep(latency).await;
            let before = disk.state.lock().happened.batches;
            let goes_on = writer.turn();
            let happened = &mut disk.state.lock().happened;
            if latency >= SLOW {
                happened.slow += happened.batches - before;
            }
            if !goes_on {
                return;
            }
        }
    });
}

struct Lock {
    disk: SimDisk,
    life: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life {
            state.locked = false;
        }
    }
}
