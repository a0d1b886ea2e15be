//! From the name of an action to its code.

use bytes::Bytes;
use flotilla_cluster::api::Cluster;

use crate::action::{ActionName, Call};
use crate::actions as a;
use crate::error::ApiError;
use crate::protocol::Wire;

/// Room for most answers; receives tell theirs.
const ANSWER_BYTES: usize = 256;

/// Carries out a request.
///
/// # Errors
/// Those of the action, and `SerializationException`.
pub(crate) async fn dispatch<C: Cluster>(
    call: &mut Call<'_, C>,
    action: ActionName,
    wire: Wire<'_>,
) -> Result<Bytes, ApiError> {
    let mut other = Vec::new();
    // The futures of seldom actions are boxed: the size of this one is paid by every request.
    match action {
        ActionName::SendMessage => {
            let request = wire.decode_messages(&mut call.work, &mut other)?;
            let response = a::send_message::run(call, request).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::ReceiveMessage => {
            let response = a::receive_message::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, response.bytes_estimate()))
        }
        ActionName::DeleteMessage => {
            a::delete_message::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::SendMessageBatch => {
            let request = wire.decode_messages(&mut call.work, &mut other)?;
            let response = a::send_message_batch::run(call, request).await?;
            Ok(wire.encode(action, &response, 8 * ANSWER_BYTES))
        }
        ActionName::DeleteMessageBatch => {
            let response = a::delete_message_batch::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, 2 * ANSWER_BYTES))
        }
        ActionName::ChangeMessageVisibility => {
            a::change_message_visibility::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::ChangeMessageVisibilityBatch => {
            let response = a::change_message_visibility_batch::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, 2 * ANSWER_BYTES))
        }
        seldom => Box::pin(dispatch_seldom(call, seldom, wire)).await,
    }
}

async fn dispatch_seldom<C: Cluster>(
    call: &mut Call<'_, C>,
    action: ActionName,
    wire: Wire<'_>,
) -> Result<Bytes, ApiError> {
    match action {
        ActionName::CreateQueue => {
            let response = a::create_queue::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::GetQueueUrl => {
            let response = a::get_queue_url::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::ListQueues => {
            let response = a::list_queues::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::GetQueueAttributes => {
            let response = a::get_queue_attributes::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, 2 * ANSWER_BYTES))
        }
        ActionName::SetQueueAttributes => {
            a::set_queue_attributes::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::DeleteQueue => {
            a::delete_queue::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::PurgeQueue => {
            a::purge_queue::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::ListDeadLetterSourceQueues => {
            let response = a::list_dead_letter_source_queues::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::TagQueue => {
            a::tag_queue::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::UntagQueue => {
            a::untag_queue::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::ListQueueTags => {
            let response = a::list_queue_tags::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, 2 * ANSWER_BYTES))
        }
        ActionName::AddPermission => {
            a::add_permission::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        ActionName::RemovePermission => {
            a::remove_permission::run(call, wire.decode()?).await?;
            Ok(wire.done(action))
        }
        other => dispatch_move_task(call, other, wire).await,
    }
}

async fn dispatch_move_task<C: Cluster>(
    call: &mut Call<'_, C>,
    action: ActionName,
    wire: Wire<'_>,
) -> Result<Bytes, ApiError> {
    match action {
        ActionName::StartMessageMoveTask => {
            let response = a::start_message_move_task::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::CancelMessageMoveTask => {
            let response = a::cancel_message_move_task::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, ANSWER_BYTES))
        }
        ActionName::ListMessageMoveTasks => {
            let response = a::list_message_move_tasks::run(call, wire.decode()?).await?;
            Ok(wire.encode(action, &response, 2 * ANSWER_BYTES))
        }
        other => Err(ApiError::unsupported(format!(
            "{} is not supported by this version.",
            other.as_str()
        ))),
    }
}
