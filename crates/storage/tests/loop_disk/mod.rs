//! A disk of a test's own, whose power can be cut: ext4 in a file, mounted over a loop device.
//!
//! The power cut is ext4's shutdown call: what was not synced is dropped, and the journal is not written
//! out. Needs root, a free loop device and mkfs.ext4.

#![allow(clippy::print_stderr, reason = "what is left behind is said to whoever runs the tests")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

/// How long files may still be open that are about to be closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// `_IOR('X', 125, __u32)`
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Drop everything that is not on the disk, the journal too.
const NO_LOG_FLUSH: u32 = 2;
const IMAGE_BYTES: u64 = 96 << 20;

/// A file system in a file.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mount_point: PathBuf,
    mounted: bool,
    _dir: TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

impl Disk {
    pub(crate) fn make() -> Result<Disk, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, mount_point) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image)
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .and_then(|()| std::fs::create_dir(&mount_point))
            .map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let mut disk = Disk { image, mount_point, mounted: false, _dir: dir };
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mount_point)])?;
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn unmount(&mut self) -> Result<(), String> {
        let began = std::time::Instant::now();
        while let Err(error) = run("umount", &[text(&self.mount_point)]) {
            if began.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mounted = false;
        Ok(())
    }

    pub(crate) fn cut_power(&self) -> Result<(), String> {
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
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = self.unmount()
        {
            eprintln!("left mounted: {error}");
        }
    }
}
