//! SQLite, such that what was committed is on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

/// Another process may be committing.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// A connection that tasks share.
#[derive(Clone, Debug)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens a file, and makes the tables that are missing.
    pub(crate) fn open(path: &Path, tables: &str) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // Readers do not stop the writer; and a commit is synced before it returns.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(tables)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Works with the connection, away from the tasks that must not wait for a disk.
    pub(crate) async fn with<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> anyhow::Result<T>
    where
        T: Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        let connection = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut connection.lock())).await?;
        done.map_err(Into::into)
    }
}
