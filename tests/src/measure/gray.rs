//! A node that stands still, is cut off from the others, or has slow wires or a slow disk: what the rest
//! still does.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::pulse::{Beat, Pulse, What};
use super::{Judgement, quantile};
use crate::links::Condition;
use crate::{Fleet, Settings, Throttle};

const WARM: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(8);
/// What the rest has to get over it.
const GRACE: Duration = Duration::from_secs(5);
/// After which sends are as quick as they are promised to be with a slow disk.
const GRACE_OF_SENDS: Duration = Duration::from_secs(30);
/// Of the throughput before, after the grace.
const SHARE_PROMISED: f64 = 0.8;
/// The p99 of sends stays below so many times what it was.
const TIMES_PROMISED: u32 = 3;
const CLIENTS: usize = 4;
/// One way: a round trip takes twice as long.
const SLOW: Duration = Duration::from_millis(250);
/// A sync takes 500 ms.
const WRITES_PER_SECOND: u32 = 2;

/// Throughput of clients of the other nodes before and while each kind of fault is there.
///
/// # Panics
/// When the cluster does not come back.
pub(super) async fn gray(nodes: u64) -> Judgement {
    let disks = Throttle::available();
    let settings = Settings { links: true, loop_disks: disks.is_ok(), ..Settings::default() };
    let mut fleet = Fleet::start_with(nodes, &settings).await;
    let queue = fleet.client(1).create_queue("gray").await.expect("a queue can be created");
    let mut judgement = Judgement::default();
    let mut kinds = vec![Sick::Still, Sick::CutOff, Sick::Slow];
    match disks {
        Ok(()) => kinds.extend([Sick::SlowDisk, Sick::StalledDisk]),
        Err(why) => judgement.failed.push(format!("there is no slow disk: {why}")),
    }
    for id in fleet.ids() {
        for sick in kinds.iter().copied() {
            one(&mut fleet, &queue, id, sick, &mut judgement).await;
        }
    }
    judgement
}

async fn one(fleet: &mut Fleet, queue: &str, id: u64, sick: Sick, judgement: &mut Judgement) {
    let pulse = Pulse::start(fleet, queue, CLIENTS);
    sleep(WARM).await;
    pulse.take();
    sleep(WINDOW).await;
    let beats = pulse.take();
    let (before, healthy) = (rate(&beats, id, WINDOW), sends_p99(&beats));
    let begin = Instant::now();
    let limit = sick.begin(fleet, id).await;
    sleep(GRACE.saturating_sub(begin.elapsed())).await;
    let beats = pulse.take();
    let (first, first_slowest) = (rate(&beats, id, begin.elapsed()), slowest(&beats, id));
    sleep(WINDOW).await;
    let beats = pulse.take();
    let (after, then_slowest) = (rate(&beats, id, WINDOW), slowest(&beats, id));
    let share = after / before;
    judgement.text.push_str(&format!(
        "node {id} {}: the others did {before:.0} requests/s before, {first:.0} in its \
         first {} s (slowest send or delete {} ms), {after:.0} after that: {:.0} % ({} ms)\n",
        sick.name(),
        GRACE.as_secs(),
        first_slowest.as_millis(),
        100.0 * share,
        then_slowest.as_millis(),
    ));
    if sick.is_promised() && share < SHARE_PROMISED {
        judgement.failed.push(format!("{:.0} % while node {id} {}", 100.0 * share, sick.name()));
    }
    if sick == Sick::SlowDisk {
        sleep(GRACE_OF_SENDS.saturating_sub(begin.elapsed())).await;
        pulse.take();
        sleep(WINDOW).await;
        let sick = sends_p99(&pulse.take());
        judgement.text.push_str(&format!(
            "sends through all nodes, after {} s of that: p99 {} ms, {} ms before\n",
            GRACE_OF_SENDS.as_secs(),
            sick.as_millis(),
            healthy.as_millis()
        ));
        if sick >= healthy * TIMES_PROMISED {
            judgement.failed.push(format!("a p99 of sends of {sick:?} after {healthy:?}"));
        }
    }
    sick.end(fleet, id, limit);
    fleet.whole().await;
    pulse.stop().await;
}

/// Of clients of all nodes, also of the one that is slow.
fn sends_p99(beats: &[Beat]) -> Duration {
    let sends = beats.iter().filter(|it| it.what == What::Send);
    let mut took: Vec<Duration> = sends.map(|it| it.answered - it.asked).collect();
    took.sort_unstable();
    quantile(&took, 0.99)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sick {
    Still,
    CutOff,
    Slow,
    SlowDisk,
    StalledDisk,
}

impl Sick {
    fn name(self) -> &'static str {
        match self {
            Self::Still => "stands still",
            Self::CutOff => "is cut off",
            Self::Slow => "has slow wires",
            Self::SlowDisk => "has a slow disk",
            Self::StalledDisk => "has a disk that does nothing",
        }
    }

    /// Whether the rest must go on as before. (Wires of 250 ms slow down what goes over them, and a disk that
    /// does nothing is a node that stands still when it matters.)
    fn is_promised(self) -> bool {
        matches!(self, Self::Still | Self::CutOff | Self::SlowDisk)
    }

    /// A limit ends with what this returns.
    async fn begin(self, fleet: &mut Fleet, id: u64) -> Option<Throttle> {
        let others = fleet.ids().into_iter().filter(|other| *other != id);
        let ways: Vec<_> = others.flat_map(|it| [(id, it), (it, id)]).collect();
        let possible = "it was looked whether it can be done";
        match self {
            Self::Still => fleet.pause(id),
            Self::CutOff => fleet.impair(&ways, Condition::SHUT).await,
            Self::Slow => {
                fleet.impair(&ways, Condition { delay: SLOW, ..Condition::default() }).await
            }
            Self::SlowDisk => {
                return Some(fleet.slow_disk(id, WRITES_PER_SECOND).expect(possible));
            }
            Self::StalledDisk => {
                fleet.freeze_disk(id).expect(possible);
            }
        }
        None
    }

    fn end(self, fleet: &mut Fleet, id: u64, limit: Option<Throttle>) {
        match self {
            Self::Still => fleet.resume(id),
            Self::CutOff | Self::Slow => fleet.rejoin(),
            Self::SlowDisk => drop(limit),
            Self::StalledDisk => {
                fleet.thaw_disk(id).expect("a disk that was frozen can be thawed");
            }
        }
    }
}

fn rate(beats: &[Beat], not: u64, over: Duration) -> f64 {
    // An empty receive is no work, and the more there are, the less the rest does.
    let work = beats.iter().filter(|it| it.node != not && it.ok && it.what != What::Receive);
    work.count() as f64 / over.as_secs_f64()
}

fn slowest(beats: &[Beat], not: u64) -> Duration {
    let others = beats.iter().filter(|it| it.node != not && it.what != What::Receive);
    others.map(|it| it.answered - it.asked).max().unwrap_or_default()
}
