//! The log on a modelled disk and the log on a real one give the same with the same operations and
//! crashes; and what a power cut tears is never more than what was not acknowledged.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use flotilla_storage::log::{Engine, LogOptions, LogWriter};
use flotilla_types::ids::GroupId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Cut, SimDisk};

const GROUPS: u32 = 3;

thread_local! {
    /// Of the log on the modelled disk: its turns are the test's to give.
    pub(super) static WRITER: RefCell<Option<LogWriter>> = const { RefCell::new(None) };
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        group: u32,
        count: u64,
        bytes: usize,
    },
    Truncate {
        group: u32,
        back: u64,
    },
    Purge {
        group: u32,
        behind: u64,
    },
    Vote {
        group: u32,
        vote: u8,
    },
    Reset {
        group: u32,
    },
    /// With everything acknowledged; so many in a hundred of what was not synced are there after it.
    Crash {
        keep: u32,
    },
    /// In the middle of a write. Where the crash is a copy of files, only the modelled disk can do this.
    Tear {
        keep: u32,
        bytes: usize,
    },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS;
    prop_oneof![
        8 => (group.clone(), 1..5_u64, prop_oneof![0..200_usize, 3_000..9_000_usize])
            .prop_map(|(group, count, bytes)| Step::Append { group, count, bytes }),
        2 => (group.clone(), 0..4_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        3 => (group.clone(), 0..4_u64).prop_map(|(group, behind)| Step::Purge { group, behind }),
        2 => (group.clone(), any::<u8>()).prop_map(|(group, vote)| Step::Vote { group, vote }),
        1 => group.prop_map(|group| Step::Reset { group }),
        2 => (0..=100_u32).prop_map(|keep| Step::Crash { keep }),
        2 => (0..=100_u32, prop_oneof![1..400_usize, 5_000..20_000_usize])
            .prop_map(|(keep, bytes)| Step::Tear { keep, bytes }),
    ]
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, segments_max: 4, cache_bytes: 8 << 10 }
}

/// A log, and how to wait for what was asked of it.
pub(super) struct Log {
    pub(super) engine: Engine,
    waiting: Vec<mpsc::Receiver<std::io::Result<()>>>,
    pub(super) counter: u64,
}

impl Log {
    pub(super) fn real(dir: &Path) -> Self {
        let (engine, damage) = Engine::open(dir, options(), Box::new(|_| {})).unwrap();
        assert!(damage.is_empty(), "{damage:?}");
        Self { engine, waiting: Vec::new(), counter: 0 }
    }

    pub(super) fn modelled(disk: &SimDisk) -> Self {
        let disk = Arc::new(disk.clone());
        let opened = Engine::open_on(disk, Path::new("/log"), options(), Box::new(|_| {}));
        let (engine, damage) = opened.unwrap();
        assert!(damage.is_empty(), "{damage:?}");
        Self { engine, waiting: Vec::new(), counter: 0 }
    }

    fn done(&mut self) -> flotilla_storage::log::Done {
        let (tx, rx) = mpsc::channel();
        self.waiting.push(rx);
        Box::new(move |result| drop(tx.send(result)))
    }

    fn entry(&mut self, bytes: usize) -> Bytes {
        self.counter += 1;
        let mut entry = self.counter.to_le_bytes().to_vec();
        entry.resize(8 + bytes, self.counter as u8);
        entry.into()
    }

    pub(super) fn ask(&mut self, step: &Step) {
        match *step {
            Step::Append { group, count, bytes } => {
                let entries: Vec<Bytes> = (0..count).map(|_| self.entry(bytes)).collect();
                let done = self.done();
                let group = self.engine.group(GroupId(group));
                group.append(group.state().next, entries, done);
            }
            Step::Truncate { group, back } => {
                let group = self.engine.group(GroupId(group));
                let state = group.state();
                group.truncate_from(state.next.saturating_sub(back).max(state.first));
            }
            Step::Purge { group, behind } => {
                let group = self.engine.group(GroupId(group));
                let state = group.state();
                if state.next > state.first + behind {
                    group.purge_to(state.next - behind - 1, Bytes::from_static(b"note"));
                }
            }
            Step::Vote { group, vote } => {
                let done = self.done();
                self.engine.group(GroupId(group)).save_vote(vec![vote].into(), done);
            }
            Step::Reset { group } => {
                let done = self.done();
                self.engine.group(GroupId(group)).reset(done);
            }
            Step::Crash { .. } | Step::Tear { .. } => {}
        }
    }

    /// Whether all that was asked is durable.
    pub(super) fn settle(&mut self) -> bool {
        WRITER.with_borrow_mut(|writer| {
            if let Some(writer) = writer {
                writer.turn();
            }
        });
        self.waiting.drain(..).all(|done| done.recv().is_ok_and(|result| result.is_ok()))
    }

    /// Makes sure that nothing is left that nobody waits for, and waits.
    pub(super) fn settle_all(&mut self) -> bool {
        self.ask(&Step::Vote { group: GROUPS, vote: 0 });
        self.settle()
    }

    /// Everything that it holds.
    pub(super) fn look(&self) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
        (0..GROUPS)
            .map(|group| {
                let group = self.engine.group(GroupId(group));
                let state = group.state();
                let entries = group.read(state.first, state.next, usize::MAX).unwrap();
                (state.first, state.next, state.vote, state.purged, state.damaged, entries)
            })
            .collect()
    }
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        // Files come and go: a segment that is removed at this moment need not be there.
        let _ = std::fs::copy(item.path(), to.path().join(item.file_name()));
    }
    to
}

pub(super) fn new_disk() -> SimDisk {
    static DISKS: AtomicU64 = AtomicU64::new(0);
    let number = DISKS.fetch_add(1, Ordering::Relaxed);
    let mut disk = SimDisk::new(number, format!("/test-{number}/state").into(), (1, 1));
    disk.driver = |writer, _| WRITER.set(Some(writer));
    disk
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_modelled_disk_does_what_a_real_one_does(steps in prop::collection::vec(step(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let disk = new_disk();
        let (mut real, mut modelled) = (Log::real(dir.path()), Log::modelled(&disk));
        for step in &steps {
            match step {
                Step::Crash { keep } => {
                    assert!(real.settle_all() && modelled.settle_all());
                    let left = copy(dir.path());
                    drop(real);
                    dir = left;
                    disk.switch_off();
                    WRITER.set(None);
                    let counter = modelled.counter;
                    drop(modelled);
                    disk.restart(Cut::Power { keep: *keep });
                    (real, modelled) = (Log::real(dir.path()), Log::modelled(&disk));
                    (real.counter, modelled.counter) = (counter, counter);
                }
                Step::Tear { .. } => {}
                step => {
                    real.ask(step);
                    modelled.ask(step);
                    assert!(real.settle() && modelled.settle());
                }
            }
            prop_assert_eq!(real.look(), modelled.look());
        }
        WRITER.set(None);
    }

    #[test]
    fn a_torn_write_loses_nothing_that_was_acknowledged(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let disk = new_disk();
        let mut log = Log::modelled(&disk);
        for step in &steps {
            let keep = match step {
                Step::Crash { keep } | Step::Tear { keep, .. } => *keep,
                step => {
                    log.ask(step);
                    assert!(log.settle());
                    continue;
                }
            };
            assert!(log.settle_all());
            let before = log.look();
            if let Step::Tear { bytes, .. } = step {
                disk.cut_at_next_write();
                log.ask(&Step::Append { group: 0, count: 1, bytes: *bytes });
                assert!(!log.settle(), "the power was cut");
            }
            disk.switch_off();
            WRITER.set(None);
            let counter = log.counter;
            drop(log);
            disk.restart(Cut::Power { keep });
            log = Log::modelled(&disk);
            log.counter = counter;
            let after = log.look();
            prop_assert_eq!(&before[1..], &after[1..]);
            // The entry that nobody was told of is there, or it is not.
            if let Step::Tear { .. } = step {
                log.engine.group(GroupId(0)).truncate_from(end_without_newest(&log));
            }
            prop_assert_eq!(before, log.look());
        }
        WRITER.set(None);
    }
}

/// Where group 0 ended before the newest entry, whether that is there or not.
pub(super) fn end_without_newest(log: &Log) -> u64 {
    let group = log.engine.group(GroupId(0));
    let state = group.state();
    let last = state.next.saturating_sub(1).max(state.first);
    let entry = group.read(last, state.next, usize::MAX).unwrap().pop();
    let is_newest = entry.is_some_and(|entry| entry.starts_with(&log.counter.to_le_bytes()));
    if is_newest { last } else { state.next }
}
