//! SendMessageBatch.

use flotilla_cluster::api::Cluster;
use flotilla_types::limits;
use serde::{Deserialize, Serialize};

use super::{batch, send_message};
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::message::attributes::Attributes;
use crate::message::draft::{Fields, Origin};
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry<'a> {
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
    #[serde(flatten)]
    receipt: send_message::Response,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: batch::Request<'_, Entry<'_>>,
) -> Result<batch::Response<Sent>, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let entries = batch::check(request.entries, "SendMessageBatchRequestEntry", |e| e.id.take())?;
    let entries: Vec<_> =
        entries.into_iter().map(|(id, entry)| (id, Fields::from(entry))).collect();
    let total: usize = entries.iter().map(|(_, fields)| fields.bytes()).sum();
    if total > limits::BATCH_BYTES_MAX {
        return Err(too_long(total as u64));
    }
    // Whichever entry it is: the whole request fails, always with the same code.
    for (_, fields) in &entries {
        fields
            .check_ids_are_there(&queue)
            .map_err(|error| ApiError { kind: ErrorKind::InvalidParameterValue, ..error })?;
    }
    let origin = Origin {
        queue: &queue,
        sender_id: call.caller.sender_id.as_str(),
        trace_header: call.trace_header,
        action: "SendMessageBatch",
        too_long: "One or more parameters cannot be validated.",
    };
    let mut response = batch::Response::new();
    let (mut outgoing, mut drafts, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (id, fields) in entries {
        match fields.check(&origin) {
            Ok(draft) => {
                drafts.push((id, draft.bytes, draft.digests));
                outgoing.push(draft.outgoing);
            }
            Err(error) => wrong.push((id, error)),
        }
    }
    for (id, error) in wrong {
        response.refuse(call, id, error);
    }
    if outgoing.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.send(&queue, outgoing).await;
    let metrics = call.gateway.metrics.queue(&queue);
    let mut shards = Vec::with_capacity(drafts.len());
    for ((id, bytes, digests), result) in batch::outcomes(drafts, results) {
        match result {
            Ok(sent) => {
                metrics.count_sent(&sent, bytes);
                shards.push(sent.shard);
                let receipt = send_message::Response::new(sent, digests);
                response.successful.push(Sent { id: id.into_text(), receipt });
            }
            Err(trouble) => response.refuse(call, id, trouble.into()),
        }
    }
    call.tell_shards(shards);
    Ok(response)
}

/// What a batch of so many bytes is answered with.
pub(crate) fn too_long(bytes: u64) -> ApiError {
    ApiError::new(
        ErrorKind::BatchRequestTooLong,
        format!(
            "Batch requests cannot be longer than {} bytes. You have sent {bytes} bytes.",
            limits::BATCH_BYTES_MAX
        ),
    )
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
