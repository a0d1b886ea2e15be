//! ReceiveMessage.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flotilla_cluster::api::{
    Cluster, Incoming, Queue, ReceiveError, ReceiveRequest, Received, ShardAnswer,
};
use flotilla_types::limits;
use flotilla_wire::content::{Attribute, Content, Value};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::timeout;

use super::selection::{self, SystemSelection, UserSelection};
use crate::action::Call;
use crate::error::{ApiError, Outcome, shown};
use crate::ids::UuidText;
use crate::message::digest::{self, Md5Sum};
use crate::message::draft::WRONG_TYPE;
use crate::message::keys;
use crate::shape::{Integer, Names, Text};
use crate::urls;

const MESSAGES_MAX: i64 = 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    max_number_of_messages: Option<Integer>,
    visibility_timeout: Option<Integer>,
    wait_time_seconds: Option<Integer>,
    #[serde(borrow)]
    attribute_names: Option<Names<'a>>,
    #[serde(borrow)]
    message_system_attribute_names: Option<Names<'a>>,
    #[serde(borrow)]
    message_attribute_names: Option<Names<'a>>,
    #[serde(borrow)]
    receive_request_attempt_id: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message>,
}

/// A received message as it is answered.
#[derive(Serialize)]
struct Message {
    #[serde(rename = "MessageId")]
    message_id: UuidText,
    #[serde(rename = "ReceiptHandle")]
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    body_md5: Md5Sum,
    #[serde(rename = "Body")]
    body: BodyText,
    #[serde(rename = "Attributes", skip_serializing_if = "SystemAttributes::is_empty")]
    attributes: SystemAttributes,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    attributes_md5: Option<Md5Sum>,
    #[serde(rename = "MessageAttributes", skip_serializing_if = "UserAttributes::is_empty")]
    message_attributes: UserAttributes,
}

struct BodyText(Bytes);

struct SystemAttributes(Vec<(&'static str, String)>);

struct UserAttributes(Vec<Attribute>);

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let asked = check(&request, &queue, call.explain)?;
    let system = SystemSelection::new([
        request.attribute_names.as_ref(),
        request.message_system_attribute_names.as_ref(),
    ]);
    let user = UserSelection::new(request.message_attribute_names.as_ref());
    drop(request);

    let mut received = match receive(call, &queue, asked).await {
        // Only standard queues tell of this limit.
        Err(ReceiveError::TooManyInFlight) if queue.attributes.fifo.is_some() => {
            Received::default()
        }
        received => received?,
    };
    call.room = received.room.take();
    if received.lost {
        call.note(Outcome::Unknown);
    }
    if asked.explain {
        call.aside.polled = Some(explain(&received));
    }
    let metrics = call.gateway.metrics.queue(&queue);
    if asked.wait_seconds == 0 {
        call.gateway.metrics.short_polls.inc();
    }
    if received.messages.is_empty() {
        metrics.empty_receives.inc();
        if asked.wait_seconds == 0 {
            call.gateway.metrics.short_polls_empty.inc();
        }
    } else {
        metrics.received.inc_by(received.messages.len() as u64);
    }
    let mut shards = Vec::with_capacity(received.messages.len());
    let messages = received.messages.into_iter().filter_map(|mut incoming| {
        let shard = incoming.receipt.shard;
        let handle = call.gateway.sealer.seal(&incoming.receipt);
        let source_arn = incoming.moved_from.take().map(|source| {
            urls::arn(&call.gateway.config.region, &call.caller.account, source.as_str())
        });
        let message = present(incoming, handle, source_arn, system, &user)?;
        shards.push(shard);
        Some(message)
    });
    let messages = messages.collect();
    call.tell_shards(shards);
    Ok(Response { messages })
}

/// What a receive that has begun to take messages needs to end. It is longer than the cluster takes to end
/// the polls that only wait.
const ENDING: Duration = Duration::from_secs(2);

/// Waits for the cluster, but not for long beyond the end of the server. What is being taken must be
/// answered: it would stay hidden, and whoever repeats the receive under its attempt id is told about it.
async fn receive<C: Cluster>(
    call: &mut Call<'_, C>,
    queue: &Queue,
    asked: ReceiveRequest,
) -> Result<Received, ReceiveError> {
    let receiving = call.gateway.cluster.receive(queue, asked);
    if asked.wait_seconds == 0 {
        return receiving.await;
    }
    call.work.wait();
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        biased;
        received = &mut receiving => return received,
        // An error means that whoever could stop the server is gone: that is its end, too.
        _ = call.stopping.wait_for(|stopping| *stopping) => {}
    }
    let lost = |_| Ok(Received { lost: true, ..Received::default() });
    timeout(ENDING, receiving).await.unwrap_or_else(lost)
}

fn check(request: &Request<'_>, queue: &Queue, explain: bool) -> Result<ReceiveRequest, ApiError> {
    let in_range = |given: Option<Integer>, range: std::ops::RangeInclusive<i64>, name, reason| {
        let Some(Integer(given)) = given else {
            return Ok(None);
        };
        if range.contains(&given) {
            // Every range here lies inside u32.
            Ok(Some(given as u32))
        } else {
            Err(ApiError::invalid_value(given, name, reason))
        }
    };
    let max_messages = in_range(
        request.max_number_of_messages,
        1..=MESSAGES_MAX,
        "MaxNumberOfMessages",
        "Must be between 1 and 10, if provided.",
    )?;
    let wait_seconds = in_range(
        request.wait_time_seconds,
        0..=i64::from(limits::WAIT_SECONDS_MAX),
        "WaitTimeSeconds",
        "Must be >= 0 and <= 20, if provided.",
    )?;
    let visibility_seconds = in_range(
        request.visibility_timeout,
        0..=i64::from(limits::VISIBILITY_SECONDS_MAX),
        "VisibilityTimeout",
        "Must be >= 0 and <= 43200, if provided.",
    )?;
    for (parameter, names) in [
        ("AttributeNames", &request.attribute_names),
        ("MessageSystemAttributeNames", &request.message_system_attribute_names),
        ("MessageAttributeNames", &request.message_attribute_names),
    ] {
        selection::check(parameter, names.as_ref())?;
    }
    let attempt_id = request.receive_request_attempt_id.as_ref().map(Text::as_str);
    if let Some(id) = attempt_id {
        if queue.attributes.fifo.is_none() {
            return Err(ApiError::invalid_value(shown(id), "ReceiveRequestAttemptId", WRONG_TYPE));
        }
        keys::check_id(id, "ReceiveRequestAttemptId")?;
    }
    Ok(ReceiveRequest {
        max_messages: max_messages.unwrap_or(1) as usize,
        visibility_seconds: visibility_seconds.unwrap_or(queue.attributes.visibility_seconds),
        wait_seconds: wait_seconds.unwrap_or(queue.attributes.wait_seconds),
        attempt: attempt_id.map(keys::of_attempt),
        explain,
    })
}

/// `None` when what is stored cannot be read. The message then stays hidden until its visibility
/// ends, and does not keep the others of the receive from their caller.
fn present(
    incoming: Incoming,
    receipt_handle: String,
    source_arn: Option<String>,
    system: SystemSelection,
    user: &UserSelection,
) -> Option<Message> {
    let mut content = match Content::decode(incoming.content) {
        Ok(content) => content,
        Err(error) => {
            let message_id = incoming.message_id;
            tracing::error!(%message_id, %error, "stored message is unreadable");
            return None;
        }
    };
    content.attributes.retain(|attribute| user.has(&attribute.name));
    let mut attributes = Vec::new();
    if !system.is_empty() {
        let mut put = |wanted: bool, name, value: Option<String>| {
            if wanted && let Some(value) = value {
                attributes.push((name, value));
            }
        };
        let receipt = incoming.receipt;
        // Exactly the messages of FIFO queues have such an id.
        let sequence_number = content
            .deduplication_id
            .is_some()
            .then(|| keys::sequence_number(receipt.shard, receipt.seq));
        // In a dead-letter queue, equal ids of two messages must not look like duplicates.
        let deduplication_id = match &source_arn {
            Some(_) => content.deduplication_id.map(|_| incoming.message_id.to_string()),
            None => content.deduplication_id,
        };
        let first_received = incoming.first_received_ms.to_string();
        put(system.sender_id, "SenderId", Some(content.sender_id));
        put(system.sent_timestamp, "SentTimestamp", Some(incoming.sent_ms.to_string()));
        let count = incoming.receive_count.to_string();
        put(system.receive_count, "ApproximateReceiveCount", Some(count));
        put(
            system.first_receive_timestamp,
            "ApproximateFirstReceiveTimestamp",
            Some(first_received),
        );
        put(system.trace_header, "AWSTraceHeader", content.trace_header);
        put(system.group_id, "MessageGroupId", content.group_id);
        put(system.deduplication_id, "MessageDeduplicationId", deduplication_id);
        put(system.sequence_number, "SequenceNumber", sequence_number);
        put(system.source_arn, "DeadLetterQueueSourceArn", source_arn);
    }
    Some(Message {
        message_id: incoming.message_id.into(),
        receipt_handle,
        body_md5: Md5Sum(content.body_md5),
        body: BodyText(content.body),
        attributes: SystemAttributes(attributes),
        attributes_md5: digest::of_attributes(&content.attributes),
        message_attributes: UserAttributes(content.attributes),
    })
}

/// `shards=8; asked=3:2/17,5:0/0,7:unreachable`: of each shard how many messages were taken, and about how
/// many more could have been.
fn explain(received: &Received) -> String {
    let mut text = format!("shards={}; asked=", received.shards);
    for (at, (shard, answer)) in received.asked.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = match answer {
            ShardAnswer::Heard { taken, left } => write!(text, "{comma}{shard}:{taken}/{left}"),
            ShardAnswer::Unreachable => write!(text, "{comma}{shard}:unreachable"),
        };
    }
    text
}

impl Response {
    /// Room that the answer needs, roughly.
    pub(crate) fn bytes_estimate(&self) -> usize {
        let one = |message: &Message| 512 + message.body.0.len() * 9 / 8;
        32 + self.messages.iter().map(one).sum::<usize>()
    }
}

impl Serialize for BodyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

impl SystemAttributes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for SystemAttributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl UserAttributes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for UserAttributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for attribute in &self.0 {
            map.serialize_entry(&attribute.name, &UserAttribute(attribute))?;
        }
        map.end()
    }
}

struct UserAttribute<'a>(&'a Attribute);

impl Serialize for UserAttribute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("MessageAttributeValue", 2)?;
        match &self.0.value {
            Value::Text(text) => fields.serialize_field("StringValue", text)?,
            Value::Binary(bytes) => {
                fields.serialize_field("BinaryValue", &STANDARD.encode(bytes))?;
            }
        }
        fields.serialize_field("DataType", &self.0.data_type)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use flotilla_cluster::api::Receipt;
    use flotilla_types::ids::{GroupId, MessageId, QueueId, Seq};

    use super::*;

    #[test]
    fn explanation_names_every_shard_asked() {
        let received = Received {
            messages: Vec::new(),
            asked: vec![
                (GroupId(3), ShardAnswer::Heard { taken: 2, left: 17 }),
                (GroupId(5), ShardAnswer::Heard { taken: 0, left: 0 }),
                (GroupId(7), ShardAnswer::Unreachable),
            ],
            shards: 8,
            lost: false,
            room: None,
        };
        assert_eq!(explain(&received), "shards=8; asked=3:2/17,5:0/0,7:unreachable");
    }

    #[test]
    fn an_unreadable_message_is_left_out() {
        let present = |content: Bytes| {
            let receipt = Receipt { queue: QueueId(1), shard: GroupId(1), seq: Seq(1), receive: 1 };
            let incoming = Incoming {
                receipt,
                message_id: MessageId([1; 16]),
                receive_count: 1,
                first_received_ms: 1,
                sent_ms: 1,
                moved_from: None,
                content,
            };
            let (system, user) = (SystemSelection::default(), UserSelection::default());
            present(incoming, "handle".into(), None, system, &user).is_some()
        };
        assert!(present(Content::default().encode()));
        assert!(!present(Bytes::from_static(b"\xff\xff")));
    }
}
