//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flotilla_probe::skip;
use tempfile::TempDir;

/// A file system in memory; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None`, and a word about that, where this process may not mount anything.
    ///
    /// # Panics
    /// When there is no room for temporary files, and when all tests have to be made.
    pub fn mount(size_mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { dir });
        }
        skip("small disks", "none can be mounted (that takes root)");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The same, to keep.
    pub fn to_path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once for all who look, even if a process that is about to end still has files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}
