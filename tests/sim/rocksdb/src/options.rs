//! Settings. A model in memory has no use for most of them.

use crate::Error;

macro_rules! ignored {
    ($type:ty: $($name:ident($($argument:ty),*);)*) => {
        impl $type {
            $(
                /// Nothing here depends on it.
                #[allow(clippy::too_many_arguments)]
                pub fn $name(&mut self, $(_: $argument),*) {}
            )*
        }
    };
}

/// Of a store or a column family.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) atomic_flush: bool,
}

impl Options {
    /// Whether a flush takes all column families.
    pub fn set_atomic_flush(&mut self, on: bool) {
        self.atomic_flush = on;
    }
}

ignored! { Options:
    create_if_missing(bool);
    create_missing_column_families(bool);
    set_env(&Env);
    set_db_write_buffer_size(usize);
    set_max_open_files(i32);
    set_max_background_jobs(i32);
    set_bytes_per_sync(u64);
    set_avoid_unnecessary_blocking_io(bool);
    set_stats_dump_period_sec(u32);
    set_stats_persist_period_sec(u32);
    set_log_level(LogLevel);
    set_keep_log_file_num(usize);
    set_max_log_file_size(usize);
    set_write_buffer_size(usize);
    set_max_write_buffer_number(i32);
    set_level_zero_slowdown_writes_trigger(i32);
    set_level_zero_stop_writes_trigger(i32);
    set_level_compaction_dynamic_level_bytes(bool);
    set_target_file_size_base(u64);
    set_compression_type(DBCompressionType);
    set_max_compaction_bytes(u64);
    set_periodic_compaction_seconds(u64);
    set_block_based_table_factory(&BlockBasedOptions);
    add_compact_on_deletion_collector_factory(usize, usize, f64);
    set_optimize_filters_for_hits(bool);
    set_enable_blob_files(bool);
    set_min_blob_size(u64);
    set_blob_compression_type(DBCompressionType);
    set_blob_file_size(u64);
    set_enable_blob_gc(bool);
    set_blob_gc_age_cutoff(f64);
    set_blob_gc_force_threshold(f64);
}

/// Of blocks.
#[derive(Clone, Debug, Default)]
pub struct BlockBasedOptions;

ignored! { BlockBasedOptions:
    set_block_cache(&Cache);
    set_cache_index_and_filter_blocks(bool);
    set_cache_index_and_filter_blocks_with_high_priority(bool);
    set_pin_l0_filter_and_index_blocks_in_cache(bool);
    set_block_size(usize);
    set_bloom_filter(f64, bool);
    set_whole_key_filtering(bool);
}

/// A cache that caches nothing.
#[derive(Clone, Debug)]
pub struct Cache;

impl Cache {
    /// Of any size.
    pub fn new_lru_cache(_: usize) -> Self {
        Self
    }
}

/// An environment without threads.
#[derive(Clone, Debug)]
pub struct Env;

impl Env {
    /// Never fails.
    ///
    /// # Errors
    /// None.
    #[allow(clippy::new_ret_no_self, reason = "as it is there")]
    pub fn new() -> Result<Self, Error> {
        Ok(Self)
    }
}

ignored! { Env: lower_thread_pool_cpu_priority(); }

/// How much RocksDB logs.
#[derive(Clone, Copy, Debug)]
pub enum LogLevel {
    /// Warnings and errors.
    Warn,
}

/// How data is compressed: not at all.
#[derive(Clone, Copy, Debug)]
pub enum DBCompressionType {
    /// LZ4.
    Lz4,
}

/// A column family to be opened.
pub struct ColumnFamilyDescriptor {
    pub(crate) name: String,
}

impl ColumnFamilyDescriptor {
    /// By its name.
    pub fn new(name: impl Into<String>, _: Options) -> Self {
        Self { name: name.into() }
    }
}

/// Of a write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub(crate) no_wal: bool,
}

impl WriteOptions {
    /// The model has no write-ahead log: anything else than `true` is refused when it is used.
    pub fn disable_wal(&mut self, disable: bool) {
        self.no_wal = disable;
    }
}

ignored! { WriteOptions: set_memtable_insert_hint_per_batch(bool); }

/// Of a flush.
#[derive(Clone, Debug, Default)]
pub struct FlushOptions;

/// Of waiting for background work, of which there is none.
#[derive(Clone, Debug, Default)]
pub struct WaitForCompactOptions;

/// Of a compaction, which does nothing.
#[derive(Clone, Debug, Default)]
pub struct CompactOptions;

ignored! { CompactOptions:
    set_bottommost_level_compaction(BottommostLevelCompaction);
    set_exclusive_manual_compaction(bool);
}

/// What a compaction does with the last level.
#[derive(Clone, Copy, Debug)]
pub enum BottommostLevelCompaction {
    /// Rewrites it.
    Force,
    /// Leaves it.
    Skip,
}

/// Which data a read looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadTier {
    /// All.
    #[default]
    All,
    /// What a power cut would leave.
    Persisted,
}

/// Of a read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    pub(crate) upper_bound: Option<Vec<u8>>,
    pub(crate) tier: ReadTier,
}

impl ReadOptions {
    /// Iterators end before this key.
    pub fn set_iterate_upper_bound(&mut self, bound: impl Into<Vec<u8>>) {
        self.upper_bound = Some(bound.into());
    }

    /// Which data.
    pub fn set_read_tier(&mut self, tier: ReadTier) {
        self.tier = tier;
    }
}

ignored! { ReadOptions:
    fill_cache(bool);
    set_readahead_size(usize);
}
