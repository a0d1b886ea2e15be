//! Messages in memory on their way from send to receive, and beside them how many each group has.
//!
//! Every replica reads a message when it applies its receive, most of them a moment after the
//! send; a lookup in the store then costs more than everything else about it. And who drains a
//! backlog reads it from the old end, one after the other: a scan of a stretch costs as much as two
//! lookups.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use flotilla_queue::store::Message;
use flotilla_types::ids::{GroupKey, QueueId, Seq};

use super::tallies::Tallies;

/// Content kept per group.
const BYTES_MAX: usize = 1024 * 1024;
/// Messages kept per group, and keys of messages that are gone.
const KEYS_MAX: usize = 4_096;
/// A larger message would drive too many others out.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Rows that a scan reads ahead, at most.
pub(super) const AHEAD_ROWS_MAX: usize = 128;
/// A scan stops after so much content.
pub(super) const AHEAD_BYTES_MAX: usize = 128 * 1024;

type Key = (QueueId, Seq);

/// What a commit does to [`Recent`].
pub(super) enum Change {
    Put(QueueId, Seq, Message),
    Remove(QueueId, Seq),
    /// More than one by one.
    Clear,
    /// A group of a FIFO queue has so many messages from now on; a row, or none.
    Group(QueueId, GroupKey, Option<u64>),
    /// The groups of a queue have none, all of them.
    ClearGroups,
}

impl Change {
    /// The content is copied: a message must not keep the whole entry in memory that it came with.
    pub(super) fn put(queue: QueueId, seq: Seq, message: &Message) -> Option<Change> {
        if message.content.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let content = Bytes::copy_from_slice(&message.content);
        Some(Change::Put(queue, seq, Message { content, ..message.clone() }))
    }
}

/// See the module. A part of what is committed, never more: rows are immutable, and a removal
/// takes them out.
#[derive(Default)]
pub(super) struct Recent {
    messages: HashMap<Key, Message>,
    /// Every key of `messages`, oldest first, and keys of some that were removed.
    order: VecDeque<Key>,
    content_bytes: usize,
    last_miss: Option<Key>,
    pub(super) tallies: Tallies,
}

impl Recent {
    pub(super) fn get(&self, queue: QueueId, seq: Seq) -> Option<Message> {
        self.messages.get(&(queue, seq)).cloned()
    }

    /// Whether this lookup, which found nothing here, goes on where an earlier one was: then it is
    /// worth while to read ahead.
    pub(super) fn missed_in_sequence(&mut self, queue: QueueId, seq: Seq) -> bool {
        let last = self.last_miss.replace((queue, seq));
        let near = |last: Seq| {
            (last.0..=last.0.saturating_add(2 * AHEAD_ROWS_MAX as u64)).contains(&seq.0)
        };
        last.is_some_and(|(same, last)| same == queue && near(last))
    }

    /// Takes in a message that the store has.
    pub(super) fn insert(&mut self, queue: QueueId, seq: Seq, message: Message) {
        let bytes = message.content.len();
        if bytes > MESSAGE_BYTES_MAX || self.messages.contains_key(&(queue, seq)) {
            return;
        }
        self.messages.insert((queue, seq), message);
        self.order.push_back((queue, seq));
        self.content_bytes += bytes;
        while self.content_bytes > BYTES_MAX || self.order.len() > KEYS_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.forget(oldest);
        }
    }

    /// Follows a commit.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(queue, seq, message) => self.insert(queue, seq, message),
                Change::Remove(queue, seq) => self.forget((queue, seq)),
                Change::Clear => {
                    let tallies = std::mem::take(&mut self.tallies);
                    *self = Recent { tallies, ..Recent::default() };
                }
                Change::Group(queue, group, messages) => {
                    self.tallies.note(queue, group, messages);
                }
                Change::ClearGroups => self.tallies = Tallies::default(),
            }
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(message) = self.messages.remove(&key) {
            self.content_bytes -= message.content.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::ids::MessageId;

    use super::*;

    const QUEUE: QueueId = QueueId(1);

    fn message(bytes: usize) -> Message {
        let content = Bytes::from(vec![7; bytes]);
        Message {
            sent_ms: 1,
            message_id: MessageId([2; 16]),
            delayed: false,
            group: None,
            moved: None,
            content,
        }
    }

    fn put(recent: &mut Recent, seq: u64, bytes: usize) {
        recent.apply(Change::put(QUEUE, Seq(seq), &message(bytes)).into_iter().collect());
    }

    #[test]
    fn holds_what_was_put_until_it_is_removed() {
        let mut recent = Recent::default();
        put(&mut recent, 1, 10);
        put(&mut recent, 2, 20);
        assert_eq!(recent.get(QUEUE, Seq(1)), Some(message(10)));
        assert_eq!(recent.get(QueueId(2), Seq(1)), None);
        recent.apply(vec![Change::Remove(QUEUE, Seq(1)), Change::Remove(QUEUE, Seq(9))]);
        assert_eq!(recent.get(QUEUE, Seq(1)), None);
        assert_eq!(recent.content_bytes, 20);
        recent.apply(vec![Change::Clear]);
        assert_eq!(recent.get(QUEUE, Seq(2)), None);
        assert_eq!(recent.content_bytes, 0);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_large_ones() {
        let mut recent = Recent::default();
        for seq in 0..=KEYS_MAX as u64 {
            put(&mut recent, seq, 1);
        }
        assert_eq!(recent.get(QUEUE, Seq(0)), None);
        assert!(recent.get(QUEUE, Seq(1)).is_some());
        for seq in 10_000..10_000 + 2 * (BYTES_MAX / MESSAGE_BYTES_MAX) as u64 {
            put(&mut recent, seq, MESSAGE_BYTES_MAX);
            assert!(recent.content_bytes <= BYTES_MAX);
        }
        put(&mut recent, 20_000, MESSAGE_BYTES_MAX + 1);
        assert_eq!(recent.get(QUEUE, Seq(20_000)), None);
        assert_eq!(recent.messages.len(), BYTES_MAX / MESSAGE_BYTES_MAX);
    }

    /// Messages that are sent and deleted for ever leave their keys behind for a while.
    #[test]
    fn keys_of_removed_messages_are_bounded() {
        let mut recent = Recent::default();
        for seq in 0..3 * KEYS_MAX as u64 {
            put(&mut recent, seq, 1);
            recent.apply(vec![Change::Remove(QUEUE, Seq(seq))]);
        }
        assert!(recent.order.len() <= KEYS_MAX);
        assert!(recent.messages.is_empty());
    }

    #[test]
    fn lookups_one_after_the_other_are_a_sequence() {
        let mut recent = Recent::default();
        assert!(!recent.missed_in_sequence(QUEUE, Seq(5)));
        assert!(recent.missed_in_sequence(QUEUE, Seq(6)));
        assert!(recent.missed_in_sequence(QUEUE, Seq(6 + 2 * AHEAD_ROWS_MAX as u64)));
        assert!(!recent.missed_in_sequence(QUEUE, Seq(5_000)));
        assert!(!recent.missed_in_sequence(QUEUE, Seq(4_000)));
        assert!(!recent.missed_in_sequence(QueueId(2), Seq(4_001)));
    }
}
