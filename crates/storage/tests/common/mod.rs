//! Shared by the tests that crash a child process or cut the power under it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts this test binary again, running one test of it with an environment variable set by
/// which that test knows it is the child. Its standard output is piped.
pub(crate) fn spawn_child(test: &str, variable: &str, value: &str) -> Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdout(Stdio::piped())
        .spawn()
        .expect("child starts")
}

/// A number from the environment, for longer runs than the default.
pub(crate) fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// An ext4 file system in a file whose power can be cut: what was not synced is lost.
pub(crate) struct LoopDisk {
    _dir: tempfile::TempDir,
    image: PathBuf,
    mount: PathBuf,
}

impl LoopDisk {
    /// `None` where loop mounts are not possible (no root, no loop devices).
    pub(crate) fn new(size_mib: u64) -> Option<LoopDisk> {
        let dir = tempfile::tempdir().ok()?;
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image).ok()?.set_len(size_mib << 20).ok()?;
        fs::create_dir(&mount).ok()?;
        let formatted = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image]);
        let disk = LoopDisk { _dir: dir, image, mount };
        (formatted && disk.mounted()).then_some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on every write fails and nothing more reaches the image, not even the journal.
    pub(crate) fn cut_power(&self) -> io::Result<()> {
        const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let root = File::open(&self.mount)?;
        // SAFETY: the descriptor is open for the call, and the request reads one u32.
        #[allow(unsafe_code)]
        let done = unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN as _, &NO_LOG_FLUSH) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// After [`LoopDisk::cut_power`], when nobody has files open any more.
    pub(crate) fn power_on(&self) {
        self.unmounted().expect("the image is free");
        assert!(self.mounted(), "the image mounts again");
    }

    fn mounted(&self) -> bool {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image, &self.mount])
    }

    /// Tries for a while: the files of a killed process are closed a moment after it is gone.
    fn unmounted(&self) -> io::Result<()> {
        const TRIES: u32 = 500;
        const PAUSE: Duration = Duration::from_millis(20);
        let target = CString::new(self.mount.as_os_str().as_encoded_bytes()).expect("no zero byte");
        // Not the `umount` program: it would be one more process that may fail to start.
        for _ in 0..TRIES {
            // SAFETY: the string is alive and ends in zero.
            #[allow(unsafe_code)]
            let done = unsafe { libc::umount2(target.as_ptr(), 0) };
            match io::Error::last_os_error() {
                _ if done == 0 => return Ok(()),
                error if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(PAUSE),
                error => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = self.unmounted();
    }
}

fn run(program: &str, arguments: &[&Path]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
