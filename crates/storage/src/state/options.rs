//! How the store is tuned, and why.

use std::io;

use flotilla_types::ids::GroupId;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Env, LogLevel, Options,
};

use super::error::failed;

/// What rows are of. `meta` and `hidden` rows of all groups lie in one column family each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Meta,
    Message,
    Hidden,
}

impl Table {
    pub(super) const ALL: [Table; 3] = [Table::Meta, Table::Message, Table::Hidden];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Message => "message",
            Table::Hidden => "hidden",
        }
    }

    /// The column family that holds a group's rows of this table.
    pub(super) fn family(self, group: GroupId) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Message => MESSAGE_FAMILIES[group.0 as usize % MESSAGE_FAMILIES.len()],
            Table::Hidden => "hidden",
        }
    }

    /// All column families that hold rows of this table.
    pub(super) fn families(self) -> &'static [&'static str] {
        match self {
            Table::Meta => &["meta"],
            Table::Message => &MESSAGE_FAMILIES,
            Table::Hidden => &["hidden"],
        }
    }
}

/// New messages of a queue come behind all that it has in a group. In a column family of few groups
/// the files of a growing backlog lie side by side, and compactions move them down as they are; in
/// one of all groups every flushed file would span them all and be merged with all others.
/// As many as a small cluster has groups, and no more: each costs a file per flush.
const MESSAGE_FAMILIES: [&str; 8] = [
    "message-0",
    "message-1",
    "message-2",
    "message-3",
    "message-4",
    "message-5",
    "message-6",
    "message-7",
];

const FILE_BYTES: u64 = 8 * 1_048_576;

/// Memory and disk habits of one node's store.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// Unflushed bytes of all groups that start a flush. While the disk is slower than the writes
    /// up to four such fillings can exist; then commits wait.
    pub write_buffer_bytes: usize,
    /// Cache for data blocks, indexes and filters of all groups.
    pub block_cache_bytes: usize,
    /// Messages of this size or more are moved out of the sorted files when they are flushed.
    pub blob_bytes_min: u64,
    /// File descriptors kept open for sorted files.
    pub open_files_max: i32,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            write_buffer_bytes: 64 * 1_048_576,
            block_cache_bytes: 64 * 1_048_576,
            blob_bytes_min: 8 * 1_024,
            open_files_max: 512,
        }
    }
}

impl StateOptions {
    pub(super) fn database(&self) -> io::Result<Options> {
        let mut options = Options::default();
        options.set_env(&patient_compactions()?);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // The invariant of the store: without it, column families could be flushed to different
        // positions, and after a crash a message could be there whose counters are not.
        options.set_atomic_flush(true);
        // One budget over all column families, because an atomic flush takes them all anyway.
        options.set_db_write_buffer_size(self.write_buffer_bytes);
        // Indexes of a deep backlog may not cost a descriptor (and its memory) per file for ever.
        options.set_max_open_files(self.open_files_max);
        // One flush and one compaction at a time: the node shares its cores with everything else.
        options.set_max_background_jobs(2);
        // Write back early and evenly, so that a flush's final sync does not queue up behind
        // itself on the disk the Raft log syncs to.
        options.set_bytes_per_sync(1_048_576);
        // An iterator or a read that ends on the applying thread must not delete files there.
        options.set_avoid_unnecessary_blocking_io(true);
        // Nobody reads them; they cost a thread and a log line each.
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        // RocksDB's own text log: kept, but bounded.
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * 1_048_576);
        Ok(options)
    }

    pub(super) fn column_families(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let family = |table, name| ColumnFamilyDescriptor::new(name, self.table(table, &cache));
        let families = |table: Table| table.families().iter().map(move |name| family(table, *name));
        // It holds nothing but the format record.
        let default = ColumnFamilyDescriptor::new("default", Options::default());
        Table::ALL.into_iter().flat_map(families).chain([default]).collect()
    }

    fn table(&self, table: Table, cache: &Cache) -> Options {
        let mut options = Options::default();
        // The shared budget decides when to flush, never one column family's share.
        options.set_write_buffer_size(self.write_buffer_bytes);
        // Commits happen on the applying thread, and a stall there stalls every shard of it. Two
        // fillings may wait for a slow disk before RocksDB slows commits down (at three) and stops
        // them (at four): a longer queue would only hide a disk that does not keep up.
        options.set_max_write_buffer_number(4);
        // Likewise: small files at level 0 are cheap to read here (filters, few lookups), so give
        // compaction time before commits are slowed down.
        options.set_level_zero_slowdown_writes_trigger(40);
        options.set_level_zero_stop_writes_trigger(64);
        options.set_level_compaction_dynamic_level_bytes(true);
        // Who drains a backlog removes a short stretch of every shard's messages, and compactions
        // rewrite the files that such a stretch lies in, whole. And a file's filter is one block:
        // that of a file of 64 MiB of small rows fills a whole partition of the cache, and is then
        // read again for every lookup.
        options.set_target_file_size_base(FILE_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        // A compaction needs room for its output beside its input: on a disk that is nearly full
        // it must not be the last straw.
        options.set_max_compaction_bytes(256 * 1_048_576);
        // A floor for what the collector misses.
        options.set_periodic_compaction_seconds(24 * 3_600);
        options.set_block_based_table_factory(&block_options(cache));
        match table {
            Table::Message => self.message(&mut options),
            // Never asked for one key (`hidden`), or asked for keys that exist (`meta`).
            Table::Meta | Table::Hidden => {
                // Rows that die young leave pairs of put and removal behind when a flush comes
                // between them. A file with a run of removals, or half made of them, is compacted
                // without waiting for its level to fill up; otherwise every scan walks over the
                // dead. (Not messages: no scan begins below the first one that is there, and the
                // files that a run of their removals concerns are large. See `StateDb::trim`.)
                options.add_compact_on_deletion_collector_factory(1_000, 250, 0.5);
            }
        }
        options
    }

    fn message(&self, options: &mut Options) {
        // A receive asks for messages that exist: on the last level, where most of a backlog
        // lies, a filter would answer yes and cost memory.
        options.set_optimize_filters_for_hits(true);
        // Large bodies are written once at flush and not again by every compaction; most die
        // before and never reach a blob file.
        options.set_enable_blob_files(true);
        options.set_min_blob_size(self.blob_bytes_min);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_blob_file_size(64 * 1_048_576);
        // Queues empty from the old end: the older half of the blob files is where the garbage
        // is, and a file that is mostly garbage is worth a rewrite of the rest.
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(0.5);
        options.set_blob_gc_force_threshold(0.7);
    }
}

/// Compactions get the processor time that nothing else wants: on a small machine a deep backlog
/// being put in order must not slow down who sends and receives. If they fall behind for long,
/// commits are slowed down (`set_level_zero_slowdown_writes_trigger`), and they catch up.
fn patient_compactions() -> io::Result<Env> {
    let mut env = Env::new().map_err(failed("the store's environment"))?;
    env.lower_thread_pool_cpu_priority();
    Ok(env)
}

fn block_options(cache: &Cache) -> BlockBasedOptions {
    let mut block = BlockBasedOptions::default();
    block.set_block_cache(cache);
    // Memory for indexes and filters is bounded by the cache; those of level 0 stay, because
    // every lookup asks them.
    block.set_cache_index_and_filter_blocks(true);
    block.set_cache_index_and_filter_blocks_with_high_priority(true);
    block.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Larger blocks than the default: a quarter of the index for a deep backlog, and neighbours
    // in arrival order are what is read next.
    block.set_block_size(16 * 1_024);
    // Level 0 files overlap (every flush holds all groups): the filter keeps a lookup to one file.
    block.set_bloom_filter(10.0, false);
    block.set_whole_key_filtering(true);
    block
}
