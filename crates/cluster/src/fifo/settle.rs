//! After a change of where a FIFO queue's groups live: looks when a shard has no group any more that
//! lived there before. From then on messages go straight to where their groups live now.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use flotilla_consensus::shard::Shard;
use flotilla_probe::planted;
use flotilla_queue::command::Command as ShardCommand;
use flotilla_types::limits::DEDUP_INTERVAL_MS;
use tokio::time::MissedTickBehavior;

use super::shard_of;
use crate::api::Queue;
use crate::catalog::Command;
use crate::node::Node;
use crate::router::decide_in;

const ROUND: Duration = Duration::from_secs(2);
/// Groups that one read asks for.
const READ: usize = 1_000;

/// Runs until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        for queue in node.catalog.unsettled() {
            // Until then where a group was also knows its duplicates.
            let from_ms = queue.placement.changed_s * 1_000 + DEDUP_INTERVAL_MS;
            if node.clock.now_ms() >= from_ms {
                look(&node, &queue).await;
            }
        }
    }
}

/// The shards that are led here; what does not succeed is tried again in the next round.
async fn look(node: &Node, queue: &Queue) {
    let (id, epoch) = (queue.id, queue.placement.epoch);
    for shard in queue.placement.unsettled.iter().filter_map(|shard| node.router.here(*shard)) {
        if !shard.leadership().here {
            continue;
        }
        // From here on no message comes that an earlier decision placed here.
        let command = ShardCommand::Fence { queue: id, epoch };
        if decide_in(&shard, command).await.is_err() {
            continue;
        }
        match has_others(node, queue, &shard) {
            Ok(true) if !planted!(SettledEarly) => {}
            Ok(_) => {
                // Groups that are gone get no place here any more.
                let floor = shard.next_seq();
                let shard = shard.group().id();
                // Said again in the next round if it did not arrive.
                let _ = node.decide(Command::Settle { queue: id, epoch, shard, floor }).await;
            }
            Err(error) => node.host.fatal(&format!("the state cannot be read: {error}")),
        }
    }
}

/// Whether the shard has groups of the queue that do not live there. Behind a fence none come, so
/// it does not matter that this is no look at one moment.
fn has_others(node: &Node, queue: &Queue, shard: &Shard) -> io::Result<bool> {
    let shards = node.router.groups();
    let mut after = None;
    loop {
        let groups = shard.groups_after(queue.id, after, READ)?;
        let lives_here = |group| shard_of(queue, Some(group), &shards) == shard.group().id();
        if groups.iter().any(|group| !lives_here(*group)) {
            return Ok(true);
        }
        match groups.last() {
            Some(last) => after = Some(*last),
            None => return Ok(false),
        }
    }
}
