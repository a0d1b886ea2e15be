//! Nothing that the log acknowledged is lost when the power goes.
//!
//! The power cut is ext4's shutdown call on a file system of its own: what was not synced is
//! dropped, and the journal is not written out. Needs root, a free loop device and mkfs.ext4; where
//! these are missing it is skipped. `FLOTILLA_POWER_CUT_ROUNDS` says how often to cut
//! (default 6).
#![allow(clippy::print_stderr)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flotilla_probe::skip;
use log_load::{Record, rounds, start};
use rand::RngExt;
use tempfile::TempDir;

mod log_load;

/// `_IOR('X', 125, __u32)`
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Drop everything that is not on the disk, the journal too.
const NO_LOG_FLUSH: u32 = 2;
const IMAGE_BYTES: u64 = 96 << 20;

/// A file system in a file.
struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
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
    fn make() -> Result<Disk, String> {
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

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mount_point)])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[text(&self.mount_point)])?;
        self.mounted = false;
        Ok(())
    }

    fn cut_power(&self) -> Result<(), String> {
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

#[test]
fn child_process() {
    log_load::child();
}

#[test]
fn a_power_cut_loses_nothing() {
    let mut disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => return skip("power cuts of a log", &why),
    };
    let dir = disk.mount_point.join("log");
    let mut record = Record::default();
    for round in 1..=rounds("FLOTILLA_POWER_CUT_ROUNDS", 6) {
        let running = start("child_process", &dir, round);
        // How long it runs decides nothing but where the cut hits.
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..400)));
        let cut = disk.cut_power();
        record.note(&running.kill());
        if let Err(why) = cut {
            return skip("power cuts of a log", &why);
        }
        disk.unmount().expect("unmounts");
        disk.mount().expect("mounts again");
        record.check(&dir);
    }
    assert!(record.acknowledged > 0);
    eprintln!("{} acknowledged operations, none lost", record.acknowledged);
}
