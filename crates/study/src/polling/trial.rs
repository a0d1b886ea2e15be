//! One queue that nobody knows, some messages, and the first polls.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::{Answer, Api, ApiError, Ask, Letter};

/// Up to so many messages are sent one by one, more in batches of ten, which go to one shard each.
pub(super) const SINGLE_MAX: u32 = 100;
/// Times that a request is repeated that sets something up.
const ATTEMPTS: u32 = 20;
/// Connections that fill a deep queue.
const FILLERS: u32 = 8;

/// What a trial needs to know.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Nodes through which messages are sent, in turn.
    pub(super) senders: Vec<String>,
    pub(super) poller: String,
    pub(super) queue_name: String,
    pub(super) depth: u32,
    /// Whether all are one batch: ten at most.
    pub(super) together: bool,
}

/// A filled queue and a connection that has not polled it yet.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) queue: String,
    pub(super) api: Api,
}

/// How many draws of a shard `depth` messages are.
pub(super) fn draws(depth: u32) -> u32 {
    if depth <= SINGLE_MAX { depth } else { depth.div_ceil(10) }
}

impl Trial {
    /// Makes the queue and sends.
    pub(super) async fn fill(&self) -> anyhow::Result<Filled> {
        let mut api = Api::new(&self.senders[0]);
        let queue = api.create_queue(&self.queue_name).await?;
        if self.together {
            api.send_batch(&queue, self.depth).await?;
        } else if self.depth <= SINGLE_MAX {
            let mut senders: Vec<Api> = self.senders.iter().map(|node| Api::new(node)).collect();
            let count = senders.len();
            for number in 0..self.depth {
                let sender = &mut senders[number as usize % count];
                send(sender, &queue, &number.to_string()).await?;
            }
        } else {
            self.fill_by_tens(&queue).await?;
        }
        Ok(Filled { queue, api: Api::new(&self.poller) })
    }

    async fn fill_by_tens(&self, queue: &str) -> anyhow::Result<()> {
        let batches = self.depth.div_ceil(10);
        let mut tasks = tokio::task::JoinSet::new();
        // A queue of a thousand is filled by one, whose batches do not gather.
        let fillers = if batches > 1_000 { FILLERS } else { 1 };
        for filler in 0..fillers {
            let (nodes, queue, depth) = (self.senders.clone(), queue.to_owned(), self.depth);
            tasks.spawn(async move {
                let mut senders: Vec<Api> = nodes.iter().map(|node| Api::new(node)).collect();
                for batch in (filler..batches).step_by(fillers as usize) {
                    let sender = &mut senders[(batch / fillers) as usize % nodes.len()];
                    sender.send_batch(&queue, (depth - 10 * batch).min(10)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn send(api: &mut Api, queue: &str, body: &str) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        match api.send(queue, body).await {
            Ok(()) => return Ok(()),
            // It may have been sent: then there is one message more, which is rare and does no
            // harm.
            Err(ApiError::Refused { status, .. }) if status >= 500 => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("a message cannot be sent")
}

impl Filled {
    /// A poll, again if the server could not answer.
    pub(super) async fn poll(&mut self, ask: Ask) -> anyhow::Result<Answer> {
        for _ in 0..ATTEMPTS {
            match self.api.receive(&self.queue, ask).await {
                Ok(answer) => return Ok(answer),
                Err(ApiError::Refused { status, .. }) if status >= 500 => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("a queue cannot be polled")
    }

    /// Receives until nothing is left of `depth` messages, some of which came with `first`. Returns
    /// how many each shard had.
    pub(super) async fn placement(
        &mut self,
        depth: u32,
        first: &Answer,
    ) -> anyhow::Result<BTreeMap<u32, u32>> {
        let mut placement = BTreeMap::new();
        let mut left = depth;
        let mut count = |answer: &Answer| {
            for (shard, count) in &answer.asked {
                *placement.entry(*shard).or_insert(0) += count;
            }
            left = left.saturating_sub(answer.letters.len() as u32);
            left
        };
        let mut left = count(first);
        while left > 0 {
            let answer = self.poll(Ask::long(5)).await?;
            anyhow::ensure!(!answer.letters.is_empty(), "{left} of {depth} messages do not come");
            left = count(&answer);
        }
        Ok(placement)
    }

    /// The queue is not needed any more.
    pub(super) async fn end(mut self) {
        // What cannot be deleted goes with the cluster, or is somebody's to see.
        let _ = self.api.delete_queue(&self.queue).await;
    }
}

/// What an answer's messages say they are.
pub(super) fn bodies(letters: &[Letter]) -> impl Iterator<Item = &str> {
    letters.iter().map(|letter| letter.body.as_str())
}
