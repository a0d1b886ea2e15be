use std::ops::Bound;
use std::sync::{Arc, Mutex};

use crate::model::lock;
use crate::store::{Rows, Store};
use crate::{Error, ErrorKind, ReadOptions};

/// What a cursor walks over.
pub(crate) enum Source<'a> {
    Now(&'a Mutex<Store>),
    Then(&'a Rows),
}

/// Walks over rows in the order of their keys.
pub struct DBRawIterator<'a> {
    source: Source<'a>,
    family: usize,
    before: Option<Vec<u8>>,
    at: Option<(Vec<u8>, Arc<[u8]>)>,
    failed: bool,
}

impl<'a> DBRawIterator<'a> {
    pub(crate) fn new(source: Source<'a>, family: usize, options: ReadOptions) -> Self {
        Self { source, family, before: options.upper_bound, at: None, failed: false }
    }

    fn go(&mut self, from: Bound<&[u8]>) {
        let before = self.before.as_deref();
        self.at = match self.source {
            Source::Now(store) => {
                let mut store = lock(store);
                self.failed |= store.read_fails();
                let rows = &store.contents.rows;
                if self.failed { None } else { rows.first(self.family, from, before) }
            }
            Source::Then(rows) => rows.first(self.family, from, before),
        };
    }

    /// To the first row from a key on.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        self.go(Bound::Included(key.as_ref()));
    }

    /// To the first row.
    pub fn seek_to_first(&mut self) {
        self.go(Bound::Unbounded);
    }

    /// To the next row.
    #[allow(clippy::should_implement_trait, reason = "as it is there")]
    pub fn next(&mut self) {
        if let Some((key, _)) = self.at.take() {
            self.go(Bound::Excluded(&key));
        }
    }

    /// The row that it is at.
    pub fn item(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (key.as_slice(), &**value))
    }

    /// That row's key.
    pub fn key(&self) -> Option<&[u8]> {
        self.item().map(|(key, _)| key)
    }

    /// Whether it is at a row.
    pub fn valid(&self) -> bool {
        self.at.is_some()
    }

    /// Whether all went well.
    ///
    /// # Errors
    /// When a read failed: then it is at the end.
    pub fn status(&self) -> Result<(), Error> {
        match self.failed {
            true => Err(Error::new(ErrorKind::IOError, "the read failed")),
            false => Ok(()),
        }
    }
}
