//! The two queues, through the official SDK.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;

use crate::args::SetupArgs;

pub(crate) const SALES: &str = "Sales";
pub(crate) const DEAD: &str = "SalesDead";

/// A client for each endpoint. With a load balancer before the nodes one would do.
#[derive(Debug)]
pub(crate) struct Queues {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Queues {
    pub(crate) fn new(endpoints: &[String]) -> Self {
        let clients = endpoints.iter().map(|endpoint| client(endpoint)).collect();
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

    pub(crate) async fn url(&self, name: &str) -> anyhow::Result<String> {
        let found = self.client().get_queue_url().queue_name(name).send().await?;
        found.queue_url.context("a queue without a URL")
    }

    pub(crate) async fn attribute(
        &self,
        name: &str,
        attribute: QueueAttributeName,
    ) -> anyhow::Result<String> {
        let url = self.url(name).await?;
        let asked = self.client().get_queue_attributes().queue_url(url);
        let attributes = asked.attribute_names(attribute.clone()).send().await?.attributes;
        let value = attributes.and_then(|mut attributes| attributes.remove(&attribute));
        value.with_context(|| format!("{name} has no {attribute}"))
    }

    /// Creates both; nothing changes if they are there already.
    pub(crate) async fn create(&self, args: &SetupArgs) -> anyhow::Result<()> {
        self.client().create_queue().queue_name(DEAD).send().await?;
        let arn = self.attribute(DEAD, QueueAttributeName::QueueArn).await?;
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": args.receives });
        let timeout = args.visibility_timeout_s.to_string();
        let create = self.client().create_queue().queue_name(SALES);
        create
            .attributes(QueueAttributeName::RedrivePolicy, policy.to_string())
            .attributes(QueueAttributeName::VisibilityTimeout, timeout)
            .send()
            .await?;
        Ok(())
    }
}

fn client(endpoint: &str) -> Client {
    // For AWS these three lines would be one: the environment's endpoint, region and credentials.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "example"));
    Client::from_conf(config.build())
}
