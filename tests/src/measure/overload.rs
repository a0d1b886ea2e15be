//! Ten times as many clients for a minute, and how soon the others are served as before.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Judgement;
use super::pulse::{Beat, Pulse, What};
use crate::Fleet;

/// The first seconds of a cluster, with nothing in its store yet, are faster than all later ones.
const WARM: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(20);
const OVERLOAD: Duration = Duration::from_secs(60);
/// Of each kind, for each node.
const CLIENTS: usize = 2;
const TIMES: usize = 10;
/// The clients are served again when they do so much of what they did before,
const SHARE: f64 = 0.8;
/// in so many seconds in a row,
const SECONDS: usize = 3;
/// the first of which begins within this.
const PROMISED: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What the same clients did before, in the middle of and after an overload.
///
/// # Panics
/// When the cluster does not come up.
pub(super) async fn overload(nodes: u64) -> Judgement {
    let fleet = Fleet::start(nodes).await;
    let queue = fleet.client(1).create_queue("usual").await.expect("a queue can be created");
    let other = fleet.client(1).create_queue("overload").await.expect("a queue can be created");
    let usual = Pulse::start(&fleet, &queue, CLIENTS);
    sleep(WARM).await;
    usual.take();
    sleep(WINDOW).await;
    let before = rate(&usual.take(), WINDOW);
    let flood = Pulse::start(&fleet, &other, CLIENTS * TIMES);
    sleep(OVERLOAD).await;
    let (meanwhile, flooding) = (rate(&usual.take(), OVERLOAD), rate(&flood.take(), OVERLOAD));
    let end = Instant::now();
    flood.stop().await;
    usual.take();
    let mut row = 0;
    let recovered = loop {
        let begin = Instant::now();
        sleep(Duration::from_secs(1)).await;
        let is_served = rate(&usual.take(), begin.elapsed()) >= SHARE * before;
        row = if is_served { row + 1 } else { 0 };
        if row == SECONDS {
            break Some(end.elapsed().saturating_sub(Duration::from_secs(SECONDS as u64)));
        }
        if end.elapsed() > PATIENCE {
            break None;
        }
    };
    usual.stop().await;
    let after = recovered.map_or("never".into(), |it| format!("{:.1} s later", it.as_secs_f64()));
    let text = format!(
        "clients did {before:.0} requests/s; {meanwhile:.0} in {} s in which {TIMES} times as many did \
         {flooding:.0}; as before {after}\n",
        OVERLOAD.as_secs()
    );
    let failed = match recovered {
        Some(took) if took <= PROMISED => Vec::new(),
        _ => vec![format!("clients are not served as before within {PROMISED:?}")],
    };
    Judgement { text, failed }
}

fn rate(beats: &[Beat], over: Duration) -> f64 {
    let work = beats.iter().filter(|it| it.ok && it.what != What::Receive);
    work.count() as f64 / over.as_secs_f64()
}
