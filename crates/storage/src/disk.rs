//! What a node's files are on: everything that a node asks of a file system.
//!
//! [`Machine`] is the operating system's; a simulator brings another one, which can lose what was
//! not synced. All that is called here ends in a system call: one indirect call more is nothing
//! beside it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::LogWriter;
use crate::space;

/// Files and directories. What was not synced may be gone, or be there in part, after a power cut:
/// contents by [`DiskFile`], names by [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and those above it, unless they are there.
    ///
    /// # Errors
    /// As for all methods here: what the disk says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether there is a file or a directory.
    fn exists(&self, path: &Path) -> bool;

    /// What is in a directory, in any order.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// All of a file.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Removes a file.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of what has it.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes this process the only user of a file until the result is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another one uses it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Bytes that could still be written.
    ///
    /// # Errors
    /// See [`Disk::create_dir`].
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Who waits for this disk.
    fn workers(&self) -> Workers;
}

/// What becomes of a file that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// It is made if it is not there.
    OrCreate,
    /// It is made empty.
    Anew,
    /// It must be there; whole blocks will be written durably to it.
    Blocks,
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait DiskFile: Send + Sync {
    /// Its length.
    ///
    /// # Errors
    /// As for all methods here: what the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer.
    ///
    /// # Errors
    /// See [`DiskFile::len`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all; durable after a sync only.
    ///
    /// # Errors
    /// See [`DiskFile::len`].
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes whole blocks from an address at a block's boundary, durably.
    ///
    /// # Errors
    /// See [`DiskFile::len`].
    fn write_durably(&self, blocks: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents durable.
    ///
    /// # Errors
    /// See [`DiskFile::len`]. What was written may be gone then: no use to sync again.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// See [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;
}

/// Who does what waits for a disk.
pub enum Workers {
    /// Threads, which the disk may hold up.
    Threads,
    /// Whoever asks, at once: this disk holds up nobody. The log's writer is handed over, to be
    /// given its turns.
    Turns(Box<dyn FnOnce(LogWriter) + Send>),
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Disk for Machine {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|item| Ok(item?.path())).collect()
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.create(matches!(how, Open::OrCreate | Open::Anew)).truncate(how == Open::Anew);
        let file = options.open(path)?;
        let direct = if how == Open::Blocks {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
            options.open(path).ok()
        } else {
            None
        };
        Ok(Arc::new(MachineFile { file, direct }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, "another process has it open")
            }
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        space::free_bytes(dir)
    }

    fn workers(&self) -> Workers {
        Workers::Threads
    }
}

struct MachineFile {
    file: File,
    /// The same file past the page cache, each write durable when it returns; `None` on file
    /// systems that cannot, and where it is of no use.
    direct: Option<File>,
}

impl DiskFile for MachineFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Past the page cache this costs half the processor time of a write and a sync: one call, no
    /// copy, no dirty pages to look for.
    fn write_durably(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        match &self.direct {
            Some(direct) => direct.write_all_at(blocks, offset),
            None => {
                self.file.write_all_at(blocks, offset)?;
                self.file.sync_data()
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
