//! SendMessageBatch.

use flotilla_cluster::api::{Cluster, Trouble};
use flotilla_types::limits;
use serde::{Deserialize, Serialize};

use super::batch;
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::ids::UuidText;
use crate::message::attributes::Attributes;
use crate::message::digest::Md5Sum;
use crate::message::draft::{Fields, Origin};
use crate::shape::{Integer, List, Struct, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    entries: Option<List<Struct<Entry<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
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

/// An entry that was stored.
#[derive(Serialize)]
pub(crate) struct Sent {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "MessageId")]
    message_id: UuidText,
    #[serde(rename = "MD5OfMessageBody")]
    body_md5: Md5Sum,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    attributes_md5: Option<Md5Sum>,
    #[serde(rename = "MD5OfMessageSystemAttributes", skip_serializing_if = "Option::is_none")]
    system_attributes_md5: Option<Md5Sum>,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: Request<'_>,
) -> Result<batch::Response<Sent>, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let entries = batch::check(request.entries, "SendMessageBatchRequestEntry", |e| e.id.take())?;
    let entries: Vec<_> =
        entries.into_iter().map(|(id, entry)| (id, Fields::from(entry))).collect();
    let total: usize = entries.iter().map(|(_, fields)| fields.bytes()).sum();
    if total > limits::BATCH_BYTES_MAX {
        return Err(ApiError::new(
            ErrorKind::BatchRequestTooLong,
            format!(
                "Batch requests cannot be longer than {} bytes. You have sent {total} bytes.",
                limits::BATCH_BYTES_MAX
            ),
        ));
    }
    let origin = Origin {
        queue: &queue,
        sender_id: call.caller.sender_id.as_str(),
        trace_header: call.trace_header,
        action: "SendMessageBatch",
        too_long: "One or more parameters cannot be validated.",
    };
    let mut response = batch::Response::new();
    let (mut outgoing, mut sent) = (Vec::new(), Vec::new());
    for (id, fields) in entries {
        match fields.check(&origin) {
            Ok(draft) => {
                let entry = Sent {
                    id,
                    message_id: draft.outgoing.message_id.into(),
                    body_md5: draft.body_md5,
                    attributes_md5: draft.attributes_md5,
                    system_attributes_md5: draft.system_attributes_md5,
                };
                sent.push((entry, draft.bytes));
                outgoing.push(draft.outgoing);
            }
            Err(error) => response.fail(id, error),
        }
    }
    if outgoing.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.send(&queue, outgoing).await;
    let metrics = call.gateway.metrics.queue(&queue);
    let missing = std::iter::repeat(Err(Trouble::Unavailable { maybe_applied: true }));
    for ((entry, bytes), result) in sent.into_iter().zip(results.into_iter().chain(missing)) {
        match result {
            Ok(()) => {
                metrics.sent.inc();
                metrics.sent_bytes.observe(bytes as f64);
                response.successful.push(entry);
            }
            Err(trouble) => {
                let error = trouble.into();
                call.note(&error);
                response.fail(entry.id, error);
            }
        }
    }
    Ok(response)
}

impl<'a> From<Entry<'a>> for Fields<'a> {
    fn from(entry: Entry<'a>) -> Self {
        Self {
            body: entry.message_body,
            delay_seconds: entry.delay_seconds,
            attributes: entry.message_attributes,
            system_attributes: entry.message_system_attributes,
            group_id: entry.message_group_id,
            deduplication_id: entry.message_deduplication_id,
        }
    }
}
