//! Limits that the kernel keeps for one process. Only with control groups of the first version, which can
//! be made beside those that a machine has already.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A group of one controller; gone when dropped, and its processes without limits then.
#[derive(Debug)]
pub(crate) struct Cgroup {
    root: PathBuf,
    path: PathBuf,
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("{}: {error}", path.display()))
}

impl Cgroup {
    /// A new group that holds this process and its threads.
    pub(crate) fn hold(controller: &str, process: u32) -> Result<Self, String> {
        let root = Path::new(ROOT).join(controller);
        let path = root.join(format!("flotilla-{}-{process}", std::process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: {error}", path.display()));
            }
            _ => {}
        }
        let group = Self { root, path };
        write(&group.path.join("cgroup.procs"), &process.to_string())?;
        Ok(group)
    }

    /// Whether there can be one.
    pub(crate) fn available(controller: &str) -> Result<(), String> {
        let root = Path::new(ROOT).join(controller);
        if !root.join("cgroup.procs").exists() {
            return Err(format!("there is no {} (control groups of version 1)", root.display()));
        }
        let probe = root.join(format!("flotilla-{}", std::process::id()));
        fs::create_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))?;
        fs::remove_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))
    }

    pub(crate) fn set(&self, file: &str, value: &str) -> Result<(), String> {
        write(&self.path.join(file), value)
    }

    pub(crate) fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let held = self.get("cgroup.procs");
        for process in held.lines() {
            // It may just have ended.
            let _ = fs::write(self.root.join("cgroup.procs"), process);
        }
        // A group whose last process is just being buried cannot go yet; it limits nobody.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
