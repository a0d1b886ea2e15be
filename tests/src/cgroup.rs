//! Limits that the kernel keeps for one process, by control groups of either version. Those of the first
//! can be made beside those that a machine has already; of the second there is one tree, and the
//! process is moved within it.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// What shares of a processor are shares of.
const PERIOD_US: u64 = 100_000;

/// What a process may have.
#[derive(Clone, Debug)]
pub(crate) enum Limit {
    /// So much of a processor in each 100 ms.
    CpuUs(u64),
    /// So much memory beyond what it has.
    MoreMemoryBytes(u64),
    /// So many threads beyond those that it has.
    MoreThreads(u64),
    /// So many writes to a device (`major:minor`) in a second.
    WritesPerSecond(String, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Limit {
    fn controller(&self, version: Version) -> &'static str {
        match (self, version) {
            (Self::CpuUs(_), _) => "cpu",
            (Self::MoreMemoryBytes(_), _) => "memory",
            (Self::MoreThreads(_), _) => "pids",
            (Self::WritesPerSecond(..), Version::One) => "blkio",
            (Self::WritesPerSecond(..), Version::Two) => "io",
        }
    }

    /// The file that holds it, and what is to be written there. A group begins with nothing: only what
    /// the process takes from then on counts.
    fn setting(&self, version: Version, threads: u64) -> (&'static str, String) {
        let two = version == Version::Two;
        match self {
            Self::CpuUs(us) if two => ("cpu.max", format!("{us} {PERIOD_US}")),
            Self::CpuUs(us) => ("cpu.cfs_quota_us", us.to_string()),
            Self::MoreMemoryBytes(bytes) if two => ("memory.max", bytes.to_string()),
            Self::MoreMemoryBytes(bytes) => ("memory.limit_in_bytes", bytes.to_string()),
            // Its threads come along with it.
            Self::MoreThreads(more) => ("pids.max", (threads + more).to_string()),
            Self::WritesPerSecond(device, count) if two => {
                ("io.max", format!("{device} wiops={count}"))
            }
            Self::WritesPerSecond(device, count) => {
                ("blkio.throttle.write_iops_device", format!("{device} {count}"))
            }
        }
    }

    /// Where the kernel counts how often it said no, if it does.
    fn counter(&self, version: Version) -> Option<(&'static str, &'static str)> {
        match (self, version) {
            (Self::CpuUs(_), _) => Some(("cpu.stat", "nr_throttled")),
            (Self::MoreMemoryBytes(_), Version::One) => Some(("memory.failcnt", "")),
            (Self::MoreMemoryBytes(_), Version::Two) => Some(("memory.events", "max")),
            (Self::MoreThreads(_), _) => Some(("pids.events", "max")),
            (Self::WritesPerSecond(..), _) => None,
        }
    }
}

/// A group with one process and its threads; gone when dropped, and the process without the limit then.
#[derive(Debug)]
pub(crate) struct Cgroup {
    limit: Limit,
    version: Version,
    path: PathBuf,
    /// Where the process was, and goes again.
    home: PathBuf,
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("{}: {error}", path.display()))
}

fn root(limit: &Limit) -> Result<(Version, PathBuf), String> {
    let first = Path::new(ROOT).join(limit.controller(Version::One));
    if first.join("cgroup.procs").exists() {
        return Ok((Version::One, first));
    }
    let name = limit.controller(Version::Two);
    let there = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    if there.split_whitespace().any(|it| it == name) {
        return Ok((Version::Two, PathBuf::from(ROOT)));
    }
    Err(format!("there are no control groups of {name} in {ROOT}"))
}

/// The group of a process in a tree, as `/proc` says.
fn group_of(process: u32, version: Version, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        // number:controllers:path
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_its = match version {
            Version::One => controllers.split(',').any(|it| it == controller),
            Version::Two => controllers.is_empty(),
        };
        is_its.then(|| path.trim_start_matches('/').to_owned())
    });
    found.unwrap_or_default()
}

impl Cgroup {
    /// Gives a process a limit.
    ///
    /// # Errors
    /// When the kernel will not.
    pub(crate) fn hold(process: u32, limit: Limit) -> Result<Self, String> {
        let (version, root) = root(&limit)?;
        let controller = limit.controller(version);
        let path = root.join(format!("flotilla-{}-{process}-{controller}", std::process::id()));
        let home = root.join(group_of(process, version, controller));
        // A container may see another path than is mounted.
        let home = if home.join("cgroup.procs").exists() { home } else { root.clone() };
        if version == Version::Two {
            write(&root.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: {error}", path.display()));
            }
            _ => {}
        }
        // Gone again when anything fails from here on.
        let group = Self { limit, version, path, home };
        write(&group.path.join("cgroup.procs"), &process.to_string())?;
        let threads = fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count);
        let (file, value) = group.limit.setting(version, threads as u64);
        write(&group.path.join(file), &value)?;
        Ok(group)
    }

    /// Whether there can be one.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn available(limit: &Limit) -> Result<(), String> {
        let (version, root) = root(limit)?;
        if version == Version::Two {
            let enable = format!("+{}", limit.controller(version));
            write(&root.join("cgroup.subtree_control"), &enable)?;
        }
        let probe = root.join(format!("flotilla-{}", std::process::id()));
        fs::create_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))?;
        fs::remove_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))
    }

    /// How often the kernel has refused, or made wait.
    pub(crate) fn hits(&self) -> u64 {
        let Some((file, name)) = self.limit.counter(self.version) else { return 0 };
        count(&fs::read_to_string(self.path.join(file)).unwrap_or_default(), name)
    }
}

/// The number behind a name, or the only one that there is.
pub(crate) fn count(text: &str, name: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Limit::WritesPerSecond(device, _) = &self.limit {
            // What is in the queue already would still be held back. It fails only when the device is gone.
            let (file, _) = self.limit.setting(self.version, 0);
            let none = match self.version {
                Version::One => format!("{device} 0"),
                Version::Two => format!("{device} wiops=max"),
            };
            let _ = write(&self.path.join(file), &none);
        }
        let held = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for process in held.lines() {
            // It may just have ended.
            let _ = write(&self.home.join("cgroup.procs"), process);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_the_kernel_writes_them() {
        let stat = "nr_periods 12\nnr_throttled 7\nthrottled_usec 9\n";
        assert_eq!(count(stat, "nr_throttled"), 7);
        assert_eq!(count("3\n", ""), 3);
        assert_eq!(count("low 0\nmax 5\noom 1\n", "max"), 5);
        assert_eq!(count("", "max"), 0);
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let writes = Limit::WritesPerSecond("7:0".into(), 20);
        assert_eq!(writes.setting(Version::Two, 0), ("io.max", "7:0 wiops=20".into()));
        let first = ("blkio.throttle.write_iops_device", "7:0 20".to_owned());
        assert_eq!(writes.setting(Version::One, 0), first);
        assert_eq!(Limit::CpuUs(5_000).setting(Version::Two, 0).1, "5000 100000");
        assert_eq!(Limit::MoreThreads(2).setting(Version::One, 9), ("pids.max", "11".into()));
    }
}
