//! One process per data directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::Context as _;

const FILE: &str = "lock";

/// Holds a directory until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl DirLock {
    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// When another process has it, or it cannot be created.
    pub(crate) fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let open = || -> std::io::Result<File> {
            fs::create_dir_all(dir)?;
            File::options().create(true).truncate(false).write(true).open(&path)
        };
        let file = open().with_context(|| format!("{}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!("{} is in use by another process", dir.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        let lock = DirLock::take(&inner).unwrap();
        let refused = DirLock::take(&inner).unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        drop(lock);
        DirLock::take(&inner).unwrap();
    }
}
