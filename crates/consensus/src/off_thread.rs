//! Where work that waits for the disk is done.

use std::io;

use flotilla_storage::disk::{Disk, Workers};
use tokio::runtime::Handle;

/// Runs what would hold up every task of a thread. On a disk that holds up nobody it is done at
/// once, so that nothing depends on how threads take their turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffThread {
    pool: bool,
}

impl OffThread {
    pub(crate) fn for_disk(disk: &dyn Disk) -> Self {
        Self { pool: matches!(disk.workers(), Workers::Threads) }
    }

    /// # Errors
    /// When the work panics.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.pool {
            tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
        } else {
            Ok(work())
        }
    }

    /// Drops what may wait for the disk when it is dropped; nobody waits for that.
    pub(crate) fn end<T: Send + 'static>(self, value: T) {
        match Handle::try_current() {
            Ok(runtime) if self.pool => drop(runtime.spawn_blocking(move || drop(value))),
            _ => drop(value),
        }
    }
}
