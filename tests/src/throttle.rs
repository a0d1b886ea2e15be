//! A disk that takes only so many writes in a second.

use crate::cgroup::{Cgroup, Limit};
use crate::loop_disk::LoopDisk;

/// What a node's process writes to its disk is slow until this is dropped.
#[derive(Debug)]
pub struct Throttle {
    _group: Cgroup,
}

impl Throttle {
    /// Whether there can be one.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available() -> Result<(), String> {
        let any = Limit::WritesPerSecond(String::new(), 0);
        Cgroup::available(&any).and_then(|()| LoopDisk::available())
    }

    pub(crate) fn begin(process: u32, device: &str, per_second: u32) -> Result<Self, String> {
        let limit = Limit::WritesPerSecond(device.to_owned(), per_second);
        Cgroup::hold(process, limit).map(|group| Self { _group: group })
    }
}
