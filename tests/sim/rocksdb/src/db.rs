use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cursor::{DBRawIterator, Source};
use crate::model::{self, Shared, Written, lock};
use crate::store::Rows;
use crate::{
    ColumnFamilyDescriptor, CompactOptions, Error, ErrorKind, FlushOptions, Options, ReadOptions,
    ReadTier, WaitForCompactOptions, WriteBatch, WriteOptions,
};

/// An open store.
pub struct DB {
    store: Shared,
    dir: PathBuf,
    life: u64,
    names: Vec<String>,
    families: Vec<ColumnFamily>,
}

/// A column family of an open store.
#[derive(Debug)]
pub struct ColumnFamily(pub(crate) usize);

/// A value that was read.
#[derive(Clone, Debug)]
pub struct DBPinnableSlice(Arc<[u8]>);

impl Deref for DBPinnableSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A file of a store: here there are none.
#[derive(Clone, Debug)]
pub struct LiveFile {
    /// Whose rows.
    pub column_family_name: String,
    /// Rows and removals in it.
    pub num_entries: u64,
    /// Removals in it.
    pub num_deletions: u64,
}

type Pinned = Result<Option<DBPinnableSlice>, Error>;

impl DB {
    /// Opens a store with these column families; one handle at a time.
    ///
    /// # Errors
    /// When it is open already.
    pub fn open_cf_descriptors(
        options: &Options,
        dir: impl AsRef<Path>,
        families: impl IntoIterator<Item = ColumnFamilyDescriptor>,
    ) -> Result<Self, Error> {
        assert!(options.atomic_flush, "the model knows no other flushes");
        let store = model::store(dir.as_ref());
        let mut open = lock(&store);
        if open.open {
            return Err(Error::new(ErrorKind::IOError, "lock hold by current process"));
        }
        open.open = true;
        open.contents.family("default");
        for family in families {
            open.contents.family(&family.name);
        }
        let (life, names) = (open.life, open.contents.names.clone());
        drop(open);
        let families = (0..names.len()).map(ColumnFamily).collect();
        Ok(Self { store, dir: dir.as_ref().to_owned(), life, names, families })
    }

    /// A column family by its name.
    pub fn cf_handle(&self, name: &str) -> Option<&ColumnFamily> {
        let place = self.names.iter().position(|known| known == name)?;
        self.families.get(place)
    }

    fn alive(&self) -> Result<std::sync::MutexGuard<'_, crate::store::Store>, Error> {
        let store = lock(&self.store);
        if store.life == self.life {
            Ok(store)
        } else {
            Err(Error::new(ErrorKind::IOError, "the power is off"))
        }
    }

    fn readable(&self) -> Result<std::sync::MutexGuard<'_, crate::store::Store>, Error> {
        let mut store = self.alive()?;
        match store.read_fails() {
            true => Err(Error::new(ErrorKind::IOError, "the read failed")),
            false => Ok(store),
        }
    }

    /// Applies a batch.
    ///
    /// # Errors
    /// After a flush that failed.
    pub fn write_opt(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), Error> {
        assert!(options.no_wal, "the model has no write-ahead log");
        let mut store = self.alive()?;
        if store.failed {
            return Err(Error::new(ErrorKind::IOError, "an earlier flush failed"));
        }
        let rows = model::wanted(&batch.changes);
        store.contents.apply(batch.changes);
        let once_in = store.habits.flush_once_in;
        if store.once_in(once_in) && store.flush_failure().is_none() {
            store.contents.flush();
        }
        if !rows.is_empty() {
            model::tell(&self.dir, &Written { contents: &store.contents, rows });
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the disk fails; the store is of no use then.
    pub fn flush_cfs_opt<F>(&self, families: &[&F], _: &FlushOptions) -> Result<(), Error> {
        assert_eq!(families.len(), self.families.len(), "a flush of fewer is no position");
        let mut store = self.alive()?;
        if let Some(why) = store.flush_failure() {
            return Err(Error::new(ErrorKind::IOError, why));
        }
        store.contents.flush();
        Ok(())
    }

    /// A value of the default column family.
    ///
    /// # Errors
    /// When the power is off.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let value = self.get_pinned_cf(&self.families[crate::store::DEFAULT], key)?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// A value.
    ///
    /// # Errors
    /// As [`DB::get`].
    pub fn get_pinned_cf(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Pinned {
        self.get_pinned_cf_opt(family, key, &ReadOptions::default())
    }

    /// A value, or what a power cut would leave of it.
    ///
    /// # Errors
    /// As [`DB::get`].
    pub fn get_pinned_cf_opt(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Pinned {
        let (store, key) = (self.readable()?, key.as_ref());
        let value = match options.tier {
            ReadTier::All => store.contents.rows.families[family.0].get(key).cloned(),
            ReadTier::Persisted => store.contents.persisted(family.0, key),
        };
        Ok(value.map(DBPinnableSlice))
    }

    /// A cursor over everything.
    pub fn raw_iterator_cf(&self, family: &ColumnFamily) -> DBRawIterator<'_> {
        self.raw_iterator_cf_opt(family, ReadOptions::default())
    }

    /// A cursor.
    pub fn raw_iterator_cf_opt(
        &self,
        family: &ColumnFamily,
        options: ReadOptions,
    ) -> DBRawIterator<'_> {
        DBRawIterator::new(Source::Now(&self.store), family.0, options)
    }

    /// The rows of this moment.
    pub fn snapshot(&self) -> SnapshotWithThreadMode<'_, Self> {
        let rows = lock(&self.store).contents.rows.clone();
        SnapshotWithThreadMode { rows, of: PhantomData }
    }

    /// Nothing to list.
    ///
    /// # Errors
    /// None.
    pub fn live_files(&self) -> Result<Vec<LiveFile>, Error> {
        Ok(Vec::new())
    }

    /// Nothing is ever held up.
    ///
    /// # Errors
    /// None.
    pub fn property_int_value(&self, _: &str) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Of what is not flushed only the rows are counted, in all column families.
    ///
    /// # Errors
    /// None.
    pub fn property_int_value_cf(
        &self,
        family: &ColumnFamily,
        name: &str,
    ) -> Result<Option<u64>, Error> {
        let first = family.0 == crate::store::DEFAULT + 1;
        let counted = first && name == "rocksdb.cur-size-all-mem-tables";
        Ok(counted.then(|| lock(&self.store).contents.unflushed_rows() * 100))
    }

    /// Does nothing.
    pub fn compact_range_cf_opt<S: AsRef<[u8]>, E: AsRef<[u8]>>(
        &self,
        _: &ColumnFamily,
        _: Option<S>,
        _: Option<E>,
        _: &CompactOptions,
    ) {
    }

    /// There is nothing to wait for.
    ///
    /// # Errors
    /// None.
    pub fn wait_for_compact(&self, _: &WaitForCompactOptions) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for DB {
    fn drop(&mut self) {
        if let Ok(mut store) = self.alive() {
            // As RocksDB does when it is closed in order.
            if store.flush_failure().is_none() {
                store.contents.flush();
            }
            (store.open, store.failed) = (false, false);
        }
    }
}

/// The rows of one moment.
pub struct SnapshotWithThreadMode<'a, D> {
    rows: Rows,
    of: PhantomData<&'a D>,
}

impl<D> SnapshotWithThreadMode<'_, D> {
    /// A value.
    ///
    /// # Errors
    /// None.
    pub fn get_pinned_cf(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Pinned {
        Ok(self.rows.families[family.0].get(key.as_ref()).cloned().map(DBPinnableSlice))
    }

    /// A cursor.
    pub fn raw_iterator_cf_opt(
        &self,
        family: &ColumnFamily,
        options: ReadOptions,
    ) -> DBRawIterator<'_> {
        DBRawIterator::new(Source::Then(&self.rows), family.0, options)
    }
}
