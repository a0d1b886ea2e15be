use crate::ColumnFamily;
use crate::store::DEFAULT;

/// What a batch does to one column family.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    SingleDelete(Vec<u8>),
    /// From the first key to before the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Changes that become visible together.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    pub(crate) changes: Vec<(usize, Change)>,
    bytes: usize,
}

impl WriteBatch {
    fn push(&mut self, family: usize, change: Change) {
        self.bytes += match &change {
            Change::Put(key, value) => key.len() + value.len(),
            Change::Delete(key) | Change::SingleDelete(key) => key.len(),
            Change::DeleteRange(from, to) => from.len() + to.len(),
        };
        self.changes.push((family, change));
    }

    /// Into the default column family.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(DEFAULT, Change::Put(key.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    /// Writes a row.
    pub fn put_cf(
        &mut self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) {
        self.push(family.0, Change::Put(key.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    /// Removes a row, which may be absent.
    pub fn delete_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.push(family.0, Change::Delete(key.as_ref().to_vec()));
    }

    /// Removes a row that was written once.
    pub fn single_delete_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.push(family.0, Change::SingleDelete(key.as_ref().to_vec()));
    }

    /// Removes all rows from a key to before another.
    pub fn delete_range_cf<K: AsRef<[u8]>>(&mut self, family: &ColumnFamily, from: K, to: K) {
        let (from, to) = (from.as_ref().to_vec(), to.as_ref().to_vec());
        self.push(family.0, Change::DeleteRange(from, to));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// About how large it is.
    pub fn size_in_bytes(&self) -> usize {
        self.bytes
    }
}
