//! Whether what a machine keeps in memory follows from its rows. For tests, and for the simulator, which
//! asks all the time; nothing else does, since it reads every message.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use flotilla_types::ids::{GroupKey, QueueId, Seq};

use crate::machine::Machine;
use crate::queue_state::QueueState;
use crate::store::{MessageHead, Read};

/// Heads of one read.
const READ: usize = 1_000;

impl Machine {
    /// What does not follow from the rows: of the machine itself, of the indexes that it made of
    /// them, or of the rows that count others. `None` when all of it does. Not between an apply and
    /// its commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn check(&self, read: &impl Read) -> io::Result<Option<String>> {
        let loaded = Machine::load(read)?;
        if *self != loaded {
            return Ok(Some(self.difference(&loaded)));
        }
        let mut queues: Vec<QueueId> = self.queues().map(|(queue, _)| queue).collect();
        queues.sort_unstable();
        for queue in queues {
            let Some(state) = self.state(queue) else { continue };
            let found = match state.check() {
                None => check_messages(read, queue, state)?,
                found => found,
            };
            if let Some(what) = found {
                return Ok(Some(format!("queue {}: {what}", queue.0)));
            }
        }
        Ok(None)
    }

    fn difference(&self, loaded: &Machine) -> String {
        let queues: BTreeSet<QueueId> =
            self.queues().chain(loaded.queues()).map(|(queue, _)| queue).collect();
        let differs = |queue: &QueueId| self.state(*queue) != loaded.state(*queue);
        match queues.into_iter().find(differs) {
            Some(queue) => format!(
                "queue {}: {:?} in memory, and from the rows {:?}",
                queue.0,
                self.state(queue),
                loaded.state(queue)
            ),
            None => "the shard's own row, its number of messages or its memory of commands is not \
                     what the rows say"
                .into(),
        }
    }
}

/// Holds the counts and bounds of a queue against its messages.
fn check_messages(
    read: &impl Read,
    queue: QueueId,
    state: &QueueState,
) -> io::Result<Option<String>> {
    let row = &state.row;
    let heads = all_heads(read, queue, row.purged_below)?;
    let mut groups: BTreeMap<GroupKey, u64> = BTreeMap::new();
    for head in &heads {
        let hidden = state.hidden(head.seq);
        let wrong = match () {
            () if head.seq < state.floor => "lies below the floor",
            () if hidden.is_none() && head.delayed => "was delayed, and nothing says until when",
            () if hidden.is_none() && head.seq < row.fresh_from => "is fresh, and lies too low",
            () if hidden.is_some_and(|row| row.group != head.group) => "is hidden in another group",
            () if state.ages.are_younger(row.ages_since_ms(head.sent_ms, head.entered_ms)) => {
                "is older than all are known to be"
            }
            () => "",
        };
        if !wrong.is_empty() {
            return Ok(Some(format!("message {} {wrong}", head.seq.0)));
        }
        if let Some(group) = head.group {
            *groups.entry(group).or_default() += 1;
        }
    }
    if row.messages != heads.len() as u64 {
        return Ok(Some(format!("{} messages counted, {} there", row.messages, heads.len())));
    }
    let there: BTreeSet<Seq> = heads.iter().map(|head| head.seq).collect();
    if let Some((seq, _)) = state.all_hidden().find(|(seq, _)| !there.contains(seq)) {
        return Ok(Some(format!("message {} is hidden, and not there", seq.0)));
    }
    let in_order = heads.is_sorted_by_key(|head| row.ages_since_ms(head.sent_ms, head.entered_ms));
    if !row.mixed_ages && !in_order {
        return Ok(Some("an older message lies behind a younger one".into()));
    }
    if !row.fifo {
        return Ok(None);
    }
    let mut counted = BTreeMap::new();
    for group in read.groups_after(queue, None, usize::MAX)? {
        counted.insert(group, read.group_messages(queue, group)?.unwrap_or(0));
    }
    Ok((counted != groups).then(|| format!("groups counted {counted:?}, there {groups:?}")))
}

fn all_heads(read: &impl Read, queue: QueueId, from: Seq) -> io::Result<Vec<MessageHead>> {
    let (mut heads, mut from) = (Vec::new(), from);
    loop {
        let more = read.messages_from(queue, from, READ)?;
        let Some(last) = more.last() else { return Ok(heads) };
        from = last.seq.next();
        heads.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::ids::MessageId;

    use super::*;
    use crate::command::{Batch, Command, Identified, Placing, Send};
    use crate::mem_store::{MemBatch, MemStore};
    use crate::store::{Hidden, Write as _};

    const QUEUE: QueueId = QueueId(7);

    fn two_messages() -> (Machine, MemStore) {
        let mut store = MemStore::new();
        let mut machine = Machine::load(&store).unwrap();
        let send = |number: u8, delay_ms| Identified {
            id: None,
            command: Command::Send(Send {
                queue: QUEUE,
                message_id: MessageId([number; 16]),
                delay_ms,
                dedup: None,
                placing: Placing::default(),
                group: None,
                content: vec![number].into(),
            }),
        };
        let batch = Batch { now_ms: 1_000, commands: vec![send(1, 0), send(2, 500)] };
        let mut write = MemBatch::default();
        machine.apply(&batch, &store, &mut write, &mut Vec::new()).unwrap();
        store.commit(write);
        (machine, store)
    }

    #[test]
    fn what_follows_from_the_rows_is_good() {
        let (machine, store) = two_messages();
        assert_eq!(machine.check(&store).unwrap(), None);
    }

    #[test]
    fn a_message_that_nobody_counted_is_noticed() {
        let (machine, mut store) = two_messages();
        let stray = store.message(QUEUE, Seq(0)).unwrap().expect("it was sent");
        let mut write = MemBatch::default();
        write.put_message(QUEUE, Seq(9), &stray);
        store.commit(write);
        let found = machine.check(&store).unwrap();
        assert_eq!(found.as_deref(), Some("queue 7: 2 messages counted, 3 there"));
    }

    #[test]
    fn a_lease_that_only_the_rows_know_is_noticed() {
        let (machine, mut store) = two_messages();
        let mut write = MemBatch::default();
        let row = Hidden {
            revision: 1,
            visible_at_ms: 9_000,
            receive_count: 1,
            first_received_ms: 1_000,
            received_ms: 1_000,
            group: None,
        };
        write.put_hidden(QUEUE, Seq(0), &row);
        store.commit(write);
        let found = machine.check(&store).unwrap().expect("they differ");
        assert!(found.contains("in memory, and from the rows"), "{found}");
    }
}
