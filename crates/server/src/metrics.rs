//! Numbers for Prometheus, in the OpenMetrics text format.
//!
//! What a node counts about its share of the cluster is read when the page is asked for; the front
//! end keeps a registry of its own. Per queue the names are CloudWatch's.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_cluster::api::{Counts, Queue};
use flotilla_cluster::node::Node;
use flotilla_cluster::{AllGauges, NodeCounters, QueueGauges, Status};
use flotilla_storage::log::{BATCH_RECORDS_BOUNDS, SYNC_US_BOUNDS};
use flotilla_types::limits::QUEUE_SERIES_MAX;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::status;

mod page;
mod queues;

use page::Page;
use queues::Queues;

/// What all names begin with.
pub(crate) const PREFIX: &str = "flotilla";
/// Of the page.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const SECOND_US: f64 = 1e6;

/// All that is read at one moment. Reading may wait for the disk.
#[derive(Debug)]
struct Reading {
    status: Status,
    counters: Vec<(&'static str, &'static str, u64)>,
    queues: Queues,
    other_queues: Option<Counts>,
    now_ms: u64,
    resident_bytes: Option<u64>,
}

impl Reading {
    fn of(node: &Node) -> Self {
        let AllGauges { queues, others } = node.queue_gauges(QUEUE_SERIES_MAX);
        let named = |(queue, gauges): (Arc<Queue>, QueueGauges)| (queue.name.to_string(), gauges);
        let status = node.status();
        Self {
            // As messages are stamped.
            now_ms: status.clock_ms,
            status,
            counters: counters(node.counters()),
            queues: queues.into_iter().map(named).collect(),
            other_queues: others,
            resident_bytes: resident_bytes(),
        }
    }
}

/// Reads a node when it is asked.
struct NodeCollector(Box<dyn Fn() -> Reading + Send + Sync>);

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reading = (self.0)();
        let mut page = Page(encoder);
        queues::write(&mut page, &reading.queues, reading.other_queues, reading.now_ms)?;
        for (name, help, value) in reading.counters {
            page.counter(name, help, value)?;
        }
        replicas(&mut page, &reading.status)?;
        stores(&mut page, &reading.status)?;
        match reading.resident_bytes {
            Some(bytes) => page.gauge("process_resident_bytes", "Memory of the process", bytes),
            None => Ok(()),
        }
    }
}

/// A registry with everything a node knows of itself.
pub(crate) fn registry(node: Arc<Node>) -> Registry {
    registry_of(move || Reading::of(&node))
}

fn registry_of(read: impl Fn() -> Reading + Send + Sync + 'static) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(NodeCollector(Box::new(read))));
    registry
}

/// One page from several registries, whose names must differ.
///
/// # Errors
/// When a metric cannot be written.
pub(crate) fn text<'a>(
    registries: impl Iterator<Item = &'a Registry>,
) -> Result<String, fmt::Error> {
    let mut page = String::new();
    for registry in registries {
        text::encode_registry(&mut page, registry)?;
    }
    text::encode_eof(&mut page)?;
    Ok(page)
}

fn counters(counters: &NodeCounters) -> Vec<(&'static str, &'static str, u64)> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        ("short_polls", "Receives that asked a sample of the shards", read(&counters.short_polls)),
        (
            "short_polls_empty",
            "Of these, those that found nothing in the shards that they asked",
            read(&counters.short_polls_empty),
        ),
        ("long_polls", "Receives that waited", read(&counters.long_polls)),
        ("long_polls_empty", "Of these, those that ended empty", read(&counters.long_polls_empty)),
        ("forwarded", "Requests handed on to a leader elsewhere", read(&counters.forwarded)),
        ("retries", "Attempts repeated after a lost leader or answer", read(&counters.retries)),
        (
            "overloaded",
            "Requests refused at a bound behind the front end, whose own are among its answers by code",
            read(&counters.overloaded),
        ),
        (
            "sends_refused_low_on_space",
            "Sends refused because a node is low on space",
            read(&counters.low_on_space),
        ),
    ]
}

fn replicas(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let mut groups = status.groups.clone();
    groups.sort_unstable_by_key(|group| group.group);
    let names: Vec<String> = groups.iter().map(|group| status::name(group.group)).collect();
    let groups = || names.iter().map(String::as_str).zip(&groups);
    page.gauges(
        "group_leader",
        "Id of the node that leads the group, as far as this node knows; 0: nobody",
        "group",
        groups().map(|(name, group)| (name, group.leader.map_or(0, |leader| leader.0))),
    )?;
    page.gauges(
        "group_leads",
        "Whether this node leads the group",
        "group",
        groups().map(|(name, group)| (name, u64::from(group.leads))),
    )?;
    page.gauges(
        "group_votes",
        "Whether this replica votes; one that is being rebuilt does not",
        "group",
        groups().map(|(name, group)| (name, u64::from(group.votes))),
    )?;
    page.gauges(
        "group_log_bytes",
        "Raft log that is still needed",
        "group",
        groups().map(|(name, group)| (name, group.log_bytes)),
    )?;
    page.counters(
        "group_proposals",
        "Entries proposed by this node",
        "group",
        groups().map(|(name, group)| (name, group.proposals)),
    )?;
    page.counters(
        "group_commands",
        "Commands in the entries proposed by this node",
        "group",
        groups().map(|(name, group)| (name, group.commands)),
    )?;
    page.counters(
        "group_leader_changes",
        "Changes of the leader seen by this node",
        "group",
        groups().map(|(name, group)| (name, group.leader_changes)),
    )?;
    page.gauge("parked_polls", "Receives that wait at this node", status.parked_polls as u64)?;
    page.gauge(
        "answer_bytes",
        "Messages and long answers that are not written to their callers yet",
        status.answer_bytes as u64,
    )?;
    page.gauge(
        "claim_bytes",
        "Messages that other nodes claimed and that are not on their way there yet",
        status.claim_bytes as u64,
    )?;
    page.counter("wakes", "Parked receives that were woken", status.wakes)
}

fn stores(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let log = &status.log;
    page.counter("log_syncs", "Syncs of the Raft log", log.syncs)?;
    page.histogram(
        "log_sync_seconds",
        "Time to write and sync one batch of the Raft log",
        log.sync_us_total as f64 / SECOND_US,
        SYNC_US_BOUNDS.iter().map(|us| *us as f64 / SECOND_US),
        &log.sync_us_buckets,
    )?;
    page.histogram(
        "log_batch_records",
        "Records written with one sync",
        log.records as f64,
        BATCH_RECORDS_BOUNDS.iter().map(|records| *records as f64),
        &log.batch_records_buckets,
    )?;
    page.counter("log_written_bytes", "Bytes written to the Raft log", log.bytes)?;
    page.counter("log_carried_bytes", "Entries written again for laggards", log.carried_bytes)?;
    page.counter("log_rotations", "Segments begun", log.rotations)?;
    page.counter("log_rotation_stalls", "Segments that had to be waited for", log.rotation_stalls)?;
    page.gauge("log_segments", "Segments in use", log.segments)?;
    page.gauge("log_pending_bytes", "Bytes that wait for the log's writer", log.pending_bytes)?;
    page.gauge("state_memtable_bytes", "State that is not flushed", status.memtable_bytes)?;
    page.gauge("state_disk_bytes", "State on disk", status.disk_bytes)?;
    page.gauge(
        "free_bytes",
        "Room on the disk of the data directory, without what is not flushed yet",
        status.free_bytes,
    )?;
    page.gauge(
        "low_on_space",
        "Whether that is too little, so that no new messages are taken",
        u64::from(status.low_on_space),
    )
}

/// What the kernel says; `None` where it does not say it this way.
fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests;
