//! Which file has which name, now and after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::faults::Named;
use super::file::Contents;

type Files = BTreeMap<PathBuf, Arc<Mutex<Contents>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    files: Files,
    dirs: BTreeSet<PathBuf>,
    /// Names that a sync of their directory has made durable.
    synced_files: Files,
    synced_dirs: BTreeSet<PathBuf>,
}

impl Names {
    pub(super) fn create_dir(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_owned));
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path) || self.dirs.contains(path)
    }

    pub(super) fn list(&self, dir: &Path) -> Vec<PathBuf> {
        let names = self.files.keys().chain(&self.dirs);
        names.filter(|path| path.parent() == Some(dir)).cloned().collect()
    }

    pub(super) fn get(&self, path: &Path) -> io::Result<Arc<Mutex<Contents>>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn create(&mut self, path: &Path, anew: bool) -> io::Result<()> {
        let dir = path.parent().unwrap_or(path);
        if !self.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let contents = self.files.entry(path.to_owned()).or_default();
        if anew {
            contents.lock().truncate();
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let contents = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_owned(), contents);
        Ok(())
    }

    /// Every name in a directory, and the directory's own if it is the first of its kind.
    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if !self.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |path: &Path| path.parent() == Some(dir);
        self.synced_files.retain(|path, _| !inside(path));
        let files = self.files.iter().filter(|(path, _)| inside(path));
        self.synced_files.extend(files.map(|(path, file)| (path.clone(), file.clone())));
        self.synced_dirs.retain(|path| !inside(path));
        self.synced_dirs.extend(self.dirs.iter().filter(|path| inside(path)).cloned());
        Ok(())
    }

    /// A name that was not synced is there or not; `keep` says how many in a hundred are.
    pub(super) fn cut(&mut self, dice: &mut StdRng, keep: u32) {
        let mut keeps = || dice.random_range(0..100) < keep;
        let made: Vec<_> = self
            .files
            .keys()
            .filter(|path| !self.synced_files.contains_key(*path))
            .cloned()
            .collect();
        for path in made {
            if !keeps() {
                self.files.remove(&path);
            }
        }
        for (path, file) in &self.synced_files {
            let now = self.files.get(path);
            if now.is_none_or(|now| !Arc::ptr_eq(now, file)) && !keeps() {
                self.files.insert(path.clone(), file.clone());
            }
        }
        let made: Vec<_> = self.dirs.difference(&self.synced_dirs).cloned().collect();
        for dir in made.iter().filter(|dir| dir.components().count() > 2) {
            if !self.files.keys().any(|path| path.starts_with(dir)) && !keeps() {
                self.dirs.remove(dir);
            }
        }
        for file in self.files.values() {
            file.lock().cut(dice, keep);
        }
        self.synced_files = self.files.clone();
        self.synced_dirs = self.dirs.clone();
    }

    /// The same with contents of their own.
    pub(super) fn image(&self) -> Self {
        let mut copies: BTreeMap<*const Mutex<Contents>, Arc<Mutex<Contents>>> = BTreeMap::new();
        let mut copy = |files: &Files| -> Files {
            let files = files.iter().map(|(path, file)| {
                let copied = copies
                    .entry(Arc::as_ptr(file))
                    .or_insert_with(|| Arc::new(Mutex::new(file.lock().clone())));
                (path.clone(), copied.clone())
            });
            files.collect()
        };
        Self {
            files: copy(&self.files),
            dirs: self.dirs.clone(),
            synced_files: copy(&self.synced_files),
            synced_dirs: self.synced_dirs.clone(),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes a file away as if it had never been.
    pub(super) fn lose(&mut self, path: &Path) {
        self.files.remove(path);
        self.synced_files.remove(path);
    }

    /// All files, with their contents.
    pub(super) fn files(&self) -> Vec<Named> {
        self.files.iter().map(|(path, file)| (path.clone(), file.clone())).collect()
    }
}
