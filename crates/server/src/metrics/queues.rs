//! SQS's CloudWatch metrics of each queue, as far as they are states and not events.

use std::fmt;

use flotilla_cluster::QueueGauges;
use flotilla_cluster::api::Counts;
use flotilla_types::limits::QUEUE_SERIES_MAX;

use super::page::Page;

/// Queues beyond the bound on series count together under this name, which no queue can have.
const OTHER_QUEUES: &str = "(other)";

/// By name.
pub(super) type Queues = Vec<(String, QueueGauges)>;

type Value<'a> = &'a dyn Fn(&QueueGauges) -> u64;

pub(super) fn write(page: &mut Page<'_>, queues: Queues, now_ms: u64) -> fmt::Result {
    let queues = bounded(queues);
    let all = |_: &str| true;
    let fifo = |name: &str| name.ends_with(".fifo");
    let standard = |name: &str| !fifo(name);
    let mut write = |name: &str, help: &str, which: &dyn Fn(&str) -> bool, value: Value<'_>| {
        let queues = queues.iter().filter(|(name, _)| which(name));
        let values = queues.map(|(name, gauges)| (name.as_str(), value(gauges)));
        page.gauges(&format!("sqs_{name}"), help, "queue_name", values)
    };
    let age = |counts: &Counts| {
        counts.oldest_entered_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest) / 1_000)
    };
    write(
        "ApproximateNumberOfMessagesVisible",
        "Messages that can be received, in the shards led by this node (sum over nodes)",
        &all,
        &|gauges| gauges.all.visible,
    )?;
    write(
        "ApproximateNumberOfMessagesNotVisible",
        "Messages in flight, in the shards led by this node (sum over nodes)",
        &all,
        &|gauges| gauges.all.in_flight,
    )?;
    write(
        "ApproximateNumberOfMessagesDelayed",
        "Delayed messages, in the shards led by this node (sum over nodes)",
        &all,
        &|gauges| gauges.all.delayed,
    )?;
    write(
        "ApproximateAgeOfOldestMessage",
        "Seconds since the oldest message in the shards led by this node was sent (max over nodes)",
        &all,
        &|gauges| age(&gauges.all),
    )?;
    write(
        "ApproximateNumberOfGroupsWithInflightMessages",
        "Groups of FIFO queues with messages in flight, in the shards led by this node (sum over nodes)",
        &fifo,
        &|gauges| gauges.groups_in_flight,
    )?;
    write(
        "ApproximateNumberOfNoisyGroups",
        "Message groups that are noisy in at least half of the shards led by this node (max over nodes)",
        &standard,
        &|gauges| gauges.noisy_groups,
    )?;
    write(
        "ApproximateNumberOfMessagesVisibleInQuietGroups",
        "Messages that can be received, without those of noisy groups (sum over nodes)",
        &standard,
        &|gauges| gauges.quiet.visible,
    )?;
    write(
        "ApproximateNumberOfMessagesNotVisibleInQuietGroups",
        "Messages in flight, without those of noisy groups (sum over nodes)",
        &standard,
        &|gauges| gauges.quiet.in_flight,
    )?;
    write(
        "ApproximateNumberOfMessagesDelayedInQuietGroups",
        "Delayed messages, without those of noisy groups (sum over nodes)",
        &standard,
        &|gauges| gauges.quiet.delayed,
    )?;
    write(
        "ApproximateAgeOfOldestMessageInQuietGroups",
        "Seconds since the oldest message was sent, without those of noisy groups (max over nodes)",
        &standard,
        &|gauges| age(&gauges.quiet),
    )
}

fn bounded(mut queues: Queues) -> Queues {
    queues.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    if queues.len() > QUEUE_SERIES_MAX {
        let others = queues.split_off(QUEUE_SERIES_MAX).into_iter();
        let total =
            others.map(|(_, gauges)| gauges).fold(QueueGauges::default(), QueueGauges::plus);
        queues.push((OTHER_QUEUES.to_owned(), total));
    }
    queues
}
