//! Asking all shards what they have, and being told from then on.

use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::shard::Shard;
use flotilla_probe::{failpoint, sometimes};
use flotilla_transport::{CallError, Lane};
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use tokio::time::timeout;

use super::hub::{Hub, RemoteWake};
use crate::forward::method;
use crate::router::{CALL_TIMEOUT, LOOK_AGAIN, Router};

/// What others are given to answer as well, when one node had something.
const MOMENT: Duration = Duration::from_millis(5);
/// The longest pause before somebody who did not answer is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// All nodes while they are asked what their shards have. Each is heard when it answers: one that is
/// slow, or silent, holds up nobody who waits for what the others have.
///
/// The caller's poll must be in the hub already: what arrives from now on wakes it. A node that did not
/// answer is asked again after a pause, for as long as the poll is parked; behind a link that is down are shards
/// that are missing until a change of their leader or link makes the caller ask again.
pub(crate) struct Arming<'a> {
    asked: FuturesUnordered<BoxFuture<'a, Vec<Armed>>>,
    found: Vec<(GroupId, usize)>,
    heard: Vec<Armed>,
    /// Before shards that could not be asked for what they have are told of once more.
    pause: Duration,
}

/// What a leader says of one shard: from now on it tells.
struct Armed {
    shard: GroupId,
    available: usize,
    /// Nobody else can have led it just then.
    confirmed: bool,
}

impl<'a> Arming<'a> {
    pub(crate) fn begin(router: &'a Router, peers: &'a [NodeId], queue: QueueId) -> Self {
        let here = router.all_here().into_iter().filter_map(|shard| arm_here(&shard, queue));
        let payload: Bytes = pb::Arm { queue: queue.0 }.encode_to_vec().into();
        let asked = peers.iter().map(|peer| ask(router, *peer, payload.clone()).boxed()).collect();
        let mut arming = Self { asked, found: Vec::new(), heard: Vec::new(), pause: LOOK_AGAIN };
        arming.note(here.collect());
        arming
    }

    fn note(&mut self, mut armed: Vec<Armed>) {
        let found = armed.iter().filter(|it| it.available > 0);
        self.found.extend(found.map(|it| (it.shard, it.available)));
        self.heard.append(&mut armed);
    }

    /// Whether the shard's leader will tell of what arrives, and is its leader.
    pub(crate) fn hears_of(&self, shard: GroupId) -> bool {
        self.heard.iter().any(|it| it.shard == shard && it.confirmed)
    }

    /// Whether everybody has answered and everything was told.
    pub(crate) fn is_over(&self) -> bool {
        self.asked.is_empty() && self.found.is_empty()
    }

    /// Tells of shards that could not be asked for what they have once more, after a pause: nobody else tells of
    /// it until something changes there.
    pub(crate) fn tell_again(&mut self, shards: &[GroupId]) {
        let armed = |shard: &GroupId| Armed { shard: *shard, available: 1, confirmed: false };
        let again: Vec<Armed> = shards.iter().map(armed).collect();
        let pause = self.pause;
        self.pause = longer(pause);
        self.asked.push(tokio::time::sleep(pause).map(|()| again).boxed());
    }

    /// Shards that have something, the fullest first, of the nodes that answered since the last time;
    /// none when nobody else has anything. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Vec<GroupId> {
        loop {
            let answer = match self.found.is_empty() {
                true => self.asked.next().await,
                false => timeout(MOMENT, self.asked.next()).await.unwrap_or(None),
            };
            let Some(answer) = answer else { break };
            self.note(answer);
        }
        self.told()
    }

    /// The same of the nodes that have answered by now.
    pub(crate) fn told(&mut self) -> Vec<GroupId> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(_, available)| std::cmp::Reverse(*available));
        found.into_iter().map(|(group, _)| group).collect()
    }
}

fn arm_here(shard: &Shard, queue: QueueId) -> Option<Armed> {
    let available = shard.arm(queue)?;
    let group = shard.group();
    Some(Armed { shard: group.id(), available, confirmed: group.is_confirmed() })
}

async fn ask(router: &Router, peer: NodeId, payload: Bytes) -> Vec<Armed> {
    let call = || {
        let (lane, timeout) = (Lane::Forward, CALL_TIMEOUT);
        router.transport().call(peer, lane, GroupId(0), method::ARM, payload.clone(), timeout)
    };
    // A peer whose answer cannot be read counts as not asked.
    let answer = until_answered(call).await.and_then(|answer| pb::ArmAnswer::decode(answer).ok());
    let armed = answer.into_iter().flat_map(|answer| answer.shards);
    let armed = armed.map(|armed| {
        let shard = GroupId(armed.shard);
        // Only its leader can be armed. Whoever has no replica hears here who that is.
        router.note_hint(shard, Some(peer));
        Armed { shard, available: armed.available as usize, confirmed: armed.confirmed }
    });
    armed.collect()
}

/// Repeats a call until it is answered, or the link is down: when that is up again the poll arms again.
async fn until_answered<T, F>(call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut pause = LOOK_AGAIN;
    loop {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(error) if may_answer(&error) => {}
            Err(_) => return None,
        }
        tokio::time::sleep(pause).await;
        pause = longer(pause);
    }
}

/// Whether the same call may be answered later, over the link as it is.
fn may_answer(error: &CallError) -> bool {
    match error {
        CallError::Overloaded
        | CallError::Timeout { .. }
        | CallError::Refused(_)
        | CallError::Failed(_) => true,
        CallError::Unreachable { .. } | CallError::UnknownPeer(_) | CallError::TooLarge { .. } => {
            false
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (2 * pause).min(PAUSE_MAX)
}

/// Answers an arm: interest first, then the look.
pub(crate) fn serve_arm(
    router: &Router,
    hub: &Hub,
    from: NodeId,
    payload: Bytes,
) -> Result<Bytes, DecodeError> {
    let queue = QueueId(pb::Arm::decode(payload)?.queue);
    failpoint!(Arm);
    hub.note_interest(queue, from);
    let shards = router.all_here().into_iter().filter_map(|shard| {
        let Armed { shard, available, confirmed } = arm_here(&shard, queue)?;
        Some(pb::Armed { shard: shard.0, available: available as u64, confirmed })
    });
    Ok(pb::ArmAnswer { shards: shards.collect() }.encode_to_vec().into())
}

/// Sends a wake-up to another node's polls, again and again while it cannot be told for another reason than that
/// the link is down: when that is up again the node's polls arm again.
pub(crate) async fn send_wake(router: &Router, hub: &Hub, wake: RemoteWake) {
    let mut wakes = vec![wake];
    loop {
        let told = join_all(wakes.iter().map(|wake| tell(router, wake))).await;
        let mut tells_again = false;
        for (wake, told) in wakes.into_iter().zip(told) {
            match told {
                Told::Somebody => {}
                Told::Nobody => hub.nobody_there(&wake),
                Told::Failed if router.transport().connected(wake.node) => {
                    tells_again |= hub.owe(wake);
                }
                Told::Failed => {}
            }
        }
        if !tells_again {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        wakes = hub.take_owed();
    }
}

/// What became of a wake-up.
enum Told {
    Somebody,
    Nobody,
    Failed,
}

async fn tell(router: &Router, wake: &RemoteWake) -> Told {
    let message = pb::Wake { queue: wake.queue.0, shard: wake.shard.0, count: wake.count as u64 };
    let payload = message.encode_to_vec().into();
    failpoint!(WakeElsewhere);
    let call = router.transport().call(
        wake.node,
        Lane::Forward,
        wake.shard,
        method::WAKE,
        payload,
        CALL_TIMEOUT,
    );
    match call.await.map(pb::WakeAnswer::decode) {
        Ok(Ok(pb::WakeAnswer { woken: 0 })) => Told::Nobody,
        // One that cannot be read was heard.
        Ok(_) => Told::Somebody,
        Err(_) => Told::Failed,
    }
}

/// Answers [`send_wake`].
pub(crate) fn serve_wake(hub: &Hub, payload: Bytes) -> Result<Bytes, DecodeError> {
    let wake = pb::Wake::decode(payload)?;
    sometimes!(WokenFromElsewhere);
    let woken = hub.wake(QueueId(wake.queue), GroupId(wake.shard), wake.count as usize);
    Ok(pb::WakeAnswer { woken: woken as u64 }.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// The poll slept beside a message for as long as it waited.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_refused_to_be_armed_is_asked_again() {
        let (calls, began) = (Cell::new(0), Instant::now());
        let answer = until_answered(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 8 { Err(CallError::Overloaded) } else { Ok(calls.get()) }
        });
        assert_eq!(answer.await, Some(8));
        // Seldom, if it goes on for long.
        let took = began.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_whose_link_is_down_is_left_alone() {
        let began = Instant::now();
        let answer =
            until_answered(async || Err::<(), _>(CallError::Unreachable { sent: false })).await;
        assert_eq!((answer, began.elapsed()), (None, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn shards_that_could_not_be_asked_are_told_of_again() {
        let mut arming = Arming {
            asked: FuturesUnordered::new(),
            found: Vec::new(),
            heard: Vec::new(),
            pause: LOOK_AGAIN,
        };
        for pause in [LOOK_AGAIN, 2 * LOOK_AGAIN] {
            let began = Instant::now();
            arming.tell_again(&[GroupId(2)]);
            assert_eq!(arming.next().await, [GroupId(2)]);
            assert!(began.elapsed() >= pause);
        }
        assert!(arming.is_over());
        assert!(!arming.hears_of(GroupId(2)), "nobody said so");
    }
}
