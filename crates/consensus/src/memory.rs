//! What a node holds, as its peers remember it: a second record that no damage of its own disk can
//! take along.
//!
//! A disk that was put back to an earlier state (a restored backup, a snapshot of a volume, a controller
//! that lost what it had promised) is whole in itself: no checksum finds anything, and yet the node has
//! forgotten votes and acknowledged entries. So every node tells its peers, a few times a second while
//! it writes, how far its log is synced, and they remember the farthest. At its start it asks them; if
//! one has heard of more than there is, everything here must be reborn (see [`crate::rebirth`]).
//!
//! Invariants:
//! - A node tells only what is synced, so a log that lost nothing is never behind what was told.
//! - Nothing here takes part in a group before as many peers have answered as make a majority with
//!   this node. All are waited for, but not for long: one of them may be down.
//! - After a loss was found the node's *incarnation* is higher than any it told before: shorter is
//!   right from then on.
//!
//! - A peer that was down at the start and has heard of more says so when it is told something: then
//!   the process ends, and the next start finds the loss.
//!
//! What this cannot notice: a disk put back to less than [`TELL_EVERY`] before it was last written, and
//! one whose later state only such peers heard of that ended before they had written it down
//! ([`KEEP_EVERY`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_storage::disk::Disk;
use flotilla_storage::note;
use flotilla_types::clock::Clock;
use flotilla_types::ids::NodeId;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::raft as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;

use crate::slowness::{Slowness, Word};

/// Between two words to the peers while the log grows.
pub(crate) const TELL_EVERY: Duration = Duration::from_millis(250);
/// Between two writes of what was heard: a peer that is killed remembers at least so much.
pub(crate) const KEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a start waits for peers beyond those that it needs.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How far a node's log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// How often a loss was found.
    pub(crate) incarnation: u64,
    /// The last synced batch of the log.
    pub(crate) synced: u64,
}

/// What this node remembers of its peers, and its own incarnation.
pub(crate) struct Memory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    slowness: Arc<Slowness>,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

struct Inner {
    incarnation: u64,
    heard: BTreeMap<NodeId, Position>,
    is_kept: bool,
}

const INCARNATION: &str = "incarnation";
const HEARD: &str = "heard";

impl Memory {
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        slowness: Arc<Slowness>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        disk.create_dir(dir)?;
        let incarnation = note::read(&*disk, &dir.join(INCARNATION))?.text();
        // One that cannot be read is an early one: peers have heard of more, if there was more.
        let incarnation = incarnation.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        // What was damaged counts as never heard.
        let heard = note::read(&*disk, &dir.join(HEARD))?.text().unwrap_or_default();
        let heard = heard.lines().filter_map(decode_line).collect();
        let inner = Mutex::new(Inner { incarnation, heard, is_kept: true });
        Ok(Self { disk, dir: dir.to_owned(), slowness, clock, inner })
    }

    /// This node's own position.
    pub(crate) fn position(&self, synced: u64) -> Position {
        Position { incarnation: self.inner.lock().incarnation, synced }
    }

    /// A loss was found: from now on this node is another one than that which told `heard`.
    pub(crate) fn begin_anew(&self, heard: Position) -> io::Result<()> {
        // It comes from others: one that makes no sense must not stop this node.
        let incarnation = heard.incarnation.saturating_add(1);
        note::write(&*self.disk, &self.dir, INCARNATION, &format!("{incarnation}\n"))?;
        self.inner.lock().incarnation = incarnation;
        Ok(())
    }

    fn note(&self, from: NodeId, told: Position) {
        let mut inner = self.inner.lock();
        let known = inner.heard.entry(from).or_default();
        if *known < told {
            *known = told;
            inner.is_kept = false;
        }
    }

    /// Answers a peer that tells or asks.
    pub(crate) fn serve(&self, from: NodeId, payload: Bytes) -> Result<Bytes, DecodeError> {
        let pb::Remember { asks, incarnation, synced, sync_us, slow } =
            pb::Remember::decode(payload)?;
        if !asks {
            self.note(from, Position { incarnation, synced });
            let word = Word { sync: Duration::from_micros(sync_us), slow };
            self.slowness.note(from, word, Instant::now());
        }
        let heard = self.inner.lock().heard.get(&from).copied().unwrap_or_default();
        let Position { incarnation, synced } = heard;
        let answer = pb::Remembered { incarnation, synced, clock_ms: self.clock.now_ms() };
        Ok(answer.encode_to_vec().into())
    }

    /// Writes down what was heard since the last time, on a thread that may block.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let text = {
            let mut inner = self.inner.lock();
            if std::mem::replace(&mut inner.is_kept, true) {
                return Ok(());
            }
            let lines = inner
                .heard
                .iter()
                .map(|(node, heard)| format!("{node} {} {}\n", heard.incarnation, heard.synced));
            lines.collect::<String>()
        };
        note::write(&*self.disk, &self.dir, HEARD, &text)
    }
}

/// The question what a peer has heard.
pub(crate) fn encode_question() -> Bytes {
    pb::Remember { asks: true, ..pb::Remember::default() }.encode_to_vec().into()
}

/// What this node says of itself.
pub(crate) fn encode_word(position: Position, word: Word) -> Bytes {
    let Position { incarnation, synced } = position;
    let Word { sync, slow } = word;
    let sync_us = sync.as_micros() as u64;
    pb::Remember { asks: false, incarnation, synced, sync_us, slow }.encode_to_vec().into()
}

/// What a peer has heard, and what its clock shows.
pub(crate) fn decode(answer: Bytes) -> Result<(Position, u64), DecodeError> {
    let pb::Remembered { incarnation, synced, clock_ms } = pb::Remembered::decode(answer)?;
    Ok((Position { incarnation, synced }, clock_ms))
}

/// The farthest that anybody has heard of, if it is farther than what is here.
pub(crate) fn forgotten(here: Position, heard: impl Iterator<Item = Position>) -> Option<Position> {
    heard.max().filter(|heard| *heard > here)
}

fn decode_line(line: &str) -> Option<(NodeId, Position)> {
    let mut fields = line.split(' ').map(|field| field.parse::<u64>().ok());
    let mut next = || fields.next().flatten();
    let (node, incarnation, synced) = (next()?, next()?, next()?);
    Some((NodeId(node), Position { incarnation, synced }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use flotilla_storage::disk::Machine;
    use flotilla_types::clock::SystemClock;

    use super::*;

    fn told(memory: &Memory, position: Option<Position>) -> Position {
        let word = |position| encode_word(position, Word::default());
        let payload = position.map_or_else(encode_question, word);
        decode(memory.serve(NodeId(2), payload).unwrap()).unwrap().0
    }

    fn open(dir: &Path) -> Memory {
        let clock = Arc::new(SystemClock);
        Memory::open(Arc::new(Machine), dir, Arc::default(), clock).unwrap()
    }

    #[test]
    fn the_farthest_position_is_remembered_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let memory = open(dir.path());
        let at = |incarnation, synced| Position { incarnation, synced };
        assert_eq!(told(&memory, None), at(0, 0));
        assert_eq!(told(&memory, Some(at(0, 7))), at(0, 7));
        assert_eq!(told(&memory, Some(at(0, 5))), at(0, 7), "late words change nothing");
        memory.keep().unwrap();
        let memory = open(dir.path());
        assert_eq!(told(&memory, None), at(0, 7));
        assert_eq!(told(&memory, Some(at(1, 2))), at(1, 2), "a new incarnation is another log");
    }

    #[test]
    fn less_than_was_told_is_a_loss_until_the_node_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let memory = open(dir.path());
        let heard = Position { incarnation: 0, synced: 9 };
        let lost = |memory: &Memory, synced| {
            forgotten(memory.position(synced), [Position::default(), heard].into_iter())
        };
        assert_eq!(lost(&memory, 9), None);
        assert_eq!(lost(&memory, 10), None);
        assert_eq!(lost(&memory, 8), Some(heard));
        memory.begin_anew(heard).unwrap();
        let memory = open(dir.path());
        assert_eq!(lost(&memory, 1), None);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_early_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(INCARNATION), [0xff, 0, 7]).unwrap();
        note::write(&Machine, dir.path(), HEARD, "2 0 x\n\n3 1 4\n").unwrap();
        let memory = open(dir.path());
        assert_eq!(memory.position(1), Position { incarnation: 0, synced: 1 });
        assert_eq!(told(&memory, None), Position::default());
        assert_eq!(memory.inner.lock().heard.len(), 1);
    }

    /// A peer would be rebuilt for nothing, or, with this node being rebuilt as well, never.
    #[test]
    fn no_flipped_bit_makes_a_peer_go_farther_than_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let at = Position { incarnation: 0, synced: 51_234 };
        let memory = open(dir.path());
        told(&memory, Some(at));
        memory.keep().unwrap();
        let good = fs::read(dir.path().join(HEARD)).unwrap();
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(HEARD), &bad).unwrap();
            let heard = told(&open(dir.path()), None);
            assert!(heard == Position::default() || heard == at, "bit {bit}: {heard:?}");
        }
        fs::write(dir.path().join(HEARD), &good).unwrap();
        assert_eq!(told(&open(dir.path()), None), at);
    }
}
