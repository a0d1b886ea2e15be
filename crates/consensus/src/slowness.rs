//! Whose disk is slow. A node whose syncs take much longer than those of the others does not lead
//! (every request of its shards would wait for that disk, or for both others instead of one), and
//! leaders do not wait for its acknowledgement first. It still votes, and holds everything.
//!
//! Invariants:
//! - Slow is a matter of comparison: where all disks are slow, none is. So fewer than half of the
//!   nodes are ever slow at the same time, and the others can lead.
//! - A node judges only itself, late and for long: leadership must not follow every hiccup.
//! - What a node said of itself expires: one that says nothing is not believed to be slow.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_types::ids::NodeId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A sync that takes no longer is never slow.
const SYNC_MIN: Duration = Duration::from_millis(15);
/// So many times what it takes at the median of all nodes is slow.
const FACTOR: u32 = 4;
/// Until it has been so for so long, it is a hiccup.
const SLOW_AFTER: Duration = Duration::from_millis(1_500);
/// After which a node that was slow is believed to be well.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// A word may come late or get lost.
const WORD: Duration = Duration::from_secs(3);

/// What a node says of its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// What a sync takes; zero if there was none to measure.
    pub(crate) sync: Duration,
    pub(crate) slow: bool,
}

/// What this node knows of all.
#[derive(Default)]
pub(crate) struct Slowness {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    heard: BTreeMap<NodeId, (Word, Instant)>,
    judge: Judge,
}

impl Slowness {
    /// A peer spoke of itself.
    pub(crate) fn note(&self, from: NodeId, word: Word, now: Instant) {
        self.inner.lock().heard.insert(from, (word, now + WORD));
    }

    /// This node's own measure; returns what to tell. `None`: there was no sync.
    pub(crate) fn measure(&self, sync: Option<Duration>, nodes: usize, now: Instant) -> Word {
        let mut inner = self.inner.lock();
        inner.heard.retain(|_, (_, until)| *until > now);
        let others: Vec<Duration> = inner.heard.values().map(|(word, _)| word.sync).collect();
        let compared = sync.map(|sync| is_slow(sync, &others, nodes));
        let slow = inner.judge.note(compared, now);
        Word { sync: sync.unwrap_or_default(), slow }
    }

    /// Whether this node is slow.
    pub(crate) fn is_slow_here(&self) -> bool {
        self.inner.lock().judge.slow
    }

    /// Whether a peer said so of itself a moment ago.
    pub(crate) fn is_slow(&self, node: NodeId) -> bool {
        let inner = self.inner.lock();
        let said = inner.heard.get(&node);
        said.is_some_and(|(word, until)| word.slow && *until > Instant::now())
    }
}

/// Whether a sync takes much longer here than at the median of all nodes. Without the word of a majority
/// nobody can tell. Nodes that wrote nothing say nothing: were they quick, all replicas of the only
/// group that works could be slow.
fn is_slow(here: Duration, others: &[Duration], nodes: usize) -> bool {
    let mut all: Vec<Duration> = others.iter().copied().filter(|sync| !sync.is_zero()).collect();
    all.push(here);
    if here < SYNC_MIN || all.len() <= nodes / 2 {
        return false;
    }
    all.sort();
    // Of an even number the upper one: rather nobody than half of them.
    here >= all[all.len() / 2] * FACTOR
}

#[derive(Default)]
struct Judge {
    slow: bool,
    /// Since when the measure says the opposite.
    turned: Option<Instant>,
}

impl Judge {
    /// A moment without a sync says nothing against what was said before, but for one that is slow:
    /// it has to come back when nobody writes.
    fn note(&mut self, measured: Option<bool>, now: Instant) -> bool {
        if measured.unwrap_or(false) == self.slow {
            self.turned = None;
            return self.slow;
        }
        let since = *self.turned.get_or_insert(now);
        let patience = if self.slow { WELL_AFTER } else { SLOW_AFTER };
        if now - since >= patience {
            self.slow = !self.slow;
            self.turned = None;
        }
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn slow_is_a_matter_of_comparison() {
        assert!(is_slow(ms(100), &[ms(1), ms(1)], 3));
        assert!(!is_slow(ms(20), &[ms(0), ms(0)], 3), "idle peers say nothing");
        let (busy, idle) = (ms(20), ms(0));
        assert!(
            !is_slow(busy, &[busy, busy, idle, idle, idle, idle], 7),
            "one group of seven nodes"
        );
        assert!(!is_slow(ms(10), &[ms(1), ms(1)], 3), "quick enough for anybody");
        assert!(!is_slow(ms(100), &[ms(30), ms(1)], 3));
        assert!(!is_slow(ms(100), &[ms(90), ms(1)], 3), "two of three");
        assert!(!is_slow(ms(100), &[], 3), "nobody to compare with");
        assert!(!is_slow(ms(100), &[ms(1)], 3), "which of two is it?");
        assert!(!is_slow(ms(100), &[], 1));
        assert!(is_slow(ms(100), &[ms(100), ms(1), ms(1), ms(1)], 5));
    }

    #[test]
    fn a_hiccup_is_not_slow_and_a_pause_is_not_well() {
        let (mut judge, begin) = (Judge::default(), Instant::now());
        assert!(!judge.note(Some(true), begin));
        assert!(!judge.note(Some(false), begin + ms(1_000)));
        assert!(!judge.note(Some(true), begin + ms(1_600)), "it began anew");
        assert!(judge.note(Some(true), begin + ms(3_100)));
        assert!(judge.note(Some(false), begin + ms(4_000)));
        assert!(judge.note(Some(true), begin + ms(13_000)));
        assert!(judge.note(Some(false), begin + ms(14_000)));
        assert!(judge.note(None, begin + ms(20_000)));
        assert!(!judge.note(None, begin + ms(24_000)));
    }

    #[test]
    fn the_word_of_a_node_expires() {
        let (slowness, now) = (Slowness::default(), Instant::now());
        let word = Word { sync: ms(200), slow: true };
        slowness.note(NodeId(2), word, now);
        assert!(slowness.is_slow(NodeId(2)));
        assert!(!slowness.is_slow(NodeId(3)));
        slowness.note(NodeId(2), word, now - WORD);
        assert!(!slowness.is_slow(NodeId(2)));
    }

    #[test]
    fn a_node_that_is_much_slower_than_its_peers_says_so() {
        let (slowness, begin) = (Slowness::default(), Instant::now());
        for tick in 0..10 {
            let now = begin + ms(250) * tick;
            for peer in [NodeId(2), NodeId(3)] {
                slowness.note(peer, Word { sync: ms(1), slow: false }, now);
            }
            let word = slowness.measure(Some(ms(80)), 3, now);
            assert_eq!(word, Word { sync: ms(80), slow: tick >= 6 });
        }
        assert!(slowness.is_slow_here());
    }
}
