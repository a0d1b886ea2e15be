use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u32,
        count: usize,
        bytes: usize,
        skip: u64,
    },
    Truncate {
        group: u32,
        back: u64,
    },
    Purge {
        group: u32,
        ahead: i64,
    },
    Vote {
        group: u32,
    },
    Committed {
        group: u32,
    },
    Reset {
        group: u32,
    },
    /// Waits for all that was asked for.
    Settle,
    Restart,
    /// All acknowledged operations must be there; nothing was in flight.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..4_u32;
    prop_oneof![
        12 => (group.clone(), 1..6_usize, prop_oneof![0..300_usize, 2_000..9_000_usize], 0..3_u64)
            .prop_map(|(group, count, bytes, skip)| Step::Append { group, count, bytes, skip }),
        2 => (group.clone(), 0..8_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        6 => (group.clone(), -8..3_i64).prop_map(|(group, ahead)| Step::Purge { group, ahead }),
        2 => group.clone().prop_map(|group| Step::Vote { group }),
        2 => group.clone().prop_map(|group| Step::Committed { group }),
        1 => group.prop_map(|group| Step::Reset { group }),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct Model {
    groups: BTreeMap<u32, (GroupState, Vec<Bytes>)>,
    counter: u64,
    waiting: Vec<mpsc::Receiver<io::Result<()>>>,
}

impl Model {
    fn done(&mut self) -> Done {
        let (done, wait) = waiter();
        self.waiting.push(wait);
        done
    }

    fn settle(&mut self) {
        for wait in self.waiting.drain(..) {
            wait.recv().unwrap().unwrap();
        }
    }

    fn fresh(&mut self, bytes: usize) -> Bytes {
        self.counter += 1;
        entry(GroupId(77), self.counter, bytes)
    }

    fn step(&mut self, engine: &Engine, step: &Step) {
        match *step {
            Step::Append { group, count, bytes, skip } => {
                let new: Vec<_> = (0..count).map(|_| self.fresh(bytes)).collect();
                let done = self.done();
                let (state, entries) = self.groups.entry(group).or_default();
                let first = if entries.is_empty() { state.next + skip } else { state.next };
                state.first = if entries.is_empty() { first } else { state.first };
                state.next = first + count as u64;
                entries.extend_from_slice(&new);
                engine.group(GroupId(group)).append(first, new, done);
            }
            Step::Truncate { group, back } => {
                let (state, entries) = self.groups.entry(group).or_default();
                let index = state.next.saturating_sub(back);
                state.next = index.max(state.first);
                entries.truncate((state.next - state.first) as usize);
                engine.group(GroupId(group)).truncate_from(index);
            }
            Step::Purge { group, ahead } => {
                let note = self.fresh(0);
                let (state, entries) = self.groups.entry(group).or_default();
                let Some(index) = state.next.checked_add_signed(ahead) else {
                    return;
                };
                engine.group(GroupId(group)).purge_to(index, note.clone());
                if state.purged.as_ref().is_some_and(|(purged, _)| *purged > index) {
                    return;
                }
                state.purged = Some((index, note));
                let first = state.first.max(index + 1);
                entries.drain(..entries.len().min((first - state.first) as usize));
                state.first = first;
                state.next = state.next.max(first);
            }
            Step::Vote { group } => {
                let (vote, done) = (self.fresh(0), self.done());
                self.groups.entry(group).or_default().0.vote = Some(vote.clone());
                engine.group(GroupId(group)).save_vote(vote, done);
            }
            Step::Committed { group } => {
                let committed = self.fresh(0);
                self.groups.entry(group).or_default().0.committed = Some(committed.clone());
                engine.group(GroupId(group)).save_committed(committed);
            }
            Step::Reset { group } => {
                let done = self.done();
                *self.groups.entry(group).or_default() = Default::default();
                engine.group(GroupId(group)).reset(done);
            }
            Step::Settle | Step::Restart | Step::Crash => self.settle(),
        }
    }

    fn check(&mut self, engine: &Engine) {
        for (group, (state, entries)) in &mut self.groups {
            state.bytes = entries.iter().map(|entry| entry.len() as u64).sum();
            let (found, read) = content(engine, GroupId(*group));
            assert_eq!(&found, state, "group {group}");
            assert!(&read == entries, "entries of group {group}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_it_was_told(steps in prop::collection::vec(step(), 1..150)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        let mut model = Model::default();
        for step in &steps {
            model.step(&engine, step);
            match step {
                Step::Restart => {
                    engine.shutdown();
                    drop(engine);
                    engine = open(dir.path());
                    model.check(&engine);
                }
                Step::Crash => {
                    // What nobody waits for is written with what somebody waits for.
                    vote(&engine.group(GroupId(9)), b"x").unwrap();
                    let crashed = image(dir.path());
                    drop(engine);
                    dir = crashed;
                    engine = open(dir.path());
                    model.check(&engine);
                }
                _ => model.check(&engine),
            }
        }
        drop(engine);
        model.waiting.clear();
        let engine = open(dir.path());
        model.check(&engine);
    }
}
