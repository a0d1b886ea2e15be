//! What the state store should hold, in memory, and a workload that touches every kind of row.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use bytes::Bytes;
use flotilla_queue::store::{
    AttemptRow, Attempted, DedupRow, Hidden, Message, OriginalRow, QueueRow, Read, ShardRow, Write,
};
use flotilla_storage::state::{GroupBatch, GroupState};
use flotilla_types::ids::{DedupKey, GroupKey, MessageId, QueueId, Seq};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Queues the workload uses.
pub(crate) const QUEUES: [QueueId; 3] = [QueueId(1), QueueId(2), QueueId(u64::MAX)];
/// The one that has deduplication keys, and their periods.
const FIFO: QueueId = QUEUES[1];
const PERIODS: u64 = 4;
/// Messages above which the workload removes more than it sends.
const BACKLOG: usize = 200;

/// Everything a group holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) applied: Option<Bytes>,
    pub(crate) shard: Option<ShardRow>,
    pub(crate) messages: BTreeMap<(QueueId, Seq), Message>,
    pub(crate) hidden: BTreeMap<(QueueId, Seq, u32), Hidden>,
    pub(crate) queues: BTreeMap<QueueId, QueueRow>,
    pub(crate) dedup: BTreeMap<(u64, u64), DedupRow>,
    pub(crate) catalog: BTreeMap<Bytes, Bytes>,
    /// By period and key.
    pub(crate) originals: BTreeMap<(u64, DedupKey), OriginalRow>,
    pub(crate) attempts: BTreeMap<(u64, DedupKey), AttemptRow>,
    pub(crate) groups: BTreeMap<(QueueId, GroupKey), u64>,
}

impl Model {
    /// What a group holds, read through its public interface.
    pub(crate) fn of(group: &GroupState) -> Model {
        let mut model = Model {
            applied: group.applied().expect("reads"),
            shard: group.shard_row().expect("reads"),
            queues: group.queue_rows().expect("reads").into_iter().collect(),
            catalog: group.catalog_rows().expect("reads").into_iter().collect(),
            ..Model::default()
        };
        for (session, block, row) in group.dedup_rows().expect("reads") {
            model.dedup.insert((session, block), row);
        }
        for queue in QUEUES {
            let mut from = Seq(0);
            let heads = std::iter::from_fn(|| {
                let heads = group.messages_from(queue, from, usize::MAX).expect("reads");
                from = heads.last()?.seq.next();
                Some(heads)
            });
            for head in heads.flatten() {
                let message = group.message(queue, head.seq).expect("reads").expect("was listed");
                assert_eq!((head.sent_ms, head.delayed), (message.sent_ms, message.delayed));
                model.messages.insert((queue, head.seq), message);
            }
            let named = |period| (0..=u8::MAX).map(move |key| (period, DedupKey([key; 16])));
            for (period, key) in (0..PERIODS).flat_map(named).filter(|_| queue == FIFO) {
                if let Some(row) = group.original(queue, period, key).expect("reads") {
                    model.originals.insert((period, key), row);
                }
                if let Some(row) = group.attempt(queue, period, key).expect("reads") {
                    model.attempts.insert((period, key), row);
                }
            }
            for of in group.groups_after(queue, None, usize::MAX).expect("reads") {
                let messages = group.group_messages(queue, of).expect("reads");
                model.groups.insert((queue, of), messages.expect("was listed"));
            }
            for (seq, row) in group.hidden_rows(queue).expect("reads") {
                model.hidden.insert((queue, seq, row.revision), row);
            }
        }
        model
    }

    /// The number of the last step applied.
    pub(crate) fn step_number(&self) -> u64 {
        self.applied.as_ref().map_or(0, |record| number(record))
    }
}

/// The step number in an applied record.
pub(crate) fn number(record: &[u8]) -> u64 {
    u64::from_be_bytes(record.try_into().expect("eight bytes"))
}

impl Write for Model {
    fn put_message(&mut self, queue: QueueId, seq: Seq, message: &Message) {
        assert!(self.messages.insert((queue, seq), message.clone()).is_none(), "written once");
    }
    fn remove_message(&mut self, queue: QueueId, seq: Seq) {
        assert!(self.messages.remove(&(queue, seq)).is_some(), "was there");
    }
    fn put_hidden(&mut self, queue: QueueId, seq: Seq, row: &Hidden) {
        assert!(self.hidden.insert((queue, seq, row.revision), *row).is_none(), "written once");
    }
    fn remove_hidden(&mut self, queue: QueueId, seq: Seq, revision: u32) {
        assert!(self.hidden.remove(&(queue, seq, revision)).is_some(), "was there");
    }
    fn clear_below(&mut self, queue: QueueId, below: Seq) {
        self.messages.retain(|(of, seq), _| *of != queue || *seq >= below);
        self.hidden.retain(|(of, seq, _), _| *of != queue || *seq >= below);
    }
    fn put_shard(&mut self, row: &ShardRow) {
        self.shard = Some(*row);
    }
    fn put_queue(&mut self, queue: QueueId, row: &QueueRow) {
        self.queues.insert(queue, *row);
    }
    fn remove_queue(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
    }
    fn put_original(&mut self, _queue: QueueId, period: u64, key: DedupKey, row: &OriginalRow) {
        self.originals.insert((period, key), *row);
    }
    fn put_attempt(&mut self, _queue: QueueId, period: u64, key: DedupKey, row: &AttemptRow) {
        self.attempts.insert((period, key), row.clone());
    }
    fn clear_originals(&mut self, _queue: QueueId, before_period: u64) {
        self.originals.retain(|(period, _), _| *period >= before_period);
        self.attempts.retain(|(period, _), _| *period >= before_period);
    }
    fn put_group(&mut self, queue: QueueId, group: GroupKey, messages: u64) {
        self.groups.insert((queue, group), messages);
    }
    fn remove_group(&mut self, queue: QueueId, group: GroupKey) {
        self.groups.remove(&(queue, group));
    }
    fn clear_groups(&mut self, queue: QueueId) {
        self.groups.retain(|(of, _), _| *of != queue);
    }
    fn put_dedup(&mut self, session: u64, block: u64, row: &DedupRow) {
        self.dedup.insert((session, block), *row);
    }
    fn remove_dedup(&mut self, session: u64, block: u64) {
        self.dedup.remove(&(session, block));
    }
}

/// Applies the next step to the model and, when given, stages it in a batch. What a step does
/// depends on the model alone, so a run can be continued and replayed from any step.
pub(crate) fn step(model: &mut Model, batch: Option<&mut GroupBatch>) {
    let number = model.step_number() + 1;
    let mut rng = SmallRng::seed_from_u64(number);
    let ops = decide(model, number, &mut rng);
    let record = Bytes::copy_from_slice(&number.to_be_bytes());
    ops.iter().for_each(|op| op.run(model));
    model.applied = Some(record.clone());
    let catalog_key = Bytes::from(format!("row {}", number % 7));
    let removed = number.is_multiple_of(3);
    if removed {
        model.catalog.remove(&catalog_key);
    } else {
        model.catalog.insert(catalog_key.clone(), record.clone());
    }
    let Some(batch) = batch else { return };
    ops.iter().for_each(|op| op.run(batch));
    batch.put_applied(&record);
    if removed {
        batch.remove_catalog_row(&catalog_key);
    } else {
        batch.put_catalog_row(&catalog_key, &record);
    }
}

enum Op {
    Send(QueueId, Seq, Message),
    Delete(QueueId, Seq, Option<u32>),
    Hide(QueueId, Seq, Hidden),
    Unhide(QueueId, Seq, u32),
    Purge(QueueId, Seq),
    Queue(QueueId, Option<QueueRow>),
    Shard(ShardRow),
    Dedup(u64, u64, Option<DedupRow>),
    Original(u64, DedupKey, OriginalRow),
    Attempt(u64, DedupKey, AttemptRow),
    ClearOriginals(u64),
    Group(QueueId, GroupKey, Option<u64>),
    ClearGroups(QueueId),
}

impl Op {
    fn run(&self, to: &mut impl Write) {
        match self {
            Op::Send(queue, seq, message) => to.put_message(*queue, *seq, message),
            Op::Delete(queue, seq, revision) => {
                to.remove_message(*queue, *seq);
                revision.iter().for_each(|revision| to.remove_hidden(*queue, *seq, *revision));
            }
            Op::Hide(queue, seq, row) => to.put_hidden(*queue, *seq, row),
            Op::Unhide(queue, seq, revision) => to.remove_hidden(*queue, *seq, *revision),
            Op::Purge(queue, below) => to.clear_below(*queue, *below),
            Op::Queue(queue, Some(row)) => to.put_queue(*queue, row),
            Op::Queue(queue, None) => to.remove_queue(*queue),
            Op::Shard(row) => to.put_shard(row),
            Op::Dedup(session, block, Some(row)) => to.put_dedup(*session, *block, row),
            Op::Dedup(session, block, None) => to.remove_dedup(*session, *block),
            Op::Original(period, key, row) => to.put_original(FIFO, *period, *key, row),
            Op::Attempt(period, key, row) => to.put_attempt(FIFO, *period, *key, row),
            Op::ClearOriginals(before) => to.clear_originals(FIFO, *before),
            Op::Group(queue, group, Some(messages)) => to.put_group(*queue, *group, *messages),
            Op::Group(queue, group, None) => to.remove_group(*queue, *group),
            Op::ClearGroups(queue) => to.clear_groups(*queue),
        }
    }
}

fn decide(model: &Model, number: u64, rng: &mut SmallRng) -> Vec<Op> {
    let mut ops = Vec::new();
    let shard = model.shard.unwrap_or_default();
    let queue = QUEUES[rng.random_range(0..QUEUES.len())];
    let mut next_seq = shard.next_seq;
    for _ in 0..rng.random_range(0..5) {
        ops.push(Op::Send(queue, next_seq, random_message(number, rng)));
        next_seq = next_seq.next();
    }
    touch(model, rng, &mut ops);
    if rng.random_bool(0.005) {
        // After the rest: it may remove what this very step sent.
        ops.push(Op::Purge(queue, Seq(next_seq.0.saturating_sub(3))));
    }
    let row = QueueRow {
        messages: number,
        purged_below: Seq(number / 2),
        fresh_from: Seq(number / 3),
        mixed_ages: number % 2 == 1,
        fifo: number % 3 == 1,
        originals: (number % 5 == 1).then_some((number, number + 1)),
        epoch: number % 11,
    };
    ops.push(Op::Queue(queue, (!rng.random_bool(0.05)).then_some(row)));
    ops.push(Op::Shard(ShardRow { clock_ms: number * 10, next_seq }));
    let dedup = DedupRow { bits: [number as u8; 64], changed_ms: number };
    let key = DedupKey([(number / PERIODS) as u8; 16]);
    let message_id = MessageId([number as u8; 16]);
    let original = OriginalRow { seq: Seq(number), message_id, sent_ms: number };
    ops.push(Op::Original(number % PERIODS, key, original));
    let message = Attempted { seq: Seq(number), receive: 1, revision: 2 };
    let attempt = AttemptRow { at_ms: number, messages: vec![message; (number % 3) as usize] };
    ops.push(Op::Attempt(number % PERIODS, key, attempt));
    if rng.random_bool(0.01) {
        ops.push(Op::ClearOriginals(rng.random_range(0..=PERIODS)));
    }
    if let Some(group) = NonZeroU64::new(number % 13).map(GroupKey) {
        ops.push(Op::Group(queue, group, (!rng.random_bool(0.3)).then_some(number)));
    }
    if rng.random_bool(0.01) {
        ops.push(Op::ClearGroups(queue));
    }
    ops.push(Op::Dedup(number % 5, number / 100 % 9, (!rng.random_bool(0.1)).then_some(dedup)));
    ops
}

/// Receives, changes and deletes of messages that were there before the step, each once.
fn touch(model: &Model, rng: &mut SmallRng, ops: &mut Vec<Op>) {
    let skip = rng.random_range(0..20);
    let count = if model.messages.len() > BACKLOG { 8 } else { 4 };
    let stride = rng.random_range(1..8);
    for (queue, seq) in model.messages.keys().skip(skip).step_by(stride).take(count) {
        let rows = model.hidden.range((*queue, *seq, 0)..=(*queue, *seq, u32::MAX));
        let revision = rows.map(|((_, _, revision), _)| *revision).next_back();
        if revision.is_some() && (model.messages.len() > BACKLOG || rng.random_bool(0.4)) {
            ops.push(Op::Delete(*queue, *seq, revision));
            continue;
        }
        let next = Hidden {
            revision: revision.unwrap_or(0) + 1,
            visible_at_ms: rng.random(),
            receive_count: rng.random(),
            first_received_ms: rng.random(),
            received_ms: rng.random(),
            group: None,
        };
        ops.extend(revision.map(|revision| Op::Unhide(*queue, *seq, revision)));
        ops.push(Op::Hide(*queue, *seq, next));
    }
}

fn random_message(number: u64, rng: &mut SmallRng) -> Message {
    // Some large enough for a blob file, some empty.
    let content_bytes = match rng.random_range(0..20) {
        0 => rng.random_range(8_000..60_000),
        1 => 0,
        _ => rng.random_range(1..2_000),
    };
    let mut content = vec![0; content_bytes];
    rng.fill(&mut content[..]);
    Message {
        sent_ms: number,
        message_id: MessageId(rng.random()),
        delayed: rng.random(),
        group: None,
        moved: None,
        content: content.into(),
    }
}
