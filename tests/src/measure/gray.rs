//! A node that stands still, or is cut off from the others: what the rest still does.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::pulse::{Beat, Pulse, What};
use crate::links::Condition;
use crate::{Fleet, Settings};

const WARM: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(8);
/// What the rest has to get over it.
const GRACE: Duration = Duration::from_secs(5);
const CLIENTS: usize = 4;

/// Throughput of clients of the other nodes before and while each kind of fault is there, in words.
///
/// # Panics
/// When the cluster does not come back.
pub async fn gray(nodes: u64) -> String {
    let settings = Settings { links: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(nodes, &settings).await;
    let queue = fleet.client(1).create_queue("gray").await.expect("a queue can be created");
    let mut text = String::new();
    for id in fleet.ids() {
        for (name, pause) in [("stands still", true), ("is cut off", false)] {
            let pulse = Pulse::start(&fleet, &queue, CLIENTS);
            sleep(WARM).await;
            pulse.take();
            sleep(WINDOW).await;
            let before = rate(&pulse.take(), id, WINDOW);
            let begin = Instant::now();
            match pause {
                true => fleet.pause(id),
                false => {
                    let others = fleet.ids().into_iter().filter(|other| *other != id);
                    let ways: Vec<_> = others.flat_map(|it| [(id, it), (it, id)]).collect();
                    fleet.impair(&ways, Condition::SHUT).await;
                }
            }
            sleep(GRACE.saturating_sub(begin.elapsed())).await;
            let beats = pulse.take();
            let (first, first_slowest) = (rate(&beats, id, begin.elapsed()), slowest(&beats, id));
            sleep(WINDOW).await;
            let beats = pulse.take();
            let (after, then_slowest) = (rate(&beats, id, WINDOW), slowest(&beats, id));
            match pause {
                true => fleet.resume(id),
                false => fleet.rejoin(),
            }
            fleet.whole().await;
            pulse.stop().await;
            text.push_str(&format!(
                "node {id} {name}: the others did {before:.0} requests/s before, {first:.0} in its \
                 first {} s (slowest send or delete {} ms), {after:.0} after that: {:.0} % ({} ms)\n",
                GRACE.as_secs(),
                first_slowest.as_millis(),
                100.0 * after / before,
                then_slowest.as_millis(),
            ));
        }
    }
    text
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
