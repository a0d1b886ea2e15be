//! Names of actions, and what every action gets to work with.

use std::sync::Arc;

use flotilla_cluster::api::{Cluster, Queue};
use flotilla_cluster::room::Room;
use flotilla_types::ids::GroupId;
use tokio::sync::watch;

use crate::auth::Caller;
use crate::bounds::Work;
use crate::error::{ApiError, Outcome};
use crate::gateway::Gateway;
use crate::shape::Text;
use crate::urls;

macro_rules! actions {
    ($($name:ident),+ $(,)?) => {
        /// The actions of SQS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum ActionName {
            $($name,)+
        }

        impl ActionName {
            pub(crate) const ALL: &[ActionName] = &[$(ActionName::$name,)+];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            pub(crate) fn parse(text: &str) -> Option<Self> {
                match text { $(stringify!($name) => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

actions! {
    SendMessage,
    ReceiveMessage,
    DeleteMessage,
    SendMessageBatch,
    DeleteMessageBatch,
    ChangeMessageVisibility,
    ChangeMessageVisibilityBatch,
    CreateQueue,
    GetQueueUrl,
    ListQueues,
    DeleteQueue,
    GetQueueAttributes,
    SetQueueAttributes,
    PurgeQueue,
    ListDeadLetterSourceQueues,
    TagQueue,
    UntagQueue,
    ListQueueTags,
    AddPermission,
    RemovePermission,
    StartMessageMoveTask,
    CancelMessageMoveTask,
    ListMessageMoveTasks,
}

impl ActionName {
    /// Whether it only looks, and its answer can be long.
    pub(crate) fn is_read(self) -> bool {
        matches!(
            self,
            Self::ListQueues
                | Self::GetQueueAttributes
                | Self::ListDeadLetterSourceQueues
                | Self::ListQueueTags
                | Self::ListMessageMoveTasks
        )
    }
}

/// What a successful answer's headers say.
#[derive(Default)]
pub(crate) struct Aside {
    /// Which shards were asked, if the caller wanted to know.
    pub(crate) polled: Option<String>,
    /// The shards of the answer's messages, in order, if it has some and the caller wanted to know.
    pub(crate) shards: Option<String>,
    /// Of what failed: an entry of a batch, or a part of a receive.
    pub(crate) outcome: Option<Outcome>,
}

/// One request, as far as it is not the action's own.
pub(crate) struct Call<'a, C> {
    pub(crate) gateway: &'a Gateway<C>,
    pub(crate) caller: Caller,
    /// Header `Host`: where this client reaches the service.
    pub(crate) host: Option<&'a str>,
    /// Header `X-Amzn-Trace-Id`.
    pub(crate) trace_header: Option<&'a str>,
    /// Whether the caller wants to know which shards were asked.
    pub(crate) explain: bool,
    /// Turns true when the server stops: a long poll then ends.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Its share of the bounds on work.
    pub(crate) work: Work,
    /// What received messages take of the node's room for answers.
    pub(crate) room: Option<Room>,
    /// What becomes known beside the answer.
    pub(crate) aside: Aside,
}

impl<C: Cluster> Call<'_, C> {
    /// The queue that a `QueueUrl` names.
    ///
    /// # Errors
    /// `QueueDoesNotExist`, also for a missing or malformed URL; trouble.
    pub(crate) async fn queue(&self, url: Option<&Text<'_>>) -> Result<Arc<Queue>, ApiError> {
        let name = url.and_then(|url| urls::queue_name(url.as_str(), &self.caller.account));
        let name = name.ok_or_else(ApiError::no_such_queue)?;
        Ok(self.gateway.cluster.queue(&name).await?)
    }

    /// The same as it is at this moment for everybody.
    pub(crate) async fn queue_now(&self, url: Option<&Text<'_>>) -> Result<Arc<Queue>, ApiError> {
        let name = url.and_then(|url| urls::queue_name(url.as_str(), &self.caller.account));
        let name = name.ok_or_else(ApiError::no_such_queue)?;
        Ok(self.gateway.cluster.queue_now(&name).await?)
    }

    /// URL of a queue of the caller.
    pub(crate) fn url(&self, queue_name: &str) -> String {
        let account = &self.caller.account;
        match &self.gateway.config.public_url {
            Some(base) => format!("{base}/{account}/{queue_name}"),
            None => format!("{}/{account}/{queue_name}", urls::base_from_host(self.host)),
        }
    }

    /// Notes how a part of the request failed.
    pub(crate) fn note(&mut self, outcome: Outcome) {
        let before = self.aside.outcome.unwrap_or(outcome);
        self.aside.outcome = Some(before.max(outcome));
    }

    /// Says on which shards the answer's messages are, if the caller wants to know.
    pub(crate) fn tell_shards(&mut self, shards: impl IntoIterator<Item = GroupId>) {
        if self.explain {
            let shards: Vec<String> = shards.into_iter().map(|shard| shard.to_string()).collect();
            self.aside.shards = Some(shards.join(",")).filter(|text| !text.is_empty());
        }
    }
}
