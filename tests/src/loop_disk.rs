//! A disk of a node's own, whose power can be cut: ext4 in a file, mounted over a loop device.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tool::tool;

/// `_IOR('X', 125, __u32)`
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Drop everything that is not on the disk, the journal too.
const NO_LOG_FLUSH: u32 = 2;
/// Sparse: what nobody writes takes no room.
const IMAGE_BYTES: u64 = 2 << 30;
/// How long a disk may be in use that nobody uses any more.
const BUSY_MAX: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// See the module. Gone when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
    /// What is mounted is of no use any more.
    is_shut: bool,
    is_frozen: bool,
    _dir: TempDir,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

impl LoopDisk {
    /// A new one, mounted.
    ///
    /// # Errors
    /// When this process may not do that, or the machine cannot.
    pub fn make() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, mount_point) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image)
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .and_then(|()| std::fs::create_dir(&mount_point))
            .map_err(|error| error.to_string())?;
        tool("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let mut disk = Self {
            image,
            mount_point,
            is_mounted: false,
            is_shut: false,
            is_frozen: false,
            _dir: dir,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// Whether there can be one.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available() -> Result<(), String> {
        Self::make()?.cut_power()
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    pub(crate) fn mount(&mut self) -> Result<(), String> {
        // The journal brings the file system back to what was on the disk, as after a power cut.
        tool("mount", &["-o", "loop", text(&self.image), text(&self.mount_point)])?;
        (self.is_mounted, self.is_shut) = (true, false);
        Ok(())
    }

    pub(crate) fn unmount(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        // What a process has open is closed a moment after its end.
        while let Err(error) = tool("umount", &[text(&self.mount_point)]) {
            if begin.elapsed() > BUSY_MAX {
                return Err(error);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.is_mounted = false;
        Ok(())
    }

    /// From now on nothing reaches the disk, and every write fails.
    pub(crate) fn cut_power(&mut self) -> Result<(), String> {
        // Also if the call fails, nobody knows how.
        self.is_shut = true;
        let root = File::open(&self.mount_point).map_err(|error| error.to_string())?;
        let flag = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and the call reads the four bytes of the flag.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN as _, &flag) };
        match result {
            0 => Ok(()),
            _ => Err(format!("shutdown call: {}", std::io::Error::last_os_error())),
        }
    }

    /// Writes and syncs hang until [`LoopDisk::thaw`].
    pub(crate) fn freeze(&mut self) -> Result<(), String> {
        tool("fsfreeze", &["--freeze", text(&self.mount_point)])?;
        self.is_frozen = true;
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<(), String> {
        tool("fsfreeze", &["--unfreeze", text(&self.mount_point)])?;
        self.is_frozen = false;
        Ok(())
    }

    pub(crate) fn thaw_if_frozen(&mut self) {
        if self.is_frozen {
            // Nobody is here to hear of a failure.
            let _ = self.thaw();
        }
    }

    /// Whether what is mounted is of no use any more.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_mounted && self.is_shut
    }

    /// Undoes whatever was done to it and was not undone yet.
    pub(crate) fn restore(&mut self) -> Result<(), String> {
        self.thaw_if_frozen();
        if self.is_shut() {
            self.unmount()?;
        }
        match self.is_mounted {
            true => Ok(()),
            false => self.mount(),
        }
    }

    /// Nothing more can be written, though files are open for it.
    pub(crate) fn make_read_only(&mut self) -> Result<(), String> {
        self.is_shut = true;
        // An orderly remount waits for writers to close their files; this is what the kernel does by
        // itself when it finds the disk in disorder.
        tool("mount", &["-o", "remount,abort", text(&self.mount_point)]).map(|_| ())
    }

    /// `major:minor` of the device.
    pub(crate) fn device(&self) -> Result<String, String> {
        tool("findmnt", &["--noheadings", "--output", "MAJ:MIN", text(&self.mount_point)])
            .map(|numbers| numbers.trim().to_owned())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A frozen file system cannot be unmounted. Failures leave what the machine's next start
        // removes, and nobody is here to hear of them.
        self.thaw_if_frozen();
        if self.is_mounted && self.unmount().is_err() {
            let _ = tool("umount", &["--lazy", text(&self.mount_point)]);
        }
    }
}
