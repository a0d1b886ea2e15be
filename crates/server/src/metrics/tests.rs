use flotilla_cluster::api::Counts;
use flotilla_cluster::{GroupStatus, QueueGauges};
use flotilla_storage::log::LogMetrics;
use flotilla_types::ids::{GroupId, NodeId};

use super::*;

fn reading() -> Reading {
    let group = |id: u32, leader: Option<u64>| GroupStatus {
        group: GroupId(id),
        leader: leader.map(NodeId),
        leads: leader == Some(1),
        term: 1,
        last_log: 9,
        applied: 8,
        votes: true,
        proposals: 10,
        commands: 25,
        leader_changes: 2,
        log_bytes: 4_096,
    };
    let mut log = LogMetrics { syncs: 3, records: 7, sync_us_total: 1_500, ..Default::default() };
    log.sync_us_buckets[3] = 2;
    log.sync_us_buckets[12] = 1;
    log.batch_records_buckets[1] = 3;
    let all = Counts { visible: 5, in_flight: 2, delayed: 1, oldest_entered_ms: Some(7_000) };
    let quiet = Counts { visible: 4, in_flight: 1, delayed: 0, oldest_entered_ms: Some(8_500) };
    let standard = QueueGauges { all, groups_in_flight: 0, noisy_groups: 1, quiet };
    let fifo = QueueGauges { groups_in_flight: 3, ..QueueGauges::default() };
    Reading {
        status: Status {
            groups: vec![group(1, Some(1)), group(0, None)],
            log,
            parked_polls: 4,
            wakes: 9,
            answer_bytes: 5_000,
            claim_bytes: 0,
            memtable_bytes: 100,
            disk_bytes: 200,
            free_bytes: 300,
            low_on_space: true,
            low_on_space_elsewhere: Vec::new(),
            clock_ms: 0,
        },
        counters: counters(&NodeCounters::default()),
        queues: vec![("orders".to_owned(), standard), ("idle.fifo".to_owned(), fifo)],
        other_queues: None,
        now_ms: 10_500,
        resident_bytes: Some(1_024),
    }
}

#[test]
fn the_page_has_every_kind_of_number() {
    let registry = registry_of(reading);
    let page = text([&registry].into_iter()).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    for expected in [
        "# TYPE flotilla_sqs_ApproximateNumberOfMessagesVisible gauge",
        "flotilla_sqs_ApproximateNumberOfMessagesVisible{queue_name=\"orders\"} 5",
        "flotilla_sqs_ApproximateNumberOfMessagesNotVisible{queue_name=\"orders\"} 2",
        "flotilla_sqs_ApproximateNumberOfMessagesDelayed{queue_name=\"orders\"} 1",
        "flotilla_sqs_ApproximateAgeOfOldestMessage{queue_name=\"orders\"} 3",
        "flotilla_sqs_ApproximateAgeOfOldestMessage{queue_name=\"idle.fifo\"} 0",
        "flotilla_sqs_ApproximateNumberOfGroupsWithInflightMessages{queue_name=\"idle.fifo\"} 3",
        "flotilla_sqs_ApproximateNumberOfNoisyGroups{queue_name=\"orders\"} 1",
        "flotilla_sqs_ApproximateNumberOfMessagesVisibleInQuietGroups{queue_name=\"orders\"} 4",
        "flotilla_sqs_ApproximateNumberOfMessagesNotVisibleInQuietGroups{queue_name=\"orders\"} 1",
        "flotilla_sqs_ApproximateNumberOfMessagesDelayedInQuietGroups{queue_name=\"orders\"} 0",
        "flotilla_sqs_ApproximateAgeOfOldestMessageInQuietGroups{queue_name=\"orders\"} 2",
        "# TYPE flotilla_group_commands counter",
        "flotilla_group_leader{group=\"catalog\"} 0",
        "flotilla_group_leader{group=\"shard-1\"} 1",
        "flotilla_group_leads{group=\"shard-1\"} 1",
        "flotilla_group_commands_total{group=\"shard-1\"} 25",
        "flotilla_group_log_bytes{group=\"catalog\"} 4096",
        "flotilla_short_polls_empty_total 0",
        "flotilla_parked_polls 4",
        "flotilla_wakes_total 9",
        "flotilla_answer_bytes 5000",
        "flotilla_free_bytes 300",
        "flotilla_low_on_space 1",
        "flotilla_sends_refused_low_on_space_total 0",
        "# TYPE flotilla_log_sync_seconds histogram",
        "flotilla_log_sync_seconds_sum 0.0015",
        "flotilla_log_sync_seconds_count 3",
        "flotilla_log_sync_seconds_bucket{le=\"0.0002\"} 0",
        "flotilla_log_sync_seconds_bucket{le=\"0.0005\"} 2",
        "flotilla_log_sync_seconds_bucket{le=\"+Inf\"} 3",
        "flotilla_log_batch_records_sum 7.0",
        "flotilla_process_resident_bytes 1024",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in\n{page}");
    }
    assert_eq!(lines.last(), Some(&"# EOF"));
}

#[test]
fn queues_beyond_the_bound_count_together() {
    let registry = registry_of(|| {
        let others = Counts { visible: 3, in_flight: 2, ..Counts::default() };
        Reading { other_queues: Some(others), ..reading() }
    });
    let page = text([&registry].into_iter()).unwrap();
    let lines: Vec<&str> = page.lines().filter(|line| line.contains("\"(other)\"")).collect();
    let name = "flotilla_sqs_ApproximateNumberOfMessages";
    // What would need a look at each of them is left out.
    assert_eq!(
        lines,
        [("Visible", 3), ("NotVisible", 2), ("Delayed", 0)]
            .map(|(what, number)| format!("{name}{what}{{queue_name=\"(other)\"}} {number}"))
    );
}

#[test]
fn memory_of_the_process() {
    assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
    assert_eq!(resident("nothing"), None);
}
