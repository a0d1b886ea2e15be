//! Which commands were applied before.

use std::collections::BTreeMap;
use std::io;

use flotilla_probe::planted;
use flotilla_types::ids::CommandId;
use flotilla_types::limits::{COMMAND_WINDOW, SESSIONS_MAX};

use crate::store::{DedupRow, Read, Write};

/// Counters in one block.
const BLOCK: u64 = 512;
/// Blocks in one window.
const BLOCKS: u64 = COMMAND_WINDOW / BLOCK;

/// What is known of a command's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Not applied before; remembered from now on.
    New,
    /// Applied before.
    Seen,
    /// Older than the window: nobody knows.
    Forgotten,
}

#[derive(Clone, Debug)]
struct Block {
    row: DedupRow,
    /// Changed by the running batch.
    dirty: bool,
    /// The store has a row of it.
    stored: bool,
}

/// The window of one session: the block of its largest counter and the `BLOCKS - 1` before that.
/// Blocks without an applied command are not kept.
#[derive(Clone, Debug, Default)]
struct Session {
    blocks: BTreeMap<u64, Block>,
    changed_ms: u64,
}

impl Session {
    fn first_block(&self) -> u64 {
        self.blocks.last_key_value().map_or(0, |(&last, _)| (last + 1).saturating_sub(BLOCKS))
    }
}

/// All sessions' windows. A bit is set only by applying the command that it stands for, and goes
/// with its block: forgetting can make a command apply twice, never make a new one look applied.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    sessions: BTreeMap<u64, Session>,
    /// Blocks that the running batch changed, in order of their first change.
    changed: Vec<(u64, u64)>,
    /// Stored blocks that the running batch let go.
    dropped: Vec<(u64, u64)>,
}

impl Dedup {
    pub(crate) fn load(store: &impl Read) -> io::Result<Dedup> {
        let mut dedup = Dedup::default();
        if planted!(CommandIdsNotLoaded) {
            return Ok(dedup);
        }
        for (session, block, row) in store.dedup_rows()? {
            let session = dedup.sessions.entry(session).or_default();
            // The latest change of a session is never in a block that left: a block leaves when a
            // later one comes, and that is a change.
            session.changed_ms = session.changed_ms.max(row.changed_ms);
            session.blocks.insert(block, Block { row, dirty: false, stored: true });
        }
        Ok(dedup)
    }

    /// Looks a command up and remembers it when it is new.
    pub(crate) fn admit(&mut self, id: CommandId, now_ms: u64) -> Admission {
        let number = id.counter / BLOCK;
        if !self.sessions.contains_key(&id.session) {
            self.make_room();
        }
        let session = self.sessions.entry(id.session).or_default();
        if number < session.first_block() {
            return Admission::Forgotten;
        }
        let block = session.blocks.entry(number).or_insert_with(|| Block {
            row: DedupRow { bits: [0; 64], changed_ms: now_ms },
            dirty: false,
            stored: false,
        });
        let (byte, bit) = ((id.counter % BLOCK / 8) as usize, 1u8 << (id.counter % 8));
        if block.row.bits[byte] & bit != 0 && !planted!(CommandIdsIgnored) {
            return Admission::Seen;
        }
        block.row.bits[byte] |= bit;
        block.row.changed_ms = now_ms;
        if !block.dirty {
            block.dirty = true;
            self.changed.push((id.session, number));
        }
        session.changed_ms = now_ms;
        let first = session.first_block();
        if session.blocks.first_key_value().is_some_and(|(&number, _)| number < first) {
            let keep = session.blocks.split_off(&first);
            let left = std::mem::replace(&mut session.blocks, keep);
            self.drop_blocks(id.session, left);
        }
        Admission::New
    }

    /// Stages the rows that the batch changed: each is put once.
    pub(crate) fn stage(&mut self, write: &mut impl Write) {
        // First, because a block may have come back since: then its new row follows.
        for (session, number) in self.dropped.drain(..) {
            write.remove_dedup(session, number);
        }
        for (session, number) in self.changed.drain(..) {
            let block = self.sessions.get_mut(&session).and_then(|s| s.blocks.get_mut(&number));
            if let Some(block) = block.filter(|block| block.dirty) {
                write.put_dedup(session, number, &block.row);
                (block.dirty, block.stored) = (false, true);
            }
        }
    }

    /// Lets the longest silent session go when there is no room for another.
    fn make_room(&mut self) {
        if self.sessions.len() < SESSIONS_MAX {
            return;
        }
        let oldest = self.sessions.iter().min_by_key(|(number, s)| (s.changed_ms, **number));
        if let Some(number) = oldest.map(|(number, _)| *number)
            && let Some(session) = self.sessions.remove(&number)
        {
            self.drop_blocks(number, session.blocks);
        }
    }

    fn drop_blocks(&mut self, session: u64, blocks: BTreeMap<u64, Block>) {
        let stored = blocks.into_iter().filter(|(_, block)| block.stored);
        self.dropped.extend(stored.map(|(number, _)| (session, number)));
    }
}

/// Equal when the same commands count as applied, and the same session would go next.
impl PartialEq for Dedup {
    fn eq(&self, other: &Dedup) -> bool {
        fn rows(dedup: &Dedup) -> impl Iterator<Item = (u64, u64, &DedupRow)> {
            dedup.sessions.iter().flat_map(|(session, state)| {
                state.blocks.iter().map(|(number, block)| (*session, *number, &block.row))
            })
        }
        rows(self).eq(rows(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_store::{MemBatch, MemStore};

    struct Rig {
        dedup: Dedup,
        store: MemStore,
    }

    impl Rig {
        fn new() -> Rig {
            Rig { dedup: Dedup::default(), store: MemStore::new() }
        }

        /// One batch of ids; what is loaded afterwards must equal what is live.
        fn batch(&mut self, now_ms: u64, ids: &[(u64, u64)]) -> Vec<Admission> {
            let admit = |&(session, counter): &(u64, u64)| {
                self.dedup.admit(CommandId { session, counter }, now_ms)
            };
            let admissions = ids.iter().map(admit).collect();
            let mut staged = MemBatch::default();
            self.dedup.stage(&mut staged);
            self.store.commit(staged);
            let loaded = Dedup::load(&self.store).unwrap();
            assert_eq!(loaded, self.dedup);
            for (session, state) in &self.dedup.sessions {
                assert_eq!(loaded.sessions[session].changed_ms, state.changed_ms);
            }
            admissions
        }

        fn admit(&mut self, now_ms: u64, session: u64, counter: u64) -> Admission {
            self.batch(now_ms, &[(session, counter)])[0]
        }

        fn blocks(&self) -> Vec<(u64, u64)> {
            let rows = self.store.dedup_rows().unwrap().into_iter();
            rows.map(|(session, block, _)| (session, block)).collect()
        }
    }

    use Admission::{Forgotten, New, Seen};

    #[test]
    fn a_counter_is_new_once_whatever_the_order() {
        let mut rig = Rig::new();
        assert_eq!(rig.batch(1, &[(5, 1), (5, 3), (5, 1), (6, 1)]), [New, New, Seen, New]);
        assert_eq!(rig.batch(2, &[(5, 2), (5, 3), (5, 511), (5, 512)]), [New, Seen, New, New]);
        assert_eq!(rig.blocks(), [(5, 0), (5, 1), (6, 0)]);
    }

    #[test]
    fn the_window_moves_by_blocks() {
        let mut rig = Rig::new();
        assert_eq!(rig.batch(1, &[(5, 511), (5, 512)]), [New, New]);
        // The last counter with which block 0 is still inside, then the first without.
        assert_eq!(rig.batch(2, &[(5, COMMAND_WINDOW - 1), (5, 511)]), [New, Seen]);
        assert_eq!(rig.batch(3, &[(5, COMMAND_WINDOW), (5, 511)]), [New, Forgotten]);
        assert_eq!(rig.batch(4, &[(5, 510), (5, 512), (5, 513)]), [Forgotten, Seen, New]);
        assert_eq!(rig.blocks(), [(5, 1), (5, 127), (5, 128)]);
    }

    #[test]
    fn a_far_jump_forgets_but_never_claims_to_have_seen() {
        let mut rig = Rig::new();
        let last = u64::MAX;
        assert_eq!(rig.batch(1, &[(5, 1), (5, 700), (5, last)]), [New, New, New]);
        assert_eq!(
            rig.batch(2, &[(5, 1), (5, 2), (5, last - 1), (5, last)]),
            [Forgotten, Forgotten, New, Seen]
        );
        assert_eq!(rig.blocks(), [(5, u64::MAX / 512)]);
    }

    #[test]
    fn a_block_that_comes_and_goes_in_one_batch_leaves_no_row() {
        let mut rig = Rig::new();
        rig.batch(1, &[(5, 1), (5, 10 * COMMAND_WINDOW), (5, 2)]);
        assert_eq!(rig.blocks(), [(5, 10 * COMMAND_WINDOW / 512)]);
    }

    #[test]
    fn the_longest_silent_session_goes_first() {
        let mut rig = Rig::new();
        let sessions = SESSIONS_MAX as u64;
        for session in 0..sessions {
            assert_eq!(rig.admit(10, session, 1), New);
        }
        // A repetition is no sign of life; a new command is.
        assert_eq!(rig.batch(20, &[(0, 1), (1, 2)]), [Seen, New]);
        assert_eq!(rig.admit(30, 1_000, 1), New);
        assert_eq!(rig.admit(30, 1_001, 1), New);
        assert_eq!(rig.dedup.sessions.len(), SESSIONS_MAX);
        let gone = |session| !rig.dedup.sessions.contains_key(&session);
        assert!(gone(0) && !gone(1) && gone(2) && !gone(3));
        // Back again, it knows nothing and claims nothing; and 3 goes for it.
        assert_eq!(rig.admit(40, 0, 1), New);
        assert_eq!(rig.admit(40, 0, 1), Seen);
        assert_eq!(rig.admit(40, 1, 1), Seen);
    }

    #[test]
    fn a_session_that_goes_and_returns_in_one_batch_is_written_once() {
        let mut rig = Rig::new();
        rig.batch(10, &[(0, 1), (0, 600)]);
        let others: Vec<_> = (1..=SESSIONS_MAX as u64).map(|session| (session, 1)).collect();
        let mut ids = vec![(0, 2)];
        ids.extend(&others);
        ids.push((0, 1));
        // All changed in this batch: the smallest number goes first, so 0 went for 64, then 1 for 0.
        let admissions = rig.batch(20, &ids);
        assert!(admissions.iter().all(|admission| *admission == New));
        assert_eq!(rig.blocks().iter().filter(|(session, _)| *session == 0).count(), 1);
        assert!(!rig.dedup.sessions.contains_key(&1));
        assert_eq!(rig.batch(30, &[(0, 1), (0, 2)]), [Seen, New]);
    }
}
