//! A disk that takes only so many writes in a second.

use crate::cgroup::Cgroup;
use crate::loop_disk::LoopDisk;

const LIMIT: &str = "blkio.throttle.write_iops_device";

/// What a node's process writes to its disk is slow until this is dropped.
#[derive(Debug)]
pub struct Throttle {
    group: Cgroup,
    device: String,
}

impl Throttle {
    /// Whether there can be one.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available() -> Result<(), String> {
        Cgroup::available("blkio").and_then(|()| LoopDisk::available())
    }

    pub(crate) fn begin(process: u32, device: &str, per_second: u32) -> Result<Self, String> {
        let group = Cgroup::hold("blkio", process)?;
        group.set(LIMIT, &format!("{device} {per_second}"))?;
        Ok(Self { group, device: device.to_owned() })
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // What is in the queue already would still be held back. It fails only when the device is gone.
        let _ = self.group.set(LIMIT, &format!("{} 0", self.device));
    }
}
