//! A node that is away until the others have thrown away the log that it lacks: it comes back by a
//! snapshot.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::machine::Strike;
use super::{LOOK_AGAIN, Nemesis};

/// Small logs, soon cut.
pub(super) const LINES: &str = "[storage]\nlog_segment_bytes = 8388608\nlog_segments_max = 4\n\
     log_cut_after_bytes = 262144\nlog_keep_entries = 20\n";
const LONG_ENOUGH: Duration = Duration::from_secs(12);

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let before: Vec<usize> = strike.nodes.iter().map(|id| installed(nemesis, *id)).collect();
    for id in &strike.nodes {
        nemesis.fleet.kill9(*id);
    }
    nemesis.fired(strike);
    sleep(LONG_ENOUGH).await;
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        nemesis.fleet.launch(*id);
    }
    let begin = Instant::now();
    while begin.elapsed() < crate::PATIENCE {
        let nodes = strike.nodes.iter().zip(&before);
        if nodes.into_iter().all(|(id, before)| installed(nemesis, *id) > *before) {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
    Err("the node came back without a snapshot".to_owned())
}

fn installed(nemesis: &Nemesis<'_>, id: u64) -> usize {
    nemesis.fleet.log(id).matches("installing a snapshot").count()
}
