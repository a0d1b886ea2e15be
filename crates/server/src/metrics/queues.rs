//! SQS's CloudWatch metrics of each queue, as far as they are states and not events.

use std::fmt;

use flotilla_cluster::QueueGauges;
use flotilla_cluster::api::Counts;

use super::page::Page;

/// Queues beyond the bound on series count together under this name, which no queue can have.
const OTHER_QUEUES: &str = "(other)";

/// The first ones by name.
pub(super) type Queues = Vec<(String, QueueGauges)>;

/// Which queues have a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Fifo,
    Standard,
}

impl Of {
    fn has(self, name: &str) -> bool {
        let fifo = name.ends_with(".fifo");
        self == Self::All || fifo == (self == Self::Fifo)
    }
}

/// A number of each queue, or how old something is.
enum Value {
    Number(fn(&QueueGauges) -> u64),
    Age(fn(&QueueGauges) -> &Counts),
}

struct Series {
    name: &'static str,
    help: &'static str,
    of: Of,
    value: Value,
    /// What the other queues have together, if that is known.
    others: Option<fn(&Counts) -> u64>,
}

const SERIES: [Series; 10] = [
    Series {
        name: "ApproximateNumberOfMessagesVisible",
        help: "Messages that can be received, in the shards led by this node (sum over nodes)",
        of: Of::All,
        value: Value::Number(|gauges| gauges.all.visible),
        others: Some(|counts| counts.visible),
    },
    Series {
        name: "ApproximateNumberOfMessagesNotVisible",
        help: "Messages in flight, in the shards led by this node (sum over nodes)",
        of: Of::All,
        value: Value::Number(|gauges| gauges.all.in_flight),
        others: Some(|counts| counts.in_flight),
    },
    Series {
        name: "ApproximateNumberOfMessagesDelayed",
        help: "Delayed messages, in the shards led by this node (sum over nodes)",
        of: Of::All,
        value: Value::Number(|gauges| gauges.all.delayed),
        others: Some(|counts| counts.delayed),
    },
    Series {
        name: "ApproximateAgeOfOldestMessage",
        help: "Seconds since the oldest message in the shards led by this node was sent \
               (max over nodes)",
        of: Of::All,
        value: Value::Age(|gauges| &gauges.all),
        others: None,
    },
    Series {
        name: "ApproximateNumberOfGroupsWithInflightMessages",
        help: "Groups of FIFO queues with messages in flight, in the shards led by this node \
               (sum over nodes)",
        of: Of::Fifo,
        value: Value::Number(|gauges| gauges.groups_in_flight),
        others: None,
    },
    Series {
        name: "ApproximateNumberOfNoisyGroups",
        help: "Message groups that are noisy in at least half of the shards led by this node \
               (max over nodes)",
        of: Of::Standard,
        value: Value::Number(|gauges| gauges.noisy_groups),
        others: None,
    },
    Series {
        name: "ApproximateNumberOfMessagesVisibleInQuietGroups",
        help: "Messages that can be received, without those of noisy groups (sum over nodes)",
        of: Of::Standard,
        value: Value::Number(|gauges| gauges.quiet.visible),
        others: None,
    },
    Series {
        name: "ApproximateNumberOfMessagesNotVisibleInQuietGroups",
        help: "Messages in flight, without those of noisy groups (sum over nodes)",
        of: Of::Standard,
        value: Value::Number(|gauges| gauges.quiet.in_flight),
        others: None,
    },
    Series {
        name: "ApproximateNumberOfMessagesDelayedInQuietGroups",
        help: "Delayed messages, without those of noisy groups (sum over nodes)",
        of: Of::Standard,
        value: Value::Number(|gauges| gauges.quiet.delayed),
        others: None,
    },
    Series {
        name: "ApproximateAgeOfOldestMessageInQuietGroups",
        help: "Seconds since the oldest message was sent, without those of noisy groups \
               (max over nodes)",
        of: Of::Standard,
        value: Value::Age(|gauges| &gauges.quiet),
        others: None,
    },
];

pub(super) fn write(
    page: &mut Page<'_>,
    queues: &Queues,
    others: Option<Counts>,
    now_ms: u64,
) -> fmt::Result {
    let age = |counts: &Counts| {
        counts.oldest_entered_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest) / 1_000)
    };
    for series in &SERIES {
        let value = |gauges: &QueueGauges| match series.value {
            Value::Number(number) => number(gauges),
            Value::Age(counts) => age(counts(gauges)),
        };
        let shown = queues.iter().filter(|(name, _)| series.of.has(name));
        let shown = shown.map(|(name, gauges)| (name.as_str(), value(gauges)));
        let others = others.as_ref().zip(series.others);
        let others = others.map(|(counts, number)| (OTHER_QUEUES, number(counts)));
        let name = format!("sqs_{}", series.name);
        page.gauges(&name, series.help, "queue_name", shown.chain(others))?;
    }
    Ok(())
}
