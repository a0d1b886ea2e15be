//! Where work that waits for the disk is done.

use std::io;

use flotilla_storage::disk::{Disk, Workers};

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
}
