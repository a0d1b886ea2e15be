//! The two queues, through the official SDK.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;

use crate::args::SetupArgs;

pub(crate) const SALES: &str = "Sales";
pub(crate) const DEAD: &str = "SalesDead";
/// Two weeks, the longest there is. A message keeps its age when it is put aside, so the default, four days, would
/// leave less than that to notice it.
const RETENTION_S: &str = "1209600";

/// How long an answer is waited for. The SDK itself waits for ever: for a node that lost its power or was
/// paused, whose connection nobody closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// With one request.
    pub(crate) attempt: Duration,
    /// With it and its repetitions.
    pub(crate) operation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // The longest poll and some seconds.
        Self { attempt: Duration::from_secs(25), operation: Duration::from_secs(30) }
    }
}

/// A client for each endpoint. With a load balancer before the nodes one would do.
#[derive(Debug)]
pub(crate) struct Queues {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Queues {
    pub(crate) fn new(endpoints: &[String], patience: Patience) -> Self {
        let clients = endpoints.iter().map(|endpoint| client(endpoint, patience)).collect();
        Self { clients, current: AtomicUsize::new(0) }
    }

    /// The client to use now.
    pub(crate) fn client(&self) -> &Client {
        &self.clients[self.current.load(Ordering::Relaxed) % self.clients.len()]
    }

    /// After an error: to the next endpoint. The SDK has repeated the request by itself before.
    pub(crate) fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks one endpoint after the other, from the current one on, until one answers well; for what does no
    /// harm when it is done twice.
    pub(crate) async fn ask<T, Asking>(
        &self,
        mut ask: impl FnMut(Client) -> Asking,
    ) -> anyhow::Result<T>
    where
        Asking: Future<Output = anyhow::Result<T>>,
    {
        let mut others = self.clients.len() - 1;
        loop {
            let error = match ask(self.client().clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.turn();
            if others == 0 {
                return Err(error);
            }
            others -= 1;
            tracing::warn!("asking another endpoint: {error:#}");
        }
    }

    pub(crate) async fn url(&self, name: &str) -> anyhow::Result<String> {
        let found = self
            .ask(|client| async move { Ok(client.get_queue_url().queue_name(name).send().await?) });
        found.await?.queue_url.context("a queue without a URL")
    }

    pub(crate) async fn attribute(
        &self,
        name: &str,
        attribute: QueueAttributeName,
    ) -> anyhow::Result<String> {
        let url = self.url(name).await?;
        let found = self.ask(|client| {
            let asked = client.get_queue_attributes().queue_url(&url);
            let asked = asked.attribute_names(attribute.clone());
            async move { Ok(asked.send().await?) }
        });
        let value =
            found.await?.attributes.and_then(|mut attributes| attributes.remove(&attribute));
        value.with_context(|| format!("{name} has no {attribute}"))
    }

    /// Creates both; those that are there already get these attributes.
    pub(crate) async fn create(&self, args: &SetupArgs) -> anyhow::Result<()> {
        let retention = (QueueAttributeName::MessageRetentionPeriod, RETENTION_S.to_owned());
        self.create_one(DEAD, HashMap::from([retention.clone()])).await?;
        let arn = self.attribute(DEAD, QueueAttributeName::QueueArn).await?;
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": args.receives });
        let timeout = args.visibility_timeout_s.to_string();
        let attributes = HashMap::from([
            retention,
            (QueueAttributeName::RedrivePolicy, policy.to_string()),
            (QueueAttributeName::VisibilityTimeout, timeout),
        ]);
        self.create_one(SALES, attributes).await
    }

    /// In two steps: creating a queue that is there with other attributes is an error.
    async fn create_one(
        &self,
        name: &str,
        attributes: HashMap<QueueAttributeName, String>,
    ) -> anyhow::Result<()> {
        let created = self
            .ask(|client| async move { Ok(client.create_queue().queue_name(name).send().await?) });
        let url = created.await?.queue_url.context("a queue without a URL")?;
        let set = self.ask(|client| {
            let set = client.set_queue_attributes().queue_url(&url);
            let set = set.set_attributes(Some(attributes.clone()));
            async move { Ok(set.send().await?) }
        });
        set.await?;
        Ok(())
    }
}

fn client(endpoint: &str, patience: Patience) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(patience.attempt)
        .operation_timeout(patience.operation);
    // For AWS endpoint, region and credentials would be one line: those of the environment.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts.build())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "example"));
    Client::from_conf(config.build())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::*;
    use crate::stub;
    use crate::worker::WAIT_S;

    #[tokio::test]
    async fn a_node_that_stands_still_is_given_up_and_another_is_asked() {
        assert!(Patience::default().attempt > Duration::from_secs(WAIT_S.unsigned_abs().into()));
        assert!(Patience::default().operation > Patience::default().attempt);
        // The kernel takes connections, and nobody answers.
        let still = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let still = (format!("http://{}", still.local_addr().unwrap()), still);
        let well = stub::endpoint(|_, _| json!({ "QueueUrl": "http://queue" })).await;
        let patience =
            Patience { attempt: Duration::from_secs(2), operation: Duration::from_secs(4) };
        let queues = Queues::new(&[still.0.clone(), well], patience);
        let found = tokio::time::timeout(Duration::from_secs(60), queues.url(SALES)).await;
        assert_eq!(found.unwrap().unwrap(), "http://queue");
        let nowhere = Queues::new(std::slice::from_ref(&still.0), patience);
        nowhere.url(SALES).await.unwrap_err();
    }

    #[tokio::test]
    async fn both_queues_keep_messages_as_long_as_there_is() {
        let set: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = set.clone();
        let queues = stub::queues(move |action, asked| match action {
            "CreateQueue" => json!({ "QueueUrl": asked["QueueName"] }),
            "GetQueueUrl" => json!({ "QueueUrl": asked["QueueName"] }),
            "GetQueueAttributes" => json!({ "Attributes": { "QueueArn": "arn" } }),
            "SetQueueAttributes" => {
                seen.lock().push(asked.clone());
                json!({})
            }
            other => panic!("{other}"),
        })
        .await;
        queues.create(&SetupArgs::default()).await.unwrap();
        let set = set.lock();
        assert_eq!((&set[0]["QueueUrl"], &set[1]["QueueUrl"]), (&json!(DEAD), &json!(SALES)));
        for asked in set.iter() {
            assert_eq!(asked["Attributes"]["MessageRetentionPeriod"], "1209600");
        }
        assert_eq!(set[1]["Attributes"]["VisibilityTimeout"], "30");
    }
}
