//! A model of RocksDB in memory: the part of its interface that the state store uses, without a
//! write-ahead log and with flushes that take all column families at one position.
//!
//! Start with [`DB`]; [`model`] is what a simulator does to a store from outside.
//!
//! Invariants:
//! - After [`model::power_cut`] a store holds exactly what it held at its last flush, whether that was
//!   asked for or came by itself; handles from before can do nothing any more.
//! - A key that a `SingleDelete` removes was written once: RocksDB leaves it open what happens
//!   otherwise, so here it panics.
//!
//! Deliberately not here: files, threads, compaction, caches, damaged data (RocksDB checks every
//! block; a store that cannot be read ends its node).

mod batch;
mod cursor;
mod db;
mod error;
pub mod model;
mod options;
mod store;

pub use batch::WriteBatch;
pub use cursor::DBRawIterator;
pub use db::{ColumnFamily, DB, DBPinnableSlice, LiveFile, SnapshotWithThreadMode};
pub use error::{Error, ErrorKind};
pub use options::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamilyDescriptor, CompactOptions,
    DBCompressionType, Env, FlushOptions, LogLevel, Options, ReadOptions, ReadTier,
    WaitForCompactOptions, WriteOptions,
};
