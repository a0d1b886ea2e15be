//! SendMessage.

use flotilla_cluster::api::{Cluster, Sent};
use serde::{Deserialize, Serialize};

use super::batch;
use crate::action::Call;
use crate::error::ApiError;
use crate::ids::UuidText;
use crate::message::attributes::Attributes;
use crate::message::digest::{Digests, Md5Sum};
use crate::message::draft::{Fields, Origin};
use crate::message::keys;
use crate::shape::{Integer, Text};

/// How the refusal of a message that is too long begins.
pub(crate) const TOO_LONG: &str = "One or more parameters are invalid.";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    message_body: Option<Text<'a>>,
    delay_seconds: Option<Integer>,
    #[serde(borrow)]
    message_attributes: Option<Attributes<'a>>,
    #[serde(borrow)]
    message_system_attributes: Option<Attributes<'a>>,
    #[serde(borrow)]
    message_group_id: Option<Text<'a>>,
    #[serde(borrow)]
    message_deduplication_id: Option<Text<'a>>,
}

/// What a client is told of a message that was stored, now or as another one of the same
/// deduplication id.
#[derive(Serialize)]
pub(crate) struct Response {
    #[serde(rename = "MessageId")]
    message_id: UuidText,
    #[serde(rename = "MD5OfMessageBody")]
    body_md5: Md5Sum,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    attributes_md5: Option<Md5Sum>,
    #[serde(rename = "MD5OfMessageSystemAttributes", skip_serializing_if = "Option::is_none")]
    system_attributes_md5: Option<Md5Sum>,
    #[serde(rename = "SequenceNumber", skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let fields = Fields {
        body: request.message_body,
        delay_seconds: request.delay_seconds,
        attributes: request.message_attributes,
        system_attributes: request.message_system_attributes,
        group_id: request.message_group_id,
        deduplication_id: request.message_deduplication_id,
    };
    let draft = fields.check(&Origin {
        queue: &queue,
        sender_id: call.caller.sender_id.as_str(),
        trace_header: call.trace_header,
        action: "SendMessage",
        too_long: TOO_LONG,
    })?;
    let sent = batch::outcome(call.gateway.cluster.send(&queue, vec![draft.outgoing]).await)?;
    call.gateway.metrics.queue(&queue).count_sent(&sent, draft.bytes);
    call.tell_shards([sent.shard]);
    Ok(Response::new(sent, draft.digests))
}

impl Response {
    pub(crate) fn new(sent: Sent, digests: Digests) -> Self {
        Self {
            message_id: sent.message_id.into(),
            body_md5: digests.body,
            attributes_md5: digests.attributes,
            system_attributes_md5: digests.system_attributes,
            sequence_number: sent.seq.map(|seq| keys::sequence_number(sent.shard, seq)),
        }
    }
}
